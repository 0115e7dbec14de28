"""A training worker: takes jobs from the queue, one at a time, and runs each in a process of its own.

Run by the trainer service, or alone on any machine as `python -m trainer_service.worker`. A job whose process dies is
given back to the queue at once; a worker that is told to stop lets its job write a checkpoint and gives it back first.
"""

from shared.blas import choose_kernel, running_kernel

choose_kernel()  # before anything below loads NumPy

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

import redis
import structlog
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from shared import logs
from shared.errors import WeightcastError
from shared.process_supervisor import end_with_supervisor
from shared.settings import TrainerSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from trainer_service.chores import Chore, Chores
from trainer_service.jobs import run_job  # noqa: F401 - loaded before the fork, so that a job starts at once
from trainer_service.jobs.job_queue import JobQueue, training_queue
from trainer_service.jobs.job_store import JobStore, Turn
from trainer_service.jobs.keeper import JobKeeper
from trainer_service.jobs.lifecycle import JobLifecycle

SUPERVISED = "--supervised"
HEARTBEAT_SECONDS = 5
MAINTENANCE_SECONDS = 30
KEEP_SECONDS = 1.0
RESTART_SECONDS = 1.0
TTL_SECONDS = 30  # so that a worker asks for jobs anew every 15 seconds, and notices a connection that is dead
log = structlog.get_logger()


class TrainingWorker(Worker):
    """rq's forking worker, except that stopping does not wait for training to end, nor a lost store end training."""

    max_connection_wait_time = 2.0  # not a minute: the store that has come back may have jobs that wait

    shall_stop = False

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Forks the job's process, which hears SIGTERM when it can obey; one that came just before is passed on."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        super().fork_work_horse(job, queue)  # the child does not come back
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if self.shall_stop:
            self.handle_warm_shutdown_request()

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Tells the store that the job is alive, if the store can be told; rq would leave the job to itself if not."""
        with suppress(redis.ConnectionError, redis.TimeoutError):
            super().maintain_heartbeats(job, execution)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Notes that the worker was told to stop."""
        self.shall_stop = True
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def handle_warm_shutdown_request(self) -> None:
        """Asks the running job's process to write a checkpoint and to end; rq waits for that, and the worker ends."""
        if self.horse_pid:
            log.info("stopping the running job")
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)

    def set_shutdown_requested_date(self) -> None:
        """Writes down when it was told to stop, if the store is there; the job must be able to end without it."""
        with suppress(redis.ConnectionError, redis.TimeoutError):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """Obeys a second Ctrl-C. A second SIGTERM says what the first one did: rq would kill the job's process."""
        if signum != signal.SIGTERM:
            super().request_force_stop(signum, frame)


def death_of(wait_status: int | None) -> str:
    """How a job's process ended, for people."""
    if wait_status is None:
        return "its process ended, nobody knows how"
    if os.WIFSIGNALED(wait_status):
        name = signal.Signals(os.WTERMSIG(wait_status)).name
        return f"its process was ended by {name}, as when memory runs out"
    return f"its process ended with exit code {os.WEXITSTATUS(wait_status)}"


def main() -> None:
    """Works until SIGTERM or SIGINT, or until the supervisor is gone that started it with --supervised."""
    settings = load(TrainerSettings)
    logs.configure(settings.log_level, "worker")
    connection = StoreConnection(settings.redis_url)
    jobs, queue = JobStore(connection), JobQueue(connection)
    lifecycle = JobLifecycle(jobs, queue, ModelStore(connection))
    if SUPERVISED in sys.argv[1:]:
        end_with_supervisor()
    else:  # the trainer service that would look after its workers' jobs may be anywhere, or gone
        Chores(Chore("keep jobs", JobKeeper(jobs, queue, lifecycle).sweep, KEEP_SECONDS)).start()
    queue_connection = StoreConnection(settings.redis_url)  # rq changes the time-outs of the one it is given

    def on_death(job: Job, _pid: int, wait_status: int | None, _usage: object) -> None:
        with suppress(WeightcastError):  # such as a store that is away: then a keeper will notice
            lifecycle.take_back(Turn(*job.args), death_of(wait_status))

    log.info("ready", blas_kernel=running_kernel(), threads=settings.trainer_threads)
    shall_stop = False
    while not shall_stop:
        worker = TrainingWorker(
            [training_queue(queue_connection)],
            connection=queue_connection.queue_client,
            serializer=JSONSerializer,
            work_horse_killed_handler=on_death,
            job_monitoring_interval=HEARTBEAT_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            worker_ttl=TTL_SECONDS,
        )
        try:
            worker.work(logging_level="WARNING")
        except redis.RedisError as error:  # rq gives up where the store is away at the wrong moment
            log.warning("starting anew; the store is away", error=str(error))
        shall_stop = worker.shall_stop
        if not shall_stop:
            time.sleep(RESTART_SECONDS)


if __name__ == "__main__":
    main()
