"""A data set as a terminal shows it: figures, class counts, columns and samples."""

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from client.cli.options import list_table
from client.cli.pictures import bar, brightness, images, images_that_fit, resized
from client.cli.spec_view import print_fields
from shared.pb.weightcast.v1 import dataset_pb2, tensor_pb2
from shared.pb.weightcast.v1.dataset_pb2 import Dataset

COLUMNS_SHOWN = 20
CLASSES_SHOWN = 40
ROWS_SHOWN = 5
VALUES_SHOWN = 8
IMAGE_ROWS = 2
IMAGE_WIDTH = 36  # characters an image may take
LEAST_IMAGE_WIDTH = 16
UNIT = 1024
SIZE_UNITS = ("bytes", "KiB", "MiB", "GiB")
IMAGE_DIMENSIONS = (2, 3)


def source_name(dataset: Dataset) -> str:
    """Built-in, openml or uploaded."""
    name = dataset_pb2.DatasetSource.Name(dataset.source)
    return name.removeprefix("DATASET_SOURCE_").replace("_", "-").lower().replace("unspecified", "")


def shape_text(dataset: Dataset) -> str:
    """28×28, or 7 features; empty where it is not known."""
    shape = dataset.preprocessing.input_shape
    if len(shape) == 1:
        return f"{shape[0]} feature{'s' * (shape[0] != 1)}"
    return "×".join(map(str, shape))


def contents_text(dataset: Dataset) -> str:
    """What a list says of a data set's shape, classes and sizes; empty where that is not known without loading it."""
    classes = f"{len(dataset.class_labels)} classes" if dataset.class_labels else ""
    sizes = f"{dataset.train_size:,} + {dataset.test_size:,}" if dataset.train_size else ""
    return ", ".join(filter(None, (shape_text(dataset), classes, sizes)))


def size_text(size: float) -> str:
    """1.5 MiB and the like."""
    power = 0
    while size >= UNIT and power < len(SIZE_UNITS) - 1:
        size, power = size / UNIT, power + 1
    return f"{size:,.{min(power, 1)}f} {SIZE_UNITS[power]}"


def show_described(console: Console, dataset: Dataset) -> None:
    """Prints what is known of a data set."""
    preprocessing = dataset.preprocessing
    dtype = tensor_pb2.DataType.Name(dataset.data_type).removeprefix("DATA_TYPE_").lower()
    console.print(f"{dataset.name}: {dataset.description}", markup=False, highlight=False)
    print_fields(
        console,
        {
            "source": source_name(dataset)
            + (f", {dataset.create_time.ToDatetime():%Y-%m-%d %H:%M} UTC" if dataset.HasField("create_time") else ""),
            "examples": f"{dataset.train_size:,} to train on, {dataset.test_size:,} to test with",
            "each": f"{shape_text(dataset)} of {dtype}",
            "feature values": ""
            if dataset.columns
            else f"{preprocessing.feature_min:g} to {preprocessing.feature_max:g}",
            "standardised": "by the training split's means and deviations" if preprocessing.feature_means else "",
            "size": size_text(dataset.size_bytes),
            "digest": f"SHA-256 {dataset.digest}",
        },
    )
    show_classes(console, dataset)
    if dataset.columns:
        show_columns(console, dataset)


def show_classes(console: Console, dataset: Dataset) -> None:
    """Prints each class with its counts, and a bar for its share of the training split."""
    table = list_table()
    for heading, justify in (("class", "left"), ("train", "right"), ("test", "right"), ("", "left")):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    counts = [*dataset.train_class_counts, *[0] * (len(dataset.class_labels) - len(dataset.train_class_counts))]
    tests = [*dataset.test_class_counts, *[0] * (len(dataset.class_labels) - len(dataset.test_class_counts))]
    largest = max([1, *counts])
    for label, train, test in list(zip(dataset.class_labels, counts, tests, strict=True))[:CLASSES_SHOWN]:
        table.add_row(escape(label), f"{train:,}", f"{test:,}", bar(train / largest))
    console.print(table)
    print_rest(console, len(dataset.class_labels), CLASSES_SHOWN, "classes")


def show_columns(console: Console, dataset: Dataset) -> None:
    """Prints the columns of a table."""
    table = list_table()
    table.add_column("column")
    table.add_column("type")
    for heading in ("missing", "min", "max", "mean", "deviation"):
        table.add_column(heading, justify="right")
    for column in dataset.columns[:COLUMNS_SHOWN]:
        kind = dataset_pb2.ColumnType.Name(column.type).removeprefix("COLUMN_TYPE_").lower()
        figures = (column.min, column.max, column.mean, column.deviation)
        table.add_row(escape(column.name), kind, f"{column.missing_count:,}", *[f"{figure:.4g}" for figure in figures])
    console.print(table)
    print_rest(console, len(dataset.columns), COLUMNS_SHOWN, "columns")


def print_rest(console: Console, count: int, shown: int, what: str) -> None:
    """Says how many are not shown."""
    if count > shown:
        console.print(f"… and {count - shown:,} more {what}; --json names all", highlight=False)


def show_samples(
    console: Console,
    dataset: Dataset,
    examples: npt.NDArray[np.uint8 | np.float32],
    class_ids: npt.NDArray[np.int64],
) -> None:
    """Draws images, one of each class first, or prints a table's first rows; `examples` is (rows, …input_shape)."""
    if examples.ndim - 1 in IMAGE_DIMENSIONS:
        draw_images(console, dataset, examples, class_ids)
    else:
        console.print(first_rows(dataset, examples, class_ids))


def draw_images(
    console: Console,
    dataset: Dataset,
    examples: npt.NDArray[np.uint8 | np.float32],
    class_ids: npt.NDArray[np.int64],
) -> None:
    """Draws a few images in rows."""
    pictures = resized(brightness(examples), max(LEAST_IMAGE_WIDTH, min(IMAGE_WIDTH, examples.shape[2])))
    fit = images_that_fit(console.width, pictures.shape[2])
    order = one_of_each_first(class_ids)
    for start in range(0, min(len(order), fit * IMAGE_ROWS), fit):
        shown = order[start : start + fit]
        console.print(images(pictures[shown], [escape(dataset.class_labels[class_ids[row]]) for row in shown]))


def one_of_each_first(class_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The places of all rows: first one of each class, by class, then the others."""
    _, first = np.unique(class_ids, return_index=True)
    others = np.setdiff1d(np.arange(len(class_ids)), first)
    return np.concatenate([first, others]).astype(np.int64)


def first_rows(
    dataset: Dataset, examples: npt.NDArray[np.uint8 | np.float32], class_ids: npt.NDArray[np.int64]
) -> Table:
    """A table's first rows, with the class of each and as many values as a terminal holds."""
    names = [column.name for column in dataset.columns] or [str(index) for index in range(examples.shape[1])]
    table = list_table("class")
    for name in names[:VALUES_SHOWN]:
        table.add_column(escape(name), justify="right")
    more = len(names) > VALUES_SHOWN
    if more:
        table.add_column(f"{len(names) - VALUES_SHOWN} more")
    for row, class_id in zip(examples[:ROWS_SHOWN], class_ids[:ROWS_SHOWN], strict=True):
        values = [f"{value:.4g}" for value in row[:VALUES_SHOWN]]
        table.add_row(escape(dataset.class_labels[class_id]), *values, *["…"] * more)
    return table
