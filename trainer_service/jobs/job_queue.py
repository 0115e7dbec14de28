"""The queue between the trainer's API and its workers: rq, with JSON in its messages and nothing pickled."""

from contextlib import suppress

from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

from shared.store.connection import StoreConnection
from shared.store.keys import TRAINING_QUEUE

KEEP_RESULT_SECONDS = 3600  # rq's own bookkeeping; what people read is in the job store
RUN_JOB = "trainer_service.jobs.run_job.run_job"
NO_TIME_LIMIT = -1


class JobQueue:
    """Hands job ids to workers, first come, first served."""

    def __init__(self, connection: StoreConnection) -> None:
        self._connection = connection
        self._queue = training_queue(connection)

    def put(self, job_id: str) -> None:
        """Queues a job; one that rq knows already is left where it is.

        Raises:
            StoreUnavailableError: if Redis is away.
        """
        with self._connection.translated(), suppress(DuplicateJobError):
            self._queue.enqueue_call(
                RUN_JOB,
                args=(job_id,),
                job_id=job_id,
                timeout=NO_TIME_LIMIT,
                result_ttl=KEEP_RESULT_SECONDS,
                failure_ttl=KEEP_RESULT_SECONDS,
                unique=True,
            )

    def remove(self, job_id: str) -> None:
        """Takes a job out if no worker has taken it yet.

        Raises:
            StoreUnavailableError: if Redis is away.
        """
        with self._connection.translated():
            self._queue.remove(job_id)
            if job := self._queue.fetch_job(job_id):
                job.delete()


def training_queue(connection: StoreConnection) -> Queue:
    """The queue as rq knows it, for both of its ends."""
    return Queue(TRAINING_QUEUE, connection=connection.client, serializer=JSONSerializer)
