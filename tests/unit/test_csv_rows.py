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
    found = rows_of(written(tmp_path, text))
    assert found.lines == lines
    assert found.has_header == (lines[0] > 1)
    assert found.values.dtype == np.float32
    assert found.values.tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("length,width\n1,2\n", ["length", "width"], [[1, 2]]),
        ("\n width ,length\n1,2\n3,4\n", ["length", "width"], [[2, 1], [4, 3]]),
        ("c,a,b\n1,2,3\n", ["a", "b", "c"], [[2, 3, 1]]),
        ("1,0\n5,6\n", ["0", "1"], [[6, 5]]),
        ("1,0\n5,6\n", ["a", "b"], [[1, 0], [5, 6]]),
        ("x,1\n5,6\n", ["1", "x"], [[6, 5]]),
    ],
)
def test_columns_are_put_into_the_models_order(
    tmp_path: Path, text: str, names: list[str], rows: list[list[float]]
) -> None:
    """By the names in the header, also where those are numbers; rows without a header stay in their order."""
    assert rows_of(written(tmp_path, text), names).values.tolist() == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("length\n1\n", "line 1, the header: missing 'width'. The model takes 'length', 'width', in any order"),
        ("width,kind,length\n1,2,3\n", "the header: unknown 'kind'. The model takes 'length', 'width'"),
        (",length,width\n0,1,2\n", "the header: unknown ''"),
        ("a,b\n1,2\n", "missing 'length', 'width'; unknown 'a', 'b'"),
        ("length,width,width\n1,2,3\n", "more than once 'width'"),
        ("length,7,width\n1,2,3\n", "the header: unknown '7'"),
        ("width,length\n1,x\n", r"line 2, cell 2 \('length'\): got 'x'"),
    ],
)
def test_a_header_that_is_not_the_models_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """What is missing, unknown or there twice, and what the model takes."""
    with pytest.raises(typer.BadParameter, match=words):
        rows_of(written(tmp_path, text), ["length", "width"])


def test_many_columns_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    """A message stays readable."""
    names = [f"column {index}" for index in range(300)]
    with pytest.raises(typer.BadParameter, match=r"'column 19' … \(300 in all\)") as refusal:
        rows_of(written(tmp_path, "a\n1\n"), names)
    assert len(refusal.value.message) < 1000


def test_an_empty_cell_is_refused_with_what_may_stand_there(tmp_path: Path) -> None:
    """Where to find the column's mean, which is what a gap counted as in training; in a first row too."""
    for text in ("a,b\n1,2\n3, \n", "1,2\n3,\n", ",\n1,2\n"):
        with pytest.raises(typer.BadParameter, match="is empty, and the model takes no gaps") as refusal:
            rows_of(written(tmp_path, text))
        assert "weightcast datasets show NAME" in refusal.value.message
        assert "mean" in refusal.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("1,2\n3\n", "line 2 has 1 cells, the rows before it 2"),
        ("1,2\n3,x\n", "line 2, cell 2: got 'x', expected a number"),
        ("a,b\n3,\n", r"line 2, cell 2 \('b'\) is empty"),
        ("a,b\n3\n", "line 2 has 1 cells, the header 2"),
        ("1,2\n3,1_000\n", "line 2, cell 2: got '1_000'"),
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
