"""Tensors of a request: what fits becomes rows, everything else is refused with the field and both numbers."""

from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.inputs import DTYPES, check_form, check_values
from inference_service.questions import TensorForm
from shared.errors import InvalidInputError
from shared.preprocessing import Preprocessing, Standardisation

DIGITS = Preprocessing(input_shape=(8, 8), uint8_scale=1 / 16)
MNIST = Preprocessing(input_shape=(28, 28), uint8_scale=1 / 255)
MAX_ROWS = 100
BYTES = np.arange(128, dtype=np.uint8).reshape(2, 64) % 17
FLOATS = np.linspace(0, 1, 128, dtype=np.float32).reshape(2, 64)


class Tensor(NamedTuple):
    """A tensor as a request carries it."""

    data_type: str
    shape: tuple[int, ...]
    contents: bytes


def tensor(array: np.ndarray, shape: tuple[int, ...] | None = None) -> Tensor:
    """An array as a request carries it."""
    return Tensor(array.dtype.name.upper(), array.shape if shape is None else shape, array.tobytes())


def rows_of(given_tensor: Tensor, preprocessing: Preprocessing, max_rows: int) -> np.ndarray:
    """The rows of a tensor whose form and numbers are both right."""
    form = TensorForm(given_tensor.data_type, given_tensor.shape)
    check_form(form, len(given_tensor.contents), preprocessing, max_rows)
    rows = np.frombuffer(given_tensor.contents, DTYPES[form.data_type]).reshape(form.shape[0], preprocessing.input_size)
    check_values(rows, preprocessing, form.names)
    return rows


def refusal(given_tensor: Tensor, preprocessing: Preprocessing = DIGITS) -> str:
    """The message of the refusal: "field: description"."""
    with pytest.raises(InvalidInputError) as raised:
        rows_of(given_tensor, preprocessing, MAX_ROWS)
    assert len(raised.value.violations) == 1
    return raised.value.message


@pytest.mark.parametrize("array", [BYTES, FLOATS], ids=["uint8", "float32"])
@pytest.mark.parametrize("shape", [(2, 64), (2, 8, 8)], ids=["flat", "square"])
def test_a_good_tensor_becomes_rows(array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Flat or in the model's own shape, as bytes or as feature values."""
    rows = rows_of(tensor(array, shape), DIGITS, MAX_ROWS)
    assert rows.dtype == array.dtype
    np.testing.assert_array_equal(rows, array)


@pytest.mark.parametrize("rows", [1, MAX_ROWS])
def test_the_smallest_and_the_largest_batch_are_taken(rows: int) -> None:
    """One row, and as many as the limit says."""
    assert len(rows_of(tensor(np.zeros((rows, 64), np.uint8)), DIGITS, MAX_ROWS)) == rows


def test_784_features_for_a_model_of_64_says_both() -> None:
    """Someone who sends MNIST to a model of digits reads what went wrong."""
    assert refusal(tensor(np.zeros((2, 784), np.uint8))) == (
        "tensor.shape: got [2, 784], expected [2, 8, 8] or [2, 64]: "
        "the model takes 64 features a row, the tensor gives 784"
    )


@pytest.mark.parametrize(
    "shape",
    [(64,), (2, 65), (2, 4, 16), (2, 8, 8, 1), (2, 64, 1), (2,), (2, 8), (2, -8, -8), (2, 0), (2, 2**62, 2**62)],
)
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """With the shape that came and those that the model takes, however many features it has."""
    message = refusal(Tensor("UINT8", shape, BYTES.tobytes()))
    assert message.startswith(f"tensor.shape: got {list(shape)}, expected [{shape[0]}, 8, 8] or [{shape[0]}, 64]")


@pytest.mark.parametrize(("shape", "rows"), [((0, 64), 0), ((), 0), ((-1, 64), -1)])
def test_an_empty_batch_is_refused(shape: tuple[int, ...], rows: int) -> None:
    """Without rows there is no answer to give."""
    message = refusal(Tensor("UINT8", shape, b""))
    assert message == f"tensor.shape: got a batch of {rows} rows, expected 1 to 100; send at least one row"


def test_a_batch_over_the_limit_is_refused() -> None:
    """Both numbers, and the remedy."""
    message = refusal(tensor(np.zeros((101, 64), np.uint8)))
    assert message == "tensor.shape: got a batch of 101 rows, expected 1 to 100; split the batch"


@pytest.mark.parametrize("data_type", ["FLOAT64", "data type 0", "", "uint8"])
def test_another_data_type_is_refused(data_type: str) -> None:
    """With those that are known."""
    message = refusal(Tensor(data_type, (2, 64), BYTES.tobytes()))
    assert message == f"tensor.data_type: got {data_type}, expected UINT8 or FLOAT32"


@pytest.mark.parametrize(
    ("array", "contents", "expected"),
    [
        (BYTES, BYTES.tobytes()[:-1], "got 127 bytes, expected 128 for UINT8 [2, 64]"),
        (BYTES, BYTES.tobytes() + b"\0", "got 129 bytes, expected 128 for UINT8 [2, 64]"),
        (FLOATS, FLOATS.tobytes()[:-1], "got 511 bytes, expected 512 for FLOAT32 [2, 64]"),
        (FLOATS, FLOATS.astype(np.float64).tobytes(), "got 1024 bytes, expected 512 for FLOAT32 [2, 64]"),
        (FLOATS, b"", "got 0 bytes, expected 512 for FLOAT32 [2, 64]"),
    ],
    ids=["one short", "one long", "cut float", "float64", "empty"],
)
def test_another_length_than_the_shape_says_is_refused(array: np.ndarray, contents: bytes, expected: str) -> None:
    """Both lengths, type and shape."""
    given_tensor = Tensor(array.dtype.name.upper(), array.shape, contents)
    assert refusal(given_tensor) == f"tensor.contents: {expected}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_row(value: float) -> None:
    """The row is named, so that it can be found in a large batch."""
    rows = np.zeros((5, 64), np.float32)
    rows[3, 63] = value
    assert refusal(tensor(rows)) == "tensor.contents: row 3 holds NaN or infinity, expected finite numbers"


@pytest.mark.parametrize(("value", "came"), [(255, "0 to 255"), (-1, "-1 to 0"), (1.01, "0 to 1.01")])
def test_float32_out_of_the_range_of_training_is_refused(value: float, came: str) -> None:
    """Values that were not scaled would be answered with confident nonsense; the message says how to scale."""
    rows = np.zeros((2, 64), np.float32)
    rows[1, 5] = value
    assert refusal(tensor(rows)) == (
        f"tensor.contents: got FLOAT32 values from {came}, expected 0 to 1; "
        "raw values go as UINT8, or multiply them by 0.0625 first"
    )


def test_a_value_too_large_for_a_table_is_answered_with_the_largest() -> None:
    """There is nothing to multiply a table's values by."""
    largest = float(np.float32(1e15))
    standardisation = Standardisation(np.zeros(4, np.float32), np.ones(4, np.float32))
    table = Preprocessing((4,), 1.0, -largest, largest, standardisation=standardisation)
    assert refusal(tensor(np.full((1, 4), 2e15, np.float32)), table) == (
        "tensor.contents: got FLOAT32 values from 2e+15 to 2e+15, expected -1e+15 to 1e+15; "
        "the largest value taken is 1e+15; correct the others or leave their rows out"
    )


@pytest.mark.parametrize("value", [-5e-4, 1 + 5e-4])
def test_a_rounding_error_beyond_the_range_is_taken(value: float) -> None:
    """A value scaled elsewhere may overshoot a little."""
    rows = np.full((1, 64), value, np.float32)
    np.testing.assert_array_equal(rows_of(tensor(rows), DIGITS, MAX_ROWS), rows)


def test_a_byte_above_the_largest_of_training_is_refused() -> None:
    """Pixels of digits go to 16; one of 17 comes from somewhere else."""
    rows = np.full((2, 64), 16, np.uint8)
    rows[1, 0] = 17
    assert refusal(tensor(rows)) == "tensor.contents: got a byte of 17, expected 0 to 16"


def test_every_byte_is_taken_where_training_had_every_byte() -> None:
    """Pixels of MNIST go to 255."""
    rows = np.full((1, 784), 255, np.uint8)
    np.testing.assert_array_equal(rows_of(tensor(rows), MNIST, MAX_ROWS), rows)


def test_a_model_of_rows_names_one_shape_only() -> None:
    """Where the model's shape is flat, the same shape is not offered twice."""
    flat = Preprocessing(input_shape=(4,), uint8_scale=1 / 255)
    assert "expected [2, 4]: the model takes 4 features" in refusal(tensor(BYTES), flat)


@given(
    data_type=st.sampled_from(["UINT8", "FLOAT32", "FLOAT64", ""]) | st.text(max_size=5),
    shape=st.lists(st.integers(-3, 9) | st.integers(-(2**63), 2**63 - 1), max_size=4).map(tuple),
    contents=st.binary(max_size=300),
)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_the_answer_is_rows_or_a_refusal(
    data_type: str, shape: tuple[int, ...], contents: bytes
) -> None:
    """No shape, type or content raises anything but InvalidInputError."""
    small = Preprocessing(input_shape=(2, 3), uint8_scale=1 / 16)
    with suppress(InvalidInputError):
        rows = rows_of(Tensor(data_type, shape, contents), small, MAX_ROWS)
        assert rows.shape == (shape[0], 6)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_bytes_of_the_right_length_are_rows_or_a_refusal(kind: str, data: st.DataObject) -> None:
    """Every bit pattern of a float32 too: NaNs of all kinds, infinities, denormals."""
    small = Preprocessing(input_shape=(2, 3), uint8_scale=1 / 16)
    size = 6 * np.dtype(kind).itemsize
    contents = data.draw(st.binary(min_size=size, max_size=size))
    with suppress(InvalidInputError):
        rows = rows_of(Tensor(kind.upper(), (1, 6), contents), small, MAX_ROWS)
        assert np.isfinite(rows).all()
        assert rows.max() <= (16 if kind == "uint8" else 1.001)
