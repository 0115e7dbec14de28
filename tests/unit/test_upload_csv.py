"""Uploaded .csv files: what a table becomes, and that each fault is named by its line, its column and its remedy."""

import csv
import re
from io import BytesIO, StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from trainer_service.datasets import limits, upload_csv
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.upload_csv import read_csv

GOOD = ["size,kind,weight", *(f"{row},{'cat' if row % 2 else 'dog'},{row / 4}" for row in range(20))]


def table_of(lines: list[str] | bytes | str, label: str = "kind") -> Dataset:
    """The data set in a file of these lines."""
    text = "\n".join(lines) if isinstance(lines, list) else lines
    return read_csv(BytesIO(text.encode() if isinstance(text, str) else text), "pets", label)


def refusal(lines: list[str] | bytes | str, label: str = "kind") -> str:
    """The message of the refusal: "field: description"."""
    with pytest.raises(InvalidInputError) as raised:
        table_of(lines, label)
    assert len(raised.value.violations) == 1
    return raised.value.message


def both(dataset: Dataset) -> np.ndarray:
    """The rows of both splits, sorted."""
    rows = np.concatenate([dataset.train.examples, dataset.test.examples])
    return rows[np.lexsort(rows.T[::-1])]


def replaced(line: int, content: str) -> list[str]:
    """The good file with one other line, counted from 1."""
    return [*GOOD[: line - 1], content, *GOOD[line:]]


def test_a_table_becomes_float_rows_and_classes() -> None:
    """Every row is in one of the splits as it was, the label's column taken out, and text labels sorted."""
    dataset = table_of(GOOD)
    assert dataset.class_labels == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (16, 4)
    assert dataset.train.examples.dtype == np.float32
    np.testing.assert_array_equal(both(dataset), [[row, row / 4] for row in range(20)])
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.class_ids, 1 - split.examples[:, 0] % 2)


def test_columns_are_described_over_the_training_split() -> None:
    """Names in order, whole numbers told from others, and the figures of the rows that training sees."""
    dataset = table_of(GOOD)
    size, weight = dataset.columns
    assert [(column.name, column.is_integer) for column in dataset.columns] == [("size", True), ("weight", False)]
    train = dataset.train.examples.astype(np.float64)
    for index, column in enumerate((size, weight)):
        values = train[:, index]
        assert (column.minimum, column.maximum) == (values.min(), values.max())
        assert (column.mean, column.deviation) == pytest.approx((values.mean(), values.std()))
    standardisation = dataset.preprocessing.standardisation
    assert standardisation is not None
    np.testing.assert_allclose(standardisation.means, train.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(standardisation.deviations, train.std(axis=0), rtol=1e-6)


def test_an_empty_cell_is_the_mean_of_what_training_sees() -> None:
    """In both splits, and it is counted."""
    lines = ["a,kind,b"] + [f"{'' if row % 3 == 0 else row},{'cat' if row % 2 else 'dog'},{row}" for row in range(60)]
    dataset = table_of(lines)
    assert [column.missing_count for column in dataset.columns] == [20, 0]
    present = dataset.train.examples[dataset.train.examples[:, 1] % 3 != 0, 0]
    for split in (dataset.train, dataset.test):
        filled = split.examples[split.examples[:, 1] % 3 == 0, 0]
        np.testing.assert_allclose(filled, present.mean(dtype=np.float64), rtol=1e-6)
    assert dataset.columns[0].is_integer


def test_a_constant_column_is_shifted_only() -> None:
    """Its deviation is told as 0 and divides as 1."""
    dataset = table_of(["a,kind"] + [f"0.1,{'cat' if row % 2 else 'dog'}" for row in range(20)])
    assert dataset.preprocessing.standardisation is not None
    assert dataset.preprocessing.standardisation.deviations.tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1", "1.0", "01", "2"], ("1", "2")),
        (["0.5", "2", "-0"], ("0", "0.5", "2")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["nan", "inf", "b"], ("b", "inf", "nan")),
        (["é", "z", "a b"], ("a b", "z", "é")),
    ],
)
def test_labels_are_sorted_as_what_they_are(labels: list[str], expected: tuple[str, ...]) -> None:
    """By number if all are numbers, written in one way, else by text."""
    dataset = table_of(["a,kind"] + [f"{row},{label}" for row, label in enumerate(labels * 4)])
    assert dataset.class_labels == expected


def test_what_spreadsheets_write_is_read() -> None:
    """A byte order mark, CRLF, quotes, spaces around a cell, an empty last line."""
    rows = [f' {row} ,"{"a, b" if row % 2 else "c"}"' for row in range(10)]
    dataset = table_of("\ufeff" + '"size",kind \r\n' + "\r\n".join(rows) + "\r\n\r\n")
    assert (dataset.columns[0].name, dataset.class_labels) == ("size", ("a, b", "c"))


@given(st.lists(st.lists(st.floats(-1e15, 1e15), min_size=3, max_size=3), min_size=4, max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_finite_numbers_come_back(rows: list[list[float]]) -> None:
    """As single precision keeps them, unless it would level a column."""
    file = StringIO()
    csv.writer(file).writerows([["a", "b", "c", "kind"], *([*row, index % 2] for index, row in enumerate(rows))])
    expected = np.array(rows, np.float32)
    try:
        dataset = table_of(file.getvalue())
    except InvalidInputError:
        assert "cannot tell such values apart" in refusal(file.getvalue())
        return
    np.testing.assert_array_equal(both(dataset), expected[np.lexsort(expected.T[::-1])])


MILLISECONDS = 1_700_000_000_000  # since 1970; single precision knows such numbers to about two minutes


@pytest.mark.parametrize(
    "values",
    [
        [MILLISECONDS + 1000 * row for row in range(20)],
        [MILLISECONDS + 1000 * row if row != 4 else "" for row in range(20)],
        [1e9 + row / 10 for row in range(20)],
        [0.3 + 1e-9 * row for row in range(20)],
        [1e-200 * row for row in range(20)],
    ],
    ids=["milliseconds", "with a gap", "a large constant", "a small spread", "too small for any"],
)
def test_a_column_that_single_precision_would_level_is_refused(values: list[float | str]) -> None:
    """With its name and the remedy, instead of a column of equal numbers that nothing can be learned from."""
    lines = ["fine,when,kind"] + [f"{row},{value},{row % 2}" for row, value in enumerate(values)]
    message = refusal(lines)
    assert message.startswith("chunk: the column 'when' goes from ")
    assert message.endswith("cannot tell such values apart; subtract a constant or rescale it")


@pytest.mark.parametrize(
    "values",
    [
        [MILLISECONDS + 86_400_000 * row for row in range(20)],
        [2**24 + 2 * row for row in range(20)],
        [1e15 if row == 3 else row for row in range(20)],
        [1e6 + row for row in range(20)],
        [0.1] * 20,
        [MILLISECONDS] * 20,
        ["", *[1e-30 * row for row in range(19)]],
    ],
    ids=["days", "whole numbers", "one that stands out", "a million", "one value", "one large value", "small ones"],
)
def test_a_column_that_single_precision_keeps_is_taken(values: list[float | str]) -> None:
    """However large or small its values are."""
    dataset = table_of(["when,kind"] + [f"{value},{row % 2}" for row, value in enumerate(values)])
    different = {np.float32(value) for value in values if value != ""}
    assert len(set(np.unique(both(dataset)).tolist()) & {float(value) for value in different}) == len(different)


def test_the_columns_names_stay_with_the_preprocessing() -> None:
    """In the order of the features, so that whoever sends a row can be told of a wrong order."""
    assert table_of(GOOD).preprocessing.feature_names == ("size", "weight")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_that_is_no_utf_8_is_named_by_its_own_line(end: str) -> None:
    """Though the file is decoded some thousand bytes at a time, and lines end in three ways."""
    lines = ["a,kind", *(f"{row},{row % 2}" for row in range(20_000))]
    content = bytearray(end.join(lines).encode())
    place = content.index(f"{end}12345,".encode()) + len(end)
    content[place] = 0xFC
    assert refusal(bytes(content)).startswith("chunk: line 12347: not UTF-8 (")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (replaced(5, "1,cat"), "chunk: line 5 has 2 cells, the header has 3; add"),
        (replaced(5, "1,cat,2,3"), "chunk: line 5 has 4 cells, the header has 3; add"),
        (replaced(7, "1,cat,heavy"), "chunk: line 7, column 'weight': 'heavy' is no number; code text as numbers"),
        (replaced(7, "1_0,cat,2"), "chunk: line 7, column 'size': '1_0' is no number"),
        (replaced(3, "nan,cat,1"), "chunk: line 3, column 'size': nan is no number from .* leave the cell empty"),
        (replaced(3, "1,cat,-inf"), "chunk: line 3, column 'weight': -inf is no number from"),
        (replaced(3, "1,cat,2e15"), r"chunk: line 3, column 'weight': 2e\+15 is no number from -1e\+15 to 1e\+15"),
        (replaced(9, "1, ,2"), "chunk: line 9: the label is empty; fill it in or remove the row"),
        (replaced(9, '1,"cat,2'), "chunk: line 2[01]: .*; check the quotes"),
        (replaced(9, "1,bird,2"), "chunk: the class 'bird' has only one example, .* add examples"),
        (replaced(9, f"1,{'x' * 101},2"), "header.label_column: the label 'x+' must be 1 to 100 printable"),
        (replaced(1, "size,kind,size"), "chunk: line 1: the column 'size' stands there twice; rename one"),
        (replaced(1, "size,kind,"), "chunk: line 1: column 3 has no name; give it one"),
        (replaced(1, "size,race,weight"), "header.label_column: there is no column 'kind'; the columns are 'size', "),
        (["kind"] + ["cat"] * 4, "chunk: line 1: 0 columns beside the label, expected 1 to 16384"),
        (["a;kind"] + ["1;cat"] * 4, "header.label_column: .*'a;kind'; separate columns by commas"),
        (GOOD[:1], "chunk: the file has a header and no rows; add some"),
        (["a,kind"] + ["1,cat"] * 4, "header.label_column: there is 1 class, expected at least 2"),
        (["a,kind"] + [f"1,{row}" for row in range(1002)], "header.label_column: there are more than 1000 different"),
        (["a,b,kind"] + [f"1,,{row % 2}" for row in range(9)], "chunk: the column 'b' has no value at all"),
        ("", "chunk: line 1 must be a header"),
        (b"a,kind\n1,\xff\n", "chunk: line 2: not UTF-8 .*; save the file as UTF-8"),
        (b"PK\x03\x04" + bytes(range(256)), "chunk: "),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_place_and_remedy(lines: list[str] | bytes | str, message: str) -> None:
    """Line and column as an editor and the header have them."""
    assert re.match(message, refusal(lines))


def test_an_empty_label_column_is_answered_with_the_columns() -> None:
    """The one who forgot it sees what there is to choose from."""
    message = refusal(GOOD, "")
    assert (
        message == "header.label_column: required: the column with the label; the columns are 'size', 'kind', 'weight'"
    )


def test_lines_are_counted_across_cells_with_line_breaks() -> None:
    """The line is the one that an editor shows."""
    assert "line 4 has 2 cells" in refusal('a,"kind\n",b\n1,cat,2\n1,cat\n')


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read to its end, and numbered."""
    monkeypatch.setattr(upload_csv, "MAX_LINE_CHARACTERS", 100)
    assert refusal([*GOOD, "1" * 200]) == "chunk: line 22 is longer than 100 characters; is this a .csv file?"


def test_a_table_that_is_too_large_is_refused_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before all of it is in memory."""
    monkeypatch.setattr("trainer_service.datasets.table.MAX_ROWS", 10)
    monkeypatch.setattr(upload_csv, "CHECK_EVERY", 4)
    assert refusal(GOOD) == "chunk: got 12 rows, expected at most 10; send a sample"
    assert limits.MAX_ROWS > 10


@given(st.binary(max_size=300), st.sampled_from([b"", b"a,kind\n", b"a,kind\n1,cat\n2,dog\n"]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_table_or_a_refusal(data: bytes, start: bytes) -> None:
    """Nothing else is raised."""
    try:
        dataset = table_of(start + data)
    except InvalidInputError:
        return
    assert np.isfinite(both(dataset)).all()
