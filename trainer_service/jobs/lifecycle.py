"""Which change of a job may follow which, and what has to happen around it: the one place that moves a job on.

A job that ends without a version is first struck off in the registry, so that no run of it that was taken for dead can
still publish; where one had published before, the job has succeeded. Whoever ends a job hands the turn to the next one
of its model.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from shared import snapshot_codec
from shared.errors import WeightcastError
from shared.model_version import Publication
from shared.store.model_store import ModelStore
from trainer_service.jobs.job import (
    MAX_DEATHS,
    AttemptOutcome,
    JobEvent,
    JobState,
    TrainingJob,
    TrainingResult,
    ended,
    given_back,
    history_of,
)
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_store import JobStore, Turn

CANCEL_TRIES = 3
LONGEST_HANGING = timedelta(days=1)
log = structlog.get_logger()


@dataclass(frozen=True)
class JobLifecycle:
    """Moves jobs on. Every method raises StoreUnavailableError while Redis is away."""

    jobs: JobStore
    queue: JobQueue
    models: ModelStore

    def create(self, job: TrainingJob, request_id: str, most_unended: int) -> TrainingJob:
        """Stores a job and queues it if it is its model's turn; the job that this `request_id` created first, if any.

        Raises:
            CapacityError: QUEUE_FULL.
        """
        job_id = self.jobs.create(job, request_id, most_unended)
        if job_id != job.id:
            job = self.jobs.get(job_id)
        # Also where an earlier attempt was cut off before it could queue the job.
        if job.state is JobState.QUEUED and self.jobs.head_of(job.spec.model) == job_id:
            self.queue.put(self.jobs.turn(job_id))
        return job

    def begin(self, job: TrainingJob, turn: Turn) -> bool:
        """QUEUED → RUNNING; False if the turn is not the job's last, or another job of the model runs."""
        return self.jobs.replace(job, job, expected=JobState.QUEUED, turn=turn).is_done

    def report(self, job: TrainingJob, event: JobEvent, turn: Turn) -> bool:
        """RUNNING, and this far; False if the job is no longer this turn's."""
        return self.jobs.replace(job, event, expected=JobState.RUNNING, turn=turn).is_done

    def end(self, final: TrainingJob, turn: Turn, *, expected: JobState = JobState.RUNNING) -> bool:
        """To a final state; False if the job was not as expected any more, or the turn not its last."""
        if final.state is not JobState.SUCCEEDED and (
            publication := self.models.strike_off(final.spec.model, final.id, turn=turn.number)
        ):
            final = self._succeeded(final, publication)
        change = self.jobs.replace(final, final, expected=expected, turn=turn)
        if change.is_done and change.head:
            self.queue.put(change.head)
        return change.is_done

    def hand_back(self, job: TrainingJob, turn: Turn, message: str) -> bool:
        """RUNNING → QUEUED, for another worker to go on; False if the job is no longer this turn's."""
        return self._requeue(given_back(job, AttemptOutcome.HANDED_BACK, message), turn)

    def take_back(self, turn: Turn, why: str) -> bool:
        """RUNNING → QUEUED because whoever ran it is dead; FAILED the third time. False if that was not so any more."""
        job = self.jobs.get(turn.job_id)
        if job.state is not JobState.RUNNING or self.jobs.turn(turn.job_id) != turn:
            return False
        waiting = given_back(job, AttemptOutcome.DIED, why)
        if waiting.deaths < MAX_DEATHS:
            taken = self._requeue(waiting, turn)
        else:
            message = f"the job's worker died {MAX_DEATHS} times, so it is not tried again: {history_of(waiting)}"
            failed = replace(ended(waiting, JobState.FAILED), error_message=message)
            taken = self.end(failed, turn)
        if taken:
            log.error("a job's run has died", job_id=job.id, turn=turn.number, deaths=waiting.deaths, reason=why)
        return taken

    def cancel(self, job: TrainingJob) -> TrainingJob:
        """Ends a queued job at once and asks a running one to stop at its next minibatch; the job as it is then."""
        for _ in range(CANCEL_TRIES):  # it may begin, or be handed back, just now
            if job.state is JobState.QUEUED:
                turn = self.jobs.turn(job.id)
                if self.end(ended(job, JobState.CANCELLED), turn, expected=JobState.QUEUED):
                    self.queue.remove(turn)
            else:
                self.jobs.request_cancel(job.id)
            job = self.jobs.get(job.id)
            if job.state is not JobState.QUEUED:
                break
        return job

    def cancel_idle(self, turn: Turn, state: JobState) -> bool:
        """Ends a job that shall stop and that nobody runs; False if it was not in this state and turn any more."""
        return self.end(ended(self.jobs.get(turn.job_id), JobState.CANCELLED), turn, expected=state)

    def remove(self, job_id: str) -> None:
        """Forgets a job that has ended; the version that it published stays.

        Raises:
            NotFoundError: JOB_NOT_FOUND.
            WrongStateError: JOB_NOT_ENDED.
        """
        job = self.jobs.get(job_id)
        # That it must not publish is remembered as long as a run of it that hangs might still try to.
        if job.end_time and datetime.now(UTC) - job.end_time > LONGEST_HANGING:
            self.models.forget_job(job.spec.model, job_id)
        self.jobs.remove(job_id)

    def _requeue(self, waiting: TrainingJob, turn: Turn) -> bool:
        if not self.jobs.replace(waiting, waiting, expected=JobState.RUNNING, turn=turn, hands_on=True).is_done:
            return False
        self.queue.put(Turn(turn.job_id, turn.number + 1), at_front=True)  # it was running, so others have waited less
        return True

    def _succeeded(self, job: TrainingJob, publication: Publication) -> TrainingJob:
        """What a job is that was to end otherwise and turns out to have published."""
        result = None
        try:
            stored = self.models.version(job.spec.model, publication.ref.version).snapshot
            libraries = snapshot_codec.decode_manifest(stored.manifest).provenance.library_versions
            result = TrainingResult(snapshot_codec.sha256_hex(stored.weights), libraries)
        except WeightcastError as error:  # it was removed or altered meanwhile, which does not change what the job did
            log.warning("a job's version cannot be read", job_id=job.id, error=error.message)
        return replace(
            job,
            state=JobState.SUCCEEDED,
            error_message="",
            version=publication.ref.version,
            digest=publication.ref.digest,
            verdict=publication.verdict,
            result=result,
        )
