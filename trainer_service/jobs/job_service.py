"""What clients may do with training jobs: create, read, list, cancel, remove, watch."""

import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from shared.errors import (
    CapacityError,
    FieldViolation,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.jobs.job import Heartbeat, JobState, TrainingJob
from trainer_service.jobs.job_store import JobStore, RecordedEvent
from trainer_service.jobs.lifecycle import JobLifecycle
from trainer_service.presets import SpecRequest, preset_violation, spec_of
from trainer_service.warm_start import find_parent, with_layers_of

CURSOR = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
LARGEST_CURSOR_PART = 2**64 - 1
MAX_REQUEST_ID = 64
WATCH_POLL_SECONDS = 1.0  # how soon a watch notices that its client has gone
HEARTBEAT_SECONDS = 5.0
SCANNED_AT_MOST = 2000  # jobs looked at for one page of a filtered list


@dataclass(frozen=True)
class Limits:
    """How many jobs may wait or run, and how many watches may be open."""

    unended_jobs: int
    watchers: int


class JobService:
    """Training jobs as their users see them."""

    def __init__(
        self, store: JobStore, lifecycle: JobLifecycle, models: ModelStore, catalogue: Catalogue, limits: Limits
    ) -> None:
        self._store, self._lifecycle, self._models = store, lifecycle, models
        self._catalogue = catalogue
        self._limits = limits
        self._watchers = threading.BoundedSemaphore(limits.watchers)
        self._stopping = threading.Event()

    def create(self, request: SpecRequest, request_id: str = "", schedule: str = "") -> TrainingJob:
        """Accepts a job, which runs when its turn comes: jobs of one model run one after the other.

        Raises:
            InvalidInputError: naming every bad field at once.
            NotFoundError: if there is no such data set or parent.
            CapacityError: QUEUE_FULL.
            StoreUnavailableError: if Redis is away.
        """
        spec, dataset_digest = self._checked(request, request_id)
        job = TrainingJob(
            secrets.token_hex(6),
            spec,
            JobState.QUEUED,
            datetime.now(UTC),
            dataset_digest=dataset_digest,
            schedule=schedule,
        )
        return self._lifecycle.create(job, request_id, self._limits.unended_jobs)

    def check(self, request: SpecRequest) -> None:
        """Returns if a job could be created of this request now; raises what `create` would."""
        self._checked(request, "")

    def _checked(self, request: SpecRequest, request_id: str) -> tuple[TrainingSpec, str]:
        """The spec with the preset's defaults, and the data set's digest where it is known without loading.

        What is wrong with the request is raised, all of it at once.
        """
        entry, parent, unknown = None, None, None
        try:
            entry = self._catalogue.entry(request.dataset) if request.dataset else None
        except NotFoundError as error:
            unknown = NotFoundError(f"spec.dataset: {error.message}", reason=error.reason)
        try:
            parent = find_parent(self._models, request)
        except NotFoundError as error:
            unknown = unknown or error
        input_shape, class_count = (entry.input_shape, entry.class_count) if entry else (None, None)
        violations = list(request.violations)
        if violation := preset_violation(request.preset):
            violations.append(violation)
            request = replace(request, preset="")
        if parent:
            request = with_layers_of(parent, request)
        spec = spec_of(request, input_shape, entry.train_size if entry else None, class_count)
        violations += spec.violations(input_shape, class_count or 2)
        if parent:
            violations += parent.violations(spec, input_shape, class_count)
            spec = replace(spec, parent=parent.version)
        if len(request_id) > MAX_REQUEST_ID:
            violations.append(
                FieldViolation("request_id", f"got {len(request_id)} characters, expected at most {MAX_REQUEST_ID}")
            )
        if violations:
            raise InvalidInputError(*violations)
        if unknown:
            raise unknown
        return spec, entry.known.digest if entry and entry.known else ""

    def get(self, job_id: str) -> TrainingJob:
        """One job; NotFoundError if there is none."""
        return self._store.get(job_id)

    def page(
        self, below: int | None, count: int, *, model: str = "", states: Collection[JobState] = ()
    ) -> tuple[list[TrainingJob], int | None]:
        """Up to `count` jobs, newest first, from a place on, and the place where the next page begins, if there is one.

        A bounded number is looked at, so that with a filter a page may be short and not be the last.
        """
        found: list[TrainingJob] = []
        scanned, chunk = 0, count if not (model or states) else 200
        while scanned < SCANNED_AT_MOST:
            jobs = self._store.newest(below, chunk + 1)
            for place, job in jobs[:chunk]:
                scanned, below = scanned + 1, place
                if (not model or job.spec.model == model) and (not states or job.state in states):
                    found.append(job)
                    if len(found) == count:
                        return found, below if place != jobs[-1][0] else None
            if len(jobs) <= chunk:
                return found, None
        return found, below

    def cancel(self, job_id: str) -> TrainingJob:
        """Ends a queued job at once and asks a running one to stop at its next minibatch.

        Raises:
            NotFoundError: JOB_NOT_FOUND.
            WrongStateError: JOB_ENDED, with the state it ended in.
        """
        before = self._store.get(job_id)
        job = before if before.state.is_final else self._lifecycle.cancel(before)
        if job.state.is_final and (before.state.is_final or job.state is not JobState.CANCELLED):
            raise WrongStateError(f"job {job_id} has already ended: {job.state.name}", reason="JOB_ENDED")
        return job

    def remove(self, job_id: str) -> None:
        """Forgets a job that has ended.

        Raises:
            NotFoundError: JOB_NOT_FOUND.
            WrongStateError: JOB_NOT_ENDED.
        """
        self._lifecycle.remove(job_id)

    def watch(self, job_id: str, cursor: str, is_watched: Callable[[], bool]) -> Iterator[RecordedEvent]:
        """The events after `cursor` (empty: all), then new ones, until the job has ended or nobody watches.

        Raises:
            InvalidInputError: if the cursor is not one.
            NotFoundError: JOB_NOT_FOUND.
            CapacityError: TOO_MANY_WATCHERS.
            UnavailableError: SHUTTING_DOWN.
        """
        if cursor and not is_cursor(cursor):
            raise InvalidInputError.of("cursor", f"got {cursor[:80]!r}, expected the cursor of an earlier event")
        if not self._watchers.acquire(blocking=False):
            raise CapacityError(
                f"{self._limits.watchers} watches run already; try again, or poll GetTrainingJob",
                reason="TOO_MANY_WATCHERS",
            )
        try:
            yield from self._follow(job_id, cursor, is_watched)
        finally:
            self._watchers.release()

    def stop_watches(self) -> None:
        """Ends every watch within a second: their jobs may take hours, for which the service's end does not wait."""
        self._stopping.set()

    def _follow(self, job_id: str, cursor: str, is_watched: Callable[[], bool]) -> Iterator[RecordedEvent]:
        told = time.monotonic()
        while is_watched():
            if self._stopping.is_set():
                raise UnavailableError("the service is stopping; watch on from the last cursor", reason="SHUTTING_DOWN")
            is_over = self._store.get(job_id).state.is_final  # asked before reading: its last event is there then
            recorded = self._store.events_after(job_id, cursor, WATCH_POLL_SECONDS)
            for item in recorded:
                yield item
                cursor, told = item.cursor, time.monotonic()
                if isinstance(item.event, TrainingJob) and item.event.state.is_final:
                    return
            if is_over and not recorded:
                return
            if time.monotonic() - told >= HEARTBEAT_SECONDS:
                yield RecordedEvent(cursor, Heartbeat())
                told = time.monotonic()


def is_cursor(text: str) -> bool:
    """Whether the store could have given out this cursor."""
    parts = CURSOR.fullmatch(text)
    return parts is not None and all(int(part) <= LARGEST_CURSOR_PART for part in parts.groups())
