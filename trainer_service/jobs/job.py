"""A training job as a value, and the events of its life. A job, once accepted, ends in exactly one final state.

A job may take several attempts: each is one run on one worker, and the next one goes on where a checkpoint was written.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum

from shared.model_version import PromotionVerdict, Publication
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.training.loop import Progress

MAX_DEATHS = 3  # a job that takes its worker down every time must not take down all of them for ever


class JobState(Enum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class AttemptOutcome(Enum):
    """What became of one run of a job."""

    UNDER_WAY = "under_way"
    ENDED = "ended"
    HANDED_BACK = "handed_back"
    DIED = "died"


@dataclass(frozen=True)
class Attempt:
    """One run on one worker; `resumed_update` are the updates it took over from a checkpoint."""

    worker: str
    start_time: datetime
    resumed_update: int = 0
    end_time: datetime | None = None
    outcome: AttemptOutcome = AttemptOutcome.UNDER_WAY
    message: str = ""


@dataclass(frozen=True)
class TrainingResult:
    """What two runs of one spec are compared by, and what they depend on besides it."""

    weights_digest: str
    library_versions: dict[str, str]


@dataclass(frozen=True)
class TrainingJob:
    """One request to train a model, and how far it has come."""

    id: str
    spec: TrainingSpec
    state: JobState
    create_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    epochs: tuple[EpochMetrics, ...] = ()
    progress: Progress | None = None
    version: int = 0
    digest: str = ""
    error_message: str = ""
    dataset_digest: str = ""
    result: TrainingResult | None = None
    attempts: tuple[Attempt, ...] = ()
    verdict: PromotionVerdict | None = None
    schedule: str = ""

    @property
    def deaths(self) -> int:
        """Attempts whose process or worker died."""
        return sum(attempt.outcome is AttemptOutcome.DIED for attempt in self.attempts)


def begun(job: TrainingJob, worker: str) -> TrainingJob:
    """The job as a worker takes it."""
    now = datetime.now(UTC)
    attempts = (*job.attempts, Attempt(worker, now))
    return replace(job, state=JobState.RUNNING, start_time=job.start_time or now, attempts=attempts)


def resumed(job: TrainingJob, updates: int, epochs: tuple[EpochMetrics, ...]) -> TrainingJob:
    """The running job, going on after so many updates and these finished epochs."""
    attempts = (*job.attempts[:-1], replace(job.attempts[-1], resumed_update=updates))
    return replace(job, epochs=epochs, attempts=attempts)


def given_back(job: TrainingJob, outcome: AttemptOutcome, message: str) -> TrainingJob:
    """The job as it waits for another worker."""
    return replace(job, state=JobState.QUEUED, attempts=_closed(job.attempts, outcome, message))


def ended(
    job: TrainingJob,
    state: JobState,
    *,
    published: Publication | None = None,
    result: TrainingResult | None = None,
    error_message: str = "",
    outcome: AttemptOutcome = AttemptOutcome.ENDED,
) -> TrainingJob:
    """The job in a final state, as of now."""
    return replace(
        job,
        state=state,
        end_time=datetime.now(UTC),
        version=published.ref.version if published else 0,
        digest=published.ref.digest if published else "",
        verdict=published.verdict if published else None,
        error_message=error_message,
        result=result,
        attempts=_closed(job.attempts, outcome, "" if outcome is AttemptOutcome.ENDED else error_message),
    )


def history_of(job: TrainingJob) -> str:
    """What became of each attempt, for people."""
    return "; ".join(
        f"attempt {number} on {attempt.worker} after {attempt.resumed_update} updates: {attempt.message}"
        for number, attempt in enumerate(job.attempts, start=1)
    )


def _closed(attempts: tuple[Attempt, ...], outcome: AttemptOutcome, message: str) -> tuple[Attempt, ...]:
    """The attempts with the last one ended, if it was under way."""
    if not attempts or attempts[-1].outcome is not AttemptOutcome.UNDER_WAY:
        return attempts
    last = replace(attempts[-1], end_time=datetime.now(UTC), outcome=outcome, message=message)
    return (*attempts[:-1], last)


@dataclass(frozen=True)
class Heartbeat:
    """Nothing happened for a while, and whoever watches is told so."""


# What happened: the job entered a state, is this far, or finished an epoch.
JobEvent = TrainingJob | Progress | EpochMetrics
