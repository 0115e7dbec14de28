"""What a worker does with one job: load the data, train, publish, and leave the job in a final state.

rq calls `run_job` in a process of its own for each job, so it is a composition root too.
"""

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from shared import logs, snapshot_codec
from shared.errors import CancelledError, StoreUnavailableError, WeightcastError, WrongStateError
from shared.model_version import VersionRef
from shared.settings import TrainerSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.training_spec import EpochMetrics
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job import JobEvent, JobState, TrainingJob, TrainingResult, ended
from trainer_service.jobs.job_store import JobStore
from trainer_service.publishing import library_versions, snapshot_of
from trainer_service.training.loop import Progress, train

LOOK_SECONDS = 0.25  # how soon a cancellation is noticed
REPORTS_PER_DOUBLING = 200  # so a job of a day leaves a few thousand events behind, not a few hundred thousand
STORE_PATIENCE_SECONDS = 600.0  # how long finished work waits for a store that is away
RETRY_SECONDS = 1.0
Result = TypeVar("Result")
log = structlog.get_logger()


def run_job(job_id: str) -> None:
    """Runs the job with this id, if it is still queued."""
    settings = load(TrainerSettings)
    logs.configure(settings.log_level, "worker")
    structlog.contextvars.bind_contextvars(job_id=job_id)
    connection = StoreConnection(settings.redis_url)
    catalogue = Catalogue(settings.data_dir, settings.cache_dir, UploadStore(connection))
    worker_pid = os.getppid()
    JobRun(
        job_id=job_id,
        jobs=JobStore(connection),
        models=ModelStore(connection),
        load_dataset=catalogue.load,
        is_orphan=lambda: os.getppid() != worker_pid,
        threads=settings.trainer_threads,
    ).run()
    connection.close()


@dataclass
class JobRun:
    """One run of one job. It is the observer of its own training.

    `is_orphan` says whether the worker that started this has ended, so that nobody would notice if this did too.
    """

    job_id: str
    jobs: JobStore
    models: ModelStore
    load_dataset: Callable[[str], Dataset]
    is_orphan: Callable[[], bool]
    threads: int = 1

    def run(self) -> None:
        """Takes the job from QUEUED to a final state. What goes wrong is told in the job, not raised."""
        queued = self.jobs.get(self.job_id)
        self._job = replace(queued, state=JobState.RUNNING, start_time=datetime.now(UTC))
        self._progress: Progress | None = None
        self._started = self._last_look = self._last_report = time.monotonic()
        if not self.jobs.replace(JobState.QUEUED, self._job, self._job):
            log.info("not run: it is no longer queued")
            return
        log.info("training", model=self._job.spec.model, dataset=self._job.spec.dataset)
        try:
            final = self._train_and_publish()
        except CancelledError:
            final = ended(self._job, JobState.CANCELLED)
        except WeightcastError as error:
            final = ended(self._job, JobState.FAILED, error_message=error.message)
        except Exception:
            error_id = uuid.uuid4().hex
            log.exception("the job failed", error_id=error_id)
            message = f"something unforeseen went wrong; tell the operator this error id: {error_id}"
            final = ended(self._job, JobState.FAILED, error_message=message)
        if until_the_store_answers(lambda: self.jobs.replace(JobState.RUNNING, final, final)):
            log.info("ended", state=final.state.name, version=final.version, error=final.error_message)
        else:
            log.warning("ended, but somebody else had closed the job before", would_be=final.state.name)

    def on_step(self, progress: Progress) -> None:
        """Now and then: stops if it should, and reports. A store that is away is no reason to stop training."""
        self._progress = progress
        now = time.monotonic()
        if now - self._last_look < LOOK_SECONDS:
            return
        self._last_look = now
        with suppress(StoreUnavailableError):
            self._stop_if_asked()
            if now - self._last_report >= max(LOOK_SECONDS, (now - self._started) / REPORTS_PER_DOUBLING):
                self._last_report = now
                self._report(progress)

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Reports the epoch; whatever the store misses now, the next report carries too."""
        self._job = replace(self._job, epochs=(*self._job.epochs, metrics))
        log.info("epoch", epoch=metrics.epoch, loss=metrics.train_loss, test_accuracy=metrics.test_accuracy)
        with suppress(StoreUnavailableError):
            self._report(metrics)

    def _train_and_publish(self) -> TrainingJob:
        spec = self._job.spec
        dataset = until_the_store_answers(lambda: self.load_dataset(spec.dataset))
        if self._job.dataset_digest not in ("", dataset.digest):
            raise WrongStateError(
                f"other data has taken the name {spec.dataset!r} since the job was created; create it again",
                reason="DATASET_CHANGED",
            )
        trained = train(spec, dataset, self, self.threads)
        until_the_store_answers(self._stop_if_asked)
        versions = library_versions(self.threads)
        snapshot = snapshot_of(trained, spec, dataset, self.job_id, versions)
        result = TrainingResult(snapshot_codec.sha256_hex(snapshot.weights), versions)
        if not spec.publish:
            return ended(self._job, JobState.SUCCEEDED, dataset_digest=dataset.digest, result=result)
        version = until_the_store_answers(lambda: self.models.publish(spec.model, snapshot, self.job_id))
        return ended(
            self._job,
            JobState.SUCCEEDED,
            published=VersionRef(version, snapshot.digest),
            dataset_digest=dataset.digest,
            result=result,
        )

    def _report(self, event: JobEvent) -> None:
        self._job = replace(self._job, progress=self._progress)
        if not self.jobs.replace(JobState.RUNNING, self._job, event):
            raise closed_by_somebody_else()

    def _stop_if_asked(self) -> None:
        if self.jobs.is_cancel_requested(self.job_id):
            raise CancelledError("cancelled")
        if self.jobs.get(self.job_id).state is not JobState.RUNNING:
            raise closed_by_somebody_else()
        if self.is_orphan():
            raise WrongStateError("the worker that ran the job has ended; create the job again", reason="WORKER_ENDED")


def closed_by_somebody_else() -> WrongStateError:
    """The error of a run whose job was given a final state from outside; it must not publish."""
    return WrongStateError("the job was closed while it ran", reason="JOB_ENDED")


def until_the_store_answers(action: Callable[[], Result]) -> Result:
    """What `action` returns, tried again while the store is away: finished work is not thrown away for that.

    Raises:
        StoreUnavailableError: if the store stays away too long.
    """
    deadline = time.monotonic() + STORE_PATIENCE_SECONDS
    while True:
        try:
            return action()
        except StoreUnavailableError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("waiting for the store", error=error.message)
            time.sleep(RETRY_SECONDS)
