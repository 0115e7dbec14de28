"""Small networks, manifests and snapshots for the unit tests, and the float64 arithmetic they are checked against."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from shared import snapshot_codec
from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from shared.model_version import Manifest, Provenance, SelfTest, StoredSnapshot
from shared.network import Architecture, Network
from shared.preprocessing import Preprocessing
from shared.recipe import Loss
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.datasets.digits import load_digits
from trainer_service.training.checkpoint import Checkpoint
from trainer_service.training.loop import Progress, TrainedNetwork, train

Numbers = npt.NDArray[np.float64]

# The manifest stores the scale in single precision; a scale that is one already comes back the same.
TINY_PREPROCESSING = Preprocessing(input_shape=(2, 3), uint8_scale=float(np.float32(1 / 255)))
TINY_ARCHITECTURE = Architecture((2, 3), (Dense(4, Activation.RELU), Dense(3, Activation.IDENTITY)))
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
STEP = 1e-5
PLAIN_ACTIVATIONS: dict[Activation, Callable[[Numbers], Numbers]] = {
    Activation.RELU: lambda z: np.where(z > 0, z, 0.0),
    Activation.IDENTITY: lambda z: z,
    Activation.TANH: lambda z: 1 - 2 / (np.exp(2 * z) + 1),
    Activation.SIGMOID: lambda z: 1 / (1 + np.exp(-z)),
}


def plain_outputs(
    architecture: Architecture,
    vector: np.ndarray,
    features: np.ndarray,
    factors: Mapping[int, np.ndarray] | None = None,
) -> list[Numbers]:
    """Each layer's output in float64, written from the definitions with none of the product's arithmetic.

    Images stand as (rows, channels, height, width). `factors` are what the dropout layers multiply by, by the layer's
    place and in that order of axes; without them they do nothing.
    """
    values = features.astype(np.float64)
    looks_at = next(layer for layer in architecture.layers if not isinstance(layer, Dropout))
    if not isinstance(looks_at, Dense):
        images = values.reshape(len(values), *architecture.input_shape)
        values = images[:, np.newaxis] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    rest, outputs = np.asarray(vector, np.float64), []

    def take(*shape: int) -> Numbers:
        nonlocal rest
        count = int(np.prod(shape))
        taken, rest = rest[:count], rest[count:]
        return taken.reshape(shape)

    for index, layer in enumerate(architecture.layers):
        match layer:
            case Dense():
                sums = values @ take(values.shape[1], layer.units) + take(layer.units)
                values = PLAIN_ACTIVATIONS[layer.activation](sums)
            case Conv2D():
                edge, size = layer.padding, layer.kernel_size
                padded = np.pad(values, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
                windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
                filters = take(layer.filters, values.shape[1], size, size)
                sums = np.tensordot(windows, filters, axes=((1, 4, 5), (1, 2, 3))) + take(layer.filters)
                values = PLAIN_ACTIVATIONS[layer.activation](sums.transpose(0, 3, 1, 2))
            case MaxPool2D():
                windows = np.lib.stride_tricks.sliding_window_view(values, (layer.size, layer.size), axis=(2, 3))
                values = windows[:, :, :: layer.size, :: layer.size].max(axis=(4, 5))
            case Flatten():
                values = values.reshape(len(values), -1)
            case Dropout():
                values = values * (factors or {}).get(index, 1.0)
        outputs.append(values)
    assert not len(rest), "parameters that no layer takes"
    return outputs


def plain_softmax(logits: Numbers) -> Numbers:
    """e^z / Σ e^z, row by row."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def plain_probabilities(network: Network, features: np.ndarray) -> Numbers:
    """Class probabilities in float64 (rows, classes), dropout being off."""
    return plain_softmax(plain_outputs(network.architecture, network.parameters, features)[-1])


def plain_loss(loss: Loss, probabilities: Numbers, targets: np.ndarray) -> float:
    """The mean over rows: −Σ t·ln p, or the mean over classes of (p − t)²."""
    if loss is Loss.CROSS_ENTROPY:
        return float(-(targets * np.log(probabilities)).sum(axis=1).mean())
    return float(((probabilities - targets) ** 2).mean())


def plain_slopes(value: Callable[[Numbers], float], vector: np.ndarray, directions: np.ndarray) -> Numbers:
    """The slope of `value` at `vector` (count,) along each of `directions` (slopes, count), by central differences.

    NaN where a ReLU's kink or an equal maximum is so near that two step sizes disagree: there is no slope to know.
    """
    at = np.asarray(vector, np.float64)

    def slopes(step: float) -> Numbers:
        return np.array([(value(at + step * each) - value(at - step * each)) / (2 * step) for each in directions])

    wide, narrow = slopes(STEP), slopes(STEP / 4)
    return np.where(np.abs(wide - narrow) < 1e-6 * (1 + np.abs(wide)), narrow, np.nan)


def random_network(architecture: Architecture, seed: int) -> Network:
    """A network whose every parameter, biases too, is random, so that none can be left out unnoticed."""
    rng = np.random.default_rng(seed)
    return Network(architecture, rng.normal(0, 0.5, architecture.parameter_count).astype(np.float32))


@st.composite
def random_architectures(draw: st.DrawFn) -> Architecture:
    """Up to four layers of any kind that fit each other, between inputs of any shape and up to 5 classes."""
    layers: list[Layer] = []
    activations = st.sampled_from(Activation)
    dropout = st.just(Dropout(0.25))
    if draw(st.booleans()):
        input_shape: tuple[int, ...] = draw(st.lists(st.integers(1, 9), min_size=2, max_size=2).map(tuple))
        if draw(st.booleans()):
            input_shape = (*input_shape, 3)
        sides = np.array(input_shape[:2])
        for _ in range(draw(st.integers(0, 3))):
            size, padding = draw(st.integers(1, 4)), draw(st.integers(0, 3))
            if draw(st.booleans()) and 1 < size <= sides.min():
                layers.append(MaxPool2D(size))
                sides //= size
            elif padding < size <= sides.min() + 2 * padding:
                layers.append(Conv2D(draw(st.integers(1, 3)), size, padding, draw(activations)))
                sides += 2 * padding + 1 - size
            else:
                layers.append(draw(dropout))
        layers.append(Flatten())
    else:
        input_shape = (draw(st.integers(1, 12)),)
    layers += draw(st.lists(st.builds(Dense, st.integers(1, 9), activations) | dropout, max_size=3))
    return Architecture(input_shape, (*layers, Dense(draw(st.integers(1, 5)), Activation.IDENTITY)))


def manifest_of(network: Network, *, model: str = "tiny", self_test_rows: int = 4) -> Manifest:
    """A manifest of a network with TINY_ARCHITECTURE; its self-test's answers are computed in float64."""
    inputs = np.random.default_rng(7).integers(0, 256, (self_test_rows, 6), dtype=np.uint8)
    probabilities = plain_probabilities(network, inputs * TINY_PREPROCESSING.uint8_scale).astype(np.float32)
    layers = (Dense(4, Activation.RELU),)
    return Manifest(
        model=model,
        architecture=network.architecture,
        preprocessing=TINY_PREPROCESSING,
        class_labels=("ant", "bee", "cat"),
        epochs=(EpochMetrics(1, 0.5, 0.75, 0.625, 0.5, 1000.0, 0.25),),
        provenance=Provenance(
            spec=TrainingSpec(model=model, dataset="made", seed=11, layers=layers, learning_rate=0.125),
            training_job_id="job",
            dataset_digest="d" * 64,
            create_time=CREATED,
            library_versions={"numpy": "2"},
            parent_version=3,
        ),
        self_test=SelfTest(inputs, probabilities),
        published_epoch=1,
    )


@pytest.fixture(scope="session")
def plain_layers() -> Callable[..., list[Numbers]]:
    """The independent forward pass, layer by layer: `plain_outputs`."""
    return plain_outputs


@pytest.fixture(scope="session")
def plain_forward() -> Callable[[Network, np.ndarray], np.ndarray]:
    """The independent forward pass: `plain_probabilities`."""
    return plain_probabilities


@pytest.fixture(scope="session")
def loss_at() -> Callable[..., float]:
    """The loss of an architecture at a vector of parameters, all in float64."""

    def value(
        loss: Loss,
        architecture: Architecture,
        vector: np.ndarray,
        features: np.ndarray,
        targets: np.ndarray,
        *,
        factors: Mapping[int, np.ndarray] | None = None,
    ) -> float:
        logits = plain_outputs(architecture, vector, features, factors)[-1]
        return plain_loss(loss, plain_softmax(logits), targets)

    return value


@pytest.fixture(scope="session")
def slopes_of() -> Callable[..., Numbers]:
    """Central differences: `plain_slopes`."""
    return plain_slopes


@pytest.fixture(scope="session")
def make_network() -> Callable[[Architecture, int], Network]:
    """Builds a random network: `random_network`."""
    return random_network


@pytest.fixture(scope="session")
def architectures() -> st.SearchStrategy[Architecture]:
    """Any architecture: `random_architectures`."""
    return random_architectures()


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


class Silent:
    """An observer that lets training go on and says nothing."""

    def on_step(self, progress: Progress, take: Callable[[], Checkpoint]) -> None:
        """Takes note of nothing."""

    def on_epoch(self, metrics: EpochMetrics, take: Callable[[], Checkpoint]) -> None:
        """Takes note of nothing."""


@pytest.fixture(scope="session")
def trained() -> Callable[..., TrainedNetwork]:
    """Trains as a spec says, on so many threads."""

    def run(spec: TrainingSpec, dataset: Dataset, threads: int = 1) -> TrainedNetwork:
        return train(spec, dataset, Silent(), threads)

    return run
