"""A training job as a value, and the events of its life. A job, once accepted, ends in exactly one final state."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum

from shared.model_version import VersionRef
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.training.loop import Progress


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


def ended(
    job: TrainingJob,
    state: JobState,
    *,
    published: VersionRef | None = None,
    dataset_digest: str = "",
    result: TrainingResult | None = None,
    error_message: str = "",
) -> TrainingJob:
    """The job in a final state, as of now."""
    return replace(
        job,
        state=state,
        end_time=datetime.now(UTC),
        version=published.version if published else 0,
        digest=published.digest if published else "",
        error_message=error_message,
        dataset_digest=dataset_digest or job.dataset_digest,
        result=result,
    )


# What happened: the job entered a state, is this far, or finished an epoch.
JobEvent = TrainingJob | Progress | EpochMetrics
