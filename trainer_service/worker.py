"""A training worker: takes jobs from the queue, one at a time, and runs each in a process of its own.

Run by the trainer service, or alone as `python -m trainer_service.worker`. A job whose process dies is FAILED, with the
reason; a worker that is told to stop ends its job's process first.
"""

from shared.blas import choose_kernel, running_kernel

choose_kernel()  # before anything below loads NumPy

import os
import signal
import sys
import threading
from contextlib import suppress

import redis
import structlog
from rq import Worker
from rq.exceptions import AbandonedJobError
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from shared import logs
from shared.settings import TrainerSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from trainer_service.jobs import run_job  # noqa: F401 - loaded before the fork, so that a job starts at once
from trainer_service.jobs.job import JobState, ended
from trainer_service.jobs.job_queue import training_queue
from trainer_service.jobs.job_store import JobStore

SUPERVISED = "--supervised"
HEARTBEAT_SECONDS = 5
MAINTENANCE_SECONDS = 30  # how often a worker looks for jobs whose worker vanished: no heartbeat for over a minute
log = structlog.get_logger()


class TrainingWorker(Worker):
    """rq's forking worker, except that stopping does not wait for training to end, nor a lost store end training."""

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Tells the store that the job is alive, if the store can be told; rq would leave the job to itself if not."""
        with suppress(redis.ConnectionError, redis.TimeoutError):
            super().maintain_heartbeats(job, execution)

    def handle_warm_shutdown_request(self) -> None:
        """Ends the running job's process; rq then calls the handler below, and the worker ends."""
        if self.horse_pid:
            log.info("stopping the running job")
            self.kill_horse(signal.SIGKILL)


def close_job(jobs: JobStore, models: ModelStore, job_id: str, reason: str) -> None:
    """Gives a job whose process is gone its final state: SUCCEEDED if it had published before, else FAILED."""
    job = jobs.get(job_id)
    if job.state.is_final:
        return
    if published := models.version_of_job(job.spec.model, job_id):
        final = ended(job, JobState.SUCCEEDED, published=published)
    else:
        final = ended(job, JobState.FAILED, error_message=f"{reason}; create the job again")
    if jobs.replace(job.state, final, final):
        log.error("closed a job whose process is gone", job_id=job_id, state=final.state.name, reason=reason)


def death_of(wait_status: int) -> str:
    """How a job's process ended, for people."""
    if os.WIFSIGNALED(wait_status):
        name = signal.Signals(os.WTERMSIG(wait_status)).name
        return f"the process that ran the job was ended by {name} (out of memory, or its worker was stopped)"
    return f"the process that ran the job ended with exit code {os.WEXITSTATUS(wait_status)}"


def stop_with_supervisor() -> None:
    """Ends this worker when its supervisor ends, however that ends: the supervisor holds the other end of our input."""
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written; not sys.stdin.read, whose lock would outlive this worker
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Works until SIGTERM or SIGINT, or until the supervisor is gone that started it with --supervised."""
    settings = load(TrainerSettings)
    logs.configure(settings.log_level, "worker")
    if SUPERVISED in sys.argv[1:]:
        threading.Thread(target=stop_with_supervisor, daemon=True).start()
    store_connection = StoreConnection(settings.redis_url)
    jobs, models = JobStore(store_connection), ModelStore(store_connection)
    queue_connection = StoreConnection(settings.redis_url)  # rq changes the time-outs of the one it is given

    def on_death(job: Job, _pid: int, wait_status: int, _usage: object) -> None:
        close_job(jobs, models, job.id, death_of(wait_status))

    def on_error(job: Job, kind: type[BaseException], *_: object) -> bool:
        gone = issubclass(kind, AbandonedJobError)
        close_job(jobs, models, job.id, "its worker vanished" if gone else f"the worker failed with {kind.__name__}")
        return True  # rq goes on to its own handler

    worker = TrainingWorker(
        [training_queue(queue_connection)],
        connection=queue_connection.client,
        serializer=JSONSerializer,
        work_horse_killed_handler=on_death,
        exception_handlers=[on_error],
        job_monitoring_interval=HEARTBEAT_SECONDS,
        maintenance_interval=MAINTENANCE_SECONDS,
    )
    log.info("ready", blas_kernel=running_kernel(), threads=settings.trainer_threads)
    worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()
