"""Uploaded .npz files: tables and images, one split or two, and that what is no plain array is refused by its name."""

import io
import os
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.upload_npz import read_npz

RNG = np.random.default_rng(0)
Y = np.arange(30) % 3
TABLE = RNG.normal(0, 10, (30, 4))
GREY = RNG.integers(0, 256, (30, 5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (30, 5, 7, 3), dtype=np.uint8)


def npz_of(**arrays: Any) -> bytes:  # noqa: ANN401 - whatever NumPy makes an array of
    """A file of these arrays."""
    file = BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zip_of(**members: bytes) -> bytes:
    """A file of these bytes under the names of arrays."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy_of(array: np.ndarray) -> bytes:
    """An array as a .npy file."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def loaded(**arrays: Any) -> Dataset:  # noqa: ANN401 - as above
    """The data set in a file of these arrays."""
    return read_npz(BytesIO(npz_of(**arrays)), "made")


def refusal(content: bytes) -> str:
    """What is said of `chunk`."""
    with pytest.raises(InvalidInputError) as raised:
        read_npz(BytesIO(content), "made")
    assert [violation.field for violation in raised.value.violations] == ["chunk"]
    return raised.value.violations[0].description


def rows_of(dataset: Dataset) -> np.ndarray:
    """The rows of both splits with their class ids last, sorted."""
    splits = (dataset.train, dataset.test)
    rows = np.concatenate([np.column_stack([split.examples, split.class_ids]) for split in splits])
    return rows[np.lexsort(rows.T[::-1])]


def sorted_rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What `rows_of` should be."""
    rows = np.column_stack([x.reshape(len(x), -1), y])
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", ">f4", "uint8", "bool"])
def test_rows_of_numbers_are_a_table(dtype: str) -> None:
    """Of whatever type, bytes too: float32 columns, standardised, a fifth of each class held out."""
    x = np.abs(TABLE).astype(dtype)
    dataset = loaded(x=x, y=Y)
    assert dataset.train.examples.dtype == np.float32
    assert dataset.preprocessing.input_shape == (4,)
    assert dataset.preprocessing.standardisation is not None
    assert [column.name for column in dataset.columns] == ["x0", "x1", "x2", "x3"]
    assert dataset.preprocessing.feature_names == ()
    assert dataset.test.class_counts(3) == (2, 2, 2)
    np.testing.assert_array_equal(rows_of(dataset), sorted_rows(x.astype(np.float32), Y))


@pytest.mark.parametrize(("x", "shape"), [(GREY, (5, 7)), (COLOUR, (5, 7, 3)), (GREY[..., None], (5, 7))])
def test_bytes_with_height_and_width_are_images(x: np.ndarray, shape: tuple[int, ...]) -> None:
    """Grey or coloured, as they were; a last axis of one is none."""
    dataset = loaded(x=x, y=Y)
    assert dataset.train.examples.dtype == np.uint8
    assert (dataset.preprocessing.input_shape, dataset.preprocessing.standardisation) == (shape, None)
    assert dataset.columns == ()
    np.testing.assert_array_equal(rows_of(dataset), sorted_rows(x, Y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_of_floats_become_bytes(dtype: type[np.floating]) -> None:
    """White is 1, and every byte comes back."""
    dataset = loaded(x=(GREY / 255).astype(dtype), y=Y)
    np.testing.assert_array_equal(rows_of(dataset), sorted_rows(GREY, Y))


def test_an_array_in_columns_is_read_as_it_is() -> None:
    """Fortran's order changes nothing."""
    np.testing.assert_array_equal(rows_of(loaded(x=np.asfortranarray(GREY), y=Y)), sorted_rows(GREY, Y))


def test_labels_may_be_text() -> None:
    """Sorted, and each row keeps its own."""
    dataset = loaded(x=TABLE, y=np.array(["dog", "ant", "cat"])[Y])
    assert dataset.class_labels == ("ant", "cat", "dog")
    np.testing.assert_allclose(rows_of(dataset), sorted_rows(TABLE.astype(np.float32), np.array([2, 0, 1])[Y]))


def test_a_test_split_of_its_own_is_kept() -> None:
    """Row for row, in order, and the columns are measured on the other."""
    dataset = loaded(x_train=TABLE[:20], y_train=Y[:20], x_test=TABLE[20:], y_test=Y[20:])
    np.testing.assert_array_equal(dataset.train.examples, TABLE[:20].astype(np.float32))
    np.testing.assert_array_equal(dataset.test.examples, TABLE[20:].astype(np.float32))
    assert dataset.columns[0].mean == pytest.approx(TABLE[:20, 0].mean())
    assert dataset.test.class_ids.tolist() == Y[20:].tolist()


def test_the_split_never_changes() -> None:
    """Two readings of one file give one digest; another file gives another."""
    assert loaded(x=GREY, y=Y).digest == loaded(x=GREY.copy(), y=Y.astype(np.int8)).digest
    assert loaded(x=GREY, y=Y).digest != loaded(x=GREY + np.uint8(1), y=Y).digest


def with_value(value: float) -> np.ndarray:
    """The table with one other value."""
    table = TABLE.copy()
    table[12, 3] = value
    return table


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": TABLE}, "got the arrays x, expected x, y, or x_train, y_train, x_test, y_test"),
        ({"x": TABLE, "y": Y, "z": Y}, "got the arrays x, y, z"),
        ({"x": with_value(np.nan), "y": Y}, "x[12, 3] is nan, expected a finite number"),
        ({"x": with_value(np.inf), "y": Y}, "x[12, 3] is inf, expected a finite number"),
        ({"x": with_value(-2e15), "y": Y}, "x[12, 3] is -2e+15, expected a finite number of at most 1e+15; correct"),
        ({"x": TABLE, "y": Y[:29]}, "x has 30 rows and its labels 29; they must be as many"),
        ({"x": TABLE[:, 0], "y": Y}, "x has the shape [30], expected (rows, features)"),
        ({"x": COLOUR[..., :2], "y": Y}, "x has the shape [30, 5, 7, 2], expected"),
        ({"x": COLOUR[..., None], "y": Y}, "x has the shape [30, 5, 7, 3, 1], expected"),
        ({"x": COLOUR.transpose(0, 3, 1, 2), "y": Y}, "reshape or transpose it"),
        ({"x": TABLE.astype(complex), "y": Y}, "x is complex128, expected numbers"),
        ({"x": TABLE.astype(str), "y": Y}, "expected numbers"),
        ({"x": TABLE[:0], "y": Y[:0]}, "it is empty"),
        ({"x": GREY.astype(np.int64), "y": Y}, "x holds images of int64, expected uint8, or floats from 0 to 1"),
        ({"x": GREY.astype(float), "y": Y}, "expected floats from 0 to 1, or uint8; divide by the largest"),
        ({"x": GREY / 127.5 - 1, "y": Y}, "expected floats from 0 to 1, or uint8; shift and scale them to 0…1"),
        ({"x": TABLE + 1e12 * np.eye(4)[2], "y": Y}, "the column 'x2' goes from 99"),
        (
            {"x_train": TABLE + 1e12 * np.eye(4)[1], "y_train": Y, "x_test": TABLE, "y_test": Y},
            "single precision, in which all is learned, cannot tell such values apart; subtract a constant",
        ),
        (
            {"x": np.where(GREY > 3, np.nan, 0), "y": Y},
            "x[0] holds values from nan to nan, expected floats from 0 to 1",
        ),
        ({"x": TABLE, "y": np.eye(3)[Y]}, "y has the shape [30, 3], expected (rows,): one label each; argmax"),
        ({"x": TABLE, "y": Y.astype(float)}, "y is float64, expected whole numbers or text; use astype(int)"),
        ({"x": TABLE, "y": Y * 0}, "there is 1 class, expected at least 2"),
        ({"x": np.ones((1001, 1)), "y": np.arange(1001)}, "there are more than 1000 different labels"),
        ({"x": TABLE, "y": [7, *[0, 1] * 14, 1]}, "the class '7' has only one example"),
        (
            {"x_train": TABLE, "y_train": Y, "x_test": TABLE[:, :3], "y_test": Y},
            "x_test's examples are [3], those of x_train [4]; they must be alike",
        ),
        (
            {"x_train": TABLE, "y_train": Y, "x_test": TABLE[:2], "y_test": Y[:2]},
            "the class '2' has no example in the test split, and each class must be in both",
        ),
        (
            {"x_train": TABLE[:2], "y_train": Y[:2], "x_test": TABLE, "y_test": Y},
            "the class '2' has no example in the training split",
        ),
        ({"x_train": TABLE, "y_train": Y, "x_test": TABLE, "y_test": Y.astype(str)}, "one is text and one is numbers"),
    ],
)
def test_each_fault_is_named_with_its_array_and_remedy(arrays: dict[str, Any], words: str) -> None:
    """And the row, where there is one."""
    assert words in refusal(npz_of(**arrays))


@pytest.mark.parametrize("which", ["x", "y"])
def test_pickled_objects_are_refused_and_never_read(which: str, tmp_path: Path) -> None:
    """Reading these would make a folder."""
    mark = tmp_path / "mark"

    class Dangerous:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return (os.mkdir, (str(mark),))

    evil = np.array([Dangerous()] * 30, dtype=object)
    arrays = {"x": npy_of(TABLE), "y": npy_of(Y), which: npy_of(evil)}
    assert "holds pickled Python objects, which are never read" in refusal(zip_of(**arrays))
    assert not mark.exists()


def test_an_archive_of_many_members_is_refused_before_they_are_listed() -> None:
    """Each would cost an object."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for index in range(17):
            archive.writestr(str(index), b"")
    assert refusal(file.getvalue()) == "the archive has more than 16 files; send fewer"


@pytest.mark.parametrize("content", [b"no archive", npz_of(x=TABLE, y=Y)[:-30], npy_of(TABLE)])
def test_what_is_no_npz_is_refused(content: bytes) -> None:
    """With the field that says what it should have been."""
    assert refusal(content).startswith("this is no .npz file: ")


GOOD = npz_of(x=TABLE, y=Y)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_nearly_good_file_is_a_data_set_or_a_refusal(data: st.DataObject) -> None:
    """A few changed bytes raise nothing but InvalidInputError."""
    altered = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    try:
        dataset = read_npz(io.BytesIO(bytes(altered)), "made")
    except InvalidInputError:
        return
    assert len(dataset.class_labels) >= 2
