"""Small snapshots whose answers are known, the stores on a real Redis, and waiting with a deadline."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pytest

from client.embedded_redis import EmbeddedRedis
from shared import snapshot_codec
from shared.model_version import Manifest, Provenance, SelfTest, StoredSnapshot
from shared.network import Architecture, Network
from shared.preprocessing import Preprocessing
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset
from trainer_service.jobs.checkpoint_store import CheckpointStore
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_service import JobService, Limits
from trainer_service.jobs.job_store import JobStore, Turn
from trainer_service.jobs.lifecycle import JobLifecycle
from trainer_service.jobs.run_job import JobRun

ARCHITECTURE = Architecture.dense(6, (4,), 3)
PREPROCESSING = Preprocessing(input_shape=(6,), uint8_scale=1 / 255)
POLL_SECONDS = 0.01
MEASURED_CALLS = 10
OF_MEASURING = {"cmdstat_info", "cmdstat_config", "cmdstat_config|resetstat"}


class SnapshotMaker(Protocol):
    """Makes a snapshot of a small network."""

    def __call__(self, model: str = "tiny", seed: int = 0, *, wrong_answers: bool = False) -> StoredSnapshot:
        """Another seed gives other weights; `wrong_answers` a self-test that its network does not pass."""


def make_snapshot(model: str = "tiny", seed: int = 0, *, wrong_answers: bool = False) -> StoredSnapshot:
    """A snapshot of a random network of 6 features, 4 hidden units and 3 classes, its self-test answered in float64."""
    rng = np.random.default_rng(seed)
    network = Network(ARCHITECTURE, rng.normal(0, 1, ARCHITECTURE.parameter_count).astype(np.float32))
    inputs = rng.integers(0, 256, (4, 6), dtype=np.uint8)
    views = {name: view.astype(np.float64) for name, view in network.views.items()}
    hidden = np.maximum(inputs / 255 @ views["dense_0.weight"] + views["dense_0.bias"], 0)
    exponentials = np.exp(hidden @ views["dense_1.weight"] + views["dense_1.bias"])
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    if wrong_answers:
        probabilities = np.roll(probabilities, 1, axis=1)
    manifest = Manifest(
        model=model,
        architecture=ARCHITECTURE,
        preprocessing=PREPROCESSING,
        class_labels=("ant", "bee", "cat"),
        epochs=(),
        provenance=Provenance(
            spec=TrainingSpec(model=model, dataset="made", seed=seed),
            training_job_id=f"job-{seed}",
            dataset_digest="0" * 64,
            create_time=datetime.now(UTC),
            library_versions={},
        ),
        self_test=SelfTest(inputs, probabilities.astype(np.float32)),
    )
    return snapshot_codec.encode(manifest, network)


@pytest.fixture(scope="session")
def snapshot() -> SnapshotMaker:
    """Makes snapshots: `make_snapshot`."""
    return make_snapshot


@pytest.fixture
def models(connection: StoreConnection) -> ModelStore:
    """The registry in this test's Redis."""
    return ModelStore(connection)


@pytest.fixture
def connect(redis_server: EmbeddedRedis) -> Iterator[Callable[[], StoreConnection]]:
    """Makes further connections to this test's Redis, for those who must not share one, and closes them."""
    made: list[StoreConnection] = []

    def make() -> StoreConnection:
        made.append(StoreConnection(redis_server.url))
        return made[-1]

    yield make
    for one in made:
        one.close()


def lifecycle_on(connection: StoreConnection) -> JobLifecycle:
    """What moves jobs on in this store."""
    return JobLifecycle(JobStore(connection), JobQueue(connection), ModelStore(connection))


@pytest.fixture(scope="session")
def service_on() -> Callable[..., JobService]:
    """Makes the jobs as users see them, in a store, with the data sets of a catalogue and room for two watchers."""

    def make(connection: StoreConnection, catalogue: Catalogue, most_jobs: int = 1000) -> JobService:
        lifecycle = lifecycle_on(connection)
        return JobService(lifecycle.jobs, lifecycle, lifecycle.models, catalogue, Limits(most_jobs, watchers=2))

    return make


@pytest.fixture(scope="session")
def run_on() -> Callable[..., JobRun]:
    """Makes a run of a job as a worker does, in this process; of its last turn unless told otherwise."""

    def make(
        connection: StoreConnection,
        job_id: str,
        load_dataset: Callable[[str], Dataset],
        *,
        turn: Turn | None = None,
        is_orphan: Callable[[], bool] = lambda: False,
        threads: int = 1,
    ) -> JobRun:
        lifecycle = lifecycle_on(connection)
        return JobRun(
            turn=turn or lifecycle.jobs.turn(job_id),
            worker="here:1",
            jobs=lifecycle.jobs,
            lifecycle=lifecycle,
            checkpoints=CheckpointStore(connection),
            models=lifecycle.models,
            load_dataset=load_dataset,
            is_orphan=is_orphan,
            threads=threads,
        )

    return make


@dataclass(frozen=True)
class Cost:
    """What a call costs: how often it makes Redis run which command, and the shortest time of several, in seconds."""

    commands: dict[str, int]
    seconds: float


def measure(connection: StoreConnection, call: Callable[[], object]) -> Cost:
    """Makes a call several times; what Redis counted for the last one, inside scripts too."""
    seconds, counted = [], dict[str, Any]()
    for _ in range(MEASURED_CALLS):
        connection.command("CONFIG", "RESETSTAT")
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
        counted = connection.command("INFO", "commandstats")
    return Cost({name: of["calls"] for name, of in counted.items() if name not in OF_MEASURING}, min(seconds))


@pytest.fixture(scope="session")
def cost_of() -> Callable[..., Cost]:
    """Measures a call: `measure`."""
    return measure


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Returns when `holds` does; fails naming `what` if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(POLL_SECONDS)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Waits with a deadline: `wait_until`."""
    return wait_until
