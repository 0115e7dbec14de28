"""Rows without labels read from a CSV file."""

from pathlib import Path

import numpy as np
import pytest
import typer

from client.cli.csv_rows import rows_of


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "rows.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("1,2\n3,4.5\n", [1, 2]),
        ("length,width\n1,2\n3,4.5", [2, 3]),
        ("\ufeff1, 2\r\n\r\n3,4.5\r\n", [1, 3]),
        ('"a ""b""","c\nd"\n1,2\n3,4.5\n', [3, 4]),
    ],
)
def test_rows_are_read_with_or_without_a_header(tmp_path: Path, text: str, lines: list[int]) -> None:
    """float32 rows and the line each ends on; empty lines and a byte order mark are passed over."""
    numbers, rows = rows_of(written(tmp_path, text))
    assert numbers == lines
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("1,2\n3\n", "line 2 has 1 cells, the rows before it 2"),
        ("1,2\n3,x\n", "line 2, cell 2: got 'x', expected a number"),
        ("a,b\n3,\n", "line 2, cell 2: got nothing"),
        ("1,b\n", "line 1, cell 2: got 'b'"),
        ("1,2\na,b\n", "line 2, cell 1: got 'a'"),
        (b"1,\xff\n", "UTF-8"),
        ("1\x00,2\n", "line 1|CSV"),
    ],
)
def test_what_is_no_row_of_numbers_is_named(tmp_path: Path, text: str | bytes, words: str) -> None:
    """The line, the cell, and what stands there."""
    with pytest.raises(typer.BadParameter, match=words):
        rows_of(written(tmp_path, text))
