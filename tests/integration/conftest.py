"""Small snapshots whose answers are known, the stores on a real Redis, and waiting with a deadline."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol

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

ARCHITECTURE = Architecture.dense(6, (4,), 3)
PREPROCESSING = Preprocessing(input_shape=(6,), uint8_scale=1 / 255)
POLL_SECONDS = 0.01


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
