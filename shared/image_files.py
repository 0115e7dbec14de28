"""PNG and JPEG files to upright bytes: what both services must read alike, so that a model meets what it learned from.

A file's header is read and its size checked before any pixel is. What is no image raises ValueError with the reason.
"""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

MAX_IMAGE_BYTES = 8 * 2**20
MAX_IMAGE_PIXELS = 16 * 10**6
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit only warns below twice its size; ours comes first and is lower
GREY_MODES = ("1", "L", "LA", "La", "I", "F")
GREY_16_BIT = "I;16"  # and its variants
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
LYING = (5, 6, 7, 8)  # turning these exchanges width and height


def open_image(file: bytes) -> Image.Image:
    """The image behind a file, its header read and its pixels not; ValueError if there is none, or it is too large."""
    if len(file) > MAX_IMAGE_BYTES:
        raise ValueError(f"got {len(file)} bytes, expected at most {MAX_IMAGE_BYTES}")
    try:
        image = Image.open(BytesIO(file), formats=("PNG", "JPEG"))
    except Exception as error:
        raise ValueError(f"expected a PNG or JPEG file, got {len(file)} other bytes") from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise ValueError(f"got {image.width} × {image.height} pixels, expected at most {MAX_IMAGE_PIXELS} in all")
    return image


def is_grey(image: Image.Image) -> bool:
    """Whether the file has one channel, by what its header says; a palette counts as coloured."""
    return image.mode in GREY_MODES or image.mode.startswith(GREY_16_BIT)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the image once it is turned upright."""
    return (image.height, image.width) if orientation(image) in LYING else image.size


def upright_pixels(image: Image.Image, *, colour: bool, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """The image as bytes (height, width), or (height, width, 3) in `colour`: upright, transparent parts black.

    It is resized where it is not of the `size`, width and height, if that is given. ValueError if it is malformed.
    """
    try:
        turn = TURNS.get(orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if upright.mode.startswith(GREY_16_BIT):  # Pillow would cut these off at 255, not scale them
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        if upright.has_transparency_data:
            black = Image.new("RGBA", upright.size, "black")
            upright = Image.alpha_composite(black, upright.convert("RGBA"))
        plain = upright.convert("RGB" if colour else "L")
        if size is not None and plain.size != size:
            plain = plain.resize(size, Image.Resampling.LANCZOS)
        return np.asarray(plain)
    except Exception as error:  # Pillow raises many kinds over malformed files; whichever it is, the file is at fault
        raise ValueError(f"the image cannot be decoded: {error}") from error


def orientation(image: Image.Image) -> int:
    """Which way up the image says it is; upright where its tags cannot be read, which is no reason to refuse it."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:  # noqa: BLE001 - as in decoding: of whatever kind
        return UPRIGHT
