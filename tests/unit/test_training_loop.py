"""The training loop: repeatable, correct down to the last short batch, observable, and loud when it diverges."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from shared.network import Architecture
from shared.training_spec import EpochMetrics, Optimizer, TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.training.initialization import initial_network
from trainer_service.training.loop import Progress, TrainingDivergedError, train

SPEC = TrainingSpec("m", "digits", seed=1, hidden_layer_sizes=(32,), epochs=2, batch_size=64)
WILD = replace(SPEC, hidden_layer_sizes=(64,) * 8, optimizer=Optimizer.SGD, learning_rate=10.0)


@dataclass
class Notebook:
    """An observer that writes everything down."""

    steps: list[Progress] = field(default_factory=list)
    epochs: list[EpochMetrics] = field(default_factory=list)

    def on_step(self, progress: Progress) -> None:
        """Writes down a step."""
        self.steps.append(progress)

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Writes down an epoch."""
        self.epochs.append(metrics)


class EnoughError(Exception):
    """Raised by an observer that has seen enough."""


def trained_parameters(spec: TrainingSpec, dataset: Dataset) -> np.ndarray:
    return train(spec, dataset, Notebook()).network.parameters


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_the_same_seed_gives_the_same_weights_to_the_last_bit(digits: Dataset, optimizer: Optimizer) -> None:
    """Training is a function of spec and data."""
    spec = replace(SPEC, optimizer=optimizer)
    assert trained_parameters(spec, digits).tobytes() == trained_parameters(spec, digits).tobytes()


def test_another_seed_gives_other_weights(digits: Dataset) -> None:
    """The seed decides the initial weights and the order."""
    other = trained_parameters(replace(SPEC, seed=2), digits)
    assert not np.array_equal(trained_parameters(SPEC, digits), other)


def test_digits_is_learned_in_a_few_epochs(digits: Dataset) -> None:
    """More than 95 % of the digits it never saw are recognised, and the loss falls on the way."""
    spec = replace(SPEC, hidden_layer_sizes=(64,), epochs=6, batch_size=16, learning_rate=0.01)
    epochs = train(spec, digits, Notebook()).epochs
    assert epochs[-1].test_accuracy > 0.95
    assert epochs[-1].train_accuracy > 0.95
    assert epochs[-1].train_loss < epochs[0].train_loss / 4


@pytest.mark.parametrize(("optimizer", "learning_rate"), [(Optimizer.SGD, 0.5), (Optimizer.ADAM, 0.05)])
def test_a_network_without_hidden_layers_learns_too(
    digits: Dataset, optimizer: Optimizer, learning_rate: float
) -> None:
    """Softmax regression, with either optimizer."""
    spec = replace(SPEC, hidden_layer_sizes=(), epochs=8, optimizer=optimizer, learning_rate=learning_rate)
    assert train(spec, digits, Notebook()).epochs[-1].test_accuracy > 0.9


@pytest.mark.parametrize(("rows", "batch_size"), [(10, 4), (10, 5), (10, 10), (10, 1), (10, 4096), (1, 3)])
def test_an_epoch_is_plain_sgd_over_every_example_once(
    make_dataset: Callable[..., Dataset], rows: int, batch_size: int
) -> None:
    """Short last batches and batches larger than the split update exactly as a float64 loop over the same rows does."""
    dataset = make_dataset(rows)
    spec = TrainingSpec("m", "made", 9, (4,), epochs=2, batch_size=batch_size, optimizer=Optimizer.SGD)
    actual = train(spec, dataset, Notebook())

    rng = np.random.default_rng(spec.seed)  # the one generator: initial weights first, then an order for each epoch
    start = initial_network(Architecture.dense(6, (4,), 3), rng)
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


@pytest.mark.parametrize("hidden_layers", [4, 8, 12])
def test_divergence_is_told_with_epoch_step_and_remedy(digits: Dataset, hidden_layers: int) -> None:
    """A loss that is not finite ends training by name; no numerical warning comes out instead (warnings are errors)."""
    notebook = Notebook()
    spec = replace(WILD, hidden_layer_sizes=(64,) * hidden_layers)
    with pytest.raises(TrainingDivergedError) as raised:
        train(spec, digits, notebook)
    last = notebook.steps[-1]
    epoch, step = (last.epoch, last.step + 1) if last.step < last.steps_per_epoch else (last.epoch + 1, 1)
    assert f"in epoch {epoch}, step {step} of {last.steps_per_epoch}; try a learning rate below 10" in str(raised.value)
    assert raised.value.reason == "TRAINING_DIVERGED"


@pytest.mark.parametrize("steps", range(1, 7))
def test_no_network_comes_out_of_training_that_answers_nan(digits: Dataset, steps: int) -> None:
    """The last update may be the one that breaks it; however many there are, it ends well or in the error."""
    rows = steps * WILD.batch_size
    short = replace(digits, train=Split(digits.train.examples[:rows], digits.train.class_ids[:rows]))
    with suppress(TrainingDivergedError):
        metrics = train(replace(WILD, epochs=1), short, Notebook()).epochs[-1]
        assert np.isfinite([metrics.train_loss, metrics.test_loss]).all()


def test_an_observer_that_raises_ends_training_at_once(digits: Dataset) -> None:
    """This is how a job is cancelled: nothing is trained after the exception."""

    class Impatient(Notebook):
        def on_step(self, progress: Progress) -> None:
            super().on_step(progress)
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
