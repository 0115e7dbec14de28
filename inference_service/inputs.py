"""Checks what a request carries: the form of its tensor before the numbers are touched, and then the numbers.

Every refusal names the field, what came and what the model expects, in the words of the protocol that was spoken.
"""

from math import prod

import numpy as np

from inference_service.questions import TensorForm, TensorNames
from shared.errors import InvalidInputError
from shared.preprocessing import Preprocessing, Rows

LARGEST_BYTE = 255
MAX_DIMENSIONS = 8  # what is longer is not worth printing, nor multiplying
FEATURE_TOLERANCE = 1e-3  # float32 images that were scaled by 1/255 may overshoot by a rounding error
DTYPES: dict[str, np.dtype[np.uint8 | np.float32]] = {"UINT8": np.dtype(np.uint8), "FLOAT32": np.dtype("<f4")}


def check_form(form: TensorForm, size: int, preprocessing: Preprocessing, max_rows: int) -> None:
    """Whether a tensor of this form, with contents of `size` bytes, is a batch that the model takes.

    Raises:
        InvalidInputError: where type, shape, count or length are not.
    """
    names = form.names
    if form.data_type not in DTYPES:
        known = " or ".join(names.types[name] for name in DTYPES)
        raise InvalidInputError.of(names.data_type, f"got {form.data_type}, expected {known}")
    shape = form.shape
    check_row_count(shape[0] if shape else 0, max_rows, names.shape)
    expected = preprocessing.input_shape
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidInputError.of(names.shape, f"got {len(shape)} dimensions, expected {1 + len(expected)} or 2")
    if shape[1:] not in (expected, (preprocessing.input_size,)):
        accepted = {str([shape[0], *expected]): None, str([shape[0], preprocessing.input_size]): None}
        raise InvalidInputError.of(
            names.shape,
            f"got {list(shape)}, expected {' or '.join(accepted)}: the model takes {preprocessing.input_size} "
            f"features a row, the tensor gives {prod(shape[1:])}",
        )
    expected_size = prod(shape) * DTYPES[form.data_type].itemsize
    if size != expected_size:
        raise InvalidInputError.of(
            names.contents,
            f"got {size} bytes, expected {expected_size} for {names.types[form.data_type]} {list(shape)}",
        )


def check_row_count(rows: int, max_rows: int, field: str) -> None:
    """Whether a batch is neither empty nor too large.

    Raises:
        InvalidInputError: naming the field, if it is.
    """
    if not 1 <= rows <= max_rows:
        remedy = "send at least one row" if rows < 1 else "split the batch"
        raise InvalidInputError.of(field, f"got a batch of {rows} rows, expected 1 to {max_rows}; {remedy}")


def check_values(rows: Rows, preprocessing: Preprocessing, names: TensorNames) -> None:
    """Whether all of (rows, input_size) are values that the model knows what to do with.

    Raises:
        InvalidInputError: where one is not finite or out of the recorded range.
    """
    if rows.dtype == np.uint8:
        highest = preprocessing.uint8_max
        if highest < LARGEST_BYTE and (largest := rows.max()) > highest:
            raise InvalidInputError.of(names.contents, f"got a byte of {largest}, expected 0 to {highest}")
        return
    smallest, largest = rows.min(), rows.max()
    low, high = preprocessing.feature_min, preprocessing.feature_max
    if low - FEATURE_TOLERANCE <= smallest and largest <= high + FEATURE_TOLERANCE:  # false where either is NaN
        return
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InvalidInputError.of(names.contents, f"row {row} holds NaN or infinity, expected finite numbers")
    raise InvalidInputError.of(
        names.contents,
        f"got {names.types['FLOAT32']} values from {smallest:g} to {largest:g}, expected {low:g} to {high:g}; "
        f"{_remedy(preprocessing)}",
    )


def _remedy(preprocessing: Preprocessing) -> str:
    if preprocessing.standardisation is not None:  # a table's values go as they are
        return f"the largest value taken is {preprocessing.feature_max:g}; correct the others or leave their rows out"
    return f"raw values go as UINT8, or multiply them by {preprocessing.uint8_scale:g} first"
