"""PNG and JPEG files to rows of features: the part of a request that is decoded by somebody else's code.

A file's header is read and its size checked before any pixel is; what is no image is refused by its place in the batch.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image

from shared.errors import InvalidInputError
from shared.network import FloatArray
from shared.preprocessing import Preprocessing

MAX_IMAGE_BYTES = 8 * 2**20
MAX_IMAGE_PIXELS = 16 * 10**6
MAX_REQUEST_PIXELS = 64 * 10**6  # decoding is the dearest thing a small request can ask for
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit only warns below twice its size; ours comes first and is lower
# What turns an image upright, by its EXIF orientation. Pillow's exif_transpose writes all the other tags anew as well,
# and fails over those that are malformed.
UPRIGHT = 1
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def rows_of_images(files: Sequence[bytes], preprocessing: Preprocessing) -> FloatArray:
    """The features of each file's image, float32 (rows, input_size).

    Raises:
        InvalidInputError: naming the file that is no image, or too large, or the model that takes none.
    """
    if len(preprocessing.input_shape) != 2:  # noqa: PLR2004 - height and width
        raise InvalidInputError.of(
            "images", f"this model takes no images: its input shape is {list(preprocessing.input_shape)}; send a tensor"
        )
    height, width = preprocessing.input_shape
    rows = np.empty((len(files), height, width), np.float32)
    pixels_left = MAX_REQUEST_PIXELS
    for index, file in enumerate(files):
        image = _open_image(file, f"images.files[{index}]")
        pixels_left -= image.width * image.height
        if pixels_left < 0:
            raise InvalidInputError.of(
                "images.files", f"the images have more than {MAX_REQUEST_PIXELS} pixels together; split the batch"
            )
        rows[index] = _grey_pixels(image, (width, height), f"images.files[{index}]")
    low, high = preprocessing.feature_min, preprocessing.feature_max
    rows *= np.float32((high - low) / 255)
    rows += np.float32(low)
    return rows.reshape(len(files), height * width)


def _open_image(file: bytes, field: str) -> Image.Image:
    """The image behind a file, its header read and its pixels not."""
    if len(file) > MAX_IMAGE_BYTES:
        raise InvalidInputError.of(field, f"got {len(file)} bytes, expected at most {MAX_IMAGE_BYTES}")
    try:
        image = Image.open(BytesIO(file), formats=("PNG", "JPEG"))
    except Exception as error:
        raise InvalidInputError.of(field, f"expected a PNG or JPEG file, got {len(file)} other bytes") from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise InvalidInputError.of(
            field, f"got {image.width} × {image.height} pixels, expected at most {MAX_IMAGE_PIXELS} in all"
        )
    return image


def _grey_pixels(image: Image.Image, size: tuple[int, int], field: str) -> np.ndarray:
    """The image as bytes (height, width), upright, transparent parts black, resized where it must be."""
    try:
        turn = TURNS.get(orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if upright.mode.startswith("I;16"):  # Pillow would cut these off at 255, not scale them
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        if upright.has_transparency_data:
            black = Image.new("RGBA", upright.size, "black")
            upright = Image.alpha_composite(black, upright.convert("RGBA"))
        grey = upright.convert("L")
        return np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.LANCZOS))
    except Exception as error:  # Pillow raises many kinds over malformed files; whichever it is, the file is at fault
        raise InvalidInputError.of(field, f"the image cannot be decoded: {error}") from error


def orientation(image: Image.Image) -> int:
    """Which way up the image says it is; upright where its tags cannot be read, which is no reason to refuse it."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:  # noqa: BLE001 - as in decoding: of whatever kind
        return UPRIGHT
