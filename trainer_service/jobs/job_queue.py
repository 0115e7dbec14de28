"""The queue between the trainer's API and its workers: rq, with JSON in its messages and nothing pickled.

It holds turns of jobs that may run now. What it loses, `JobKeeper` puts in again under another turn.
"""

import re
from contextlib import suppress

from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

from shared.store.connection import StoreConnection
from shared.store.keys import TRAINING_QUEUE
from trainer_service.jobs.job_store import Turn

KEEP_RESULT_SECONDS = 600  # rq's own bookkeeping; what people read is in the job store
RUN_JOB = "trainer_service.jobs.run_job.run_job"
NO_TIME_LIMIT = -1
NAME = re.compile(r".+-[0-9]+")


class JobQueue:
    """Hands turns to workers, first come, first served."""

    def __init__(self, connection: StoreConnection) -> None:
        self._connection = connection
        self._queue = training_queue(connection)

    def put(self, turn: Turn, *, at_front: bool = False) -> None:
        """Queues a turn; one that rq knows already is left where it is.

        Raises:
            StoreUnavailableError: if Redis is away.
        """
        with self._connection.translated(), suppress(DuplicateJobError):
            self._queue.enqueue_call(
                RUN_JOB,
                args=(turn.job_id, turn.number),
                job_id=name_of(turn),
                timeout=NO_TIME_LIMIT,
                result_ttl=KEEP_RESULT_SECONDS,
                failure_ttl=KEEP_RESULT_SECONDS,
                unique=True,
                at_front=at_front,
            )

    def remove(self, turn: Turn) -> None:
        """Takes a turn out if no worker has taken it yet.

        Raises:
            StoreUnavailableError: if Redis is away.
        """
        with self._connection.translated():
            self._queue.remove(name_of(turn))
            if job := self._queue.fetch_job(name_of(turn)):
                job.delete()

    def waiting(self) -> set[Turn]:
        """The turns that no worker has taken yet.

        Raises:
            StoreUnavailableError: if Redis is away.
        """
        with self._connection.translated():
            return {turn_of(name) for name in self._queue.get_job_ids() if NAME.fullmatch(name)}


def name_of(turn: Turn) -> str:
    """What rq calls a turn."""
    return f"{turn.job_id}-{turn.number}"


def turn_of(name: str) -> Turn:
    """The turn that rq calls so."""
    job_id, _, number = name.rpartition("-")
    return Turn(job_id, int(number))


def training_queue(connection: StoreConnection) -> Queue:
    """The queue as rq knows it, for both of its ends."""
    return Queue(TRAINING_QUEUE, connection=connection.queue_client, serializer=JSONSerializer)
