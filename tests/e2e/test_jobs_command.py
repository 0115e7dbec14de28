"""`weightcast jobs`: created with a parent and a policy, found, watched while they change hands, and removed."""

import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1.training_pb2 import TrainingJob, TrainingSpec

Shell = Any  # conftest.py's; test folders are no packages to import it from
Train = Callable[..., TrainingJob]
Spec = Callable[..., TrainingSpec]
Until = Callable[..., None]
WEIGHTCAST = str(Path(sys.executable).with_name("weightcast"))
LONG = {"epochs": 1000, "network": {"hidden_layer_sizes": [1024, 512]}}  # minutes


@pytest.fixture(scope="module")
def first(stack: LocalStack, train: Train) -> TrainingJob:
    """A job that has published version 1 of the model `digits`."""
    return train(stack, epochs=1, seed=1)


def test_a_job_starts_from_a_version_and_goes_live_if_it_is_better(shell: Shell, first: TrainingJob) -> None:
    """The alias becomes a number, and what was decided about the new version is shown with both figures."""
    options = ("--dataset", "digits", "--epochs", "1", "--parent", "live", "--promote", "if-better", "--margin", "0.9")
    created = shell("jobs", "create", *options, "--json").json()
    assert created["spec"]["parent"] == "1"
    assert created["spec"]["promotion"] == {"policy": "POLICY_IF_BETTER", "margin": 0.9}
    watched = shell("jobs", "watch", created["id"])
    assert watched.code == 0, watched.err
    assert "published digits version 2" in watched.out
    assert "did not go live, was not better" in watched.out
    shown = shell("jobs", "show", created["id"], width=80)
    text = " ".join(shown.out.split())
    accuracy = f"{first.epochs[-1].test_accuracy:.2%} of version 1 (if-better, by a margin of 0.9)"
    for words in (
        "parent version 1",
        "promotion if-better, by a margin of 0.9",
        accuracy,
        "resumed",
        "ended",
    ):
        assert words in text, text
    table = shown.out[shown.out.index("worker") :]
    assert max(map(len, table.splitlines())) <= 80
    manual = shell("train", "--dataset", "digits", "--epochs", "1", "--promote", "manual", "--watch")
    assert "did not go live, was left to `weightcast models promote`" in manual.out


def test_jobs_are_found_by_model_and_state(
    shell: Shell, stack: LocalStack, train: Train, spec_of: Spec, until: Until
) -> None:
    """Both together, several states at once, and no more than asked for."""

    def found(*options: str) -> list[str]:
        return [job["id"] for job in shell("jobs", "list", *options, "--json").json()]

    other = train(stack, "other", epochs=1)
    with TrainerClient(stack.trainer.address) as trainer:
        running = trainer.create_job(spec_of("other", **LONG)).id
        until(lambda: trainer.job(running).state == TrainingJob.STATE_RUNNING, "a running job")
        waiting = trainer.create_job(spec_of("other")).id
        assert found("--model", "other") == [waiting, running, other.id]
        assert found("--model", "other", "--limit", "1") == [waiting]
        assert found("--state", "queued", "--state", "running") == [waiting, running]
        assert found("--model", "nope") == []
        assert other.id in shell("jobs", "list", "--model", "other", "--state", "succeeded", width=80).out
        for job_id in (waiting, running):
            trainer.cancel(job_id)
        assert trainer.wait(running).state == TrainingJob.STATE_CANCELLED
    shell("jobs", "list", "--state", "over").refused(2, "--state", "succeeded")


def test_jobs_that_have_ended_are_removed_and_their_versions_stay(
    shell: Shell, stack: LocalStack, train: Train, spec_of: Spec
) -> None:
    """One that has not, or that is none, is told and does not keep the others."""
    ended = [train(stack, "removed", epochs=1).id for _ in range(2)]
    with TrainerClient(stack.trainer.address) as trainer:
        under_way = trainer.create_job(spec_of("removed", **LONG)).id
        result = shell("jobs", "rm", ended[0], under_way)
        result.refused(1, "JOB_NOT_ENDED", under_way, "weightcast jobs cancel JOB")
        assert f"removed {ended[0]}" in result.out
        shell("jobs", "rm", ended[0]).refused(4, "JOB_NOT_FOUND", ended[0])
        assert shell("jobs", "rm", ended[1], "--json").json() == {"removed": [ended[1]]}
        assert [version.version for version in trainer.versions("removed")] == [2, 1]
        trainer.cancel(under_way)


def test_a_watch_follows_a_job_from_one_trainer_to_the_next(
    own_stack: Callable[..., LocalStack], shell: Shell, spec_of: Spec, until: Until, tmp_path: Path
) -> None:
    """Through a restart: the job is handed back and goes on, and each epoch is told once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    stack = own_stack({"WEIGHTCAST_TRAINER_LISTEN": address, "WEIGHTCAST_SHUTDOWN_GRACE_SECONDS": "2"})
    with TrainerClient(address) as trainer:
        job_id = trainer.create_job(spec_of(**LONG)).id
        command = [WEIGHTCAST, "jobs", "watch", job_id, "--trainer", address]
        seen = tmp_path / "seen"
        with seen.open("w") as output:
            watching = subprocess.Popen(command, env=shell.environment, stdout=output)
        try:
            until(lambda: "epoch 1/" in seen.read_text(), "a first epoch to be seen")
            assert stack.trainer.stop() == 0
            stack.trainer.start()
            stack.trainer.wait_until("")
            before = len(trainer.job(job_id).epochs)
            until(lambda: len(trainer.job(job_id).epochs) > before + 1, "further epochs")
            trainer.cancel(job_id)
            watching.wait(30)
        finally:
            watching.kill()
        ended = trainer.job(job_id)
    out = seen.read_text()
    assert watching.returncode == 1
    assert "QUEUED (handed back" in out
    assert "RUNNING (attempt 2, from update" in out
    assert "CANCELLED" in out
    numbers = [int(line.split()[1].partition("/")[0]) for line in out.splitlines() if line.startswith("epoch ")]
    assert numbers == list(range(1, len(ended.epochs) + 1))
    shown = " ".join(shell("jobs", "show", job_id, "--trainer", address, width=80).out.split())
    assert "handed back" in shown
    assert f"{ended.attempts[1].resumed_update:,}" in shown


WRONG = {
    "an unknown parent": ("--parent 99", 4, ("spec.parent", "VERSION_NOT_FOUND", "weightcast models versions")),
    "a parent that is no alias": ("--parent best", 4, ("spec.parent", "best")),
    "a parent of other layers": ("--parent 1 --hidden 3", 2, ("spec.parent",)),
    "a margin of nothing": ("--margin 0.1", 2, ("--margin", "--promote if-better")),
    "a margin that none wins by": ("--promote if-better --margin 2", 2, ("spec.promotion.margin", "0 to 1")),
    "a policy that is none": ("--promote sometimes", 2, ("--promote", "if-better")),
}


@pytest.fixture(scope="module")
def wrong_results(
    stack: LocalStack, first: TrainingJob, shell_for: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What each wrong command gave; run side by side, for each takes a process."""
    run = shell_for(stack, tmp_path_factory.mktemp("wrong"))
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(
            lambda wrong: run("jobs", "create", "--dataset", "digits", *wrong[0].split()), WRONG.values()
        )
        return dict(zip(WRONG, results, strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_what_a_job_cannot_be_asked_is_refused(wrong_results: dict[str, Any], name: str) -> None:
    """The option or the field is named, with what is expected."""
    _, code, words = WRONG[name]
    wrong_results[name].refused(code, *words)
