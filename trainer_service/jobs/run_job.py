"""What a worker does with one job: load the data, train, publish, and leave it in a final state, or to be continued.

rq calls `run_job` in a process of its own for each turn, so it is a composition root too.
"""

import os
import signal
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from shared import logs, snapshot_codec
from shared.errors import CancelledError, ConflictError, StoreUnavailableError, WeightcastError, WrongStateError
from shared.model_version import Publication, StoredSnapshot
from shared.network import Network
from shared.settings import TrainerSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.training_spec import EpochMetrics
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.checkpoint_store import CheckpointStore
from trainer_service.jobs.checkpoint_writer import CheckpointWriter
from trainer_service.jobs.job import JobEvent, JobState, TrainingJob, TrainingResult, begun, ended, resumed
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_store import JobStore, Turn
from trainer_service.jobs.lifecycle import JobLifecycle
from trainer_service.jobs.patience import insisting
from trainer_service.jobs.pulse import Pulse, RunLostError, RunOrphanedError, RunStoppedError
from trainer_service.promotion import verdict_on
from trainer_service.publishing import library_versions, snapshot_of
from trainer_service.training.checkpoint import Checkpoint, CheckpointMismatchError
from trainer_service.training.loop import Progress, TrainedNetwork, train
from trainer_service.warm_start import load_parent

REPORT_SECONDS = 0.25
REPORTS_PER_DOUBLING = 200  # so a job of a day leaves a few thousand events behind, not a few hundred thousand
STORE_PATIENCE_SECONDS = 600.0  # how long finished work waits for a store that is away
HAND_BACK_SECONDS = 5.0  # of the grace that a worker has to end
Result = TypeVar("Result")
log = structlog.get_logger()


def run_job(job_id: str, turn: int) -> None:
    """Runs the job with this id, if this turn is still its last."""
    settings = load(TrainerSettings)
    logs.configure(settings.log_level, "worker")
    structlog.contextvars.bind_contextvars(job_id=job_id, turn=turn)
    connection = StoreConnection(settings.redis_url)
    jobs, models = JobStore(connection), ModelStore(connection)
    worker_pid = os.getppid()
    run = JobRun(
        turn=Turn(job_id, turn),
        worker=f"{socket.gethostname()}:{worker_pid}",
        jobs=jobs,
        lifecycle=JobLifecycle(jobs, JobQueue(connection), models),
        checkpoints=CheckpointStore(connection),
        models=models,
        load_dataset=Catalogue(settings.data_dir, settings.cache_dir, UploadStore(connection)).load,
        is_orphan=lambda: os.getppid() != worker_pid,
        threads=settings.trainer_threads,
    )
    signal.signal(signal.SIGTERM, lambda *_: run.stop())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked by the worker until somebody would hear it
    run.run()
    connection.close()


@dataclass
class JobRun:
    """One run of one job. It is the observer of its own training.

    `is_orphan` says whether the worker that started this has ended, so that nobody would notice if this did too.
    """

    turn: Turn
    worker: str
    jobs: JobStore
    lifecycle: JobLifecycle
    checkpoints: CheckpointStore
    models: ModelStore
    load_dataset: Callable[[str], Dataset]
    is_orphan: Callable[[], bool]
    threads: int = 1

    def __post_init__(self) -> None:
        self._pulse = Pulse(lambda: self.jobs.beat(self.turn), self.is_orphan)
        self._progress: Progress | None = None
        self._writer = CheckpointWriter(self.checkpoints, self.turn)
        self._started = self._reported = time.monotonic()
        self._has_nothing_to_lose = False

    def stop(self) -> None:
        """Ends the run at its next minibatch, or at once where nothing would be lost; for a signal handler."""
        self._pulse.request_stop()
        if self._has_nothing_to_lose:
            self._pulse.check()

    def run(self) -> None:
        """Takes the job from QUEUED to a final state, or back to QUEUED; what goes wrong is told in the job."""
        self._job = begun(self.jobs.get(self.turn.job_id), self.worker)
        if not self.lifecycle.begin(self._job, self.turn):
            log.info("not run: this turn is no longer the job's")
            return
        log.info("training", model=self._job.spec.model, dataset=self._job.spec.dataset)
        with self._pulse:
            try:
                self._end(self._final())
            except RunLostError as error:
                log.warning("left to others", reason=error.message)
            except RunOrphanedError as error:
                why = error.message
                insisting(lambda: self.lifecycle.take_back(self.turn, why), HAND_BACK_SECONDS)
            except RunStoppedError as error:
                why = error.message
                insisting(lambda: self.lifecycle.hand_back(self._job, self.turn, why), HAND_BACK_SECONDS)
                log.info("handed back")

    def on_step(self, progress: Progress, take: Callable[[], Checkpoint]) -> None:
        """Stops if it should; now and then, reports and writes a checkpoint."""
        self._progress = progress
        try:
            self._pulse.check()
        except RunStoppedError:
            self._writer.write(take)
            raise
        now = time.monotonic()
        if now - self._reported >= max(REPORT_SECONDS, (now - self._started) / REPORTS_PER_DOUBLING):
            self._reported = now
            self._report(progress)
        self._writer.after_step(take)

    def on_epoch(self, metrics: EpochMetrics, take: Callable[[], Checkpoint]) -> None:
        """Writes a checkpoint, and then reports the epoch: what was reported is not lost.

        Whatever the store misses now, the next report carries too.
        """
        self._job = replace(self._job, epochs=(*self._job.epochs, metrics))
        log.info("epoch", epoch=metrics.epoch, loss=metrics.train_loss, test_accuracy=metrics.test_accuracy)
        self._writer.after_epoch(take)
        self._report(metrics)

    def _final(self) -> TrainingJob:
        """The job as it ends: by success, by cancellation, or by an error that another run would meet again."""
        try:
            return self._train_and_publish()
        except (RunLostError, RunStoppedError):
            raise
        except CancelledError:
            return ended(self._job, JobState.CANCELLED)
        except StoreUnavailableError as error:
            raise RunLostError(f"gave up waiting for the store: {error.message}") from error
        except WeightcastError as error:
            return ended(self._job, JobState.FAILED, error_message=error.message)
        except Exception:
            error_id = uuid.uuid4().hex
            log.exception("the job failed", error_id=error_id)
            message = f"something unforeseen went wrong; tell the operator this error id: {error_id}"
            return ended(self._job, JobState.FAILED, error_message=message)

    def _end(self, final: TrainingJob) -> None:
        if insisting(lambda: self.lifecycle.end(final, self.turn), STORE_PATIENCE_SECONDS):
            log.info("ended", state=final.state.name, version=final.version, error=final.error_message)
        else:
            log.warning("ended, but the job was no longer this run's", would_be=final.state.name)

    def _train_and_publish(self) -> TrainingJob:
        spec = self._job.spec
        self._has_nothing_to_lose = True
        try:
            checkpoint, dataset, initial = self._loaded()
        finally:
            self._has_nothing_to_lose = False
        try:
            trained = train(spec, dataset, self, self.threads, resume=checkpoint, initial=initial)
        except CheckpointMismatchError as error:
            log.warning("starting from the beginning", reason=error.message)
            self._job = resumed(self._job, 0, ())
            trained = train(spec, dataset, self, self.threads, initial=initial)
        self._until_the_store_answers(self._pulse.beat)
        self._pulse.check()
        libraries = library_versions(self.threads)
        snapshot = snapshot_of(trained, spec, dataset, self._job.id, libraries)
        result = TrainingResult(snapshot_codec.sha256_hex(snapshot.weights), libraries)
        published = self._published(trained, snapshot, dataset) if spec.publish else None
        return ended(self._job, JobState.SUCCEEDED, published=published, result=result)

    def _loaded(self) -> tuple[Checkpoint | None, Dataset, Network | None]:
        """What training goes on from, if anything, what it learns from, and the network it starts from, if any."""
        spec = self._job.spec
        checkpoint = self._until_the_store_answers(lambda: self.checkpoints.load(self.turn.job_id))
        if checkpoint or self._job.epochs:
            updates, epochs = (checkpoint.updates, checkpoint.epochs) if checkpoint else (0, ())
            self._job = resumed(self._job, updates, epochs)
            self._report(self._job)
        dataset = self._until_the_store_answers(lambda: self.load_dataset(spec.dataset))
        if self._job.dataset_digest not in ("", dataset.digest):
            raise WrongStateError(
                f"other data has taken the name {spec.dataset!r} since the job was created; create it again",
                reason="DATASET_CHANGED",
            )
        self._job = replace(self._job, dataset_digest=dataset.digest)
        if not spec.parent:
            return checkpoint, dataset, None
        initial, dataset = self._until_the_store_answers(lambda: load_parent(self.models, spec, dataset))
        return checkpoint, dataset, initial

    def _published(self, trained: TrainedNetwork, snapshot: StoredSnapshot, dataset: Dataset) -> Publication:
        """Publishes, and decides again as often as another version goes live in between."""
        spec = self._job.spec
        while True:
            try:
                return self._until_the_store_answers(
                    lambda: self.models.publish(
                        spec.model,
                        snapshot,
                        self._job.id,
                        verdict_on(trained, spec, dataset, self.models, self.threads),
                        turn=self.turn.number,
                    )
                )
            except ConflictError:
                log.info("another version went live meanwhile; comparing with that one")

    def _report(self, event: JobEvent) -> None:
        self._job = replace(self._job, progress=self._progress or self._job.progress)
        with suppress(StoreUnavailableError):
            if not self.lifecycle.report(self._job, event, self.turn):
                raise RunLostError("the job was closed or given to another worker while it ran")

    def _until_the_store_answers(self, action: Callable[[], Result]) -> Result:
        """What `action` returns, tried again while the store is away: finished work is not thrown away for that.

        Raises:
            StoreUnavailableError: if the store stays away too long.
            RunStoppedError: if the worker shall end meanwhile.
        """
        return insisting(action, STORE_PATIENCE_SECONDS, self._pulse.check)
