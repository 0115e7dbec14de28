"""Small networks, manifests and snapshots for the unit tests, and the float64 arithmetic they are checked against."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from shared import snapshot_codec
from shared.model_version import Manifest, Provenance, SelfTest, StoredSnapshot
from shared.network import Activation, Architecture, Network
from shared.preprocessing import Preprocessing
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.datasets.digits import load_digits

# The manifest stores the scale in single precision; a scale that is one already comes back the same.
TINY_PREPROCESSING = Preprocessing(input_shape=(2, 3), uint8_scale=float(np.float32(1 / 255)))
TINY_ARCHITECTURE = Architecture.dense(6, (4,), 3)
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def plain_probabilities(network: Network, features: np.ndarray) -> np.ndarray:
    """Float64 (rows, classes), row by row and from the definitions: x·W + b, max(0, z), e^z / Σ e^z."""
    rows = []
    for row in features.astype(np.float64):
        outputs = row
        for layer, weight, bias in network.layers:
            outputs = outputs @ weight.astype(np.float64) + bias.astype(np.float64)
            if layer.activation is Activation.RELU:
                outputs = np.where(outputs > 0, outputs, 0)
        exponentials = np.exp(outputs - outputs.max())
        rows.append(exponentials / exponentials.sum())
    return np.array(rows).reshape(len(features), network.architecture.class_count)


def random_network(architecture: Architecture, seed: int) -> Network:
    """A network whose every parameter, biases too, is random, so that none can be left out unnoticed."""
    rng = np.random.default_rng(seed)
    return Network(architecture, rng.normal(0, 0.5, architecture.parameter_count).astype(np.float32))


def manifest_of(network: Network, *, model: str = "tiny", self_test_rows: int = 4) -> Manifest:
    """A manifest of a network with TINY_ARCHITECTURE; its self-test's answers are computed in float64."""
    inputs = np.random.default_rng(7).integers(0, 256, (self_test_rows, 6), dtype=np.uint8)
    probabilities = plain_probabilities(network, inputs * TINY_PREPROCESSING.uint8_scale).astype(np.float32)
    return Manifest(
        model=model,
        architecture=network.architecture,
        preprocessing=TINY_PREPROCESSING,
        class_labels=("ant", "bee", "cat"),
        epochs=(EpochMetrics(1, 0.5, 0.75, 0.625, 0.5, 1000.0, 0.25),),
        provenance=Provenance(
            spec=TrainingSpec(model=model, dataset="made", seed=11, hidden_layer_sizes=(4,), learning_rate=0.125),
            training_job_id="job",
            dataset_digest="d" * 64,
            create_time=CREATED,
            library_versions={"numpy": "2"},
            parent_version=3,
        ),
        self_test=SelfTest(inputs, probabilities),
    )


@pytest.fixture(scope="session")
def plain_forward() -> Callable[[Network, np.ndarray], np.ndarray]:
    """The independent forward pass: `plain_probabilities`."""
    return plain_probabilities


@pytest.fixture(scope="session")
def make_network() -> Callable[[Architecture, int], Network]:
    """Builds a random network: `random_network`."""
    return random_network


@pytest.fixture(scope="session")
def tiny_network() -> Network:
    """A random network of 6 features, 4 hidden units and 3 classes."""
    return random_network(TINY_ARCHITECTURE, 0)


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., Manifest]:
    """Builds a manifest: `manifest_of`."""
    return manifest_of


@pytest.fixture(scope="session")
def make_snapshot() -> Callable[..., StoredSnapshot]:
    """Builds a good snapshot; another `seed` gives other weights, `wrong_answers` a self-test that must fail."""

    def make(
        *, model: str = "tiny", seed: int = 0, wrong_answers: bool = False, self_test_rows: int = 4
    ) -> StoredSnapshot:
        network = random_network(TINY_ARCHITECTURE, seed)
        manifest = manifest_of(network, model=model, self_test_rows=self_test_rows)
        if wrong_answers:
            test = manifest.self_test
            manifest = replace(manifest, self_test=SelfTest(test.inputs, np.roll(test.probabilities, 1, axis=1)))
        return snapshot_codec.encode(manifest, network)

    return make


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The real data set that comes with scikit-learn."""
    return load_digits()


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """Builds a data set of 6 features and 3 classes that differ, with so many training rows."""

    def make(train_rows: int, test_rows: int = 9) -> Dataset:
        rng = np.random.default_rng(5)
        centres = rng.integers(0, 200, (3, 6))

        def split(rows: int) -> Split:
            class_ids = rng.integers(0, 3, rows)
            examples = centres[class_ids] + rng.integers(0, 50, (rows, 6))
            return Split(examples.astype(np.uint8), class_ids.astype(np.int64))

        return Dataset("made", TINY_PREPROCESSING, ("ant", "bee", "cat"), split(train_rows), split(test_rows))

    return make
