"""`weightcast rollouts`: a version is tried on a share of the requests, watched, ended and promoted.

But for one, the commands run in this process, against real services: each process of its own takes half a second.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from client.cli.app import main
from client.local_stack import LocalStack
from shared.pb.weightcast.v1.training_pb2 import Promotion, TrainingJob

Shell = Any  # conftest.py's; test folders are no packages to import it from
Train = Callable[..., TrainingJob]
Run = Callable[..., str]
SMALL = {"epochs": 1, "network": {"hidden_layer_sizes": [8]}}
MANUAL = Promotion(policy=Promotion.POLICY_MANUAL)
NOWHERE = ("--inference", "127.0.0.1:1")


@pytest.fixture(scope="module")
def tried(stack: LocalStack, train: Train) -> str:
    """A model of three versions, the first of which is live."""
    for version, more in enumerate(({}, {"promotion": MANUAL}, {"promotion": MANUAL}), 1):
        assert train(stack, "tried", **SMALL, **more).version == version
    return "tried"


@pytest.fixture
def run(stack: LocalStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process; what it says, on one line, where its exit code is as expected."""
    monkeypatch.setenv("WEIGHTCAST_TRAINER_ADDRESS", stack.trainer.address)
    monkeypatch.setenv("WEIGHTCAST_INFERENCE_ADDRESS", stack.inference.address)

    def weightcast(command: str, *more: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["weightcast", *command.split(), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert (ended.value.code or 0) == code, captured.err
        assert bool(captured.err) == bool(code)
        return " ".join((captured.err or captured.out).split())

    return weightcast


def test_a_version_is_tried_and_goes_live(run: Run, shell: Shell, tried: str) -> None:
    """By number or alias, as a shadow and then as a canary; shown with what is known of it; promoted, it has ended."""
    begun = shell("rollouts", "set", tried, "2", "--percent", "12.5", "--shadow", "--reason", "owls [at] night")
    assert (begun.code, begun.err) == (0, "")
    assert "tried: version 2 is tried on 12.5% of the requests, which the live version answers" in begun.out
    assert "reason owls [at] night" in run("rollouts show tried")

    changed = json.loads(run("rollouts set tried latest --percent 0.1 --json"))["rollout"]
    assert (changed["version"], changed["mode"], changed["percent"]) == ("3", "MODE_CANARY", 0.1)
    assert "@" in changed["actor"]
    assert "tried: version 3 is tried on 0.1% of the requests, and answers them live version 1" in run(
        "rollouts show tried"
    )
    found = json.loads(run("rollouts show tried --json"))
    assert (found["model"]["live_version"], found["model"]["rollout"], found["error"]) == ("1", changed, "")
    assert "served" in found
    assert "rollout version 3 is tried on 0.1%" in run("models show tried")

    promoted = run("rollouts promote tried --reason", "it does well")
    assert promoted == "tried version 3 is live; back to version 1: weightcast models rollback tried"
    (change,) = json.loads(run("models history tried --limit 1 --json"))
    assert (change["version"], change["reason"]) == ("3", "it does well")
    assert "tried has no rollout: version 3 answers everything" in run("rollouts show tried")


def test_a_rollout_is_shown_without_the_inference_service_and_ends(run: Run, tried: str) -> None:
    """What the registry knows is shown, and what does not answer is named; what has ended is gone."""
    run("rollouts set tried 2 --percent 10")
    shown = run("rollouts show tried", *NOWHERE)
    assert "version 2 is tried on 10% of the requests, and answers them" in shown
    assert shown.endswith("the inference service at 127.0.0.1:1 gives no answer (UNAVAILABLE)")
    found = json.loads(run("rollouts show tried --json", *NOWHERE))
    assert (found["model"]["rollout"]["version"], found["served"]) == ("2", None)
    assert "gives no answer" in found["error"]
    assert "the rollout of tried has ended; version" in run("rollouts end tried")
    assert "rollout" not in json.loads(run("rollouts show tried --json"))["model"]


WRONG = {
    "no share": ("set tried 2 --percent 0", 2, ("percent: got 0.0, expected more than 0 and at most 100",)),
    "a share that is none": ("set tried 2 --percent nan", 2, ("percent: got nan",)),
    "a share in words": ("set tried 2 --percent much", 2, ("--percent", "number")),
    "no share at all": ("set tried 2", 2, ("--percent",)),
    "what is live": ("set tried live --percent 1", 1, ("VERSION_IS_LIVE", "is live already")),
    "an unknown version": ("set tried 99 --percent 1", 4, ("VERSION_NOT_FOUND", "99")),
    "an alias of nothing": ("set tried best --percent 1", 4, ("ALIAS_NOT_FOUND", "best")),
    "an unknown model": ("show nope", 4, ("MODEL_NOT_FOUND", "nope")),
    "no rollout to end": ("end tried", 1, ("NO_ROLLOUT", "no rollout to end")),
    "no rollout to promote": ("promote tried", 1, ("NO_ROLLOUT", "no rollout to promote")),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_done_is_told(run: Run, tried: str, name: str) -> None:
    """With the exit code that says the same."""
    command, code, words = WRONG[name]
    told = run(f"rollouts {command}", code=code)
    assert [word for word in words if word not in told] == [], told
