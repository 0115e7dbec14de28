"""Training schedules on a real Redis: created once, changed without loss, and one job for each time they are due."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from client.embedded_redis import EmbeddedRedis
from shared.errors import (
    CapacityError,
    InvalidInputError,
    NotFoundError,
    StoreUnavailableError,
    WeightcastError,
    WrongStateError,
)
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1 import training_pb2
from shared.proto_values import duration, moment
from shared.store.connection import StoreConnection
from shared.store.keys import ScheduleKeys
from shared.store.model_store import ModelStore
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload import UploadFormat, UploadHeader, UploadService
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job import JobState, TrainingJob
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_service import JobService, Limits
from trainer_service.jobs.job_store import JobStore
from trainer_service.jobs.lifecycle import JobLifecycle
from trainer_service.presets import SpecRequest
from trainer_service.schedules import schedule_store
from trainer_service.schedules.schedule import Schedule
from trainer_service.schedules.schedule_codec import given_spec, request_of
from trainer_service.schedules.schedule_service import Jobs, ScheduleService
from trainer_service.schedules.schedule_store import ScheduleStore
from trainer_service.schedules.timing import Timing
from trainer_service.training_servicer import TrainingServicer

CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
DUE = CREATED + HOUR
HOURLY, NIGHTLY = Timing(HOUR), Timing(cron="0 3 * * *")
PROTO = training_pb2.TrainingSpec(model="tiny", dataset="digits", preset="mlp", epochs=3)
SPEC = given_spec(PROTO)
OTHER_SPEC = given_spec(training_pb2.TrainingSpec(model="tiny", dataset="digits", epochs=4))
TABLE = "\n".join(["size,kind", *(f"{row},{'cat' if row % 2 else 'dog'}" for row in range(20))]).encode()
CONTEXT = cast("grpc.ServicerContext", None)  # no method looks at it


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = CREATED

    def __call__(self) -> datetime:
        """The time that was set."""
        return self.now


class Meddled:
    """The real jobs, with something that happens before or after one is created."""

    def __init__(
        self, jobs: Jobs, before: Callable[[], object] = lambda: None, after: Callable[[], object] = lambda: None
    ) -> None:
        self._jobs, self._before, self._after = jobs, before, after

    def check(self, request: SpecRequest) -> object:
        """The real one."""
        return self._jobs.check(request)

    def get(self, job_id: str) -> TrainingJob:
        """The real one."""
        return self._jobs.get(job_id)

    def create(self, request: SpecRequest, request_id: str = "", schedule: str = "") -> TrainingJob:
        """The real one, between the two."""
        self._before()
        job = self._jobs.create(request, request_id, schedule=schedule)
        self._after()
        return job


def raising(error: Exception) -> Callable[[], object]:
    """Raises it."""

    def fail() -> object:
        raise error

    return fail


def job_service(connection: StoreConnection, tmp_path: Path, most_jobs: int = 1000) -> JobService:
    """The jobs as a replica of the service has them."""
    store, models = JobStore(connection), ModelStore(connection)
    lifecycle = JobLifecycle(store, JobQueue(connection), models)
    catalogue = Catalogue(None, tmp_path, UploadStore(connection))
    return JobService(store, lifecycle, models, catalogue, Limits(most_jobs, 2))


@pytest.fixture
def jobs(connection: StoreConnection, tmp_path: Path) -> JobService:
    """The jobs in this test's Redis."""
    return job_service(connection, tmp_path)


@pytest.fixture
def store(connection: StoreConnection) -> ScheduleStore:
    """The schedules in this test's Redis."""
    return ScheduleStore(connection)


@pytest.fixture
def clock() -> Clock:
    """The time at which clients ask for something."""
    return Clock()


@pytest.fixture
def service(store: ScheduleStore, jobs: JobService, clock: Clock) -> ScheduleService:
    """The schedules as users see them."""
    return ScheduleService(store, jobs, clock)


@pytest.fixture
def methods(
    connection: StoreConnection, service: ScheduleService, jobs: JobService, tmp_path: Path
) -> TrainingServicer:
    """The methods as clients call them."""
    uploads = UploadStore(connection)
    return TrainingServicer(jobs, service, Catalogue(None, tmp_path, uploads), UploadService(uploads))


@pytest.fixture
def uploads(connection: StoreConnection) -> UploadService:
    """What takes uploads, and has taken one called pets."""
    uploads = UploadService(UploadStore(connection))
    uploads.take(UploadHeader("pets", "", UploadFormat.CSV, "kind"), [TABLE])
    return uploads


def all_jobs(jobs: JobService) -> list[TrainingJob]:
    """Every job, newest first."""
    return jobs.page(None, 200)[0]


def refused(call: Callable[[], object], kind: type[WeightcastError]) -> str:
    """The reason and the message of a refusal."""
    with pytest.raises(kind) as raised:
        call()
    return f"{raised.value.reason}: {raised.value.message}"


def test_a_stored_schedule_is_read_back_whole(store: ScheduleStore) -> None:
    """Every field survives, and the spec as it was given: what was left unset is still unset."""
    spec = given_spec(training_pb2.TrainingSpec(model="tiny", dataset="digits", parent="live", momentum=0.0))
    whole = Schedule("whole", spec, HOURLY, CREATED, DUE, CREATED - HOUR, "job", 7, "why")
    bare = Schedule("bare", SPEC, NIGHTLY, CREATED, None)
    for schedule in (whole, bare):
        assert store.create(schedule) == schedule
        assert store.get(schedule.name) == schedule
    request = request_of(store.get("whole").spec)
    assert (request.parent, request.preset, dict(request.given)) == ("live", "", {"momentum": 0.0})


def test_a_created_schedule_waits_for_its_first_time(service: ScheduleService, jobs: JobService) -> None:
    """So long after it was created, or when the cron line says; a paused one for nothing. No job is created."""
    assert service.create("hourly", SPEC, HOURLY) == Schedule("hourly", SPEC, HOURLY, CREATED, DUE)
    assert service.create("nightly", SPEC, NIGHTLY).next_time == datetime(2026, 1, 3, 3, tzinfo=UTC)
    paused = service.create("paused", SPEC, NIGHTLY, paused=True)
    assert (paused.paused, paused.next_time) == (True, None)
    assert all_jobs(jobs) == []


def test_the_same_schedule_again_is_given_back_as_it_stands(
    service: ScheduleService, clock: Clock, uploads: UploadService
) -> None:
    """Whether it is asked for paused or not, and even where it could not be created any more."""
    spec = given_spec(training_pb2.TrainingSpec(model="tiny", dataset="pets"))
    first = service.create("pets", spec, HOURLY)
    uploads.delete("pets")
    clock.now += MINUTE
    assert service.create("pets", spec, HOURLY, paused=True) == first
    paused = service.pause("pets", paused=True)
    assert service.create("pets", spec, HOURLY) == paused


@pytest.mark.parametrize(
    ("spec", "timing"), [(OTHER_SPEC, HOURLY), (SPEC, NIGHTLY), (SPEC, Timing(2 * HOUR))], ids=["spec", "cron", "every"]
)
def test_another_schedule_of_the_name_is_refused(service: ScheduleService, spec: bytes, timing: Timing) -> None:
    """SCHEDULE_EXISTS, and the first stays as it was."""
    first = service.create("a", SPEC, HOURLY)
    assert "SCHEDULE_EXISTS" in refused(lambda: service.create("a", spec, timing), WrongStateError)
    assert service.get("a") == first


def test_of_two_schedules_created_at_once_one_has_the_name(store: ScheduleStore) -> None:
    """Everybody is told which, and nobody that it is another."""
    both = [Schedule("a", spec, HOURLY, CREATED, DUE) for spec in (SPEC, OTHER_SPEC)]
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(store.create, both * 8))
    assert stored == [stored[0]] * 16
    assert stored[0] in both


def test_what_cannot_be_scheduled_is_refused_with_every_bad_field(service: ScheduleService) -> None:
    """By its path in the request; nothing is stored."""
    bad = given_spec(training_pb2.TrainingSpec(model="tiny", dataset="nope", epochs=0, batch_size=-1))
    with pytest.raises(InvalidInputError) as caught:
        service.create("No name", bad, Timing(timedelta(seconds=1)))
    assert [violation.field for violation in caught.value.violations] == [
        "schedule.name",
        "schedule.every",
        "schedule.spec.epochs",
        "schedule.spec.batch_size",
    ]
    unknown = given_spec(training_pb2.TrainingSpec(model="tiny", dataset="nope"))
    message = refused(lambda: service.create("a", unknown, HOURLY), NotFoundError)
    assert message.startswith("DATASET_NOT_FOUND: schedule.spec.dataset: ")
    assert service.by_name(0, 10) == []


def test_no_more_schedules_are_kept_than_the_limit(
    store: ScheduleStore, service: ScheduleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TOO_MANY_SCHEDULES; one that is there already may be asked for again, and one that is removed makes room."""
    monkeypatch.setattr(schedule_store, "MAX_SCHEDULES", 2)
    first = service.create("a", SPEC, HOURLY)
    service.create("b", SPEC, HOURLY)
    assert "TOO_MANY_SCHEDULES" in refused(lambda: service.create("c", SPEC, HOURLY), CapacityError)
    assert store.create(first) == first
    service.delete("b")
    assert service.create("c", SPEC, HOURLY).name == "c"


def test_schedules_are_listed_by_name_in_pages(service: ScheduleService, methods: TrainingServicer) -> None:
    """Each once, whatever the order they came in, paused or not."""
    for name in ("d", "b", "e", "a", "c"):
        service.create(name, SPEC, HOURLY, paused=name == "c")
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        request = pb.ListTrainingSchedulesRequest(page_size=2, page_token=token)
        page = methods.ListTrainingSchedules(request, CONTEXT)
        pages.append([schedule.name for schedule in page.schedules])
        token = page.next_page_token
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    assert len(methods.ListTrainingSchedules(pb.ListTrainingSchedulesRequest(), CONTEXT).schedules) == 5


def test_the_contracts_messages_are_answered(methods: TrainingServicer, service: ScheduleService, clock: Clock) -> None:
    """Created as asked for, read, paused, let go on and removed; what is not a client's to say is not taken."""
    asked = pb.TrainingSchedule(
        name="a", spec=PROTO, every=duration(3600), paused=True, last_job_id="mine", skipped_count=9
    )
    created = methods.CreateTrainingSchedule(pb.CreateTrainingScheduleRequest(schedule=asked), CONTEXT).schedule
    assert (created.name, created.spec, created.every, created.paused) == ("a", PROTO, duration(3600), True)
    assert (moment(created.create_time), created.last_job_id, created.skipped_count) == (CREATED, "", 0)
    assert not created.HasField("next_time")
    assert methods.GetTrainingSchedule(pb.GetTrainingScheduleRequest(name="a"), CONTEXT).schedule == created
    clock.now += MINUTE
    resumed = methods.PauseTrainingSchedule(pb.PauseTrainingScheduleRequest(name="a", paused=False), CONTEXT).schedule
    assert (resumed.paused, moment(resumed.next_time)) == (False, DUE + MINUTE)
    methods.DeleteTrainingSchedule(pb.DeleteTrainingScheduleRequest(name="a"), CONTEXT)
    assert service.by_name(0, 10) == []

    nightly = pb.TrainingSchedule(name="b", spec=PROTO, cron="0 3 * * *")
    created = methods.CreateTrainingSchedule(pb.CreateTrainingScheduleRequest(schedule=nightly), CONTEXT).schedule
    assert (created.cron, created.WhichOneof("timing"), created.paused) == ("0 3 * * *", "cron", False)


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (pb.TrainingSchedule(), {"schedule.name", "schedule.timing", "schedule.spec.model", "schedule.spec.dataset"}),
        (pb.TrainingSchedule(name="a", spec=PROTO, cron=""), {"schedule.timing"}),
        (pb.TrainingSchedule(name="a", spec=PROTO, every=Duration(seconds=2**63 - 1, nanos=-5)), {"schedule.every"}),
        (pb.TrainingSchedule(name="a", spec=PROTO, every=Duration(seconds=-(2**63))), {"schedule.every"}),
    ],
)
def test_odd_messages_are_refused_by_field(
    methods: TrainingServicer, asked: pb.TrainingSchedule, fields: set[str]
) -> None:
    """Nothing set, and durations that are none."""
    with pytest.raises(InvalidInputError) as caught:
        methods.CreateTrainingSchedule(pb.CreateTrainingScheduleRequest(schedule=asked), CONTEXT)
    assert {violation.field for violation in caught.value.violations} == fields


def test_fields_that_this_build_does_not_know_are_not_kept() -> None:
    """Nothing here could limit them."""
    unknown = PROTO.SerializeToString() + b"\xfa\x3f\x03abc"
    assert given_spec(training_pb2.TrainingSpec.FromString(unknown)) == SPEC


def test_an_unknown_schedule_is_not_found(service: ScheduleService) -> None:
    """To get, pause and remove it is refused with the same reason."""
    asks: list[Callable[[str], object]] = [
        service.get,
        service.delete,
        lambda name: service.pause(name, paused=True),
    ]
    for ask in asks:
        assert refused(partial(ask, "nope"), NotFoundError).startswith("SCHEDULE_NOT_FOUND: name: ")


def test_a_schedule_creates_a_job_when_it_is_due(service: ScheduleService, jobs: JobService) -> None:
    """Not before, once, with the spec as it was given and its name; then it waits for the next time."""
    service.create("a", SPEC, HOURLY)
    assert service.fire_due(DUE - timedelta(microseconds=1)) == 0
    assert all_jobs(jobs) == []
    assert service.fire_due(DUE + timedelta(seconds=0.7)) == 1
    assert service.fire_due(DUE + timedelta(seconds=1.7)) == 0
    (job,) = all_jobs(jobs)
    assert (job.state, job.schedule, job.spec.model, job.spec.epochs) == (JobState.QUEUED, "a", "tiny", 3)
    schedule = service.get("a")
    assert (schedule.last_time, schedule.next_time, schedule.last_job_id) == (DUE, DUE + HOUR, job.id)
    assert (schedule.skipped_count, schedule.error_message) == (0, "")


def test_each_job_of_a_schedule_is_a_new_one(service: ScheduleService, jobs: JobService) -> None:
    """What the spec leaves unset is drawn anew: another seed."""
    service.create("a", SPEC, HOURLY)
    for times in (1, 2, 3):
        assert service.fire_due(CREATED + times * HOUR) == 1
        jobs.cancel(service.get("a").last_job_id)
    assert len({job.spec.seed for job in all_jobs(jobs)}) == 3


def test_every_schedule_that_is_due_creates_its_job(service: ScheduleService, jobs: JobService) -> None:
    """And no other: the longest due first, and two that are due at once one each."""
    for name, hours in (("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 1)):
        service.create(name, SPEC, Timing(hours * HOUR), paused=name == "b")
    assert service.fire_due(CREATED + 3 * HOUR) == 3
    assert [job.schedule for job in all_jobs(jobs)] == ["c", "e", "a"]  # newest first


def test_replicas_that_race_create_one_job(
    connect: Callable[[], StoreConnection], service: ScheduleService, jobs: JobService, tmp_path: Path
) -> None:
    """Each time, and of all replicas one says that it created it."""
    service.create("a", SPEC, HOURLY)
    replicas = [ScheduleService(ScheduleStore(one), job_service(one, tmp_path)) for one in (connect(), connect())]
    barrier = threading.Barrier(2)

    def fire(replica: ScheduleService, now: datetime) -> int:
        barrier.wait(10)
        return replica.fire_due(now)

    with ThreadPoolExecutor(2) as pool:
        for times in range(1, 21):
            now = CREATED + times * HOUR
            assert sum(pool.map(fire, replicas, [now, now + timedelta(seconds=0.5)])) == 1
            schedule = service.get("a")
            assert (schedule.last_time, schedule.next_time, schedule.skipped_count) == (now, now + HOUR, 0)
            assert len(all_jobs(jobs)) == times
            jobs.cancel(schedule.last_job_id)


def test_jobs_of_a_schedule_are_never_stacked(service: ScheduleService, jobs: JobService) -> None:
    """While its last job has not ended a time is skipped, and counted; then it goes on."""
    service.create("a", SPEC, HOURLY)
    service.fire_due(DUE)
    first = service.get("a").last_job_id
    for times in (2, 3):
        assert service.fire_due(CREATED + times * HOUR) == 0
    schedule = service.get("a")
    assert (schedule.skipped_count, schedule.last_job_id) == (2, first)
    assert (schedule.last_time, schedule.next_time) == (CREATED + 3 * HOUR, CREATED + 4 * HOUR)
    assert [job.id for job in all_jobs(jobs)] == [first]
    jobs.cancel(first)
    assert service.fire_due(CREATED + 4 * HOUR) == 1
    assert (service.get("a").skipped_count, len(all_jobs(jobs))) == (2, 2)


def test_a_job_that_was_removed_holds_nothing_up(service: ScheduleService, jobs: JobService) -> None:
    """It had ended."""
    service.create("a", SPEC, HOURLY)
    service.fire_due(DUE)
    first = service.get("a").last_job_id
    jobs.cancel(first)
    jobs.remove(first)
    assert service.fire_due(DUE + HOUR) == 1


@pytest.mark.parametrize(
    ("timing", "due", "next_time"),
    [
        (HOURLY, DUE, CREATED + timedelta(days=9) + HOUR),
        (NIGHTLY, datetime(2026, 1, 3, 3, tzinfo=UTC), datetime(2026, 1, 12, 3, tzinfo=UTC)),
    ],
)
def test_times_that_were_missed_make_one_job(
    service: ScheduleService, jobs: JobService, timing: Timing, due: datetime, next_time: datetime
) -> None:
    """The service was away for days; the next time is counted from now."""
    service.create("a", SPEC, timing)
    now = CREATED + timedelta(days=9)
    assert service.fire_due(now) == 1
    jobs.cancel(service.get("a").last_job_id)
    assert service.fire_due(now + MINUTE) == 0
    assert len(all_jobs(jobs)) == 1
    schedule = service.get("a")
    assert (schedule.last_time, schedule.next_time) == (due, next_time)


def test_a_replica_that_died_before_it_noted_its_job_leaves_one_job(
    store: ScheduleStore, service: ScheduleService, jobs: JobService
) -> None:
    """The time stays due, and whoever looks next finds the same job instead of creating another."""
    service.create("a", SPEC, HOURLY)
    dying = ScheduleService(store, Meddled(jobs, after=raising(StoreUnavailableError("died"))))
    assert "died" in refused(lambda: dying.fire_due(DUE), StoreUnavailableError)
    (job,) = all_jobs(jobs)
    assert (service.get("a").next_time, service.get("a").last_job_id) == (DUE, "")
    assert service.fire_due(DUE + MINUTE) == 1
    assert [found.id for found in all_jobs(jobs)] == [job.id]
    assert service.get("a").last_job_id == job.id


def test_a_job_that_cannot_be_created_is_noted_with_the_reason(
    service: ScheduleService, jobs: JobService, uploads: UploadService
) -> None:
    """And is not tried again before the next time, which clears the reason where it can."""
    spec = given_spec(training_pb2.TrainingSpec(model="tiny", dataset="pets"))
    service.create("a", spec, HOURLY)
    uploads.delete("pets")
    assert service.fire_due(DUE) == 0
    schedule = service.get("a")
    assert schedule.error_message.startswith("spec.dataset: there is no data set 'pets'")
    assert (schedule.last_time, schedule.next_time, schedule.last_job_id) == (DUE, DUE + HOUR, "")
    uploads.take(UploadHeader("pets", "", UploadFormat.CSV, "kind"), [TABLE])
    assert service.fire_due(DUE + MINUTE) == 0
    assert service.fire_due(DUE + HOUR) == 1
    assert service.get("a").error_message == ""
    assert len(all_jobs(jobs)) == 1


def test_a_full_queue_is_noted_too(
    connection: StoreConnection, store: ScheduleStore, clock: Clock, tmp_path: Path
) -> None:
    """The other schedule had the last place."""
    jobs = job_service(connection, tmp_path, most_jobs=1)
    service = ScheduleService(store, jobs, clock)
    service.create("a", SPEC, HOURLY)
    clock.now += MINUTE
    service.create("b", SPEC, HOURLY)
    assert service.fire_due(DUE + MINUTE) == 1
    assert "1 jobs wait or run already" in service.get("b").error_message
    assert service.get("b").next_time == DUE + MINUTE + HOUR


def test_a_fault_in_one_schedule_does_not_stop_the_others(store: ScheduleStore, jobs: JobService, clock: Clock) -> None:
    """It is noted with an id for the operator, without what is in the log."""
    faults = [ValueError("secret")]

    def fail_once() -> None:
        if faults:
            raise faults.pop()

    service = ScheduleService(store, Meddled(jobs, before=fail_once), clock)
    service.create("a", SPEC, HOURLY)
    service.create("b", SPEC, Timing(HOUR + MINUTE))
    assert service.fire_due(DUE + MINUTE) == 1
    assert "tell the operator this error id" in service.get("a").error_message
    assert "secret" not in service.get("a").error_message
    assert service.get("b").last_job_id


def test_while_the_store_is_away_nothing_is_noted(
    redis_server: EmbeddedRedis, service: ScheduleService, jobs: JobService
) -> None:
    """The caller is told, and the time is made up for when the store is back."""
    service.create("a", SPEC, HOURLY)
    redis_server.stop()
    refused(lambda: service.fire_due(DUE), StoreUnavailableError)
    redis_server.start()
    assert service.fire_due(DUE + MINUTE) == 1
    assert len(all_jobs(jobs)) == 1


def test_a_paused_schedule_creates_nothing_and_makes_up_for_nothing(
    connection: StoreConnection, service: ScheduleService, jobs: JobService, clock: Clock
) -> None:
    """It goes on from the moment it is let; to say either twice changes nothing."""
    service.create("a", SPEC, HOURLY)
    paused = service.pause("a", paused=True)
    assert (paused.paused, paused.next_time) == (True, None)
    assert service.pause("a", paused=True) == paused == service.get("a")
    assert connection.command("ZCARD", ScheduleKeys.DUE) == 0  # nobody looks at it again and again
    clock.now = CREATED + timedelta(days=1)
    assert service.fire_due(clock.now) == 0
    resumed = service.pause("a", paused=False)
    assert (resumed.paused, resumed.next_time) == (False, clock.now + HOUR)
    clock.now += MINUTE
    assert service.pause("a", paused=False) == resumed == service.get("a")
    assert service.fire_due(clock.now) == 0
    assert all_jobs(jobs) == []
    assert service.fire_due(clock.now + HOUR) == 1


def test_a_removed_schedule_is_gone_and_its_jobs_stay(
    connection: StoreConnection, service: ScheduleService, jobs: JobService
) -> None:
    """Nothing of it is left to become due."""
    service.create("a", SPEC, HOURLY)
    service.fire_due(DUE)
    service.delete("a")
    assert service.fire_due(DUE + HOUR) == 0
    assert len(all_jobs(jobs)) == 1
    assert connection.command("EXISTS", ScheduleKeys.SCHEDULES, ScheduleKeys.DUE) == 0
    assert "SCHEDULE_NOT_FOUND" in refused(lambda: service.delete("a"), NotFoundError)


def test_another_schedule_of_a_removed_ones_name_has_jobs_of_its_own(
    service: ScheduleService, jobs: JobService, clock: Clock
) -> None:
    """Even where the clock of the replica that creates it is behind, and the same time is due again."""
    service.create("a", SPEC, NIGHTLY)
    three = datetime(2026, 1, 3, 3, tzinfo=UTC)
    service.fire_due(three)
    service.delete("a")
    clock.now = three - timedelta(seconds=1)
    assert service.create("a", OTHER_SPEC, NIGHTLY).next_time == three
    assert service.fire_due(three) == 1
    assert [job.spec.epochs for job in all_jobs(jobs)] == [4, 3]


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_pause_while_a_job_is_being_created_holds_and_the_job_is_noted(
    store: ScheduleStore, service: ScheduleService, jobs: JobService, clock: Clock, *, goes_on: bool
) -> None:
    """Neither of the two undoes the other; where the client lets it go on at once, that holds too."""
    service.create("a", SPEC, HOURLY)
    clock.now = DUE + timedelta(seconds=2)

    def meddle() -> None:
        service.pause("a", paused=True)
        if goes_on:
            service.pause("a", paused=False)

    assert ScheduleService(store, Meddled(jobs, after=meddle)).fire_due(DUE) == 1
    schedule = service.get("a")
    assert schedule.next_time == (clock.now + HOUR if goes_on else None)
    assert (schedule.last_time, schedule.last_job_id) == (DUE, all_jobs(jobs)[0].id)
    assert service.fire_due(DUE + MINUTE) == 0


def test_a_schedule_that_is_removed_while_its_job_is_created_stays_removed(
    store: ScheduleStore, service: ScheduleService, jobs: JobService, clock: Clock
) -> None:
    """And another one that took its name meanwhile is left alone."""
    service.create("a", SPEC, HOURLY)
    assert ScheduleService(store, Meddled(jobs, after=lambda: service.delete("a"))).fire_due(DUE) == 0
    assert service.by_name(0, 10) == []
    assert len(all_jobs(jobs)) == 1

    service.create("b", SPEC, HOURLY)
    clock.now += MINUTE

    def exchange() -> None:
        service.delete("b")
        service.create("b", OTHER_SPEC, HOURLY)

    assert ScheduleService(store, Meddled(jobs, after=exchange)).fire_due(DUE) == 0
    assert service.get("b") == Schedule("b", OTHER_SPEC, HOURLY, clock.now, clock.now + HOUR)


def test_a_replica_that_comes_late_changes_nothing(
    store: ScheduleStore, service: ScheduleService, jobs: JobService
) -> None:
    """Another one created the job, and the next, while it stood still; its own create gives the first job again."""
    service.create("a", SPEC, HOURLY)
    seen: list[Schedule] = []

    def meanwhile() -> None:
        for now in (DUE, DUE + HOUR):
            service.fire_due(now)
            jobs.cancel(service.get("a").last_job_id)
        seen.append(service.get("a"))

    assert ScheduleService(store, Meddled(jobs, before=meanwhile)).fire_due(DUE) == 0
    assert [service.get("a")] == seen
    assert len(all_jobs(jobs)) == 2


def test_a_change_that_comes_second_is_made_on_what_the_first_left(store: ScheduleStore) -> None:
    """It is asked again, and neither is lost."""
    store.create(Schedule("a", SPEC, HOURLY, CREATED, DUE))
    asked: list[int] = []

    def second(stored: Schedule) -> Schedule:
        asked.append(stored.skipped_count)
        if len(asked) == 1:
            store.change("a", lambda first: replace(first, skipped_count=5))
        return replace(stored, last_job_id="mine")

    store.change("a", second)
    assert asked == [0, 5]
    assert (store.get("a").skipped_count, store.get("a").last_job_id) == (5, "mine")


def test_changes_that_race_are_all_made(store: ScheduleStore) -> None:
    """Eight threads count to forty together."""
    store.create(Schedule("a", SPEC, HOURLY, CREATED, DUE))

    def count(_: int) -> None:
        store.change("a", lambda stored: replace(stored, skipped_count=stored.skipped_count + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(40)))
    assert store.get("a").skipped_count == 40


def test_pausing_and_firing_at_once_lose_nothing(service: ScheduleService, jobs: JobService, clock: Clock) -> None:
    """Whichever comes first: the schedule is as the client left it, and the job that there is, is noted."""
    service.create("a", SPEC, HOURLY)
    barrier = threading.Barrier(2)

    def fire(now: datetime) -> int:
        barrier.wait(10)
        return service.fire_due(now)

    def pause(_: datetime) -> Schedule:
        barrier.wait(10)
        return service.pause("a", paused=True)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(25):
            before, due = all_jobs(jobs), clock.now + HOUR
            fired, paused = pool.submit(fire, due), pool.submit(pause, due)
            count, schedule = fired.result(), paused.result() and service.get("a")
            assert schedule.paused
            created = all_jobs(jobs)[: len(all_jobs(jobs)) - len(before)]
            assert len(created) == count
            if created:
                assert (schedule.last_job_id, schedule.last_time) == (created[0].id, due)
                jobs.cancel(created[0].id)
            clock.now = due
            assert service.pause("a", paused=False).next_time == due + HOUR
