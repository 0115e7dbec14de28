"""The rows of a CSV file without labels, as a model of tables takes them."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer


def rows_of(path: Path) -> tuple[list[int], npt.NDArray[np.float32]]:
    """The line number of each row, and the rows, float32 (rows, columns); a header is passed over.

    Raises:
        typer.BadParameter: naming the line that is no row of numbers, and what to do.
    """
    numbers: list[int] = []
    rows: list[list[float]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for record, cells in enumerate(reader):
                is_header = record == 0 and not any(map(is_number, cells))
                if cells and not is_header:
                    rows.append(values_of(cells, reader.line_num, len(rows[0]) if rows else len(cells)))
                    numbers.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise refused(f"it is no CSV file in UTF-8: {error}") from None
    if not rows:
        raise refused("it has no rows")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and the service says so
        return numbers, np.array(rows, np.float64).astype(np.float32)


def values_of(cells: list[str], line: int, expected: int) -> list[float]:
    """One row's numbers."""
    if len(cells) != expected:
        raise refused(f"line {line} has {len(cells)} cells, the rows before it {expected}")
    for place, cell in enumerate(cells, start=1):
        if not is_number(cell):
            came = repr(cell) if cell.strip() else "nothing"
            raise refused(f"line {line}, cell {place}: got {came}, expected a number")
    return [float(cell) for cell in cells]


def is_number(text: str) -> bool:
    """Whether a cell is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def refused(why: str) -> typer.BadParameter:
    """What is wrong with the file."""
    return typer.BadParameter(why, param_hint="--csv")
