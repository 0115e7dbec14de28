"""Training jobs in Redis: one hash and one event stream each, changed by compare-and-set on the state and the turn.

A final state is never left, whoever tries, and only who holds the last turn may change a job: a worker that was taken
for dead and comes back changes nothing. `JobLifecycle` knows which change may follow which.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from shared.errors import CapacityError, NotFoundError, WrongStateError
from shared.pb.weightcast.v1 import trainer_service_pb2, training_pb2
from shared.store.connection import StoreConnection
from shared.store.keys import JobKeys
from trainer_service.jobs.job import Heartbeat, JobEvent, JobState, TrainingJob
from trainer_service.jobs.job_codec import event_from_proto, event_to_proto, job_from_proto, job_to_proto

REQUEST_ID_SECONDS = 7 * 24 * 3600
EVENTS_PER_READ = 500
FROM_THE_BEGINNING = "0-0"


@dataclass(frozen=True)
class RecordedEvent:
    """An event with its place in the job's history; a watch says by a heartbeat that it has not gone on since."""

    cursor: str
    event: JobEvent | Heartbeat


@dataclass(frozen=True)
class Turn:
    """The right to run a job, which only the newest turn gives."""

    job_id: str
    number: int


@dataclass(frozen=True)
class Head:
    """The job that runs, or is the next to run, of one model. `beat` counts on while somebody runs it."""

    turn: Turn
    state: JobState
    beat: int
    is_cancelled: bool


@dataclass(frozen=True)
class Change:
    """What came of a change: whether it happened, and whose turn it is of the same model now."""

    is_done: bool
    head: Turn | None


class Beat(Enum):
    """What a run is told when it says that it is alive."""

    GO_ON = 0
    CANCEL = 1
    LOST = -1  # it has ended, or another worker has it


class JobStore:
    """Where jobs are kept. Every method raises StoreUnavailableError while Redis is away."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._create, self._transition, self._beat, self._heads, self._next_turn, self._cancel, self._remove = (
            connection.script("trainer_service.jobs", f"{name}.lua")
            for name in ("create", "transition", "beat", "heads", "next_turn", "cancel", "remove")
        )

    def create(self, job: TrainingJob, request_id: str, most_unended: int) -> str:
        """Stores a new job; the id of the job that this `request_id` created first, if it is not empty.

        Raises:
            CapacityError: QUEUE_FULL, if `most_unended` jobs wait or run.
        """
        keys = JobKeys(job.id)
        job_id: bytes = self._create(
            (
                keys.INDEX, keys.job, keys.events, keys.request(request_id), keys.line(job.spec.model), keys.HEADS,
                keys.UNENDED,
            ),
            (
                job.id,
                job.state.value,
                job_to_proto(job).SerializeToString(),
                event_to_proto(job).SerializeToString(),
                int(job.create_time.timestamp() * 1_000_000),
                REQUEST_ID_SECONDS if request_id else 0,
                job.spec.model,
                most_unended,
                keys.PREFIX,
            ),
        )  # fmt: skip
        if not job_id:
            raise CapacityError(f"{most_unended} jobs wait or run already; try again later", reason="QUEUE_FULL")
        return job_id.decode()

    def get(self, job_id: str) -> TrainingJob:
        """One job.

        Raises:
            NotFoundError: JOB_NOT_FOUND.
        """
        return self._decoded(job_id, self._redis.command("HGET", JobKeys(job_id).job, "job"))

    def turn(self, job_id: str) -> Turn:
        """Whose turn it is to run a job, or would be if it waited.

        Raises:
            NotFoundError: JOB_NOT_FOUND.
        """
        number = self._redis.command("HGET", JobKeys(job_id).job, "turn")
        if number is None:
            raise no_job(job_id)
        return Turn(job_id, int(number))

    def newest(self, below: int | None, count: int) -> list[tuple[int, TrainingJob]]:
        """Up to `count` jobs, newest first, each with its place; only those whose place is below `below`, if given."""
        newest = "+inf" if below is None else f"({below}"
        found = self._redis.command(
            "ZREVRANGEBYSCORE", JobKeys.INDEX, newest, "-inf", "WITHSCORES", "LIMIT", 0, count
        )  # fmt: skip
        ids = [(job_id.decode(), int(place)) for job_id, place in zip(found[::2], found[1::2], strict=True)]
        stored = self._redis.commands([("HGET", JobKeys(job_id).job, "job") for job_id, _ in ids])
        # One that was removed in between is left out.
        return [(place, self._decoded(job_id, job)) for (job_id, place), job in zip(ids, stored, strict=True) if job]

    def replace(
        self, job: TrainingJob, event: JobEvent, *, expected: JobState, turn: Turn | None, hands_on: bool = False
    ) -> Change:
        """Stores `job` and its event if the stored job is in the state `expected`, and `turn`, if given, is the last.

        With `hands_on`, the turn passes to the next who takes it.
        """
        keys = JobKeys(job.id)
        done, head, number = self._transition(
            (keys.job, keys.events, keys.line(job.spec.model), keys.HEADS, keys.UNENDED, keys.ENDED, keys.checkpoint),
            (
                job.id,
                job.spec.model,
                expected.value,
                turn.number if turn else "",
                job.state.value,
                turn.number + 1 if turn and hands_on else "",
                job_to_proto(job).SerializeToString(),
                event_to_proto(event).SerializeToString(),
                milliseconds(job.end_time) if job.end_time else "",
                keys.PREFIX,
            ),
        )
        return Change(bool(done), Turn(head.decode(), int(number)) if head and number else None)

    def beat(self, turn: Turn) -> Beat:
        """Says that the run is alive, and is told whether it may go on."""
        return Beat(self._beat((JobKeys(turn.job_id).job,), (turn.number,)))

    def heads(self) -> list[Head]:
        """Of each model that has jobs to run, the one whose turn it is."""
        return [
            Head(Turn(job_id.decode(), int(number)), JobState(state.decode()), int(beat or 0), bool(cancelled))
            for job_id, state, number, beat, cancelled in self._heads((JobKeys.HEADS,), (JobKeys.PREFIX,))
            if number
        ]

    def head_of(self, model: str) -> str | None:
        """The job of a model whose turn it is, if the model has jobs to run."""
        job_id = self._redis.command("HGET", JobKeys.HEADS, model)
        return job_id.decode() if job_id else None

    def pass_turn(self, turn: Turn) -> Turn | None:
        """Gives a waiting job another turn, so that the one before is worth nothing; None if it was not the last."""
        done = self._next_turn((JobKeys(turn.job_id).job,), (turn.number,))
        return Turn(turn.job_id, turn.number + 1) if done else None

    def request_cancel(self, job_id: str) -> bool:
        """Asks whoever runs the job, now or later, to stop; False if it has ended."""
        return bool(self._cancel((JobKeys(job_id).job,), ()))

    def remove(self, job_id: str) -> None:
        """Removes a job that has ended, and its history.

        Raises:
            WrongStateError: JOB_NOT_ENDED.
        """
        keys = JobKeys(job_id)
        if not self._remove((keys.job, keys.events, keys.INDEX, keys.ENDED), (job_id,)):
            raise WrongStateError(f"job {job_id} has not ended; cancel it first", reason="JOB_NOT_ENDED")

    def ended_before(self, moment: datetime, count: int) -> list[str]:
        """Up to `count` jobs that ended before a moment, the longest ago first."""
        ids = self._redis.command(
            "ZRANGEBYSCORE", JobKeys.ENDED, "-inf", f"({milliseconds(moment)}", "LIMIT", 0, count
        )  # fmt: skip
        return [job_id.decode() for job_id in ids]

    def ended_beyond(self, kept: int, count: int) -> list[str]:
        """Up to `count` jobs that have ended and are not among the last `kept` to do so, the longest ago first."""
        superfluous = min(self._redis.command("ZCARD", JobKeys.ENDED) - kept, count)
        if superfluous <= 0:
            return []
        return [job_id.decode() for job_id in self._redis.command("ZRANGE", JobKeys.ENDED, 0, superfluous - 1)]

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

    @staticmethod
    def _decoded(job_id: str, stored: bytes | None) -> TrainingJob:
        if stored is None:
            raise no_job(job_id)
        return job_from_proto(training_pb2.TrainingJob.FromString(stored))


def milliseconds(moment: datetime) -> int:
    """A moment as Redis sorts it."""
    return int(moment.timestamp() * 1000)


def no_job(job_id: str) -> NotFoundError:
    """The answer for an id that no job has."""
    return NotFoundError(
        f"job_id: there is no training job {job_id[:80]!r}; see ListTrainingJobs", reason="JOB_NOT_FOUND"
    )
