"""Jobs whose runs end before they do: continued from a checkpoint, by another worker, to the same weights."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.embedded_redis import EmbeddedRedis
from shared.errors import CapacityError, WrongStateError
from shared.layers import Activation, Dense
from shared.spec_codec import spec_to_proto
from shared.store.connection import StoreConnection
from shared.store.keys import JobKeys
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs import keeper as keeper_module
from trainer_service.jobs.job import AttemptOutcome, JobState, TrainingJob, begun, ended
from trainer_service.jobs.job_queue import training_queue
from trainer_service.jobs.job_service import JobService
from trainer_service.jobs.job_store import Turn
from trainer_service.jobs.keeper import JobKeeper, JobRetention
from trainer_service.jobs.run_job import JobRun
from trainer_service.spec_request import spec_request
from trainer_service.training.checkpoint import Checkpoint

SPEC = TrainingSpec(
    model="tiny", dataset="digits", seed=7, preset="mlp", layers=(Dense(16, Activation.RELU),), epochs=4
)
Until = Callable[..., None]


class KilledError(BaseException):
    """The process is gone: nothing of it runs any more, not even what handles errors."""


class Crew:
    """Workers of one store, one after the other, in this process."""

    def __init__(
        self, connection: StoreConnection, folder: Path, service: Callable[..., JobService], run: Callable[..., JobRun]
    ) -> None:
        self.connection = connection
        self.catalogue = Catalogue(None, folder, UploadStore(connection))
        self.service = service(connection, self.catalogue)
        self._run = run

    def create(self, **changes: Any) -> str:  # noqa: ANN401 - any field of the spec
        """A job's id."""
        return self.service.create(spec_request(spec_to_proto(replace(SPEC, **changes)))).id

    def run(self, job_id: str, **kwargs: Any) -> JobRun:  # noqa: ANN401 - what the fixture takes
        """A run of the job's last turn, not begun."""
        return self._run(self.connection, job_id, self.catalogue.load, **kwargs)

    def finished(self, job_id: str) -> TrainingJob:
        """The job after a run that nothing disturbs."""
        self.run(job_id).run()
        return self.service.get(job_id)

    def killed_after(self, job_id: str, epoch: int) -> JobRun:
        """A run that ends right after the checkpoint of its first epoch from this one on, without a word to anybody."""
        run = self.run(job_id)
        on_epoch = run.on_epoch

        def watched(metrics: Any, take: Any) -> None:  # noqa: ANN401 - as the observer's
            on_epoch(metrics, take)
            if metrics.epoch >= epoch:
                raise KilledError

        run.on_epoch = watched  # type: ignore[method-assign]
        with suppress(KilledError):
            run.run()
        return run


@pytest.fixture
def crew(
    connection: StoreConnection, tmp_path: Path, service_on: Callable[..., JobService], run_on: Callable[..., JobRun]
) -> Crew:
    """The workers of this test's store."""
    return Crew(connection, tmp_path, service_on, run_on)


def digest(crew: Crew, **changes: Any) -> str:  # noqa: ANN401 - any field of the spec
    """The weights of an undisturbed run that publishes nothing."""
    job = crew.finished(crew.create(model="undisturbed", publish=False, **changes))
    assert job.result is not None, job.error_message
    return job.result.weights_digest


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_killed_run_is_continued_to_the_same_weights(crew: Crew, epoch: int) -> None:
    """From the checkpoint of the epoch it was killed after, by another run, and to the last bit."""
    job_id = crew.create()
    run = crew.killed_after(job_id, epoch)
    assert crew.service.get(job_id).state is JobState.RUNNING  # nobody knows yet
    assert run.lifecycle.take_back(run.turn, "killed")
    waiting = crew.service.get(job_id)
    assert (waiting.state, waiting.deaths) == (JobState.QUEUED, 1)
    job = crew.finished(job_id)
    assert (job.state, job.version) == (JobState.SUCCEEDED, 1)
    assert [metrics.epoch for metrics in job.epochs] == [1, 2, 3, 4]
    steps = job.progress.steps_per_epoch if job.progress else 0
    assert [attempt.resumed_update for attempt in job.attempts] == [0, epoch * steps]
    assert [attempt.outcome for attempt in job.attempts] == [AttemptOutcome.DIED, AttemptOutcome.ENDED]
    assert job.result is not None
    assert job.result.weights_digest == digest(crew)


def test_a_run_that_is_told_to_stop_hands_its_job_back(crew: Crew, until: Until) -> None:
    """At a minibatch, with a checkpoint of that very minibatch; it counts as no death."""
    spec = {"epochs": 40, "layers": (Dense(128, Activation.RELU),)}
    job_id = crew.create(**spec)
    run = crew.run(job_id)
    running = threading.Thread(target=run.run, daemon=True)
    running.start()
    until(lambda: bool(crew.service.get(job_id).epochs), "a first epoch")
    run.stop()
    running.join(20)
    waiting = crew.service.get(job_id)
    assert (waiting.state, waiting.deaths) == (JobState.QUEUED, 0)
    assert training_queue(crew.connection).job_ids[0] == f"{job_id}-2"
    job = crew.finished(job_id)
    assert job.attempts[0].outcome is AttemptOutcome.HANDED_BACK
    assert job.attempts[1].resumed_update > 0
    assert job.result is not None
    assert job.result.weights_digest == digest(crew, **spec)


def test_a_run_whose_worker_was_killed_hands_its_job_back_and_that_is_a_death(crew: Crew) -> None:
    """Nobody would notice the end of a process that nobody watches."""
    job_id = crew.create(epochs=1000)
    crew.run(job_id, is_orphan=lambda: True).run()
    job = crew.service.get(job_id)
    assert (job.state, job.deaths) == (JobState.QUEUED, 1)
    assert "killed" in job.attempts[0].message


def test_after_three_deaths_a_job_has_failed_and_tells_its_history(crew: Crew) -> None:
    """FAILED, naming each attempt; nothing is published for it any more, and the next job of the model has its turn."""
    job_id, following = crew.create(), crew.create()
    for _ in range(3):
        run = crew.killed_after(job_id, 1)
        assert run.lifecycle.take_back(run.turn, "killed by SIGKILL")
    job = crew.service.get(job_id)
    assert (job.state, job.deaths, job.version) == (JobState.FAILED, 3, 0)
    assert job.error_message.count("killed by SIGKILL") == 3
    assert "attempt 3 on here:1" in job.error_message
    assert ModelStore(crew.connection).publication_of_job("tiny", job_id) is None
    assert crew.connection.command("EXISTS", JobKeys(job_id).checkpoint) == 0
    assert training_queue(crew.connection).job_ids[-1] == f"{following}-1"


def test_a_job_that_had_published_before_its_worker_died_has_succeeded(crew: Crew) -> None:
    """Also where that was its third death: one version, and the job names it."""
    job_id = crew.create()
    for _ in range(2):
        run = crew.killed_after(job_id, 1)
        run.lifecycle.take_back(run.turn, "killed")
    run = crew.run(job_id)
    # Killed between publishing and saying so.
    run._end = lambda final: None  # type: ignore[method-assign]  # noqa: ARG005 - its name is the method's
    run.run()
    assert crew.service.get(job_id).state is JobState.RUNNING
    assert run.lifecycle.take_back(run.turn, "killed")
    job = crew.service.get(job_id)
    assert (job.state, job.version, job.error_message) == (JobState.SUCCEEDED, 1, "")
    assert job.result is not None
    assert job.result.weights_digest == digest(crew)


def test_a_run_between_publishing_and_saying_so_is_repeated_without_a_second_version(crew: Crew) -> None:
    """The next run publishes the same job again and gets the number it has."""
    job_id = crew.create()
    run = crew.run(job_id)
    # Killed between publishing and saying so.
    run._end = lambda final: None  # type: ignore[method-assign]  # noqa: ARG005 - its name is the method's
    run.run()
    assert run.lifecycle.take_back(run.turn, "killed")
    job = crew.finished(job_id)
    assert (job.state, job.version) == (JobState.SUCCEEDED, 1)
    versions = ModelStore(crew.connection).versions("tiny", count=9).versions
    assert [version.ref.version for version in versions] == [1]


def test_jobs_of_one_model_run_one_after_the_other(crew: Crew) -> None:
    """The next one waits though there is a worker, also if it asks; those of other models do not."""
    first, second, other = crew.create(), crew.create(), crew.create(model="other")
    assert training_queue(crew.connection).job_ids == [f"{first}-1", f"{other}-1"]
    run = crew.killed_after(first, 1)
    crew.run(second).run()  # a worker that got it all the same
    assert crew.service.get(second).state is JobState.QUEUED
    run.lifecycle.take_back(run.turn, "killed")
    assert training_queue(crew.connection).job_ids[0] == f"{first}-2"  # it goes on before others begin
    assert crew.finished(first).state is JobState.SUCCEEDED
    assert f"{second}-1" in training_queue(crew.connection).job_ids
    assert crew.finished(second).version == 2


def test_too_many_jobs_are_refused_until_one_ends(
    crew: Crew, service_on: Callable[..., JobService], connection: StoreConnection
) -> None:
    """QUEUE_FULL; a request that was accepted before is still answered."""
    service = service_on(connection, crew.catalogue, most_jobs=2)
    request = spec_request(spec_to_proto(SPEC))
    first = service.create(request, "first")
    service.create(request)
    with pytest.raises(CapacityError, match="2 jobs") as caught:
        service.create(request, "third")
    assert caught.value.reason == "QUEUE_FULL"
    assert service.create(request, "first").id == first.id
    service.cancel(first.id)
    assert service.create(request, "third").state is JobState.QUEUED


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keepers that lose patience at once."""
    monkeypatch.setattr(keeper_module, "DEAD_SECONDS", 0.05)
    monkeypatch.setattr(keeper_module, "LOST_SECONDS", 0.05)


def keeper_of(crew: Crew, job_id: str) -> JobKeeper:
    """A keeper in this store."""
    lifecycle = crew.run(job_id).lifecycle
    return JobKeeper(lifecycle.jobs, lifecycle.queue, lifecycle)


@pytest.mark.usefixtures("impatient")
def test_a_job_without_heartbeats_is_given_to_another(crew: Crew, until: Until) -> None:
    """It is found by its silence alone, and cancelled instead where somebody had asked for that."""
    job_id, other = crew.create(), crew.create(model="other")
    crew.killed_after(job_id, 2), crew.killed_after(other, 2)
    crew.service.cancel(other)
    keeper = keeper_of(crew, job_id)

    def is_taken_back() -> bool:
        keeper.sweep()
        return crew.service.get(job_id).state is JobState.QUEUED

    until(is_taken_back, "the job to be taken back")
    assert crew.finished(job_id).attempts[1].resumed_update > 0
    assert crew.service.get(other).state is JobState.CANCELLED


@pytest.mark.usefixtures("impatient")
def test_a_job_that_beats_is_left_alone(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often keepers look."""
    monkeypatch.setattr(keeper_module, "DEAD_SECONDS", 60.0)
    job_id = crew.create()
    crew.killed_after(job_id, 1)
    keeper = keeper_of(crew, job_id)
    for _ in range(5):
        keeper.sweep()
    assert crew.service.get(job_id).state is JobState.RUNNING


@pytest.mark.usefixtures("impatient")
def test_a_job_that_its_queue_lost_is_queued_again(crew: Crew, until: Until) -> None:
    """Under another turn, so that whoever took the lost one can no longer begin it."""
    job_id = crew.create()
    crew.run(job_id).lifecycle.queue.remove(Turn(job_id, 1))
    keeper = keeper_of(crew, job_id)

    def is_queued() -> bool:
        keeper.sweep()
        return training_queue(crew.connection).job_ids == [f"{job_id}-2"]

    until(is_queued, "the job to be queued again")
    crew.run(job_id, turn=Turn(job_id, 1)).run()
    assert crew.service.get(job_id).state is JobState.QUEUED
    assert crew.finished(job_id).state is JobState.SUCCEEDED


@pytest.mark.usefixtures("impatient")
def test_a_store_that_was_away_is_nobodys_death(crew: Crew, redis_server: EmbeddedRedis) -> None:
    """What a keeper had seen before counts no more."""
    job_id = crew.create()
    crew.killed_after(job_id, 1)
    keeper = keeper_of(crew, job_id)
    keeper.sweep()
    redis_server.stop()
    with suppress(Exception):
        keeper.sweep()
    redis_server.start()
    keeper.sweep()
    assert crew.service.get(job_id).state is JobState.RUNNING


def test_an_old_turn_cannot_take_the_right_to_publish_from_a_newer_one(crew: Crew) -> None:
    """Who still holds a turn that has passed changes nothing, by what it does before it is told so neither."""
    job_id = crew.create()
    first = crew.killed_after(job_id, 1)
    first.lifecycle.take_back(first.turn, "killed")
    second = crew.killed_after(job_id, 2)
    assert not first.lifecycle.end(ended(crew.service.get(job_id), JobState.FAILED), first.turn)
    assert not first.lifecycle.take_back(first.turn, "killed")
    second.lifecycle.take_back(second.turn, "killed")
    job = crew.finished(job_id)
    assert (job.state, job.version, job.deaths) == (JobState.SUCCEEDED, 1, 2)


def test_what_was_struck_off_stays_so_when_its_job_is_removed(crew: Crew) -> None:
    """A run that hangs just before it publishes may wake up after the job was cancelled and removed."""
    job_id = crew.create()
    run = crew.run(job_id)
    publish = run._published

    def removed_meanwhile(*arguments: Any) -> Any:  # noqa: ANN401 - as the method's
        run.lifecycle.take_back(run.turn, "hangs")
        crew.service.cancel(job_id)
        crew.service.remove(job_id)
        return publish(*arguments)

    run._published = removed_meanwhile  # type: ignore[method-assign, assignment]
    run.run()
    assert ModelStore(crew.connection).model_names() in ([], ["tiny"])
    assert ModelStore(crew.connection).aliases("tiny") == {}


def test_a_script_that_is_sent_twice_does_nothing_twice(crew: Crew) -> None:
    """The client of Redis sends a command again whose reply did not come."""
    job_id = crew.create()
    run = crew.run(job_id)
    job, turn = crew.service.get(job_id), run.turn
    assert run.jobs.create(job, "", 1) == job_id  # also where there is no room for another one
    assert len(run.jobs.events_after(job_id, "", 0.01)) == 1
    assert run.lifecycle.begin(begun(job, "here:1"), turn)
    assert run.jobs.create(job, "", 1) == job_id
    assert crew.service.get(job_id).state is JobState.RUNNING
    checkpoint = Checkpoint({"weights": np.ones(3, np.float32)}, {"epochs": []})
    keys = JobKeys(job_id)
    assert run.checkpoints.save(turn, checkpoint)
    assert run.checkpoints._save((keys.job, keys.arriving_checkpoint(1), keys.checkpoint), (1,)) == 1
    stored = run.checkpoints.load(job_id)
    assert stored is not None
    assert stored.arrays["weights"].tolist() == [1, 1, 1]


def test_a_checkpoint_that_cannot_be_read_is_done_without(crew: Crew) -> None:
    """The job begins again at the beginning instead of never."""
    job_id = crew.create()
    run = crew.killed_after(job_id, 2)
    crew.connection.command("HDEL", JobKeys(job_id).checkpoint, "types")
    run.lifecycle.take_back(run.turn, "killed")
    job = crew.finished(job_id)
    assert (job.state, job.attempts[1].resumed_update) == (JobState.SUCCEEDED, 0)
    assert [metrics.epoch for metrics in job.epochs] == [1, 2, 3, 4]


def test_a_job_that_is_cancelled_while_it_is_handed_back_does_not_wait_for_a_worker(crew: Crew) -> None:
    """It is ended at once, and where the canceller dies in between, by the next keeper."""
    job_id = crew.create()
    run = crew.killed_after(job_id, 1)
    read = crew.service.get(job_id)
    run.lifecycle.hand_back(read, run.turn, "told to stop")
    assert run.lifecycle.cancel(read).state is JobState.CANCELLED  # though it was RUNNING when it was read
    other = crew.create()
    run.jobs.request_cancel(other)
    keeper_of(crew, other).sweep()
    assert crew.service.get(other).state is JobState.CANCELLED


def test_a_head_that_waited_long_is_not_taken_for_lost_when_it_leaves_the_queue(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time begins when it has left."""
    monkeypatch.setattr(keeper_module, "LOST_SECONDS", 0.2)
    job_id = crew.create()
    keeper = keeper_of(crew, job_id)
    keeper.sweep()
    time.sleep(0.3)
    crew.run(job_id).lifecycle.queue.remove(Turn(job_id, 1))  # a worker has taken it
    keeper.sweep()
    assert crew.run(job_id).jobs.turn(job_id) == Turn(job_id, 1)
    time.sleep(0.3)
    keeper.sweep()
    assert crew.run(job_id).jobs.turn(job_id) == Turn(job_id, 2)  # now it is: nobody has begun it


def test_old_jobs_are_removed_by_age_and_by_number(crew: Crew) -> None:
    """Only those that have ended; a job that has not cannot be removed."""
    ids = [crew.create() for _ in range(5)]
    lifecycle = crew.run(ids[0]).lifecycle
    for job_id in ids[:4]:
        crew.service.cancel(job_id)
    with pytest.raises(WrongStateError) as caught:
        crew.service.remove(ids[4])
    assert caught.value.reason == "JOB_NOT_ENDED"
    JobRetention(lifecycle.jobs, lifecycle, days=1, count=2).sweep()
    assert [job.id for job in crew.service.page(None, 10)[0]] == [ids[4], ids[3], ids[2]]
    assert crew.connection.command("EXISTS", JobKeys(ids[0]).events) == 0
    JobRetention(lifecycle.jobs, lifecycle, days=-1, count=100).sweep()
    assert [job.id for job in crew.service.page(None, 10)[0]] == [ids[4]]
    crew.service.cancel(ids[4])
    crew.service.remove(ids[4])
    assert crew.service.page(None, 10) == ([], None)


def test_lists_can_be_filtered(crew: Crew) -> None:
    """By model and by state, over pages, newest first and each job once."""
    ids = [crew.create(model="ab"[number % 2]) for number in range(7)]
    for job_id in ids[:3]:
        crew.service.cancel(job_id)

    def all_pages(**conditions: Any) -> list[str]:  # noqa: ANN401 - those of the service
        found, below, more = [], None, True
        while more:
            jobs, below = crew.service.page(below, 2, **conditions)
            found += [job.id for job in jobs]
            more = below is not None
        return found

    assert all_pages() == ids[::-1]
    assert all_pages(model="b") == [ids[5], ids[3], ids[1]]
    assert all_pages(states={JobState.CANCELLED}) == [ids[2], ids[1], ids[0]]
    assert all_pages(states={JobState.CANCELLED}, model="b") == [ids[1]]
    assert all_pages(model="c") == []
