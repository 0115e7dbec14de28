"""What was taken for what: a confusion matrix where it fits the terminal, else the most frequent confusions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

Counts = npt.NDArray[np.int64]
TITLE = "Confusion matrix (row: truth, column: answer)"
MOST_CLASSES = 20
CONFUSIONS_SHOWN = 15
RECALL_WIDTH = 9


def counts_of(truth: Counts, predicted: Counts, class_count: int) -> Counts:
    """How often each class (row) was taken for each class (column): (classes, classes)."""
    counts = np.zeros((class_count, class_count), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def confusion_table(counts: Counts, labels: Sequence[str], width: int) -> Table:
    """`counts` (classes, classes) as a table of at most `width` columns; zeros are left out.

    Long labels stand in the rows only, and the columns have the class ids.
    """
    if len(labels) <= MOST_CLASSES:
        ids = [str(class_id) for class_id in range(len(labels))]
        numbered = [f"{number} {label}" for number, label in zip(ids, labels, strict=True)]
        for rows, columns in ((labels, labels), (numbered, ids)):
            if matrix_width(counts, rows, columns) <= width:
                return matrix(counts, rows, columns)
    return most_frequent(counts, labels)


def matrix_width(counts: Counts, rows: Sequence[str], columns: Sequence[str]) -> int:
    """How many characters wide a matrix is."""
    widest = np.char.str_len(counts.astype(str)).max(axis=0)
    cells = sum(max(len(label), int(digits)) + 3 for label, digits in zip(columns, widest, strict=True))
    return max(map(len, rows)) + 3 + cells + RECALL_WIDTH + 1


def matrix(counts: Counts, rows: Sequence[str], columns: Sequence[str]) -> Table:
    """The whole matrix, with each class's recall."""
    table = Table(title=TITLE, title_justify="left")
    table.add_column("", style="bold")
    for label in columns:
        table.add_column(escape(label), justify="right")
    table.add_column("recall", justify="right")
    for index, (label, row) in enumerate(zip(rows, counts, strict=True)):
        cells = [
            "" if not count else f"[green]{count}" if index == column else f"[red]{count}"
            for column, count in enumerate(row)
        ]
        table.add_row(escape(label), *cells, f"{row[index] / row.sum():.1%}" if row.any() else "–")
    return table


def most_frequent(counts: Counts, labels: Sequence[str]) -> Table:
    """The most frequent confusions, one a row."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_SHOWN]
    places = [divmod(int(place), len(labels)) for place in order if wrong.flat[place]]
    shown = sum(int(wrong[place]) for place in places)
    table = Table(
        title=f"Confusions: {shown:,} of {int(wrong.sum()):,} mistakes",
        title_justify="left",
    )
    for heading in ("truth", "taken for"):
        table.add_column(heading)
    for heading in ("times", "of this class"):
        table.add_column(heading, justify="right")
    for true, answer in places:
        times = wrong[true, answer]
        table.add_row(
            escape(labels[true]), escape(labels[answer]), f"[red]{times:,}", f"{times / counts[true].sum():.1%}"
        )
    return table
