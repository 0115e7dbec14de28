"""The rows of a CSV file without labels, in the order in which a model of tables takes its columns.

A header is held against the names of the model's columns, where it has some: what is not the same is refused, and what
stands in another order is put into the model's.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer

SHOWN_COLUMNS = 20
SHOWN_CHARACTERS = 80
NO_GAPS = (
    "is empty, and the model takes no gaps; `weightcast datasets show NAME` lists each column's mean, "
    "which is what an empty cell counted as in training"
)


@dataclass(frozen=True, eq=False)
class CsvRows:
    """What a file holds.

    Attributes:
        lines: the line on which each row ends.
        values: the rows, float32 (rows, columns), columns in the model's order if that is known.
        has_header: whether a header stands before them.
    """

    lines: list[int]
    values: npt.NDArray[np.float32]
    has_header: bool


def rows_of(path: Path, names: Sequence[str] = ()) -> CsvRows:
    """The rows of a file, for a model whose columns have these names; none where it does not know them.

    Raises:
        typer.BadParameter: naming the column or the line that is not what the model takes, and what to do.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            return numbers_of(((reader.line_num, cells) for cells in reader if cells), names)
    except (UnicodeDecodeError, csv.Error) as error:
        raise refused(f"it is no CSV file in UTF-8: {error}") from None


def numbers_of(numbered: Iterator[tuple[int, list[str]]], names: Sequence[str]) -> CsvRows:
    """The rows among lines that are not empty, each with its number."""
    lines: list[int] = []
    rows: list[list[float]] = []
    header: list[str] | None = None
    order: list[int] | None = None
    width = 0
    for line, cells in numbered:
        if not width:
            width = len(cells)
            if is_header(cells, names):
                header = [cell.strip() for cell in cells]
                order = order_of(header, names, line) if names else None
                continue
        if len(cells) != width:
            before = "the rows before it" if header is None else "the header"
            raise refused(f"line {line} has {len(cells)} cells, {before} {width}")
        row = values_of(cells, line, header)
        rows.append(row if order is None else [row[place] for place in order])
        lines.append(line)
    if not rows:
        raise refused("it has no rows")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and the service says so
        return CsvRows(lines, np.array(rows, np.float64).astype(np.float32), header is not None)


def is_header(cells: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a first line names columns: words, or numbers where those are the names of the model's columns."""
    found = [cell.strip() for cell in cells]
    if not any(found):
        return False
    numbers = [is_number(cell) for cell in found]
    if all(numbers):
        return sorted(found) == sorted(names)
    return not any(numbers) or not set(found).isdisjoint(names)


def order_of(header: Sequence[str], names: Sequence[str], line: int) -> list[int]:
    """Where in the file each of the model's columns stands.

    Raises:
        typer.BadParameter: naming the columns that are missing, unknown or there twice, and those that there must be.
    """
    places = {name: place for place, name in enumerate(header)}
    known = set(names)
    problems = []
    if missing := [name for name in names if name not in places]:
        problems.append(f"missing {listed(missing)}")
    if unknown := [name for name in header if name not in known]:
        problems.append(f"unknown {listed(unknown)}")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        problems.append(f"more than once {listed(twice)}")
    if problems:
        raise refused(f"line {line}, the header: {'; '.join(problems)}. The model takes {listed(names)}, in any order")
    return [places[name] for name in names]


def listed(names: Sequence[str]) -> str:
    """The first few of these names, and how many there are if not all are shown."""
    shown = ", ".join(repr(name[:SHOWN_CHARACTERS]) for name in names[:SHOWN_COLUMNS])
    return f"{shown} … ({len(names)} in all)" if names[SHOWN_COLUMNS:] else shown


def values_of(cells: Sequence[str], line: int, header: Sequence[str] | None) -> list[float]:
    """One row's numbers."""
    for place, cell in enumerate(cells):
        if not is_number(cell):
            named = "" if header is None else f" ({header[place][:SHOWN_CHARACTERS]!r})"
            wrong = f": got {cell[:SHOWN_CHARACTERS]!r}, expected a number" if cell.strip() else f" {NO_GAPS}"
            raise refused(f"line {line}, cell {place + 1}{named}{wrong}")
    return [float(cell) for cell in cells]


def is_number(text: str) -> bool:
    """Whether a cell is a number; 1_000 is none, as in training."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def refused(why: str) -> typer.BadParameter:
    """What is wrong with the file."""
    return typer.BadParameter(why, param_hint="--csv")
