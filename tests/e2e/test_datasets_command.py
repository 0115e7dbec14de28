"""`weightcast datasets` and tables as people use them: a file of one's own added, described, learned from, removed."""

import csv
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.inference_client import InferenceClient
from client.local_stack import LocalStack

Shell = Any  # conftest.py's; test folders are no packages to import it from
COLUMNS = tuple(f"feature {index}" for index in range(7))


def write_letters(path: Path) -> list[list[float]]:
    """A CSV of 26 classes by 7 columns, far apart, with one cell missing; returns each class's centre."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 20, (26, 7))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "letter"])
        for index in range(26 * 40):
            row = (centres[index % 26] + rng.normal(0, 0.5, 7)).round(3).tolist()
            writer.writerow(["" if index == 3 and column == 2 else cell for column, cell in enumerate(row)]
                            + [ascii_lowercase[index % 26]])  # fmt: skip
    return [list(centre) for centre in centres]


@pytest.fixture(scope="module")
def centres(
    stack: LocalStack, shell_for: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> list[list[float]]:
    """What lies in the middle of each class of the data set `letters`, which the stack then has."""
    folder = tmp_path_factory.mktemp("letters")
    found = write_letters(folder / "letters.csv")
    added = shell_for(stack, folder)("datasets", "add", "letters", "letters.csv", "--label-column", "letter")
    assert added.code == 0, added.err
    assert "weightcast train --dataset letters" in added.out
    assert added.err == ""  # no bar where nobody sees it
    return found


def test_a_table_of_ones_own_is_trained_published_and_classified(
    shell: Shell, stack: LocalStack, centres: list[list[float]]
) -> None:
    """26 classes, 7 columns, text labels and a recipe of their own, by the command alone."""
    trained = shell(
        *("train", "--dataset", "letters", "--layers", "dense 48 tanh, dropout 0.1", "--optimizer", "rmsprop"),
        *("--learning-rate", "0.01", "--schedule", "cosine", "--epochs", "30", "--seed", "2", "--watch"),
    )
    assert trained.code == 0, trained.out + trained.err
    assert "published letters version 1" in trained.out
    with InferenceClient(stack.inference.address) as inference:
        inference.wait_for_version("letters", 1, 10)

    measured = shell("classify", "--dataset", "letters", width=80)
    assert measured.code == 0, measured.err
    assert "Confusions" in measured.out  # 26 classes are too many for a matrix
    assert max(map(len, measured.out.splitlines())) <= 80
    assert shell("classify", "--dataset", "letters", "--json").json()["accuracy"] > 0.95

    rows = [",".join(f"{cell:.3f}" for cell in centre) for centre in centres]
    (shell.folder / "rows.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    answer = shell("classify", "--csv", "rows.csv", "--model", "letters", "--json").json()
    assert [result["row"] for result in answer["results"]] == [str(line) for line in range(2, 28)]
    best = "".join(result["classes"][0]["label"] for result in answer["results"])
    assert sum(one == other for one, other in zip(best, ascii_lowercase, strict=True)) >= 25
    shown = shell("models", "show", "letters", width=80)
    assert "7 → dense 48 tanh → dropout 0.1 → 26" in shown.out
    assert "Confusions" in shown.out
    assert "first-layer weights" not in shown.out  # columns are no picture


def test_a_table_is_listed_and_described(shell: Shell, centres: list[list[float]]) -> None:
    """Its shape, sizes, classes, columns with what is missing, and its first rows; as JSON too."""
    listed = {dataset["name"]: dataset for dataset in shell("datasets", "list", "--json").json()}
    assert {"digits", "mnist", "letters"} <= set(listed)
    assert listed["letters"]["source"] == "DATASET_SOURCE_UPLOADED"
    assert "7 features, 26 classes" in shell("datasets", "list").out
    shown = shell("datasets", "show", "letters")
    for words in ("7 features of float32", "uploaded, 20", listed["letters"]["digest"], "feature 6", "real", "█"):
        assert words in shown.out
    described = shell("datasets", "show", "letters", "--json").json()
    assert [column["name"] for column in described["columns"]] == list(COLUMNS)
    assert [column["missing_count"] for column in described["columns"]] == ["0", "0", "1", *["0"] * 4]
    assert sum(map(int, described["train_class_counts"])) == int(described["train_size"])


def test_images_of_ones_own_are_added_drawn_and_removed(shell: Shell) -> None:
    """A .zip of class folders; what is drawn is what was sent; afterwards the name is unknown."""
    with zipfile.ZipFile(shell.folder / "bars.zip", "w") as archive:
        for name, side in (("left", slice(0, 8)), ("right", slice(8, 16))):
            for index in range(10):
                pixels = np.zeros((16, 16), np.uint8)
                pixels[:, side] = 255 - index
                file = BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                archive.writestr(f"{name}/{index}.png", file.getvalue())
    added = shell("datasets", "add", "bars", "bars.zip", "--description", "Left and right.", "--json").json()
    assert (added["class_labels"], added["description"]) == (["left", "right"], "Left and right.")
    shown = shell("datasets", "show", "bars", width=80)
    assert "16×16 of uint8" in shown.out
    assert f"{'█' * 8}{' ' * 11}{' ' * 8}{'█' * 8}" in shown.out  # one of each class first
    assert max(len(line) for line in shown.out.splitlines() if "SHA-256" not in line) <= 80  # a digest stays whole
    assert "removed bars" in shell("datasets", "rm", "bars").out
    shell("datasets", "show", "bars").refused(4, "DATASET_NOT_FOUND", "bars")


def test_an_array_is_added_under_any_suffix_that_is_told(shell: Shell) -> None:
    """--format stands for the suffix; the same again is no error, other data under the name is one."""
    file = shell.folder / "numbers.bin"
    for seed, code in ((1, 0), (1, 0), (2, 1)):
        with file.open("wb") as out:
            np.savez(out, x=np.random.default_rng(seed).random((40, 3)), y=np.arange(40) % 2)
        result = shell("datasets", "add", "numbers", "numbers.bin", "--format", "npz")
        assert result.code == code, result.err
    result.refused(1, "FAILED_PRECONDITION", "numbers")


WRONG = {
    "a suffix that tells nothing": ("add x rows.txt", 2, (".npz, .csv or .zip", "--format")),
    "a file that is not there": ("add x none.csv", 2, ("none.csv",)),
    "a label column that is none": ("add x rows.csv --label-column kind", 2, ("header.label_column", "kind", "a", "b")),
    "a name that is none": ("add X! rows.csv --label-column b", 2, ("header.name", "X!")),
    "a row that is too short": ("add x ragged.csv --label-column b", 2, ("INVALID_ARGUMENT", "3")),
    "an archive that is none": ("add x rows.csv --format zip", 2, ("INVALID_ARGUMENT",)),
    "one that was not uploaded": ("rm digits", 1, ("FAILED_PRECONDITION", "digits")),
    "one that is not there": ("rm nope", 4, ("DATASET_NOT_FOUND", "nope")),
    "one that is not there to show": ("show nope", 4, ("DATASET_NOT_FOUND", "nope")),
    "no service": ("list --trainer 127.0.0.1:1", 3, ("UNAVAILABLE", "weightcast up")),
    "no service to send to": ("add x rows.csv --trainer 127.0.0.1:1", 3, ("UNAVAILABLE", "127.0.0.1:1")),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_a_remedy_and_nothing_is_stored(shell: Shell, name: str) -> None:
    """The field, the row or the file, and an exit code; the list is as it was."""
    (shell.folder / "rows.csv").write_text("a,b\n" + "1,x\n2,y\n" * 10)
    (shell.folder / "ragged.csv").write_text("a,b\n1,x\n2\n3,y\n")
    (shell.folder / "rows.txt").write_text("a,b\n")
    arguments, code, words = WRONG[name]
    shell("datasets", *arguments.split()).refused(code, *words)
    assert "x" not in [dataset["name"] for dataset in shell("datasets", "list", "--json").json()]
