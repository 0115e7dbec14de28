"""`weightcast classify --csv` as people use it: columns go by their names, for each version by its own."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.inference_client import InferenceClient
from client.local_stack import LocalStack

Shell = Any  # conftest.py's; test folders are no packages to import it from
NOWHERE = ("--trainer", "127.0.0.1:1")


def write_table(path: Path, columns: tuple[str, str]) -> None:
    """Rows of the class `left` with a large `a` and a small `b`, and of `right` the other way round."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, "side"])
        writer.writeheader()
        for index in range(200):
            high, low = rng.normal((10, 0), 0.5).round(3).tolist()
            is_left = index % 2 == 0
            a, b = (high, low) if is_left else (low, high)
            writer.writerow({"a": a, "b": b, "side": "left" if is_left else "right"})


@pytest.fixture(scope="module", autouse=True)
def versions(stack: LocalStack, shell_for: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the model `sides`, version 1 with the columns a, b and version 2 with b, a; of `nameless`, one of an array."""
    shell = shell_for(stack, tmp_path_factory.mktemp("sides"))
    for number, columns in enumerate([("a", "b"), ("b", "a")], start=1):
        write_table(shell.folder / "table.csv", columns)
        assert shell("datasets", "add", f"sides-{number}", "table.csv", "--label-column", "side").code == 0
    np.savez(shell.folder / "array.npz", x=np.random.default_rng(1).random((60, 2)), y=np.arange(60) % 2)
    assert shell("datasets", "add", "nameless", "array.npz").code == 0
    recipe = ("--hidden", "8", "--epochs", "20", "--learning-rate", "0.02", "--seed", "1", "--watch")
    jobs = (("sides-1", "sides", 1), ("sides-2", "sides", 2), ("nameless", "nameless", 1))
    with InferenceClient(stack.inference.address) as inference:
        for dataset, model, version in jobs:
            trained = shell("train", "--dataset", dataset, "--model", model, *recipe)
            assert f"published {model} version {version}" in trained.out, trained.err
            inference.wait_for_version(model, version, 10)


def classified(shell: Shell, text: str, *arguments: str) -> Any:  # noqa: ANN401 - conftest.py's Result
    """What the command gives for a file with this text."""
    (shell.folder / "rows.csv").write_text(text)
    return shell("classify", "--csv", "rows.csv", *arguments)


@pytest.mark.parametrize("text", ["a,b\n10,0\n0,10\n", "b,a\n0,10\n10,0\n"])
@pytest.mark.parametrize(("version", "number"), [("1", 1), ("2", 2), ("live", 2), ("latest", 2)])
def test_a_header_says_which_column_is_which(shell: Shell, text: str, version: str, number: int) -> None:
    """In whichever order they stand, there and in the table from which the version learned."""
    result = classified(shell, text, "--model", "sides", "--version", version, "--json")
    answer = result.json()
    assert answer["served_by"]["version"] == number
    assert [row["classes"][0]["label"] for row in answer["results"]] == ["left", "right"]
    assert result.err == ""


def test_without_a_header_columns_stand_in_the_versions_order(shell: Shell) -> None:
    """Which is that of the table from which it learned; the live version needs no trainer for it."""
    for version, label in (("1", "left"), ("2", "right")):
        answer = classified(shell, "10,0\n", "--model", "sides", "--version", version, "--json").json()
        assert answer["results"][0]["classes"][0]["label"] == label
    assert classified(shell, "10,0\n", "--model", "sides", *NOWHERE).code == 0


def test_what_the_model_does_not_take_is_refused(shell: Shell) -> None:
    """A label, a missing column, a gap: exit 2, and what the model takes."""
    takes = ("--csv", "The model takes 'b', 'a'")
    classified(shell, "a,b,side\n10,0,left\n", "--model", "sides").refused(2, "unknown 'side'", *takes)
    classified(shell, "a\n10\n", "--model", "sides").refused(2, "missing 'b'", *takes)
    classified(shell, "a,b\n10,\n", "--model", "sides").refused(2, "line 2, cell 2", "weightcast datasets show", "mean")
    classified(shell, "a,b\n1,2\n", "--model", "nope").refused(4, "MODEL_NOT_FOUND")
    classified(shell, "a,b\n1,2\n", "--model", "sides", "--version", "1", *NOWHERE).refused(3, "UNAVAILABLE")


def test_a_header_that_cannot_be_checked_is_told(shell: Shell) -> None:
    """One line on standard error, for a version that does not know its columns' names; none without a header."""
    result = classified(shell, "a,b\n1,0\n", "--model", "nameless", "--json")
    assert len(result.json()["results"]) == 1
    assert result.err.count("\n") == 1
    assert "the header of rows.csv is not checked" in result.err
    assert classified(shell, "1,0\n", "--model", "nameless").err == ""
