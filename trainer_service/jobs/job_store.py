"""Training jobs in Redis: one hash and one event stream each, changed by compare-and-set on the state.

A final state is never left, whoever tries: a transition names the state it starts from and fails if that has passed.
"""

from dataclasses import dataclass

from shared.errors import NotFoundError
from shared.pb.weightcast.v1 import trainer_service_pb2, training_pb2
from shared.store.connection import StoreConnection
from shared.store.keys import JobKeys
from trainer_service.jobs.job import JobEvent, JobState, TrainingJob
from trainer_service.jobs.job_codec import event_from_proto, event_to_proto, job_from_proto, job_to_proto

REQUEST_ID_SECONDS = 7 * 24 * 3600
EVENTS_PER_READ = 500
FROM_THE_BEGINNING = "0-0"


@dataclass(frozen=True)
class RecordedEvent:
    """An event with its place in the job's history."""

    cursor: str
    event: JobEvent


class JobStore:
    """Where jobs are kept. Every method raises StoreUnavailableError while Redis is away."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._create = connection.script("trainer_service.jobs", "create.lua")
        self._transition = connection.script("trainer_service.jobs", "transition.lua")

    def create(self, job: TrainingJob, request_id: str) -> str:
        """Stores a new job; the id of the job that this `request_id` created first, if it is not empty."""
        keys = JobKeys(job.id)
        created_us = int(job.create_time.timestamp() * 1_000_000)
        job_id: bytes = self._create(
            (JobKeys.INDEX, keys.job, keys.events, JobKeys.request(request_id)),
            (
                job.id,
                job.state.value,
                job_to_proto(job).SerializeToString(),
                event_to_proto(job).SerializeToString(),
                created_us,
                REQUEST_ID_SECONDS if request_id else 0,
            ),
        )
        return job_id.decode()

    def get(self, job_id: str) -> TrainingJob:
        """One job.

        Raises:
            NotFoundError: JOB_NOT_FOUND.
        """
        stored = self._redis.command("HGET", JobKeys(job_id).job, "job")
        if stored is None:
            raise NotFoundError(
                f"job_id: there is no training job {job_id[:80]!r}; see ListTrainingJobs", reason="JOB_NOT_FOUND"
            )
        return job_from_proto(training_pb2.TrainingJob.FromString(stored))

    def newest(self, offset: int, count: int) -> list[TrainingJob]:
        """Up to `count` jobs, newest first, after leaving out the first `offset`."""
        ids = self._redis.command("ZREVRANGE", JobKeys.INDEX, offset, offset + count - 1)
        return [self.get(job_id.decode()) for job_id in ids]

    def replace(self, expected: JobState, job: TrainingJob, event: JobEvent) -> bool:
        """Stores `job` and its event if the stored job is still in the state `expected`; False if it is not."""
        keys = JobKeys(job.id)
        serialized, event_bytes = job_to_proto(job).SerializeToString(), event_to_proto(event).SerializeToString()
        changed = self._transition((keys.job, keys.events), (expected.value, job.state.value, serialized, event_bytes))
        return bool(changed)

    def request_cancel(self, job_id: str) -> None:
        """Asks whoever runs the job to stop."""
        self._redis.command("HSET", JobKeys(job_id).job, "cancel", 1)

    def is_cancel_requested(self, job_id: str) -> bool:
        """Whether somebody asked for the job to stop."""
        return bool(self._redis.command("HEXISTS", JobKeys(job_id).job, "cancel"))

    def events_after(self, job_id: str, cursor: str, wait_seconds: float) -> list[RecordedEvent]:
        """The events that follow `cursor`, waiting for one up to `wait_seconds`; empty if none came."""
        reply = self._redis.command(
            "XREAD", "COUNT", EVENTS_PER_READ, "BLOCK", max(1, int(wait_seconds * 1000)),
            "STREAMS", JobKeys(job_id).events, cursor or FROM_THE_BEGINNING,
        )  # fmt: skip
        entries = reply[0][1] if reply else []
        return [
            RecordedEvent(
                event_id.decode(),
                event_from_proto(trainer_service_pb2.WatchTrainingJobResponse.FromString(fields[b"event"])),
            )
            for event_id, fields in entries
        ]
