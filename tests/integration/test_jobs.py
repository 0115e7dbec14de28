"""Training jobs on a real Redis: created once, changed by compare-and-set, cancelled, and watched without loss."""

import itertools
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from shared.errors import CapacityError, InvalidInputError, NotFoundError, WrongStateError
from shared.layers import Activation, Dense
from shared.spec_codec import spec_to_proto
from shared.store.connection import StoreConnection
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job import JobEvent, JobState, TrainingJob, ended
from trainer_service.jobs.job_queue import training_queue
from trainer_service.jobs.job_service import JobService
from trainer_service.jobs.job_store import Beat, JobStore, RecordedEvent
from trainer_service.presets import SpecRequest
from trainer_service.spec_request import spec_request
from trainer_service.training.loop import Progress

SPEC = TrainingSpec(
    model="tiny",
    dataset="digits",
    seed=7,
    preset="mlp",
    layers=(Dense(8, Activation.RELU), Dense(4, Activation.RELU)),
    epochs=3,
    learning_rate=0.25,
)
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
PLENTY = 1000
FINAL_STATES = [state for state in JobState if state.is_final]


def asked(spec: TrainingSpec) -> SpecRequest:
    """What a client asks for who sets every field."""
    return spec_request(spec_to_proto(spec))


def epoch(number: int) -> EpochMetrics:
    """An epoch that can be told from the others."""
    return EpochMetrics(number, 0.5 / number, 0.75, 0.625, 0.5, 1000.0, 0.25)


def job_with(job_id: str, state: JobState = JobState.QUEUED, minutes: int = 0) -> TrainingJob:
    """A job in a state, created so many minutes later."""
    return TrainingJob(job_id, SPEC, state, CREATED + timedelta(minutes=minutes))


@pytest.fixture
def store(connection: StoreConnection) -> JobStore:
    """The job store in this test's Redis."""
    return JobStore(connection)


@pytest.fixture
def service(connection: StoreConnection, tmp_path: Path, service_on: Callable[..., JobService]) -> JobService:
    """The jobs as users see them, with room for two watchers."""
    return service_on(connection, Catalogue(None, tmp_path, UploadStore(connection)))


def move(store: JobStore, expected: JobState, job: TrainingJob, event: JobEvent) -> bool:
    """A change from a state, whoever's turn it is."""
    return store.replace(job, event, expected=expected, turn=None).is_done


def queued_ids(connection: StoreConnection) -> list[str]:
    """What waits in rq's queue, in order, without the numbers of the turns."""
    return [name.rpartition("-")[0] for name in training_queue(connection).job_ids]


def drain(events: Iterator[RecordedEvent]) -> list[RecordedEvent]:
    """Every event of a watch that ends by itself."""
    return list(events)


def test_a_stored_job_is_read_back_whole(store: JobStore) -> None:
    """Every field survives, also those that only a later state has."""
    job = replace(
        job_with("a"),
        state=JobState.SUCCEEDED,
        start_time=CREATED + timedelta(seconds=1),
        end_time=CREATED + timedelta(seconds=2),
        epochs=(epoch(1), epoch(2)),
        progress=Progress(2, 5, 9, 0.5, 1000.0, 1.5),
        version=3,
        digest="d" * 64,
        error_message="",
    )
    assert store.create(job, "", PLENTY) == "a"
    assert store.get("a") == job


def test_jobs_come_newest_first_in_pages(store: JobStore) -> None:
    """In the order in which they were accepted, also where the clock went back, or stood still, in between."""
    for number, minutes in enumerate((2, 2, 0, 1)):
        store.create(job_with(f"at-{number}", minutes=minutes), "", PLENTY)
    pages, below = [], None
    for _ in range(3):
        page = store.newest(below, 2)
        pages.append([job.id for _, job in page])
        below = page[-1][0] if page else below
    assert pages == [["at-3", "at-2"], ["at-1", "at-0"], []]


def test_a_transition_happens_only_from_the_state_it_names(store: JobStore) -> None:
    """Compare-and-set: of many that start from the same state one succeeds, and the others change nothing."""
    store.create(job_with("a"), "", PLENTY)
    racers = [replace(job_with("a", JobState.RUNNING), start_time=datetime.now(UTC)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda racer: move(store, JobState.QUEUED, racer, racer), racers))
    assert sorted(won) == [False] * 7 + [True]
    assert len(store.events_after("a", "", 0.01)) == 2  # created, running


def test_a_transition_whose_reply_was_lost_may_be_sent_again(store: JobStore) -> None:
    """The client of Redis sends a command again whose reply did not come; it succeeds, and happened once."""
    store.create(job_with("a"), "", PLENTY)
    running = job_with("a", JobState.RUNNING)
    assert move(store, JobState.QUEUED, running, running)
    assert move(store, JobState.QUEUED, running, running)
    assert len(store.events_after("a", "", 0.01)) == 2  # created, running


@pytest.mark.parametrize("final", FINAL_STATES)
def test_a_final_state_is_never_left(store: JobStore, final: JobState) -> None:
    """Neither a late report of the worker nor a late cancellation changes a job that has ended, or its history."""
    store.create(job_with("a"), "", PLENTY)
    running, over = job_with("a", JobState.RUNNING), ended(job_with("a"), final)
    assert move(store, JobState.QUEUED, running, running)
    assert move(store, JobState.RUNNING, over, over)
    for expected, state in itertools.product((JobState.QUEUED, JobState.RUNNING), JobState):
        late = job_with("a", state)
        assert not move(store, expected, late, late)
    assert store.get("a") == over
    assert len(store.events_after("a", "", 0.01)) == 3


def test_creating_a_job_stores_and_queues_it(connection: StoreConnection, store: JobStore, service: JobService) -> None:
    """What comes back is what is stored: QUEUED, with its spec, and in the queue once."""
    job = service.create(asked(SPEC))
    assert (job.state, job.spec) == (JobState.QUEUED, SPEC)
    assert store.get(job.id) == job
    assert queued_ids(connection) == [job.id]


def test_what_cannot_be_trained_is_not_stored(connection: StoreConnection, service: JobService) -> None:
    """A bad spec, request id or data set leaves neither a job nor a place in the queue."""
    with pytest.raises(InvalidInputError) as caught:
        service.create(asked(replace(SPEC, epochs=0, batch_size=0)), "x" * 65)
    assert [violation.field for violation in caught.value.violations] == [
        "spec.epochs",
        "spec.batch_size",
        "request_id",
    ]
    with pytest.raises(NotFoundError, match="digits, mnist"):
        service.create(asked(replace(SPEC, dataset="nope")), "x")
    assert service.page(None, 10) == ([], None)
    assert queued_ids(connection) == []


def test_the_same_request_id_gives_the_same_job(connection: StoreConnection, service: JobService) -> None:
    """Twenty callers at once get one job, queued once; another id gives another."""
    with ThreadPoolExecutor(20) as pool:
        created = set(pool.map(lambda _: service.create(asked(SPEC), "same").id, range(20)))
    assert len(created) == 1
    assert queued_ids(connection) == list(created)
    assert service.create(asked(SPEC), "other").id not in created
    assert len(service.page(None, 10)[0]) == 2


def test_without_a_request_id_every_call_creates_a_job(service: JobService) -> None:
    """No id is not an id that all share."""
    assert service.create(asked(SPEC)).id != service.create(asked(SPEC)).id


def test_a_job_that_was_stored_and_not_queued_is_queued_by_the_repeated_create(
    connection: StoreConnection, store: JobStore, service: JobService
) -> None:
    """A trainer that died between the two steps leaves nothing that sending the request again does not mend."""
    store.create(job_with("a"), "request", PLENTY)
    assert queued_ids(connection) == []
    assert service.create(asked(SPEC), "request").id == "a"
    assert queued_ids(connection) == ["a"]


def test_a_repeated_create_does_not_queue_a_job_that_has_ended(
    connection: StoreConnection, service: JobService
) -> None:
    """It gives the job as it stands."""
    job = service.create(asked(SPEC), "request")
    service.cancel(job.id)
    assert service.create(asked(SPEC), "request").state is JobState.CANCELLED
    assert queued_ids(connection) == []


def test_cancelling_a_queued_job_ends_it_at_once(connection: StoreConnection, service: JobService) -> None:
    """It is CANCELLED, with the time it ended, and no worker will find it; the next of its model has its turn."""
    first, second = service.create(asked(SPEC)), service.create(asked(SPEC))
    assert queued_ids(connection) == [first.id]
    cancelled = service.cancel(first.id)
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.end_time is not None
    assert service.get(first.id) == cancelled
    assert queued_ids(connection) == [second.id]


def test_cancelling_a_running_job_asks_for_it(store: JobStore, service: JobService) -> None:
    """The job stays RUNNING until its worker looks; asking twice is no error."""
    job = service.create(asked(SPEC))
    running = replace(job, state=JobState.RUNNING)
    move(store, JobState.QUEUED, running, running)
    turn = store.turn(job.id)
    assert store.beat(turn) is Beat.GO_ON
    assert service.cancel(job.id).state is JobState.RUNNING
    assert service.cancel(job.id).state is JobState.RUNNING
    assert store.beat(turn) is Beat.CANCEL


@pytest.mark.parametrize("final", FINAL_STATES)
def test_cancelling_a_job_that_has_ended_is_refused(store: JobStore, service: JobService, final: JobState) -> None:
    """JOB_ENDED, saying how it ended."""
    store.create(job_with("a", final), "", PLENTY)
    with pytest.raises(WrongStateError, match=final.name) as caught:
        service.cancel("a")
    assert caught.value.reason == "JOB_ENDED"


def test_an_unknown_job_is_not_found(service: JobService) -> None:
    """To get, cancel and watch it is refused with the same reason."""
    for ask in (service.get, service.cancel, lambda job_id: drain(service.watch(job_id, "", lambda: True))):
        with pytest.raises(NotFoundError) as caught:
            ask("nope")
        assert caught.value.reason == "JOB_NOT_FOUND"


@pytest.fixture
def history(store: JobStore) -> list[object]:
    """The events of a job `a` that has succeeded, in order."""
    queued, running = job_with("a"), job_with("a", JobState.RUNNING)
    steps: list[TrainingJob | Progress | EpochMetrics] = [running]
    for number in (1, 2, 3):
        steps += [Progress(number, 5, 9, 0.5, 1000.0, 1.5), epoch(number)]
    over = ended(running, JobState.SUCCEEDED)
    store.create(queued, "", PLENTY)
    move(store, JobState.QUEUED, running, running)
    for step in steps[1:]:
        move(store, JobState.RUNNING, running, step)
    move(store, JobState.RUNNING, over, over)
    return [queued, *steps, over]


def test_a_watch_replays_a_jobs_history_and_ends(service: JobService, history: list[object]) -> None:
    """From the beginning, in order, each once, and no further after the event that ends the job."""
    assert [recorded.event for recorded in drain(service.watch("a", "", lambda: True))] == history


def test_a_watch_resumes_after_any_cursor_without_loss_or_repeat(service: JobService, history: list[object]) -> None:
    """Wherever a client lost its stream, the rest is what it has not seen; after the last event that is nothing."""
    recorded = drain(service.watch("a", "", lambda: True))
    for index, seen in enumerate(recorded):
        rest = drain(service.watch("a", seen.cursor, lambda: True))
        assert [item.event for item in rest] == history[index + 1 :]


def test_a_watch_sees_what_happens_while_it_watches(store: JobStore, service: JobService) -> None:
    """It waits for events that are still to come, and ends with the job."""
    job = service.create(asked(SPEC))
    watch = service.watch(job.id, "", lambda: True)
    assert next(watch).event == job
    running, over = replace(job, state=JobState.RUNNING), ended(job, JobState.FAILED, error_message="why")
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(drain, watch)
        move(store, JobState.QUEUED, running, running)
        move(store, JobState.RUNNING, over, over)
        assert [recorded.event for recorded in rest.result(20)] == [running, over]


def test_a_watch_whose_client_has_gone_ends(service: JobService) -> None:
    """Nobody holds a thread for a job that goes on."""
    job = service.create(asked(SPEC))
    answers = iter([True, True, False])
    assert [recorded.event for recorded in drain(service.watch(job.id, "", lambda: next(answers)))] == [job]


def test_more_watchers_than_allowed_are_refused_until_one_ends(service: JobService) -> None:
    """TOO_MANY_WATCHERS, with the limit; a watch that was closed makes room, and so does one that was refused."""
    job = service.create(asked(SPEC))
    first, second = (
        cast("Generator[RecordedEvent, None, None]", service.watch(job.id, "", lambda: True)) for _ in range(2)
    )
    next(first), next(second)
    with pytest.raises(CapacityError, match="2 watches") as caught:
        drain(service.watch(job.id, "", lambda: True))
    assert caught.value.reason == "TOO_MANY_WATCHERS"
    first.close()
    with pytest.raises(NotFoundError):
        drain(service.watch("nope", "", lambda: True))
    assert next(service.watch(job.id, "", lambda: True)).event == job
    second.close()
    with pytest.raises(InvalidInputError):
        drain(service.watch(job.id, "yesterday", lambda: True))
    assert next(service.watch(job.id, "", lambda: True)).event == job


def test_a_long_history_is_replayed_whole(store: JobStore, service: JobService) -> None:
    """More events than one read returns arrive in order and none is lost."""
    job = service.create(asked(SPEC))
    running = replace(job, state=JobState.RUNNING)
    move(store, JobState.QUEUED, running, running)
    for number in range(1, 1200):
        move(store, JobState.RUNNING, running, epoch(number))
    over = ended(running, JobState.CANCELLED)
    move(store, JobState.RUNNING, over, over)
    events = [recorded.event for recorded in drain(service.watch(job.id, "", lambda: True))]
    assert events == [job, running, *(epoch(number) for number in range(1, 1200)), over]


def test_no_job_id_a_client_makes_up_names_another_key(connection: StoreConnection, service: JobService) -> None:
    """Whatever is asked for as a job, only jobs are found, though other keys lie beside them."""
    job = service.create(asked(SPEC), "request")
    keys = [key.decode() for key in connection.command("KEYS", "weightcast:*")]
    made_up = {part for key in keys for cut in range(key.count(":") + 1) for part in [key.split(":", cut)[-1]]} - {
        job.id
    }
    assert len(made_up) > 5
    for name in made_up:
        with pytest.raises(NotFoundError):
            service.get(name)
