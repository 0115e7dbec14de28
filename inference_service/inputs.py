"""Checks what a request carries and turns it into rows that the classifier takes, without copying what fits as it is.

Every refusal names the field, what came and what the model expects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod

import numpy as np
from PIL import Image, ImageOps

from shared.errors import InvalidInputError
from shared.network import FloatArray
from shared.preprocessing import Preprocessing, Rows

MAX_IMAGE_BYTES = 8 * 2**20
MAX_IMAGE_PIXELS = 16 * 10**6
MAX_REQUEST_PIXELS = 64 * 10**6  # decoding is the dearest thing a small request can ask for
LARGEST_BYTE = 255
FEATURE_TOLERANCE = 1e-3  # float32 images that were scaled by 1/255 may overshoot by a rounding error
DTYPES: dict[str, np.dtype[np.uint8 | np.float32]] = {"UINT8": np.dtype(np.uint8), "FLOAT32": np.dtype(np.float32)}


@dataclass(frozen=True)
class TensorInput:
    """A tensor as it came: `data_type` is a key of DTYPES, or something this service does not know."""

    data_type: str
    shape: tuple[int, ...]
    contents: bytes


@dataclass(frozen=True)
class ImagesInput:
    """Image files as they came."""

    files: Sequence[bytes]


def rows_of(given: TensorInput | ImagesInput, preprocessing: Preprocessing, max_rows: int) -> Rows:
    """The batch as uint8 or float32 rows (rows, input_size).

    Raises:
        InvalidInputError: where type, shape, length, count or values are not what the model takes.
    """
    if isinstance(given, ImagesInput):
        _check_row_count(len(given.files), max_rows, "images.files")
        return _rows_of_images(given.files, preprocessing)
    return _rows_of_tensor(given, preprocessing, max_rows)


def _check_row_count(rows: int, max_rows: int, field: str) -> None:
    if not 1 <= rows <= max_rows:
        remedy = "send at least one row" if rows < 1 else "split the batch"
        raise InvalidInputError.of(field, f"got a batch of {rows} rows, expected 1 to {max_rows}; {remedy}")


def _rows_of_tensor(tensor: TensorInput, preprocessing: Preprocessing, max_rows: int) -> Rows:
    if tensor.data_type not in DTYPES:
        raise InvalidInputError.of("tensor.data_type", f"got {tensor.data_type}, expected {' or '.join(DTYPES)}")
    dtype, shape = DTYPES[tensor.data_type], tensor.shape
    _check_row_count(shape[0] if shape else 0, max_rows, "tensor.shape")
    expected = preprocessing.input_shape
    if shape[1:] not in (expected, (preprocessing.input_size,)):
        accepted = {str([shape[0], *expected]): None, str([shape[0], preprocessing.input_size]): None}
        raise InvalidInputError.of(
            "tensor.shape",
            f"got {list(shape)}, expected {' or '.join(accepted)}: the model takes {preprocessing.input_size} "
            f"features a row, the tensor gives {prod(shape[1:])}",
        )
    expected_bytes = prod(shape) * dtype.itemsize
    if len(tensor.contents) != expected_bytes:
        raise InvalidInputError.of(
            "tensor.contents",
            f"got {len(tensor.contents)} bytes, expected {expected_bytes} for {tensor.data_type} {list(shape)}",
        )
    rows = np.frombuffer(tensor.contents, dtype.newbyteorder("<")).reshape(shape[0], preprocessing.input_size)
    _check_values(rows, preprocessing)
    return rows


def _check_values(rows: Rows, preprocessing: Preprocessing) -> None:
    if rows.dtype == np.uint8:
        highest = preprocessing.uint8_max
        if highest < LARGEST_BYTE and (largest := rows.max()) > highest:
            raise InvalidInputError.of("tensor.contents", f"got a byte of {largest}, expected 0 to {highest}")
        return
    smallest, largest = rows.min(), rows.max()
    low, high = preprocessing.feature_min, preprocessing.feature_max
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InvalidInputError.of("tensor.contents", f"row {row} holds NaN or infinity, expected finite numbers")
    if smallest < low - FEATURE_TOLERANCE or largest > high + FEATURE_TOLERANCE:
        raise InvalidInputError.of(
            "tensor.contents",
            f"got FLOAT32 values from {smallest:g} to {largest:g}, expected {low:g} to {high:g}; raw values go "
            f"as UINT8, or multiply them by {preprocessing.uint8_scale:g} first",
        )


def _rows_of_images(files: Sequence[bytes], preprocessing: Preprocessing) -> FloatArray:
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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInputError.of(field, f"expected a PNG or JPEG file, got {len(file)} other bytes") from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise InvalidInputError.of(
            field, f"got {image.width} × {image.height} pixels, expected at most {MAX_IMAGE_PIXELS} in all"
        )
    return image


def _grey_pixels(image: Image.Image, size: tuple[int, int], field: str) -> np.ndarray:
    """The image as bytes (height, width), upright, transparent parts black, resized where it must be."""
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            black = Image.new("RGBA", upright.size, "black")
            upright = Image.alpha_composite(black, upright.convert("RGBA"))
        grey = upright.convert("L")
        return np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.LANCZOS))
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInputError.of(field, f"the image cannot be decoded: {error}") from error
