"""The training loop: epochs of shuffled minibatches, each a forward pass, a gradient and an update.

The same spec, data, library versions and threads give the same weights: all randomness comes from one seed, and every
sum is taken in the same order.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shared.errors import InvalidInputError, WeightcastError
from shared.network import Architecture, Network
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.training.augmentation import Augmenter
from trainer_service.training.backpropagation import Backpropagation
from trainer_service.training.checkpoint import Checkpoint
from trainer_service.training.evaluation import Answers, Evaluator
from trainer_service.training.initialization import initial_network
from trainer_service.training.minibatches import Minibatches
from trainer_service.training.optimizers import clip_norm
from trainer_service.training.parallel import Gradient, ParallelBackpropagation, Threads, threads_for
from trainer_service.training.schedules import LearningRates
from trainer_service.training.state import TrainingState

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
    """Who is told how training goes, and may end it by raising.

    `take` gives a checkpoint of this moment; it may be called until the method returns.
    """

    def on_step(self, progress: Progress, take: Callable[[], Checkpoint]) -> None:
        """After every minibatch."""

    def on_epoch(self, metrics: EpochMetrics, take: Callable[[], Checkpoint]) -> None:
        """After every epoch; a training that is resumed from a checkpoint taken here begins with the next one."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """What training made, what each epoch measured, which epoch's weights these are, and their answers to the test."""

    network: Network
    epochs: tuple[EpochMetrics, ...]
    published_epoch: int
    answers: Answers


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # divergence is looked for, and told in our own words
def train(
    spec: TrainingSpec,
    dataset: Dataset,
    observer: Observer,
    threads: int = 1,
    *,
    initial: Network | None = None,
    resume: Checkpoint | None = None,
) -> TrainedNetwork:
    """Trains a network as `spec` says, on `threads` threads.

    It begins with random weights, or with those of `initial`. Or it goes on where `resume` was taken, and ends to the
    last bit as it would have ended there; only the times differ.

    Raises:
        InvalidInputError: if the layers do not fit the data set's examples, or `initial` has others.
        CheckpointMismatchError: if `resume` is of another training.
        TrainingDivergedError: if the loss is no longer finite; names the epoch and the step.
        Exception: whatever the observer raises to end it.
    """
    input_shape, class_count = dataset.preprocessing.input_shape, len(dataset.class_labels)
    violations = list(spec.violations(input_shape, class_count))
    if violations:
        raise InvalidInputError(*violations)
    architecture = spec.architecture(input_shape, class_count)
    if initial and initial.architecture != architecture:
        raise InvalidInputError.of("spec.parent", "its network has other layers or inputs than the one to be trained")
    with threads_for(architecture, threads) as own_threads:
        training = _Training(spec, dataset, architecture, observer=observer, threads=own_threads, initial=initial)
        return training.run(resume)


def diverged(spec: TrainingSpec, loss: float, where: str) -> TrainingDivergedError:
    """The error that says where the loss was no longer finite, and what to try."""
    return TrainingDivergedError(f"the loss became {loss} {where}; try a learning rate below {spec.learning_rate:g}")


class _Training:
    """One training: epoch after epoch over the same buffers. What changes from update to update is its state."""

    def __init__(
        self,
        spec: TrainingSpec,
        dataset: Dataset,
        architecture: Architecture,
        *,
        observer: Observer,
        threads: Threads,
        initial: Network | None,
    ) -> None:
        self._spec, self._dataset, self._observer = spec, dataset, observer
        streams = np.random.default_rng(spec.seed).spawn(4 + threads.count)
        weights, shuffle, split, augmentation, *dropout = streams
        self._train, self._validation = set_aside(dataset.train, spec.validation_fraction, split)
        batch_size = min(spec.batch_size, len(self._train))
        network = initial_network(architecture, weights, spec.initialization)
        if initial:
            np.copyto(network.parameters, initial.parameters)
        self._gradient: Gradient
        if threads.count == 1:
            self._gradient = Backpropagation(architecture, batch_size, spec.loss, dropout[0])
        else:
            self._gradient = ParallelBackpropagation(architecture, batch_size, spec.loss, threads, dropout)
        preprocessing, augmenter = dataset.preprocessing, None
        if spec.augmentation:
            augmenter = Augmenter(spec.augmentation, preprocessing.input_shape, augmentation, batch_size)
        self._minibatches = Minibatches(
            self._train,
            architecture.class_count,
            preprocessing,
            batch_size,
            label_smoothing=spec.label_smoothing,
            augmenter=augmenter,
        )
        self._rates = LearningRates(spec, self._minibatches.steps)
        self._evaluator = Evaluator(architecture, preprocessing, threads)
        examples = len(self._train), len(self._validation or ()), len(dataset.test)
        self._state = TrainingState(
            spec, network, shuffle=shuffle, dropout=dropout, augmenter=augmenter, examples=examples
        )

    def run(self, checkpoint: Checkpoint | None) -> TrainedNetwork:
        """Every epoch that is left, or as many as early stopping allows."""
        state = self._state
        if checkpoint:
            state.restore(checkpoint)
        while not state.is_over:
            started = time.perf_counter() - state.position.seconds
            self._run_epoch(started)
            metrics = self._measure(started)
            state.end_epoch(metrics)
            self._observer.on_epoch(metrics, state.checkpoint)
        network = state.best.network or state.published
        answers = self._evaluator.answers(network, self._dataset.test)
        return TrainedNetwork(network, tuple(state.epochs), state.best.epoch or len(state.epochs), answers)

    def _run_epoch(self, started: float) -> None:
        """Goes through the training split once in a new order, or through what is left of it."""
        state = self._state
        for minibatch in self._minibatches.epoch(state.order(), state.position.step):
            loss = self._gradient.compute(state.network, minibatch.features, minibatch.targets)
            if not math.isfinite(loss):
                where = f"in epoch {state.epoch}, step {state.position.step + 1} of {self._minibatches.steps}"
                raise diverged(self._spec, loss, where)
            self._update()
            state.end_step(minibatch, loss, time.perf_counter() - started)
            self._observer.on_step(self._progress(), state.checkpoint)

    def _update(self) -> None:
        """One step of the optimizer along the gradient."""
        state, gradient = self._state, self._gradient.gradient
        if self._spec.gradient_clip_norm:
            clip_norm(gradient, self._spec.gradient_clip_norm)
        state.optimizer.update(state.network.parameters, gradient, self._rates.at(state.position.updates))
        if state.average:
            state.average.update(state.network)

    def _progress(self) -> Progress:
        position, steps = self._state.position, self._minibatches.steps
        return Progress(
            epoch=self._state.epoch,
            step=position.step,
            steps_per_epoch=steps,
            train_loss=position.train_loss,
            samples_per_second=position.samples_per_second,
            seconds_left=position.seconds_per_update * (self._spec.epochs * steps - position.updates),
        )

    def _measure(self, started: float) -> EpochMetrics:
        """Scores the weights that would be published now."""
        state, network = self._state, self._state.published
        train = self._evaluator.answers(network, self._train.sample(TRAIN_SAMPLE))
        test = self._evaluator.answers(network, self._dataset.test)
        validation = self._evaluator.answers(network, self._validation) if self._validation else None
        for answers in (train, validation, test):
            if answers is not None and not math.isfinite(answers.loss):
                raise diverged(self._spec, answers.loss, f"after epoch {state.epoch}, step {state.position.step}")
        return EpochMetrics(
            epoch=state.epoch,
            train_loss=state.position.train_loss,
            train_accuracy=train.accuracy,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            samples_per_second=state.position.samples_per_second,
            seconds=time.perf_counter() - started,
            learning_rate=self._rates.at(state.position.updates - 1),
            train_sample_loss=train.loss,
            validation_loss=validation.loss if validation else None,
            validation_accuracy=validation.accuracy if validation else None,
        )


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
