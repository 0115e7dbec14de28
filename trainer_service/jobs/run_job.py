"""What a worker does with one job: load the data, train, publish, and leave the job in a final state.

rq calls `run_job` in a process of its own for each job, so it is a composition root too.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from shared import logs
from shared.errors import CancelledError, WeightcastError
from shared.model_version import StoredSnapshot
from shared.settings import TrainerSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.training_spec import EpochMetrics
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset
from trainer_service.jobs.job import JobState, TrainingJob
from trainer_service.jobs.job_store import JobStore
from trainer_service.publishing import snapshot_of
from trainer_service.training.loop import Progress, train

REPORT_SECONDS = 0.25  # also how soon a cancellation is noticed
log = structlog.get_logger()


def run_job(job_id: str) -> None:
    """Runs the job with this id, if it is still queued."""
    settings = load(TrainerSettings)
    logs.configure(settings.log_level, "worker")
    structlog.contextvars.bind_contextvars(job_id=job_id)
    connection = StoreConnection(settings.redis_url)
    catalogue = Catalogue(settings.data_dir, settings.cache_dir)
    models = ModelStore(connection)
    JobRun(job_id, JobStore(connection), catalogue.load, models.publish).run()
    connection.close()


@dataclass
class JobRun:
    """One run of one job. It is the observer of its own training.

    `publish` takes a model's name, a snapshot and the job's id, and returns the version's number.
    """

    job_id: str
    jobs: JobStore
    load_dataset: Callable[[str], Dataset]
    publish: Callable[[str, StoredSnapshot, str], int]

    def run(self) -> None:
        """Takes the job from QUEUED to a final state. What goes wrong is told in the job, not raised."""
        queued = self.jobs.get(self.job_id)
        self._job = replace(queued, state=JobState.RUNNING, start_time=datetime.now(UTC))
        self._last_report = time.monotonic()
        if not self.jobs.replace(JobState.QUEUED, self._job, self._job):
            log.info("not run: it is no longer queued")
            return
        log.info("training", model=self._job.spec.model, dataset=self._job.spec.dataset)
        try:
            self._train_and_publish()
        except CancelledError:
            self._end(JobState.CANCELLED)
        except WeightcastError as error:
            self._end(JobState.FAILED, error_message=error.message)
        except Exception:
            error_id = uuid.uuid4().hex
            log.exception("the job failed", error_id=error_id)
            self._end(JobState.FAILED, error_message=f"something unforeseen went wrong; see the log for {error_id}")

    def on_step(self, progress: Progress) -> None:
        """Reports now and then, and stops if somebody asked for it."""
        now = time.monotonic()
        if now - self._last_report < REPORT_SECONDS:
            return
        self._last_report = now
        if self.jobs.is_cancel_requested(self.job_id):
            raise CancelledError("cancelled")
        self._job = replace(self._job, progress=progress)
        self.jobs.replace(JobState.RUNNING, self._job, progress)

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Reports the epoch."""
        self._job = replace(self._job, epochs=(*self._job.epochs, metrics))
        self.jobs.replace(JobState.RUNNING, self._job, metrics)
        log.info("epoch", epoch=metrics.epoch, loss=metrics.train_loss, test_accuracy=metrics.test_accuracy)

    def _train_and_publish(self) -> None:
        spec = self._job.spec
        dataset = self.load_dataset(spec.dataset)
        trained = train(spec, dataset, self)
        if self.jobs.is_cancel_requested(self.job_id):
            raise CancelledError("cancelled")
        snapshot = snapshot_of(trained, spec, dataset, self.job_id)
        version = self.publish(spec.model, snapshot, self.job_id)
        self._end(JobState.SUCCEEDED, version=version, digest=snapshot.digest)

    def _end(self, state: JobState, *, version: int = 0, digest: str = "", error_message: str = "") -> None:
        ended: TrainingJob = replace(
            self._job,
            state=state,
            end_time=datetime.now(UTC),
            version=version,
            digest=digest,
            error_message=error_message,
        )
        self.jobs.replace(JobState.RUNNING, ended, ended)
        log.info("ended", state=state.name, version=version, error=error_message)
