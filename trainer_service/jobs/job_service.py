"""What clients may do with training jobs: create, read, list, cancel, watch."""

import re
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from shared.errors import CapacityError, FieldViolation, InvalidInputError, NotFoundError, WrongStateError
from shared.training_spec import TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.jobs.job import JobState, TrainingJob, ended
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_store import JobStore, RecordedEvent
from trainer_service.presets import SpecRequest, preset_violation, spec_of

CURSOR = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
LARGEST_CURSOR_PART = 2**64 - 1
MAX_REQUEST_ID = 64
WATCH_POLL_SECONDS = 1.0  # how soon a watch notices that its client has gone


class JobService:
    """Training jobs as their users see them."""

    def __init__(self, store: JobStore, queue: JobQueue, catalogue: Catalogue, max_watchers: int) -> None:
        self._store = store
        self._queue = queue
        self._catalogue = catalogue
        self._max_watchers = max_watchers
        self._watchers = threading.BoundedSemaphore(max_watchers)

    def create(self, request: SpecRequest, request_id: str = "") -> TrainingJob:
        """Accepts a job and queues it.

        Raises:
            InvalidInputError: naming every bad field at once.
            NotFoundError: if there is no such data set.
            StoreUnavailableError: if Redis is away.
        """
        spec, dataset_digest = self._checked(request, request_id)
        created = datetime.now(UTC)
        job = TrainingJob(secrets.token_hex(6), spec, JobState.QUEUED, created, dataset_digest=dataset_digest)
        job_id = self._store.create(job, request_id)
        if job_id != job.id:
            job = self._store.get(job_id)
        if job.state is JobState.QUEUED:  # also where an earlier attempt was cut off before it could queue the job
            self._queue.put(job.id)
        return job

    def _checked(self, request: SpecRequest, request_id: str) -> tuple[TrainingSpec, str]:
        """The spec with the preset's defaults, and the data set's digest where it is known without loading.

        What is wrong with the request is raised, all of it at once.
        """
        entry, unknown = None, None
        try:
            entry = self._catalogue.entry(request.dataset) if request.dataset else None
        except NotFoundError as error:
            unknown = NotFoundError(f"spec.dataset: {error.message}", reason=error.reason)
        input_shape, class_count = (entry.input_shape, entry.class_count) if entry else (None, None)
        violations = list(request.violations)
        if violation := preset_violation(request.preset):
            violations.append(violation)
            request = replace(request, preset="")
        spec = spec_of(request, input_shape, entry.train_size if entry else None, class_count)
        violations += spec.violations(input_shape, class_count or 2)
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

    def newest(self, offset: int, count: int) -> list[TrainingJob]:
        """Up to `count` jobs, newest first, from the `offset`-th."""
        return self._store.newest(offset, count)

    def cancel(self, job_id: str) -> TrainingJob:
        """Ends a queued job at once and asks a running one to stop at its next minibatch.

        Raises:
            NotFoundError: JOB_NOT_FOUND.
            WrongStateError: JOB_ENDED, with the state it ended in.
        """
        job = self._store.get(job_id)
        cancelled = ended(job, JobState.CANCELLED)
        if job.state is JobState.QUEUED and self._store.replace(JobState.QUEUED, cancelled, cancelled):
            self._queue.remove(job_id)
            return cancelled
        job = self._store.get(job_id)
        if job.state.is_final:
            raise WrongStateError(f"job {job_id} has already ended: {job.state.name}", reason="JOB_ENDED")
        self._store.request_cancel(job_id)
        return job

    def watch(self, job_id: str, cursor: str, is_watched: Callable[[], bool]) -> Iterator[RecordedEvent]:
        """The events after `cursor` (empty: all), then new ones, until the job has ended or nobody watches.

        Raises:
            InvalidInputError: if the cursor is not one.
            NotFoundError: JOB_NOT_FOUND.
            CapacityError: TOO_MANY_WATCHERS.
        """
        if cursor and not is_cursor(cursor):
            raise InvalidInputError.of("cursor", f"got {cursor[:80]!r}, expected the cursor of an earlier event")
        if not self._watchers.acquire(blocking=False):
            raise CapacityError(
                f"{self._max_watchers} watches run already; try again, or poll GetTrainingJob",
                reason="TOO_MANY_WATCHERS",
            )
        try:
            yield from self._follow(job_id, cursor, is_watched)
        finally:
            self._watchers.release()

    def _follow(self, job_id: str, cursor: str, is_watched: Callable[[], bool]) -> Iterator[RecordedEvent]:
        while is_watched():
            is_over = self._store.get(job_id).state.is_final  # asked before reading: its last event is there then
            recorded = self._store.events_after(job_id, cursor, WATCH_POLL_SECONDS)
            for item in recorded:
                yield item
                cursor = item.cursor
                if isinstance(item.event, TrainingJob) and item.event.state.is_final:
                    return
            if is_over and not recorded:
                return


def is_cursor(text: str) -> bool:
    """Whether the store could have given out this cursor."""
    parts = CURSOR.fullmatch(text)
    return parts is not None and all(int(part) <= LARGEST_CURSOR_PART for part in parts.groups())
