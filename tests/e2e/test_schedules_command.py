"""`weightcast schedules`: created, listed, shown, paused, let go on and removed, from a shell."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from client.local_stack import LocalStack

Shell = Any  # conftest.py's; test folders are no packages to import it from
NIGHTLY = (
    *("schedules", "create", "nightly", "--cron", "0 3 * * *", "--dataset", "digits", "--epochs", "1"),
    *("--promote", "if-better", "--margin", "0.01"),
)


@pytest.fixture(scope="module", autouse=True)
def nightly(stack: LocalStack, shell_for: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """There is a schedule of that name."""
    made = shell_for(stack, tmp_path_factory.mktemp("nightly"))(*NIGHTLY)
    assert made.code == 0, made.err


def test_a_schedule_is_created_with_a_jobs_options(shell: Shell) -> None:
    """So often, or at the times of a cron line; what is not said is left open; the same again is no error."""
    options = ("--every", "1h30m", "--dataset", "digits", "--layers", "dense 8 tanh", "--model", "other")
    made = shell("schedules", "create", "often", *options)
    assert made.code == 0, made.err
    assert "schedule often, every 1h30m" in made.out
    assert "dense 8 tanh" in made.out
    assert "seed" not in made.out
    found = shell("schedules", "show", "often", "--json").json()
    assert (found["every"], found["spec"]["model"], found["paused"]) == ("5400s", "other", False)
    assert found["next_time"] > found["create_time"]
    assert "epochs" not in found["spec"]
    again = shell("schedules", "create", "often", *options, "--json").json()
    assert again["create_time"] == found["create_time"]
    assert "removed often; its jobs stay" in shell("schedules", "rm", "often").out
    shell("schedules", "show", "often").refused(4, "SCHEDULE_NOT_FOUND", "weightcast schedules list")


def test_a_schedule_is_paused_and_goes_on(shell: Shell) -> None:
    """Twice the same is no error, and a list says which is paused."""
    paused = shell("schedules", "create", "later", "--every", "1d", "--dataset", "digits", "--paused", "--json").json()
    assert paused["paused"]
    assert "next_time" not in paused
    listed = shell("schedules", "list", width=80).out
    assert max(map(len, listed.splitlines())) <= 80
    assert "paused" in next(line for line in listed.splitlines() if line.startswith("later"))
    assert "is due next at" in shell("schedules", "resume", "later").out
    assert "later is paused; go on with: weightcast schedules resume later" in shell("schedules", "pause", "later").out
    assert shell("schedules", "pause", "later", "--json").json()["paused"]
    assert shell("schedules", "rm", "later", "--json").json() == {"removed": "later"}


def test_schedules_are_listed_and_shown(shell: Shell) -> None:
    """For people and as JSON, with the times in UTC and what their jobs are told."""
    assert "0 3 * * *" in shell("schedules", "list", width=80).out
    assert "nightly" in [schedule["name"] for schedule in shell("schedules", "list", "--json").json()]
    shown = " ".join(shell("schedules", "show", "nightly").out.split())
    for words in ("nightly, 0 3 * * *", "03:00", "epochs 1", "promotion if-better, by a margin of 0.01"):
        assert words in shown, shown
    assert "last job" not in shown


WRONG = {
    "no time": ("create x --dataset digits", 2, ("--every", "--cron")),
    "two times": ("create x --dataset digits --every 6h --cron *", 2, ("--every", "--cron")),
    "a time without a unit": ("create x --dataset digits --every 6", 2, ("--every", "'6'", "90m, 6h or 1d")),
    "too often": ("create x --dataset digits --every 30s", 2, ("schedule.every", "60")),
    "no cron line": ("create x --dataset digits --cron daily", 2, ("schedule.cron", "daily")),
    "a spec that cannot be": (
        "create x --dataset digits --every 6h --epochs 0",
        2,
        ("schedule.spec.epochs", "1 to 1000"),
    ),
    "options that contradict": ("create x --dataset digits --every 6h --margin 1", 2, ("--margin",)),
    "an unknown data set": ("create x --dataset nope --every 6h", 4, ("DATASET_NOT_FOUND", "nope")),
    "a name that cannot be": ("create X_1 --dataset digits --every 6h", 2, ("schedule.name", "X_1")),
    "a name that is taken": ("create nightly --dataset digits --every 6h", 1, ("SCHEDULE_EXISTS", "schedules rm NAME")),
    "an unknown one to pause": ("pause nope", 4, ("SCHEDULE_NOT_FOUND", "nope")),
    "an unknown one to let go on": ("resume nope", 4, ("SCHEDULE_NOT_FOUND", "nope")),
    "an unknown one to remove": ("rm nope", 4, ("SCHEDULE_NOT_FOUND", "nope")),
}


@pytest.fixture(scope="module")
def wrong_results(
    stack: LocalStack, shell_for: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What each wrong command gave; run side by side, for each takes a process."""
    run = shell_for(stack, tmp_path_factory.mktemp("wrong"))
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda wrong: run("schedules", *wrong[0].split()), WRONG.values())
        return dict(zip(WRONG, results, strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_what_no_schedule_can_be_is_refused(wrong_results: dict[str, Any], name: str) -> None:
    """Every bad field is named, those of the spec included."""
    _, code, words = WRONG[name]
    wrong_results[name].refused(code, *words)


def test_what_was_refused_is_not_there(shell: Shell, wrong_results: dict[str, Any]) -> None:
    """Nothing is created by halves."""
    assert "x" not in [schedule["name"] for schedule in shell("schedules", "list", "--json").json()]
