"""Checks what a request carries and turns it into rows that the classifier takes, without copying what fits as it is.

Every refusal names the field, what came and what the model expects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from inference_service.images import rows_of_images
from shared.errors import InvalidInputError
from shared.preprocessing import Preprocessing, Rows

LARGEST_BYTE = 255
MAX_DIMENSIONS = 8  # what is longer is not worth printing, nor multiplying
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
        return rows_of_images(given.files, preprocessing)
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
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidInputError.of("tensor.shape", f"got {len(shape)} dimensions, expected {1 + len(expected)} or 2")
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
            f"got FLOAT32 values from {smallest:g} to {largest:g}, expected {low:g} to {high:g}; "
            f"{_remedy(preprocessing)}",
        )


def _remedy(preprocessing: Preprocessing) -> str:
    if preprocessing.standardisation is not None:  # a table's values go as they are
        return f"the largest value taken is {preprocessing.feature_max:g}; correct the others or leave their rows out"
    return f"raw values go as UINT8, or multiply them by {preprocessing.uint8_scale:g} first"
