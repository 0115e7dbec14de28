"""One job from the queue to its final state, on real data and a real Redis: what is published, and what never is."""

import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.embedded_redis import EmbeddedRedis
from shared import snapshot_codec
from shared.errors import NotFoundError
from shared.layers import Activation, Dense
from shared.model_version import VersionRef
from shared.pb.weightcast.v1 import model_pb2
from shared.recipe import Optimizer
from shared.spec_codec import spec_to_proto
from shared.store.connection import StoreConnection
from shared.store.keys import MODELS
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job import AttemptOutcome, JobState, TrainingJob
from trainer_service.jobs.job_service import JobService
from trainer_service.jobs.run_job import JobRun
from trainer_service.presets import SpecRequest
from trainer_service.spec_request import spec_request

SPEC = TrainingSpec(
    model="tiny", dataset="digits", seed=7, preset="mlp", layers=(Dense(16, Activation.RELU),), epochs=2
)
LONG = replace(SPEC, epochs=1000, layers=(Dense(512, Activation.RELU),) * 2)
Until = Callable[..., None]


def asked(spec: TrainingSpec) -> SpecRequest:
    """What a client asks for who sets every field."""
    return spec_request(spec_to_proto(spec))


@dataclass
class Trainer:
    """What a worker has, in this process."""

    connection: StoreConnection
    models: ModelStore
    service: JobService
    catalogue: Catalogue
    run_on: Callable[..., JobRun]

    def start(self, job_id: str, **kwargs: Any) -> JobRun:  # noqa: ANN401 - what the fixture takes
        """The run of a job's last turn, not begun yet."""
        return self.run_on(self.connection, job_id, self.catalogue.load, **kwargs)

    def run(self, job_id: str, **kwargs: Any) -> TrainingJob:  # noqa: ANN401 - the same
        """Runs a job as the worker does, and returns it as it is stored then."""
        self.start(job_id, **kwargs).run()
        return self.service.get(job_id)

    def train(self, spec: TrainingSpec) -> TrainingJob:
        """Creates a job and runs it."""
        return self.run(self.service.create(asked(spec)).id)

    def nothing_is_published(self, connection: StoreConnection) -> bool:
        """Whether the registry has no model at all."""
        return bool(connection.command("SCARD", MODELS) == 0)


@pytest.fixture
def make_trainer(
    connection: StoreConnection,
    tmp_path: Path,
    service_on: Callable[..., JobService],
    run_on: Callable[..., JobRun],
) -> Callable[..., Trainer]:
    """Makes a trainer, with a data directory or without."""

    def make(data_dir: Path | None = None) -> Trainer:
        catalogue = Catalogue(data_dir, tmp_path, UploadStore(connection))
        service = service_on(connection, catalogue)
        return Trainer(connection, ModelStore(connection), service, catalogue, run_on)

    return make


def test_a_job_succeeds_with_exactly_one_version(make_trainer: Callable[..., Trainer]) -> None:
    """SUCCEEDED, with every epoch measured, and the version it names is the only one."""
    trainer = make_trainer()
    job = trainer.train(SPEC)
    assert job.state is JobState.SUCCEEDED
    assert job.error_message == ""
    assert [metrics.epoch for metrics in job.epochs] == [1, 2]
    assert job.start_time is not None
    assert job.end_time is not None
    assert job.create_time <= job.start_time <= job.end_time
    assert [version.ref.version for version in trainer.models.versions("tiny", count=10).versions] == [1]
    assert trainer.models.ref("tiny", 1) == VersionRef(job.version, job.digest)
    watched = [recorded.event for recorded in trainer.service.watch(job.id, "", lambda: True)]
    states = [event.state for event in watched if isinstance(event, TrainingJob)]
    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
    assert [event for event in watched if event in job.epochs] == list(job.epochs)


def test_the_manifest_says_where_a_version_came_from(make_trainer: Callable[..., Trainer]) -> None:
    """Spec and seed, job, data digest, preprocessing, labels, metrics, library versions, and a self-test that holds."""
    trainer = make_trainer()
    job = trainer.train(SPEC)
    dataset = trainer.catalogue.load("digits")
    manifest = snapshot_codec.decode(trainer.models.version("tiny", 1).snapshot).manifest
    provenance = manifest.provenance
    assert (provenance.spec, provenance.spec.seed, provenance.training_job_id) == (SPEC, 7, job.id)
    assert provenance.dataset_digest == dataset.digest
    assert manifest.preprocessing == dataset.preprocessing
    assert manifest.class_labels == dataset.class_labels
    assert manifest.epochs == job.epochs
    assert manifest.architecture.shapes == ((64,), (16,), (10,))
    for name in ("numpy", "safetensors", "protobuf"):
        assert provenance.library_versions[name] == version(name)
    np.testing.assert_array_equal(manifest.self_test.inputs, dataset.test.examples[:4])


def weights_digest(trainer: Trainer, job: TrainingJob) -> str:
    """SHA-256 of the safetensors file that a job published."""
    stored = trainer.models.version("tiny", job.version, with_weights=False).snapshot.manifest
    return model_pb2.Manifest.FromString(stored).weights_digest


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_the_same_seed_gives_the_same_weights(make_trainer: Callable[..., Trainer], optimizer: Optimizer) -> None:
    """Twice the same spec: the same SHA-256 of the weights and the same metrics; another seed: others."""
    trainer, spec = make_trainer(), replace(SPEC, optimizer=optimizer)
    first, second, other = trainer.train(spec), trainer.train(spec), trainer.train(replace(spec, seed=8))
    assert weights_digest(trainer, first) == weights_digest(trainer, second) != weights_digest(trainer, other)
    losses = [[metrics.train_loss for metrics in job.epochs] for job in (first, second, other)]
    assert losses[0] == losses[1] != losses[2]
    assert first.version != second.version


def test_training_that_diverges_fails_and_publishes_nothing(
    make_trainer: Callable[..., Trainer], connection: StoreConnection
) -> None:
    """FAILED at the very step, which is named with its epoch and with the learning rate to lower."""
    trainer = make_trainer()
    spec = replace(
        SPEC, optimizer=Optimizer.SGD, learning_rate=10.0, layers=(Dense(256, Activation.RELU),) * 8, epochs=20
    )
    with np.errstate(all="ignore"):  # its warnings are errors in tests
        job = trainer.train(spec)
    assert job.state is JobState.FAILED
    assert re.search(r"in epoch \d+, step \d+ of 12;.*learning rate below 10", job.error_message), job.error_message
    assert (job.version, job.digest) == (0, "")
    assert trainer.nothing_is_published(connection)


def test_a_running_job_that_is_cancelled_publishes_nothing(
    make_trainer: Callable[..., Trainer], connection: StoreConnection, until: Until
) -> None:
    """It stops at a minibatch, keeps the epochs it had, and ends CANCELLED."""
    trainer = make_trainer()
    job_id = trainer.service.create(asked(LONG)).id
    running = threading.Thread(target=trainer.run, args=(job_id,), daemon=True)
    running.start()
    until(lambda: bool(trainer.service.get(job_id).epochs), "a first epoch")
    assert trainer.service.cancel(job_id).state is JobState.RUNNING
    running.join(20)
    assert not running.is_alive()
    job = trainer.service.get(job_id)
    assert job.state is JobState.CANCELLED
    assert 1 <= len(job.epochs) < LONG.epochs
    assert (job.version, job.error_message) == (0, "")
    assert trainer.nothing_is_published(connection)


def test_a_job_cancelled_before_it_began_is_not_run(
    make_trainer: Callable[..., Trainer], connection: StoreConnection
) -> None:
    """A worker that took it from the queue at that very moment leaves it as it is."""
    trainer = make_trainer()
    job = trainer.service.create(asked(SPEC))
    cancelled = trainer.service.cancel(job.id)
    assert trainer.run(job.id) == cancelled
    assert trainer.nothing_is_published(connection)


def test_a_job_that_has_ended_is_not_run_again(make_trainer: Callable[..., Trainer]) -> None:
    """A queue that delivers twice does not publish twice."""
    trainer = make_trainer()
    job = trainer.train(SPEC)
    assert trainer.run(job.id) == job
    assert [version.ref.version for version in trainer.models.versions("tiny", count=10).versions] == [1]


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_a_bad_file_of_a_data_set_fails_the_job_by_name(
    make_trainer: Callable[..., Trainer],
    connection: StoreConnection,
    mnist_data_dir: Path,
    tmp_path: Path,
    damage: str,
) -> None:
    """A truncated, altered or missing file is named, and nothing is trained on what is left."""
    shutil.copytree(mnist_data_dir / "mnist", tmp_path / "mnist")
    name = "t10k-labels-idx1-ubyte.gz"
    file = tmp_path / "mnist" / name
    content = file.read_bytes()
    file.unlink()
    if damage == "altered":
        file.write_bytes((tmp_path / "mnist" / "train-labels-idx1-ubyte.gz").read_bytes())
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    trainer = make_trainer(tmp_path)
    job = trainer.train(replace(SPEC, dataset="mnist"))
    assert job.state is JobState.FAILED
    assert name in job.error_message
    assert job.epochs == ()
    assert trainer.nothing_is_published(connection)


def test_a_store_that_goes_away_while_a_job_runs_does_not_lose_it(
    make_trainer: Callable[..., Trainer], redis_server: EmbeddedRedis, until: Until
) -> None:
    """Training goes on, and the job ends in the store that has come back, with every epoch."""
    trainer = make_trainer()
    spec = replace(LONG, epochs=12)
    job_id = trainer.service.create(asked(spec)).id
    running = threading.Thread(target=trainer.run, args=(job_id,), daemon=True)
    running.start()
    until(lambda: bool(trainer.service.get(job_id).epochs), "a first epoch")
    redis_server.stop()
    running.join(2)
    redis_server.start()
    running.join(30)
    assert not running.is_alive()
    job = trainer.service.get(job_id)
    assert (job.state, job.version) == (JobState.SUCCEEDED, 1)
    assert [metrics.epoch for metrics in job.epochs] == list(range(1, 13))


def test_a_job_that_nobody_created_is_not_run(make_trainer: Callable[..., Trainer]) -> None:
    """A message in the queue whose job is gone says so."""
    with pytest.raises(NotFoundError):
        make_trainer().run("nope")


def test_a_run_that_was_taken_for_dead_changes_nothing(
    make_trainer: Callable[..., Trainer], run_on: Callable[..., JobRun], connection: StoreConnection
) -> None:
    """Its turn has passed: what it reports, saves and would publish is refused, and the next run's job is untouched."""
    trainer = make_trainer()
    job_id = trainer.service.create(asked(SPEC)).id
    lifecycle = trainer.start(job_id).lifecycle

    def lose_and_load(name: str) -> Dataset:
        assert lifecycle.take_back(lifecycle.jobs.turn(job_id), "looked dead")
        return trainer.catalogue.load(name)

    run_on(connection, job_id, lose_and_load).run()
    job = trainer.service.get(job_id)
    assert (job.state, job.epochs) == (JobState.QUEUED, ())
    assert [(attempt.outcome, attempt.message) for attempt in job.attempts] == [(AttemptOutcome.DIED, "looked dead")]
    assert trainer.nothing_is_published(connection)
    assert trainer.run(job_id).state is JobState.SUCCEEDED
