"""The training loop: epochs of shuffled minibatches, each a forward pass, a gradient and an update.

The same spec, data, library versions and threads give the same weights: all randomness comes from one seed, and every
sum is taken in the same order.
"""

import math
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from shared.errors import InvalidInputError, WeightcastError
from shared.network import Architecture, Network
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.training.augmentation import Augmenter
from trainer_service.training.averaging import MovingAverage
from trainer_service.training.backpropagation import Backpropagation
from trainer_service.training.evaluation import Answers, Evaluator
from trainer_service.training.initialization import initial_network
from trainer_service.training.minibatches import Minibatches
from trainer_service.training.optimizers import clip_norm, optimizer_for
from trainer_service.training.parallel import Gradient, ParallelBackpropagation, Threads
from trainer_service.training.schedules import LearningRates

TRAIN_SAMPLE = 10_000


class TrainingDivergedError(WeightcastError):
    """The loss became NaN or infinite; a smaller learning rate usually helps."""

    reason = "TRAINING_DIVERGED"


@dataclass(frozen=True)
class Progress:
    """How far training is; the loss is the mean over the epoch so far, `seconds_left` an estimate."""

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


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """What training made, what each epoch measured, which epoch's weights these are, and their answers to the test."""

    network: Network
    epochs: tuple[EpochMetrics, ...]
    published_epoch: int
    answers: Answers


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # divergence is looked for, and told in our own words
def train(spec: TrainingSpec, dataset: Dataset, observer: Observer, threads: int = 1) -> TrainedNetwork:
    """Trains a network from random weights as `spec` says, on `threads` threads.

    Raises:
        InvalidInputError: if the layers do not fit the data set's examples.
        TrainingDivergedError: if the loss is no longer finite; names the epoch and the step.
        Exception: whatever the observer raises to end it.
    """
    input_shape, class_count = dataset.preprocessing.input_shape, len(dataset.class_labels)
    violations = list(spec.violations(input_shape, class_count))
    if violations:
        raise InvalidInputError(*violations)
    architecture = spec.architecture(input_shape, class_count)
    # Fully connected networks leave the threads to BLAS; the others use them here, with one BLAS thread each.
    ours, of_blas = (threads, 1) if architecture.takes_images else (1, threads)
    with threadpool_limits(of_blas, "blas"), Threads(ours) as own_threads:
        return _Training(spec, dataset, architecture, observer, own_threads).run()


def diverged(spec: TrainingSpec, loss: float, where: str) -> TrainingDivergedError:
    """The error that says where the loss was no longer finite, and what to try."""
    return TrainingDivergedError(f"the loss became {loss} {where}; try a learning rate below {spec.learning_rate:g}")


class _Training:
    """One training: epoch after epoch over the same buffers."""

    def __init__(
        self, spec: TrainingSpec, dataset: Dataset, architecture: Architecture, observer: Observer, threads: Threads
    ) -> None:
        self._spec, self._dataset, self._observer = spec, dataset, observer
        streams = np.random.default_rng(spec.seed).spawn(4 + threads.count)
        weights, self._order, split, augmentation, *dropout = streams
        self._train, self._validation = set_aside(dataset.train, spec.validation_fraction, split)
        batch_size = min(spec.batch_size, len(self._train))
        self._network = initial_network(architecture, weights, spec.initialization)
        self._average = MovingAverage(self._network, spec.ema_decay) if spec.ema_decay else None
        self._gradient: Gradient
        if threads.count == 1:
            self._gradient = Backpropagation(architecture, batch_size, spec.loss, dropout[0])
        else:
            self._gradient = ParallelBackpropagation(architecture, batch_size, spec.loss, threads, dropout)
        preprocessing = dataset.preprocessing
        self._minibatches = Minibatches(
            self._train,
            architecture.class_count,
            preprocessing,
            batch_size,
            label_smoothing=spec.label_smoothing,
            augmenter=Augmenter(spec.augmentation, preprocessing.input_shape, augmentation, batch_size)
            if spec.augmentation
            else None,
        )
        self._optimizer = optimizer_for(spec, architecture.parameter_count)
        self._rates = LearningRates(spec, self._minibatches.steps)
        self._evaluator = Evaluator(architecture, preprocessing, threads)
        self._updates = 0
        self._seconds_of_updates = 0.0

    def run(self) -> TrainedNetwork:
        """Every epoch, or as many as early stopping allows."""
        epochs: list[EpochMetrics] = []
        published = self._average.network if self._average else self._network  # follows training from here on
        best = Best(self._spec.early_stopping_patience)
        for epoch in range(1, self._spec.epochs + 1):
            started = time.perf_counter()
            loss, samples_per_second = self._run_epoch(epoch)
            metrics = self._measure(published, epoch, loss, samples_per_second, started)
            epochs.append(metrics)
            self._observer.on_epoch(metrics)
            if best.is_over(metrics, published):
                break
        network = best.network or published
        answers = self._evaluator.answers(network, self._dataset.test)
        return TrainedNetwork(network, tuple(epochs), best.epoch or len(epochs), answers)

    def _run_epoch(self, epoch: int) -> tuple[float, float]:
        """Goes through the training split once in a new order; the mean loss and the samples per second."""
        loss_sum, rows, steps = 0.0, 0, self._minibatches.steps
        started = time.perf_counter()
        order = self._order.permutation(len(self._train))
        for step, minibatch in enumerate(self._minibatches.epoch(order), start=1):
            loss = self._gradient.compute(self._network, minibatch.features, minibatch.targets)
            if not math.isfinite(loss):
                raise diverged(self._spec, loss, f"in epoch {epoch}, step {step} of {steps}")
            self._update()
            loss_sum += loss * len(minibatch)
            rows += len(minibatch)
            seconds = time.perf_counter() - started
            left = (self._seconds_of_updates + seconds) / self._updates * (self._spec.epochs * steps - self._updates)
            self._observer.on_step(Progress(epoch, step, steps, loss_sum / rows, rows / seconds, left))
        seconds = time.perf_counter() - started
        self._seconds_of_updates += seconds
        return loss_sum / rows, rows / seconds

    def _update(self) -> None:
        """One step of the optimizer along the gradient."""
        gradient = self._gradient.gradient
        if self._spec.gradient_clip_norm:
            clip_norm(gradient, self._spec.gradient_clip_norm)
        self._optimizer.update(self._network.parameters, gradient, self._rates.at(self._updates))
        self._updates += 1
        if self._average:
            self._average.update(self._network)

    def _measure(
        self, network: Network, epoch: int, loss: float, samples_per_second: float, started: float
    ) -> EpochMetrics:
        """Scores the weights that would be published now."""
        train = self._evaluator.answers(network, self._train.sample(TRAIN_SAMPLE))
        test = self._evaluator.answers(network, self._dataset.test)
        validation = self._evaluator.answers(network, self._validation) if self._validation else None
        for answers in (train, validation, test):
            if answers is not None and not math.isfinite(answers.loss):
                raise diverged(self._spec, answers.loss, f"after epoch {epoch}, step {self._minibatches.steps}")
        return EpochMetrics(
            epoch=epoch,
            train_loss=loss,
            train_accuracy=train.accuracy,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            samples_per_second=samples_per_second,
            seconds=time.perf_counter() - started,
            learning_rate=self._rates.at(self._updates - 1),
            train_sample_loss=train.loss,
            validation_loss=validation.loss if validation else None,
            validation_accuracy=validation.accuracy if validation else None,
        )


class Best:
    """The weights of the epoch with the smallest validation loss, where early stopping asks for them."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._loss = math.inf
        self.network: Network | None = None
        self.epoch = 0

    def is_over(self, metrics: EpochMetrics, network: Network) -> bool:
        """Takes note of an epoch; whether there were `patience` epochs without a smaller loss."""
        if not self._patience or metrics.validation_loss is None:
            return False
        if metrics.validation_loss < self._loss:
            self._loss, self.epoch, self.network = metrics.validation_loss, metrics.epoch, network.frozen()
        return metrics.epoch - self.epoch >= self._patience


def set_aside(split: Split, fraction: float, rng: np.random.Generator) -> tuple[Split, Split | None]:
    """What is left of a split, and a random `fraction` of it, at least one example; nothing is copied for 0.

    A single example is left to train on.
    """
    count = min(max(1, round(fraction * len(split))), len(split) - 1) if fraction else 0
    if not count:
        return split, None
    order = rng.permutation(len(split))
    aside, left = np.sort(order[:count]), np.sort(order[count:])
    return Split(split.examples[left], split.class_ids[left]), Split(split.examples[aside], split.class_ids[aside])
