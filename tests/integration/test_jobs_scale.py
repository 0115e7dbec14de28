"""What jobs cost with a thousand of them, ten thousand in `make soak`: the commands that they cost with a hundred.

Redis counts the commands, those inside scripts too. The times are printed (`pytest -s`) and not asserted.
"""
# ruff: noqa: T201 - the figures are what one runs it for

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.layers import Activation, Dense
from shared.spec_codec import spec_to_proto
from shared.store.connection import StoreConnection
from shared.training_spec import TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job import JobState, TrainingJob, begun, ended
from trainer_service.jobs.job_service import JobService
from trainer_service.jobs.keeper import JobKeeper
from trainer_service.jobs.lifecycle import JobLifecycle
from trainer_service.jobs.run_job import JobRun
from trainer_service.spec_request import spec_request

SPEC = TrainingSpec("tiny", "digits", 7, preset="mlp", layers=(Dense(16, Activation.RELU),))
FEW, MANY = 100, 10_000 if os.environ.get("WEIGHTCAST_SOAK") else 1_000
WAITING = 50  # of them have not ended
PAGE = 50
Call = Callable[[], object]


class Jobs:
    """Jobs of a store, and the calls that are measured."""

    def __init__(self, service: JobService, lifecycle: JobLifecycle) -> None:
        self.service, self.lifecycle = service, lifecycle
        self._keeper = JobKeeper(lifecycle.jobs, lifecycle.queue, lifecycle)
        self.count = 0

    def fill(self, jobs: int) -> None:
        """Adds jobs until there are so many, of which the last have not ended."""
        while self.count < jobs:
            job = self._create("over")
            self._end(job)

    def _create(self, model: str) -> TrainingJob:
        self.count += 1
        spec = replace(SPEC, model=model)
        job = TrainingJob(f"job-{self.count}", spec, JobState.QUEUED, datetime.now(UTC))
        self.lifecycle.jobs.create(job, "", 10 * MANY)
        return job

    def _end(self, job: TrainingJob) -> None:
        over = ended(job, JobState.CANCELLED)
        assert self.lifecycle.jobs.replace(over, over, expected=JobState.QUEUED, turn=None).is_done

    def wait(self) -> None:
        """Adds jobs that have not ended, of one model and of others."""
        for number in range(WAITING):
            self._create(f"waits-{number % 5}")

    def calls(self) -> dict[str, Call]:
        """What is measured, by name."""
        half = self.service.page(None, PAGE)[1]
        for _ in range(self.count // PAGE // 2):
            _, half = self.service.page(half, PAGE)
        return {
            "list, first page": lambda: self.service.page(None, PAGE),
            "list, from the middle": lambda: self.service.page(half, PAGE),
            "create, run and end": self._one_job,
            "a keeper's look": self._keeper.sweep,
            "remove": self._remove_one,
        }

    def _one_job(self) -> None:
        job = self.service.create(spec_request(spec_to_proto(replace(SPEC, model="one"))))
        turn = self.lifecycle.jobs.turn(job.id)
        running = begun(job, "here:1")
        assert self.lifecycle.begin(running, turn)
        self.lifecycle.jobs.beat(turn)
        assert self.lifecycle.end(ended(running, JobState.CANCELLED), turn)
        self.lifecycle.queue.remove(turn)

    def _remove_one(self) -> None:
        job = self._create("over")
        self._end(job)
        self.lifecycle.remove(job.id)
        self.count -= 1


@pytest.fixture
def jobs(
    connection: StoreConnection,
    tmp_path: Path,
    service_on: Callable[..., JobService],
    run_on: Callable[..., JobRun],
) -> Jobs:
    """The jobs of this test's store."""
    catalogue = Catalogue(None, tmp_path, UploadStore(connection))
    return Jobs(service_on(connection, catalogue), run_on(connection, "", catalogue.load, turn=NO_TURN).lifecycle)


NO_TURN: Any = object()  # no run is begun here


@pytest.mark.soak
def test_many_jobs_cost_what_a_hundred_do(jobs: Jobs, connection: StoreConnection, cost_of: Callable[..., Any]) -> None:
    """To list, to create, run and end, to look after, to remove: the same commands, each the same number of times."""
    jobs.wait()
    jobs.fill(FEW)
    few = {name: cost_of(connection, call) for name, call in jobs.calls().items()}
    jobs.fill(MANY)
    many = {name: cost_of(connection, call) for name, call in jobs.calls().items()}
    print(f"\n{'call':24} {'commands':>9} {f'ms at {FEW}':>12} {f'ms at {MANY}':>12} {'ratio':>6}")
    for name, cost in few.items():
        at_many = many[name].seconds
        print(
            f"{name:24} {sum(cost.commands.values()):9} {cost.seconds * 1e3:12.2f} {at_many * 1e3:12.2f} "
            f"{at_many / cost.seconds:6.2f}"
        )
    assert {name: cost.commands for name, cost in many.items()} == {name: cost.commands for name, cost in few.items()}
