"""Reads NumPy's .npz: arrays x and y, or x_train, y_train, x_test and y_test, as the contract describes them.

Tables and images are told apart by their axes; what is refused is named by its array and, where there is one, its row.
"""

from dataclasses import dataclass
from typing import IO
from zipfile import ZipFile, ZipInfo

import numpy as np

from shared.errors import InvalidInputError
from trainer_service.datasets.archive import open_archive
from trainer_service.datasets.classes import check_both_splits, classes_of
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.datasets.limits import MAX_CLASSES, MAX_VALUE
from trainer_service.datasets.npy import array_in
from trainer_service.datasets.pictures import Pixels, check_pictures_size, held_out_pictures, pictures_dataset
from trainer_service.datasets.table import (
    blocks,
    check_precision,
    check_table_size,
    held_out_table,
    place_names,
    table_dataset,
)

TOGETHER = ("x", "y")
SPLIT = ("x_train", "y_train", "x_test", "y_test")
TRAINING = ("x", "x_train")
MAX_MEMBERS = 16
TABLE_DIMENSIONS = 2
GREY_DIMENSIONS = 3
COLOUR_DIMENSIONS = 4
CHANNELS = 3


@dataclass(frozen=True)
class Examples:
    """The examples of an x, as stored: float32 (rows, columns), or uint8 (rows, height, width[, 3])."""

    values: np.ndarray

    @property
    def is_table(self) -> bool:
        """Whether they are rows of a table."""
        return self.values.ndim == TABLE_DIMENSIONS


def read_npz(file: IO[bytes], name: str) -> Dataset:
    """The data set in an .npz file.

    Raises:
        InvalidInputError: naming the array and, where there is one, the row.
    """
    with open_archive(file, MAX_MEMBERS, ".npz file") as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if set(members) not in (set(TOGETHER), set(SPLIT)):
            raise InvalidInputError.of(
                "chunk",
                f"got the arrays {', '.join(sorted(members))[:200] or 'none'}, expected {', '.join(TOGETHER)}, or "
                f"{', '.join(SPLIT)}",
            )
        if "x" in members:
            return _one_split(name, archive, members)
        return _two_splits(name, archive, members)


def _one_split(name: str, archive: ZipFile, members: dict[str, ZipInfo]) -> Dataset:
    labels = label_array(array_in(archive, members["y"]), "y")
    examples = example_array(array_in(archive, members["x"]), "x", len(labels))
    names, found = np.unique(labels, return_inverse=True)
    classes = classes_of(class_names(names))
    class_ids = classes.ids[found]
    if examples.is_table:
        return held_out_table(name, examples.values, class_ids, classes.labels)
    return held_out_pictures(name, examples.values, class_ids, classes.labels)


def _two_splits(name: str, archive: ZipFile, members: dict[str, ZipInfo]) -> Dataset:
    y_train, y_test = (label_array(array_in(archive, members[y]), y) for y in ("y_train", "y_test"))
    train = example_array(array_in(archive, members["x_train"]), "x_train", len(y_train))
    test = example_array(array_in(archive, members["x_test"]), "x_test", len(y_test))
    if train.values.shape[1:] != test.values.shape[1:]:
        raise InvalidInputError.of(
            "chunk",
            f"x_test's examples are {list(test.values.shape[1:])}, those of x_train {list(train.values.shape[1:])}; "
            f"they must be alike",
        )
    if y_train.dtype.kind != y_test.dtype.kind and "U" in (y_train.dtype.kind, y_test.dtype.kind):
        raise InvalidInputError.of("chunk", "of y_train and y_test one is text and one is numbers; make them alike")
    names, found = np.unique(np.concatenate([y_train, y_test]), return_inverse=True)
    classes = classes_of(class_names(names))
    class_ids = classes.ids[found]
    train_ids, test_ids = class_ids[: len(y_train)], class_ids[len(y_train) :]
    check_both_splits(train_ids, test_ids, classes.labels)
    if train.is_table:
        splits = Split(train.values, train_ids), Split(test.values, test_ids)
        check_table_size(len(y_train) + len(y_test), train.values.shape[1])
        return table_dataset(name, *splits, classes.labels)
    check_pictures_size(len(y_train) + len(y_test), train.values.shape[1:])
    return pictures_dataset(name, (train.values, train_ids), (test.values, test_ids), classes.labels)


def label_array(labels: np.ndarray, which: str) -> np.ndarray:
    """Whole numbers or text (rows,); InvalidInputError if it is neither."""
    if labels.ndim != 1:
        raise InvalidInputError.of(
            "chunk",
            f"{which} has the shape {list(labels.shape)}, expected (rows,): one label each; argmax one-hot rows",
        )
    if labels.dtype.kind not in "iubU":
        raise InvalidInputError.of(
            "chunk", f"{which} is {labels.dtype.name}, expected whole numbers or text; use astype(int) or astype(str)"
        )
    return labels


def class_names(names: np.ndarray) -> list[str]:
    """The different labels as text, without making a list of more than can be classes."""
    return [str(name) for name in names[: MAX_CLASSES + 1].tolist()]


def example_array(given: np.ndarray, which: str, label_count: int) -> Examples:
    """The examples as they are stored.

    Raises:
        InvalidInputError: where count, type, shape or values are not what the contract allows.
    """
    if len(given) != label_count:
        raise InvalidInputError.of(
            "chunk", f"{which} has {len(given)} rows and its labels {label_count}; they must be as many"
        )
    if given.dtype.kind not in "uifb":
        raise InvalidInputError.of("chunk", f"{which} is {given.dtype.name}, expected numbers")
    if given.ndim == TABLE_DIMENSIONS:
        return Examples(table_values(given, which))
    if given.ndim == COLOUR_DIMENSIONS and given.shape[-1] == 1:
        given = given[..., 0]
    if given.ndim not in (GREY_DIMENSIONS, COLOUR_DIMENSIONS) or (
        given.ndim == COLOUR_DIMENSIONS and given.shape[-1] != CHANNELS
    ):
        raise InvalidInputError.of(
            "chunk",
            f"{which} has the shape {list(given.shape)}, expected (rows, features), (rows, height, width) or (rows, "
            f"height, width, 3); reshape or transpose it",
        )
    return Examples(picture_values(given, which))


def table_values(given: np.ndarray, which: str) -> np.ndarray:
    """Float32 (rows, columns), every value finite and within the limit.

    Raises:
        InvalidInputError: naming the value that is not, or the column that single precision would level.
    """
    check_table_size(*given.shape)
    values = np.empty(given.shape, np.float32)
    start = 0
    for block in blocks(given):
        bad = ~(np.abs(block.astype(np.float64)) <= MAX_VALUE)  # NaN too
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise InvalidInputError.of(
                "chunk",
                f"{which}[{start + row}, {column}] is {block[row, column]:g}, expected a finite number of at most "
                f"{MAX_VALUE:g}; correct it or leave the row out",
            )
        values[start : start + len(block)] = block
        start += len(block)
    if which in TRAINING:
        check_precision(given, place_names(given.shape[1]))
    return values


def picture_values(given: np.ndarray, which: str) -> Pixels:
    """Bytes of the same shape; numbers from 0 to 1 become bytes, white being 1."""
    check_pictures_size(len(given), given.shape[1:])
    if given.dtype == np.uint8:
        return np.ascontiguousarray(given)
    if given.dtype.kind != "f":
        raise InvalidInputError.of(
            "chunk", f"{which} holds images of {given.dtype.name}, expected uint8, or floats from 0 to 1; convert it"
        )
    pixels = np.empty(given.shape, np.uint8)
    for row, image in enumerate(given):
        if not (image.min() >= 0 and image.max() <= 1):  # NaN fails both
            raise InvalidInputError.of(
                "chunk",
                f"{which}[{row}] holds values from {image.min():g} to {image.max():g}, expected floats from 0 to 1, or "
                f"uint8; {remedy_for(given)}",
            )
        pixels[row] = np.rint(255 * image.astype(np.float64))
    return pixels


def remedy_for(images: np.ndarray) -> str:
    """What brings images of floats into the range from 0 to 1."""
    if np.isnan(images).any():
        return "replace what is no number"
    if images.min() < 0:
        return "shift and scale them to 0…1"
    return "divide by the largest, or use astype('uint8')"
