"""What clients may do with training schedules, and what happens when one is due: a job, unless its last has not ended.

A time that is due makes one job, however many replicas of the service see it and wherever one of them dies.
"""

import hashlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from shared.errors import (
    FieldViolation,
    InvalidInputError,
    NotFoundError,
    StoreUnavailableError,
    WeightcastError,
    WrongStateError,
)
from shared.training_spec import name_violation
from trainer_service.jobs.job import TrainingJob
from trainer_service.presets import SpecRequest
from trainer_service.schedules.schedule import Schedule, reconciled
from trainer_service.schedules.schedule_codec import request_of
from trainer_service.schedules.schedule_store import ScheduleStore
from trainer_service.schedules.timing import Timing

log = structlog.get_logger()


class Jobs(Protocol):
    """What schedules need of jobs."""

    def check(self, request: SpecRequest) -> object:
        """Raises what creating a job would, and creates none."""

    def create(self, request: SpecRequest, request_id: str = "", schedule: str = "") -> TrainingJob:
        """Creates a job; the same one for the same request id."""

    def get(self, job_id: str) -> TrainingJob:
        """One job; NotFoundError if there is none."""


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


class ScheduleService:
    """Training schedules as their users see them. Every method raises StoreUnavailableError while Redis is away."""

    def __init__(self, store: ScheduleStore, jobs: Jobs, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._jobs = jobs
        self._clock = clock

    def create(self, name: str, spec: bytes, timing: Timing, *, paused: bool = False) -> Schedule:
        """Stores a schedule. The same one again is given back as it stands, paused or not.

        Raises:
            InvalidInputError: naming every bad field at once.
            NotFoundError: if there is no such data set or parent.
            WrongStateError: SCHEDULE_EXISTS, if the name has another one.
            CapacityError: TOO_MANY_SCHEDULES.
        """
        now = self._clock()
        schedule = Schedule(name, spec, timing, create_time=now, next_time=None)
        stored = self._store.find(name)
        if stored is None or not stored.asks_the_same_as(schedule):
            self._check(schedule, now)
            stored = self._store.create(schedule.turned(now, paused=paused))
        if not stored.asks_the_same_as(schedule):
            raise WrongStateError(
                f"there is a schedule {name!r} with another spec or timing; delete it first, or choose another name",
                reason="SCHEDULE_EXISTS",
            )
        return stored

    def get(self, name: str) -> Schedule:
        """One schedule; NotFoundError if there is none."""
        return self._store.get(name)

    def by_name(self, offset: int, count: int) -> list[Schedule]:
        """Up to `count` schedules by name, from the `offset`-th."""
        return self._store.by_name(offset, count)

    def pause(self, name: str, *, paused: bool) -> Schedule:
        """Pauses a schedule, or lets it go on from now, making up for nothing; no error where it is so already.

        Raises:
            NotFoundError: SCHEDULE_NOT_FOUND.
        """
        now = self._clock()
        changed = self._store.change(
            name, lambda stored: None if stored.paused == paused else stored.turned(now, paused=paused)
        )
        return changed or self._store.get(name)

    def delete(self, name: str) -> None:
        """Removes a schedule; its jobs stay. NotFoundError if there is none."""
        self._store.remove(name)

    def fire_due(self, now: datetime) -> int:
        """Creates a job for every schedule whose time has come and whose last job has ended; how many those were.

        Times that passed while nobody looked are made up for by one job.
        """
        return sum(self._fire(schedule, now) for schedule in self._store.due(now))

    def _fire(self, schedule: Schedule, now: datetime) -> bool:
        """Whether a job was created, and noted here and not by another replica."""
        try:
            outcome = self._outcome(schedule, now)
        except StoreUnavailableError:
            raise  # it stays due
        except WeightcastError as error:
            outcome = replace(schedule.passed(now), error_message=error.message)
        except Exception:
            error_id = uuid.uuid4().hex
            log.exception("a schedule could not create its job", schedule=schedule.name, error_id=error_id)
            message = f"something unforeseen went wrong; tell the operator this error id: {error_id}"
            outcome = replace(schedule.passed(now), error_message=message)
        noted = None
        with suppress(NotFoundError):  # it was removed meanwhile
            noted = self._store.change(schedule.name, lambda stored: reconciled(stored, schedule, outcome))
        if noted is None:
            return False
        log.info("a schedule was due", schedule=noted.name, job_id=noted.last_job_id, error=noted.error_message)
        return noted.last_job_id != schedule.last_job_id

    def _outcome(self, schedule: Schedule, now: datetime) -> Schedule:
        """Creates the job, or skips it; the schedule after that."""
        passed = schedule.passed(now)
        if self._is_under_way(schedule.last_job_id):
            return replace(passed, skipped_count=schedule.skipped_count + 1)
        job = self._jobs.create(request_of(schedule.spec), request_id_of(schedule), schedule=schedule.name)
        return replace(passed, last_job_id=job.id)

    def _is_under_way(self, job_id: str) -> bool:
        """Whether a job has not ended; one that was removed had."""
        try:
            return bool(job_id) and not self._jobs.get(job_id).state.is_final
        except NotFoundError:
            return False

    def _check(self, schedule: Schedule, now: datetime) -> None:
        """Raises what is wrong with a schedule that a client asks for, all of it at once."""
        violations = list(schedule.timing.violations(now))
        if violation := name_violation(schedule.name, "schedule.name", "schedule"):
            violations.insert(0, violation)
        missing = None
        try:
            self._jobs.check(request_of(schedule.spec))
        except InvalidInputError as error:
            violations += [FieldViolation(f"schedule.{of.field}", of.description) for of in error.violations]
        except NotFoundError as error:
            missing = NotFoundError(f"schedule.{error.message}", reason=error.reason)
        if violations:
            raise InvalidInputError(*violations)
        if missing:
            raise missing


def request_id_of(schedule: Schedule) -> str:
    """What the job of the time that is due is created by: whoever creates it, it is the same job."""
    time = f"{schedule.name} {schedule.create_time.isoformat()} {schedule.next_time}"
    return f"schedule-{hashlib.sha256(time.encode()).hexdigest()[:40]}"
