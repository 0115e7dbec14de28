"""Recipes by the command: what is asked for is what is trained, what was learned is shown, and it can be done again."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from client.local_stack import LocalStack

Shell = Any  # conftest.py's; test folders are no packages to import it from
RECIPE = (
    *("--dataset", "digits", "--model", "recipe", "--layers", "conv 4x3 pad 1 relu, pool 2, flatten, dense 16 tanh"),
    *("--optimizer", "sgd", "--learning-rate", "0.1", "--momentum", "0.9", "--nesterov", "--initialization", "glorot"),
    *("--schedule", "step", "--step-epochs", "2", "--step-factor", "0.5", "--label-smoothing", "0.1"),
    *("--weight-decay", "0.0001", "--gradient-clip-norm", "5", "--validation-fraction", "0.2"),
    *("--early-stopping-patience", "9", "--ema-decay", "0.9", "--shift", "0.5", "--epochs", "4", "--seed", "7"),
)


@pytest.fixture(scope="module")
def job_id(stack: LocalStack, shell_for: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job by that recipe, which has published version 1 of the model `recipe`."""
    done = shell_for(stack, tmp_path_factory.mktemp("recipe"))("train", *RECIPE, "--watch", "--json").json()
    assert done["state"] == "STATE_SUCCEEDED", done["error_message"]
    return str(done["id"])


def test_the_recipe_is_shown_as_it_was_asked_for(shell: Shell, job_id: str) -> None:
    """Every part of it in words, the digests, and a column for what was set aside."""
    shown = shell("jobs", "show", job_id).out
    for words in (
        *("conv 4x3 pad 1 relu, pool 2, flatten, dense 16 tanh", "sgd, learning rate 0.1, Nesterov momentum 0.9"),
        *("glorot", "step, times 0.5 after every 2 epochs", "cross-entropy, label smoothing 0.1", "shift 0.5 px"),
        *("weight decay 0.0001", "gradients clipped to 5", "20% set aside for validation", "decay 0.9", "seed 7"),
        *("SHA-256", "numpy", "valid.", "learn."),
    ):
        assert words in shown, words
    assert "rotation" not in shown  # one option of augmentation replaces the preset's others
    watched = shell("jobs", "watch", job_id).out
    assert "validation" in watched
    assert "epoch 4/4" in watched


def test_a_job_is_reproduced_to_the_last_bit(shell: Shell, job_id: str) -> None:
    """The same weights, on whichever worker; nothing is published by it."""
    result = shell("jobs", "reproduce", job_id)
    assert result.code == 0, result.out + result.err
    assert "equal to the last bit" in result.out
    document = shell("jobs", "reproduce", job_id, "--json").json()
    assert document["equal"]
    assert document["differences"] == {}
    assert document["weights_digests"][0] == document["weights_digests"][1] != ""
    again = shell("jobs", "show", document["reproduction"]).out
    assert "not published" in again
    assert [version["version"] for version in shell("models", "versions", "recipe", "--json").json()] == ["1"]


def test_a_network_without_hidden_layers_is_reproduced_as_such(shell: Shell) -> None:
    """What the first job has none of, the second has none of either: no layers, no augmentation, no preset's."""
    plain = ("--dataset", "digits", "--hidden", "none", "--epochs", "1", "--no-augmentation", "--schedule", "constant")
    trained = shell("train", *plain, "--preset", "lenet", "--no-publish", "--watch")
    assert trained.code == 0, trained.err
    assert "not published, as asked; weights SHA-256" in trained.out
    (newest,) = shell("jobs", "list", "--limit", "1", "--json").json()
    assert newest["weights_digest"] in trained.out
    assert newest["spec"]["layers"] == []
    assert shell("jobs", "reproduce", newest["id"]).code == 0


def test_a_job_that_has_no_weights_cannot_be_reproduced(shell: Shell) -> None:
    """Exit 1 with the reason, and nothing is trained."""
    queued = shell("train", "--dataset", "digits", "--epochs", "1000", "--hidden", "1024", "--json").json()["id"]
    before = shell("jobs", "list", "--json").json()
    shell("jobs", "reproduce", queued).refused(1, "no weights_digest")
    assert len(shell("jobs", "list", "--json").json()) == len(before)
    shell("jobs", "cancel", queued)


def test_what_was_learned_is_shown(shell: Shell, job_id: str) -> None:
    """Figures, classes, confusions, curves with the published epoch, and filters as pictures; within 80 columns."""
    shown = shell("models", "show", "recipe", width=80)
    assert shown.code == 0, shown.err
    for words in (
        *("8×8 → conv 4 of 3×3 pad 1 relu → pool 2 → flatten → dense 16 tanh → 10", "what was learned"),
        *("precision", "recall", "calibration", "Confusion matrix", "loss by epoch", "accuracy by epoch"),
        *("● training", "○ test", "△ validation", "▲ published: epoch", "first-layer weights: 4 of 4 filters"),
    ):
        assert words in " ".join(shown.out.split()), words
    charts = shown.out[shown.out.index("loss by epoch") :]
    assert max(map(len, charts.splitlines())) <= 80


def test_what_was_learned_is_plotted_or_the_remedy_is_told(shell: Shell, job_id: str) -> None:
    """One PNG; where matplotlib is not installed, how to install it."""
    result = shell("models", "show", "recipe", "--plot", "learned.png")
    if importlib.util.find_spec("matplotlib") is None:
        result.refused(1, "pip install 'weightcast[plot]'")
        assert not (shell.folder / "learned.png").exists()
        return
    assert result.code == 0, result.err
    assert (shell.folder / "learned.png").read_bytes().startswith(b"\x89PNG")


WRONG = {
    "a layer that is none": ("--layers dense", ("--layers", "layer 1", "dense UNITS")),
    "layers twice": ("--hidden 8 --layers flatten", ("spec.layers",)),
    "layers that do not fit": ("--layers flatten,conv\t4x3", ("spec.layers", "layer 1")),
    "a preset that is none": ("--preset best", ("spec.preset", "mlp", "lenet")),
    "a schedule that is none": ("--schedule slow", ("--schedule", "one-cycle")),
    "a step without steps": ("--step-epochs 3", ("--step-epochs", "--schedule step")),
    "momentum of another optimizer": ("--optimizer adam --momentum 0.9", ("spec.momentum", "SGD")),
    "patience without validation": ("--early-stopping-patience 3", ("spec.early_stopping_patience", "validation")),
    "an activation of nothing": ("--activation tanh", ("--activation", "--hidden")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_recipe_that_cannot_be_meant_is_refused(shell: Shell, name: str) -> None:
    """Exit 2; the option or the field is named, with what is expected."""
    arguments, words = WRONG[name]
    options = [argument.replace("\t", " ") for argument in arguments.split(" ")]
    shell("train", "--dataset", "digits", *options).refused(2, *words)
