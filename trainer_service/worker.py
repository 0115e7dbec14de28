"""A training worker: takes jobs from the queue, one at a time, and runs each in a process of its own.

Run by the trainer service, or alone as `python -m trainer_service.worker`. A job whose process dies is FAILED, with the
reason; a worker that is told to stop ends its job's process first.
"""

import os
import signal
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from rq import Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from shared import logs
from shared.settings import TrainerSettings, load
from shared.store.connection import StoreConnection
from trainer_service.jobs import run_job  # noqa: F401 - loaded before the fork, so that a job starts at once
from trainer_service.jobs.job import JobState
from trainer_service.jobs.job_queue import training_queue
from trainer_service.jobs.job_store import JobStore

log = structlog.get_logger()


class TrainingWorker(Worker):
    """rq's forking worker, except that stopping does not wait for training to end."""

    def handle_warm_shutdown_request(self) -> None:
        """Ends the running job's process; rq then calls the handler below, and the worker ends."""
        if self.horse_pid:
            log.info("stopping the running job")
            self.kill_horse(signal.SIGKILL)


def fail_job(jobs: JobStore, job_id: str, reason: str) -> None:
    """Marks a job FAILED whose process is gone; leaves one that has ended as it is."""
    job = jobs.get(job_id)
    failed = replace(job, state=JobState.FAILED, end_time=datetime.now(UTC), error_message=reason)
    if not job.state.is_final and jobs.replace(job.state, failed, failed):
        log.error("the job failed", job_id=job_id, error=reason)


def death_of(wait_status: int) -> str:
    """How a job's process ended, for people."""
    if os.WIFSIGNALED(wait_status):
        name = signal.Signals(os.WTERMSIG(wait_status)).name
        return f"the process that ran the job was ended by {name} (out of memory, or its worker was stopped)"
    return f"the process that ran the job ended with exit code {os.WEXITSTATUS(wait_status)}"


def main() -> None:
    """Works until SIGTERM or SIGINT."""
    settings = load(TrainerSettings)
    logs.configure(settings.log_level, "worker")
    jobs = JobStore(StoreConnection(settings.redis_url))
    queue_connection = StoreConnection(settings.redis_url)  # rq changes the time-outs of the one it is given

    def on_death(job: Job, _pid: int, wait_status: int, _usage: object) -> None:
        fail_job(jobs, job.id, f"{death_of(wait_status)}; create the job again")

    worker = TrainingWorker(
        [training_queue(queue_connection)],
        connection=queue_connection.client,
        serializer=JSONSerializer,
        work_horse_killed_handler=on_death,
    )
    worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()
