"""`weightcast models`: versions made live and rolled back, aliased, marked, compared and removed, from a shell."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1.training_pb2 import Promotion, TrainingJob

Shell = Any  # conftest.py's; test folders are no packages to import it from
Train = Callable[..., TrainingJob]
MANUAL = Promotion(policy=Promotion.POLICY_MANUAL)
SMALL = {"epochs": 1, "network": {"hidden_layer_sizes": [8]}}


@pytest.fixture(scope="module")
def moved(stack: LocalStack, train: Train) -> str:
    """A model of two versions, the first of which is live."""
    assert train(stack, "moved", **SMALL).version == 1
    assert train(stack, "moved", **SMALL, promotion=MANUAL).version == 2
    return "moved"


@pytest.fixture(scope="module")
def kept(stack: LocalStack, train: Train) -> str:
    """A model of five versions, of which 1, 2 and 3 were never live and 5 is."""
    for number in range(1, 6):
        spec = {**SMALL, "promotion": MANUAL} if number < 4 else SMALL
        assert train(stack, "kept", **spec).version == number
    return "kept"


@pytest.fixture(scope="module")
def compared(stack: LocalStack, train: Train) -> str:
    """A model of three versions: the second goes on from the first, and the third is the second again."""
    assert train(stack, "compared", seed=1).version == 1
    for version in (2, 3):
        assert train(stack, "compared", seed=2, epochs=1, parent="1", learning_rate=0.002).version == version
    return "compared"


def fits(text: str) -> bool:
    """Whether 80 columns are enough."""
    return max(map(len, text.splitlines())) <= 80


def test_versions_are_made_live_and_rolled_back(shell: Shell, stack: LocalStack, moved: str, train: Train) -> None:
    """By number or alias, with a reason; a rollback holds the model until the hold is lifted; all of it is history."""
    assert (
        "did not go live, was left to `weightcast models promote`"
        in shell("models", "show", moved, "--version", "2").out
    )
    assert "version 2 is live; back to version 1" in shell("models", "promote", moved, "latest", "--reason", "good").out
    back = shell("models", "rollback", moved, "--reason", "owls [at] night", "--json").json()
    assert (back["live_version"], back["hold"]["reason"]) == ("1", "owls [at] night")
    listed = shell("models", "list", width=80).out
    assert fits(listed)
    assert "held since" in listed
    assert "owls [at] night" in " ".join(listed.split())

    held = train(stack, moved, **SMALL)
    assert "did not go live, the model was on hold" in shell("jobs", "show", held.id).out
    shell("models", "rollback", moved).refused(1, "NO_PREVIOUS_VERSION", "weightcast models promote MODEL VERSION")

    assert "is not on hold" in shell("models", "hold", moved, "--off").out
    assert "hold" not in shell("models", "hold", moved, "--off", "--json").json()
    assert "version 1 stays live; on hold" in shell("models", "hold", moved, "--reason", "wait").out
    lifted = shell("models", "promote", moved, "3", "--json").json()
    assert (lifted["live_version"], lifted["previous_version"]) == ("3", "1")
    assert "hold" not in lifted

    changes = shell("models", "history", moved, "--json").json()
    assert [(change["version"], change["cause"]) for change in changes] == [
        ("3", "CAUSE_PROMOTED"),
        ("1", "CAUSE_ROLLED_BACK"),
        ("2", "CAUSE_PROMOTED"),
        ("1", "CAUSE_PUBLISHED"),
    ]
    assert [change["reason"] for change in changes] == ["", "owls [at] night", "good", ""]
    assert all("@" in change["actor"] for change in changes[:3])
    shown = shell("models", "history", moved, "--limit", "2", width=80).out
    assert fits(shown)
    assert "owls [at]" in shown
    assert "good" not in shown


def test_aliases_are_pointed_and_removed(shell: Shell, moved: str) -> None:
    """An alias stands for a version wherever one is named."""
    assert "champion is version 1" in shell("models", "alias", moved, "champion", "1").out
    assert shell("models", "show", moved, "--version", "champion", "--json").json()["version"] == "1"
    assert shell("models", "alias", moved, "second", "champion", "--json").json()["version"] == 1
    assert "removed alias champion" in shell("models", "alias", moved, "champion", "--remove").out
    shell("models", "show", moved, "--version", "champion").refused(4, "ALIAS_NOT_FOUND", "second")


def test_versions_are_marked_and_found_by_their_marks(shell: Shell, kept: str) -> None:
    """Notes, labels and a pin are set, changed and taken away one by one."""
    marks = ("--notes", "[of] its kind", "--label", "stage=test", "--label", "owner=me", "--pin")
    marked = shell("models", "annotate", kept, "1", *marks).out
    assert all(words in marked for words in ("owner=me, stage=test", "[of] its kind", "kept whatever its age"))
    shown = shell("models", "show", kept, "--version", "1").out
    assert all(words in shown for words in ("owner=me, stage=test", "[of] its kind", "kept whatever its age"))

    assert [found["version"] for found in shell("models", "versions", kept, "--pinned", "--json").json()] == ["1"]
    assert len(shell("models", "versions", kept, "--not-pinned", "--json").json()) == 4
    for wanted, count in (("stage=test", 1), ("stage", 1), ("stage=other", 0), ("nope", 0)):
        assert len(shell("models", "versions", kept, "--label", wanted, "--json").json()) == count
    listed = shell("models", "versions", kept, width=80).out
    assert fits(listed)
    assert "pinned" in listed

    changed = shell("models", "annotate", kept, "1", "--label", "stage=x=y", "--remove-label", "owner", "--json").json()
    assert (changed["labels"], changed["notes"], changed["pinned"]) == ({"stage": "x=y"}, "[of] its kind", True)
    changed = shell("models", "annotate", kept, "1", "--notes", "", "--unpin", "--json").json()
    assert (changed["labels"], changed["notes"], changed["pinned"]) == ({"stage": "x=y"}, "", False)


def test_versions_are_found_by_what_made_them(shell: Shell, stack: LocalStack, kept: str) -> None:
    """Their job and their data set."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = trainer.version(kept, 2).manifest.training_job_id
    assert [found["version"] for found in shell("models", "versions", kept, "--job", job_id, "--json").json()] == ["2"]
    assert len(shell("models", "versions", kept, "--dataset", "digits", "--json").json()) == 5
    assert shell("models", "versions", kept, "--dataset", "mnist", "--json").json() == []


def test_what_differs_between_versions_is_shown_side_by_side(shell: Shell, compared: str) -> None:
    """What is the same is not named; a change for the better or the worse stands beside the figures."""
    result = shell("models", "diff", compared, "1", "latest", width=80)
    assert result.code == 0, result.err
    assert fits(result.out)
    text = " ".join(result.out.split())
    for words in (
        *("compared version 1 and version 3: the weights differ", "parent – version 1", "epochs 2 1", "seed 1 2"),
        *("learning rate 0.002", "test accuracy", "test loss", "calibration error", "recall of"),
    ):
        assert words in text, text
    assert "batch size" not in text
    assert "network" not in text
    found = shell("models", "diff", compared, "1", "3", "--json").json()
    assert (found["versions"], found["weights_equal"], found["same_test"]) == ([1, 3], False, True)
    assert found["spec"]["epochs"] == ["2", "1"]
    assert found["origin"] == {"parent": ["", "version 1"]}
    assert found["libraries"] == {}
    assert set(found["metrics"]) == {"accuracy", "loss", "calibration_error"}
    assert all(first != second for first, second in found["recalls"].values())


def test_versions_trained_alike_have_the_same_weights(shell: Shell, compared: str) -> None:
    """And differ in nothing."""
    assert "the weights are the same to the last bit" in shell("models", "diff", compared, "2", "3").out
    found = shell("models", "diff", compared, "2", "3", "--json").json()
    assert found["weights_equal"]
    assert (found["spec"], found["origin"], found["recalls"]) == ({}, {}, {})


def test_a_version_is_downloaded_as_a_network(shell: Shell, compared: str) -> None:
    """Under the name that the service gives it, checked against its digest."""
    result = shell("models", "download", compared, "--version", "2", "--format", "onnx")
    assert result.code == 0, result.err
    assert (shell.folder / "compared-2.onnx").stat().st_size > 0


def test_versions_are_removed_one_by_one_or_all_that_are_old(shell: Shell, kept: str) -> None:
    """What is in use is not, with the reason and a remedy; what will go is said before it goes."""
    result = shell("models", "rm", kept, "1", "5")
    result.refused(1, "removing 2 versions (1, 5) of kept for good", "VERSION_IN_USE", "it is live", "annotate --unpin")
    assert "removed version 1 of kept" in result.out
    would = shell("models", "gc", kept, "--keep", "1", "--dry-run")
    assert "would remove 2 versions (2–3) of kept" in would.out
    assert would.err == ""
    assert len(shell("models", "versions", kept, "--json").json()) == 4
    went = shell("models", "gc", kept, "--keep", "1", "--json")
    assert went.json()["versions"] == ["2", "3"]
    assert "removing 2 versions (2–3) of kept for good" in went.err
    again = shell("models", "gc", kept, "--keep", "1")
    assert "no version to remove; 2 are kept" in again.out
    assert again.err == ""
    assert shell("models", "rm", kept, "4", "--json").json() == {"model": "kept", "removed": [4]}


WRONG = {
    "an unknown version to promote": ("promote compared 99", 4, ("VERSION_NOT_FOUND", "weightcast models versions")),
    "an unknown model to roll back": ("rollback nope", 4, ("MODEL_NOT_FOUND", "weightcast models list")),
    "a reason too long": (f"hold compared --reason {'x' * 501}", 2, ("reason", "500")),
    "an alias that looks like a number": ("alias compared 7 1", 2, ("alias", "'7'")),
    "the store's alias": ("alias compared latest 1", 2, ("alias", "latest")),
    "an alias of nothing": ("alias compared best", 2, ("VERSION", "--remove")),
    "an alias that is none, removed": ("alias compared best --remove", 4, ("ALIAS_NOT_FOUND", "best")),
    "nothing to write": ("annotate compared 1", 2, ("--notes", "--unpin")),
    "a label without a value": ("annotate compared 1 --label stage", 2, ("--label", "NAME=VALUE")),
    "a label that cannot be": ("annotate compared 1 --label St=1", 2, ("labels", "'St'")),
    "an unknown version to compare": ("diff compared 1 99", 4, ("VERSION_NOT_FOUND", "99")),
    "an unknown version to remove": ("rm compared 99", 4, ("VERSION_NOT_FOUND", "99")),
    "no version that can be removed": ("rm compared latest", 2, ("VERSION", "integer")),
    "nothing to keep": ("gc compared --keep 0", 2, ("--keep", "1")),
    "a format that is none": ("download compared --format pickle", 2, ("--format", "safetensors", "onnx")),
}


@pytest.fixture(scope="module")
def wrong_results(
    stack: LocalStack, compared: str, shell_for: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What each wrong command gave; run side by side, for each takes a process."""
    run = shell_for(stack, tmp_path_factory.mktemp("wrong"))
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda wrong: run("models", *wrong[0].split()), WRONG.values())
        return dict(zip(WRONG, results, strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_done_is_told_with_a_remedy(wrong_results: dict[str, Any], name: str) -> None:
    """With the exit code that says the same."""
    _, code, words = WRONG[name]
    wrong_results[name].refused(code, *words)
