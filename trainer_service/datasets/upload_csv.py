"""Reads comma-separated values: a header line, a label column by name, and numbers in every other column.

An empty cell is a missing value. What is refused is named by its line, as an editor counts them, and its column.
"""

import csv
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import IO

import numpy as np

from shared.errors import InvalidInputError
from shared.network import FloatArray
from trainer_service.datasets.classes import check_class_count, classes_of
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.limits import (
    MAX_CLASSES,
    MAX_COLUMN_NAME,
    MAX_COLUMNS,
    MAX_DECODED_BYTES,
    MAX_LINE_CHARACTERS,
    MAX_VALUE,
)
from trainer_service.datasets.table import VALUE_BYTES, blocks, check_precision, check_table_size, held_out_table

LABEL_FIELD = "header.label_column"
SHOWN_COLUMNS = 20
CHECK_EVERY = 4096  # rows between two looks at the size
NAN = float("nan")
NO_UTF_8 = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of a byte that is none


@dataclass
class Header:
    """The first line: which cell is the label, and the names of the others in order."""

    label_index: int
    features: list[str]


@dataclass
class Rows:
    """What has been read: values row after row with NaN in the gaps, where those are, labels, and lines."""

    values: "array[float]" = field(default_factory=lambda: array("d"))
    gaps: "array[int]" = field(default_factory=lambda: array("q"))  # places in `values`
    labels: "array[int]" = field(default_factory=lambda: array("q"))  # places in `names`
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    names: dict[str, int] = field(default_factory=dict)


def read_csv(file: IO[bytes], name: str, label_column: str) -> Dataset:
    """The data set in a .csv file.

    Raises:
        InvalidInputError: naming `header.label_column`, or line and column of what cannot be read.
    """
    file.seek(0)
    text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(lines_of(text), strict=True)
    try:
        header = header_of(next(reader, []), label_column)
        rows = rows_of(((reader.line_num, cells) for cells in reader), header)
    except UnicodeDecodeError as error:
        raise InvalidInputError.of(
            "chunk", f"line {undecodable_line(file)}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise InvalidInputError.of("chunk", f"line {reader.line_num}: {error}; check the quotes") from error
    finally:
        text.detach()  # the file is the caller's to close
    if not rows.lines:
        raise InvalidInputError.of("chunk", "the file has a header and no rows; add some")
    values = numbers_of(rows, header)
    classes = classes_of(list(rows.names), LABEL_FIELD)
    class_ids = classes.ids[np.frombuffer(rows.labels, np.int64)]
    return held_out_table(name, values, class_ids, classes.labels, header.features)


def lines_of(text: TextIOWrapper) -> Iterator[str]:
    """The lines of the file, none of them longer than the limit; InvalidInputError naming the one that is."""
    number = 0
    while line := text.readline(MAX_LINE_CHARACTERS):
        number += 1
        if len(line) == MAX_LINE_CHARACTERS:
            raise InvalidInputError.of(
                "chunk", f"line {number} is longer than {MAX_LINE_CHARACTERS} characters; is this a .csv file?"
            )
        yield line


def undecodable_line(file: IO[bytes]) -> int:
    """The first line of the file with a byte that is no UTF-8; the decoder itself runs ahead of the lines."""
    file.seek(0)
    lenient = TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        return next((number for number, line in enumerate(lines_of(lenient), 1) if NO_UTF_8.search(line)), 1)
    finally:
        lenient.detach()


def header_of(cells: Sequence[str], label_column: str) -> Header:
    """What the first line says; InvalidInputError if it names nothing, something twice, or not the label."""
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise InvalidInputError.of("chunk", "line 1 must be a header with the name of each column")
    if "" in names:
        raise InvalidInputError.of("chunk", f"line 1: column {names.index('') + 1} has no name; give it one")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InvalidInputError.of("chunk", f"line 1: the column {twice[0][:80]!r} stands there twice; rename one")
    for name in names:
        if len(name) > MAX_COLUMN_NAME or not name.isprintable():
            raise InvalidInputError.of(
                "chunk", f"line 1: the column {name[:80]!r} must be at most {MAX_COLUMN_NAME} printable characters"
            )
    if label_column not in names:
        shown = ", ".join(repr(name) for name in names[:SHOWN_COLUMNS]) + (" …" if names[SHOWN_COLUMNS:] else "")
        got = f"there is no column {label_column[:80]!r}" if label_column else "required: the column with the label"
        hint = "; separate columns by commas" if len(names) == 1 else ""
        raise InvalidInputError.of(LABEL_FIELD, f"{got}; the columns are {shown}{hint}")
    if not 1 <= len(names) - 1 <= MAX_COLUMNS:
        raise InvalidInputError.of(
            "chunk", f"line 1: {len(names) - 1} columns beside the label, expected 1 to {MAX_COLUMNS}"
        )
    label_index = names.index(label_column)
    return Header(label_index, names[:label_index] + names[label_index + 1 :])


def rows_of(numbered: Iterator[tuple[int, list[str]]], header: Header) -> Rows:
    """All rows below the header, each with its line; empty lines are passed over."""
    rows = Rows()
    width = len(header.features)
    for line, cells in numbered:
        if not cells:
            continue
        if len(cells) != width + 1:
            raise InvalidInputError.of(
                "chunk",
                f"line {line} has {len(cells)} cells, the header has {width + 1}; add the missing ones, or quote a "
                f"cell that holds a comma",
            )
        label = cells.pop(header.label_index).strip()
        if not label:
            raise InvalidInputError.of("chunk", f"line {line}: the label is empty; fill it in or remove the row")
        rows.labels.append(rows.names.setdefault(label, len(rows.names)))
        if len(rows.names) > MAX_CLASSES:
            check_class_count(len(rows.names), LABEL_FIELD)
        add_values(rows, cells, header, line)
        rows.lines.append(line)
        if len(rows.lines) % CHECK_EVERY == 0 or len(rows.values) > MAX_DECODED_BYTES // VALUE_BYTES:
            check_table_size(len(rows.lines), width)
    check_table_size(len(rows.lines), width)
    return rows


def add_values(rows: Rows, cells: list[str], header: Header, line: int) -> None:
    """Appends one row's numbers; InvalidInputError naming the column of what is none."""
    start = len(rows.values)
    if "_" not in "".join(cells):  # Python would take 1_000 for a number, and an article's 12_34 too
        try:
            rows.values.extend(array("d", map(float, cells)))
        except ValueError:
            pass  # looked at cell by cell below
        else:
            return
    for index, cell in enumerate(cells):
        if not cell.strip():
            rows.gaps.append(start + index)
            rows.values.append(NAN)
            continue
        try:
            rows.values.append(float(cell.replace("_", "?")))
        except ValueError:
            raise InvalidInputError.of(
                "chunk",
                f"line {line}, column {header.features[index]!r}: {cell[:40]!r} is no number; code text as numbers, "
                f"remove the column, or leave the cell empty for a missing value",
            ) from None


def numbers_of(rows: Rows, header: Header) -> FloatArray:
    """Float32 (rows, columns), NaN in the gaps.

    Raises:
        InvalidInputError: naming the cell of another NaN or of infinity, or a column that single precision would level.
    """
    width = len(header.features)
    given = np.frombuffer(rows.values, np.float64).reshape(-1, width)
    values = np.empty(given.shape, np.float32)
    gaps = np.frombuffer(rows.gaps, np.int64) if rows.gaps else np.empty(0, np.int64)
    start = 0
    for block in blocks(given):
        bad = ~(np.abs(block) <= MAX_VALUE)  # NaN too
        here = gaps[(gaps >= start * width) & (gaps < (start + len(block)) * width)] - start * width
        bad.reshape(-1)[here] = False
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise InvalidInputError.of(
                "chunk",
                f"line {rows.lines[start + row]}, column {header.features[column]!r}: {block[row, column]:g} is no "
                f"number from {-MAX_VALUE:g} to {MAX_VALUE:g}; leave the cell empty for a missing value",
            )
        values[start : start + len(block)] = block
        start += len(block)
    check_precision(given, header.features)
    return values
