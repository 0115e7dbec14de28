"""The training loop: repeatable, correct down to the last short batch, observable, and loud when it diverges."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from shared.errors import InvalidInputError
from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer
from shared.network import Architecture, Network
from shared.recipe import Augmentation, Optimizer, Schedule, ScheduleKind
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset
from trainer_service.training.initialization import initial_network
from trainer_service.training.loop import Progress, train

RELU = Activation.RELU
SPEC = TrainingSpec("m", "digits", seed=1, layers=(Dense(32, RELU),), epochs=2, batch_size=64)


@dataclass
class Notebook:
    """An observer that writes everything down."""

    steps: list[Progress] = field(default_factory=list)
    epochs: list[EpochMetrics] = field(default_factory=list)

    def on_step(self, progress: Progress, _take: object) -> None:
        """Writes down a step."""
        self.steps.append(progress)

    def on_epoch(self, metrics: EpochMetrics, _take: object) -> None:
        """Writes down an epoch."""
        self.epochs.append(metrics)


class EnoughError(Exception):
    """Raised by an observer that has seen enough."""


def test_digits_is_learned_in_a_few_epochs(digits: Dataset) -> None:
    """More than 95 % of the digits it never saw are recognised, and the loss falls on the way."""
    spec = replace(SPEC, layers=(Dense(64, RELU),), epochs=6, batch_size=16, learning_rate=0.01)
    epochs = train(spec, digits, Notebook()).epochs
    assert epochs[-1].test_accuracy > 0.95
    assert epochs[-1].train_accuracy > 0.95
    assert epochs[-1].train_loss < epochs[0].train_loss / 4


@pytest.mark.parametrize(("optimizer", "learning_rate"), [(Optimizer.SGD, 0.5), (Optimizer.ADAM, 0.05)])
def test_a_network_without_hidden_layers_learns_too(
    digits: Dataset, optimizer: Optimizer, learning_rate: float
) -> None:
    """Softmax regression, with either optimizer."""
    spec = replace(SPEC, layers=(), epochs=8, optimizer=optimizer, learning_rate=learning_rate)
    assert train(spec, digits, Notebook()).epochs[-1].test_accuracy > 0.9


@pytest.mark.parametrize(("rows", "batch_size"), [(10, 4), (10, 5), (10, 10), (10, 1), (10, 4096), (1, 3)])
def test_an_epoch_is_plain_sgd_over_every_example_once(
    make_dataset: Callable[..., Dataset], rows: int, batch_size: int
) -> None:
    """Short last batches and batches larger than the split update exactly as a float64 loop over the same rows does."""
    dataset = make_dataset(rows)
    spec = TrainingSpec(
        "m", "made", 9, layers=(Dense(4, RELU),), epochs=2, batch_size=batch_size, optimizer=Optimizer.SGD
    )
    actual = train(spec, dataset, Notebook())

    # Streams of the one seed: the first for the initial weights, the second for an order each epoch.
    weights, rng, *_ = np.random.default_rng(spec.seed).spawn(2)
    start = initial_network(Architecture.dense(6, (4,), 3), weights)
    weight0, bias0, weight1, bias1 = (view.astype(np.float64) for view in start.views.values())
    losses: list[float] = []
    for _ in range(spec.epochs):
        order, loss = rng.permutation(rows), 0.0
        for batch in (order[first : first + batch_size] for first in range(0, rows, batch_size)):
            features = dataset.train.examples[batch] / 255
            sums = features @ weight0 + bias0
            hidden = np.maximum(sums, 0)
            exponentials = np.exp(hidden @ weight1 + bias1)
            probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
            targets = np.eye(3)[dataset.train.class_ids[batch]]
            loss -= np.log((probabilities * targets).sum(axis=1)).sum()
            deltas = (probabilities - targets) / len(batch)
            hidden_deltas = (deltas @ weight1.T) * (sums > 0)
            weight1, bias1 = weight1 - 0.001 * hidden.T @ deltas, bias1 - 0.001 * deltas.sum(axis=0)
            weight0, bias0 = weight0 - 0.001 * features.T @ hidden_deltas, bias0 - 0.001 * hidden_deltas.sum(axis=0)
        losses.append(loss / rows)
    assert [metrics.train_loss for metrics in actual.epochs] == pytest.approx(losses, rel=1e-5)
    for view, expected in zip(actual.network.views.values(), (weight0, bias0, weight1, bias1), strict=True):
        np.testing.assert_allclose(view, expected, rtol=1e-5, atol=1e-7)


def test_an_observer_that_raises_ends_training_at_once(digits: Dataset) -> None:
    """This is how a job is cancelled: nothing is trained after the exception."""

    class Impatient(Notebook):
        def on_step(self, progress: Progress, _take: object) -> None:
            super().on_step(progress, _take)
            if len(self.steps) == 3:
                raise EnoughError

    observer = Impatient()
    with pytest.raises(EnoughError):
        train(SPEC, digits, observer)
    assert len(observer.steps) == 3
    assert observer.epochs == []


def test_every_step_of_every_epoch_is_reported_in_order(make_dataset: Callable[..., Dataset]) -> None:
    """50 rows in batches of 16 are 4 steps; nothing is left out or told twice."""
    notebook = Notebook()
    train(replace(SPEC, epochs=3, batch_size=16), make_dataset(50), notebook)
    assert [(step.epoch, step.step) for step in notebook.steps] == list(itertools.product((1, 2, 3), (1, 2, 3, 4)))
    assert {step.steps_per_epoch for step in notebook.steps} == {4}
    assert [metrics.epoch for metrics in notebook.epochs] == [1, 2, 3]


def test_the_time_left_falls_to_zero(make_dataset: Callable[..., Dataset]) -> None:
    """It is positive until the last step, where nothing is left."""
    notebook = Notebook()
    train(replace(SPEC, epochs=3, batch_size=16), make_dataset(50), notebook)
    *earlier, last = [step.seconds_left for step in notebook.steps]
    assert min(earlier) > 0
    assert last == 0


def test_an_epochs_loss_is_the_mean_over_its_steps(make_dataset: Callable[..., Dataset]) -> None:
    """The last step's running mean is what the epoch reports."""
    notebook = Notebook()
    trained = train(replace(SPEC, epochs=2, batch_size=16), make_dataset(50), notebook)
    last_steps = [step.train_loss for step in notebook.steps if step.step == step.steps_per_epoch]
    assert last_steps == [metrics.train_loss for metrics in notebook.epochs]
    assert trained.epochs == tuple(notebook.epochs)


def test_metrics_describe_the_network_after_the_epoch(
    make_dataset: Callable[..., Dataset], plain_forward: Callable[..., np.ndarray]
) -> None:
    """Accuracies and test loss are those of the trained network, computed again in float64."""
    dataset = make_dataset(50, 2100)  # more than one chunk of the evaluator
    trained = train(replace(SPEC, batch_size=16, epochs=1), dataset, Notebook())
    test = plain_forward(trained.network, dataset.test.examples / 255)
    right = test[np.arange(len(dataset.test)), dataset.test.class_ids]
    metrics = trained.epochs[-1]
    assert metrics.test_loss == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert metrics.test_accuracy == (test.argmax(axis=1) == dataset.test.class_ids).mean()
    train_probabilities = plain_forward(trained.network, dataset.train.examples / 255)
    assert metrics.train_accuracy == (train_probabilities.argmax(axis=1) == dataset.train.class_ids).mean()
    assert metrics.samples_per_second > 0
    assert metrics.seconds > 0


def test_each_epoch_reports_the_rate_of_its_last_update(make_dataset: Callable[..., Dataset]) -> None:
    """The schedule counts updates over the whole training, of which each epoch has 4."""
    schedule = Schedule(ScheduleKind.COSINE)
    spec = replace(SPEC, epochs=3, batch_size=16, schedule=schedule, learning_rate=0.1)
    rates = [metrics.learning_rate for metrics in train(spec, make_dataset(50), Notebook()).epochs]
    assert rates == pytest.approx([0.05 * (1 + np.cos(np.pi * last / 12)) for last in (3, 7, 11)])


def test_what_cannot_fit_the_examples_is_refused_before_training(
    digits: Dataset, make_dataset: Callable[..., Dataset]
) -> None:
    """The data set is known now, so its shape is too."""
    notebook = Notebook()
    with pytest.raises(InvalidInputError, match=r"spec.layers: layer 0: a window of 9 does not fit an image of 8 × 8"):
        train(replace(SPEC, layers=(Conv2D(1, 9, 0, RELU), Flatten())), digits, notebook)
    made = make_dataset(5)
    flat = replace(made, preprocessing=replace(made.preprocessing, input_shape=(6,)))
    with pytest.raises(InvalidInputError, match=r"spec\.augmentation: .* rows of 6 features"):
        train(replace(SPEC, augmentation=Augmentation(shift=1)), flat, notebook)
    assert notebook.steps == []


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layers", [(Dropout(0.2), Dense(8, RELU)), (Conv2D(2, 2, 1, RELU), Flatten(), Dropout(0.2))])
def test_from_the_weights_it_would_have_drawn_training_is_the_same(
    make_dataset: Callable[..., Dataset], layers: tuple[Layer, ...], threads: int
) -> None:
    """Given weights take the place of random ones and of nothing else: order, dropout and pictures are as without."""
    spec = replace(SPEC, layers=layers, batch_size=16, augmentation=Augmentation(shift=1), validation_fraction=0.2)
    spec, dataset = replace(spec, ema_decay=0.9), make_dataset(50)
    weights, *_ = np.random.default_rng(spec.seed).spawn(1)
    initial = initial_network(spec.architecture((2, 3), 3), weights)
    drawn, given = (train(spec, dataset, Notebook(), threads, initial=start) for start in (None, initial.frozen()))
    assert given.network.parameters.tobytes() == drawn.network.parameters.tobytes()
    other = Network(initial.architecture, initial.parameters * np.float32(1.5))
    moved = train(spec, dataset, Notebook(), threads, initial=other).network.parameters
    assert not np.array_equal(moved, drawn.network.parameters)


def test_training_goes_on_from_given_weights_and_leaves_them_alone(digits: Dataset) -> None:
    """What was learned before is there after the first epoch, and the network that was handed over is unchanged."""
    learned = train(replace(SPEC, epochs=8, learning_rate=0.01), digits, Notebook()).network
    before = learned.parameters.copy()
    further, anew = (
        train(replace(SPEC, epochs=1, seed=2), digits, Notebook(), initial=start).epochs[0] for start in (learned, None)
    )
    assert further.train_loss < anew.train_loss / 4
    np.testing.assert_array_equal(learned.parameters, before)


def test_weights_of_another_architecture_are_refused(make_dataset: Callable[..., Dataset]) -> None:
    """By the name of the field that asked for them."""
    notebook, dataset = Notebook(), make_dataset(20)
    initial = initial_network(Architecture((2, 3), (Dense(3, Activation.IDENTITY),)), np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match=r"spec\.parent: .* other layers"):
        train(SPEC, dataset, notebook, initial=initial)
    assert notebook.steps == []


@pytest.mark.parametrize("threads", [1, 2])
def test_a_convolutional_network_learns_with_augmented_pictures(digits: Dataset, threads: int) -> None:
    """On one thread and on two."""
    spec = replace(
        SPEC,
        layers=(Conv2D(6, 3, 1, RELU), Flatten(), Dense(32, RELU)),
        augmentation=Augmentation(shift=0.5, rotation=5),
        epochs=5,
        batch_size=32,
        learning_rate=0.005,
    )
    assert train(spec, digits, Notebook(), threads).epochs[-1].test_accuracy > 0.94
