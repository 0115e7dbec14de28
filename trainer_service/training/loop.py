"""The training loop: epochs of shuffled minibatches, each a forward pass, a gradient and an update.

The same spec, data and library versions give the same weights: all randomness comes from one generator, seeded once.
"""

import math
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shared.errors import WeightcastError
from shared.network import Architecture, Network
from shared.preprocessing import one_hot
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset
from trainer_service.training.backpropagation import Backpropagation
from trainer_service.training.evaluation import Evaluator
from trainer_service.training.initialization import initial_network
from trainer_service.training.optimizers import optimizer_for

TRAIN_SAMPLE = 10_000


class TrainingDivergedError(WeightcastError):
    """The loss became NaN or infinite; a smaller learning rate usually helps."""

    reason = "TRAINING_DIVERGED"


@dataclass(frozen=True)
class Progress:
    """How far training is; the loss in nats is the mean over the epoch so far, `seconds_left` an estimate."""

    epoch: int
    step: int
    steps_per_epoch: int
    train_loss: float
    samples_per_second: float
    seconds_left: float


class Observer(Protocol):
    """Who is told how training goes, and may end it by raising."""

    def on_step(self, progress: Progress) -> None:
        """After every minibatch."""

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """After every epoch."""


@dataclass(frozen=True)
class TrainedNetwork:
    """What training made, and what each epoch measured."""

    network: Network
    epochs: tuple[EpochMetrics, ...]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # divergence is looked for, and told in our own words
def train(spec: TrainingSpec, dataset: Dataset, observer: Observer) -> TrainedNetwork:
    """Trains a network from random weights as `spec` says.

    Raises:
        TrainingDivergedError: if the loss is no longer finite; names the epoch and the step.
        Exception: whatever the observer raises to end it.
    """
    rng = np.random.default_rng(spec.seed)
    architecture = Architecture.dense(
        dataset.preprocessing.input_size, spec.hidden_layer_sizes, len(dataset.class_labels)
    )
    network = initial_network(architecture, rng)
    epoch_runner = _EpochRunner(spec, dataset, network, observer)
    evaluator = Evaluator(architecture, dataset.preprocessing)
    train_sample = dataset.train.sample(TRAIN_SAMPLE)
    epochs: list[EpochMetrics] = []
    for epoch in range(1, spec.epochs + 1):
        started = time.perf_counter()
        loss, samples_per_second = epoch_runner.run(epoch, rng.permutation(len(dataset.train)))
        train_score = evaluator.score(network, train_sample)
        test_score = evaluator.score(network, dataset.test)
        if not (math.isfinite(train_score.loss) and math.isfinite(test_score.loss)):
            raise diverged(spec, test_score.loss, f"after epoch {epoch}, step {epoch_runner.steps}")
        metrics = EpochMetrics(
            epoch=epoch,
            train_loss=loss,
            train_accuracy=train_score.accuracy,
            test_loss=test_score.loss,
            test_accuracy=test_score.accuracy,
            samples_per_second=samples_per_second,
            seconds=time.perf_counter() - started,
        )
        epochs.append(metrics)
        observer.on_epoch(metrics)
    return TrainedNetwork(network, tuple(epochs))


def diverged(spec: TrainingSpec, loss: float, where: str) -> TrainingDivergedError:
    """The error that says where the loss was no longer finite, and what to try."""
    return TrainingDivergedError(f"the loss became {loss} {where}; try a learning rate below {spec.learning_rate:g}")


class _EpochRunner:
    """One epoch after another over the same buffers."""

    def __init__(self, spec: TrainingSpec, dataset: Dataset, network: Network, observer: Observer) -> None:
        self._spec, self._dataset, self._network, self._observer = spec, dataset, network, observer
        self._batch_size = min(spec.batch_size, len(dataset.train))
        self.steps = math.ceil(len(dataset.train) / self._batch_size)
        self._backpropagation = Backpropagation(network.architecture, self._batch_size)
        self._optimizer = optimizer_for(spec, network.architecture.parameter_count)
        self._all_targets = one_hot(dataset.train.class_ids, network.architecture.class_count)
        self._examples = np.empty((self._batch_size, network.architecture.input_size), np.uint8)
        self._features = np.empty((self._batch_size, network.architecture.input_size), np.float32)
        self._targets = np.empty((self._batch_size, network.architecture.class_count), np.float32)
        self._seconds_of_all_steps = 0.0
        self._steps_done = 0

    def run(self, epoch: int, order: np.ndarray) -> tuple[float, float]:
        """Goes through the training split once in this order; the mean loss in nats and the samples per second."""
        loss_sum, rows_done = 0.0, 0
        started = time.perf_counter()
        for step in range(1, self.steps + 1):
            loss, rows = self._update(order[(step - 1) * self._batch_size : step * self._batch_size])
            if not math.isfinite(loss):
                raise diverged(self._spec, loss, f"in epoch {epoch}, step {step} of {self.steps}")
            loss_sum += loss * rows
            rows_done += rows
            seconds = time.perf_counter() - started
            self._observer.on_step(
                Progress(
                    epoch=epoch,
                    step=step,
                    steps_per_epoch=self.steps,
                    train_loss=loss_sum / rows_done,
                    samples_per_second=rows_done / seconds,
                    seconds_left=self._seconds_left(epoch, step, seconds),
                )
            )
        seconds = time.perf_counter() - started
        self._seconds_of_all_steps += seconds
        self._steps_done += self.steps
        return loss_sum / rows_done, rows_done / seconds

    def _update(self, batch: np.ndarray) -> tuple[float, int]:
        """One minibatch: gather, forward pass, gradient, update. Returns its loss before the update, and its rows."""
        rows, train = len(batch), self._dataset.train
        # mode="clip" lets NumPy write straight into `out`; the indices are in range by construction.
        examples = np.take(train.examples, batch, axis=0, out=self._examples[:rows], mode="clip")
        targets = np.take(self._all_targets, batch, axis=0, out=self._targets[:rows], mode="clip")
        features = self._dataset.preprocessing.scale_bytes(examples, out=self._features[:rows])
        loss = self._backpropagation.compute(self._network, features, targets)
        self._optimizer.update(self._network.parameters, self._backpropagation.gradient)
        return loss, rows

    def _seconds_left(self, epoch: int, step: int, seconds: float) -> float:
        per_step = (self._seconds_of_all_steps + seconds) / (self._steps_done + step)
        return per_step * ((self._spec.epochs - epoch) * self.steps + self.steps - step)
