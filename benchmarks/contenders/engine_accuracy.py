"""This project's engine from random weights to a test accuracy: a whole training a turn, each with a seed of its own.

The clock starts as `train` is called; evaluation after each epoch is inside it. Variants: the preset's own recipe
("preset"), the same in three epochs without augmentation ("short"), the recipe that Keras is given ("plain"), and a
preset's training of one epoch, whatever it reaches ("one epoch").
"""

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from benchmarks.contenders.channel import Channel, OwnTask, task
from benchmarks.contenders.task import Answer
from shared.recipe import Augmentation
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.training.loop import Progress, train

GOAL = 0.98


class Reached(Exception):  # noqa: N818 - nothing went wrong
    """The way out of `train`."""


class Stopwatch:
    """An observer that ends training at GOAL."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.curve: list[tuple[float, float]] = []  # seconds, test accuracy

    def on_step(self, progress: Progress, _take: object) -> None:
        """Nothing to do."""

    def on_epoch(self, metrics: EpochMetrics, _take: object) -> None:
        """Takes down the time."""
        self.curve.append((time.perf_counter() - self._started, metrics.test_accuracy))
        if metrics.test_accuracy >= GOAL:
            raise Reached

    def answer(self) -> Answer:
        """When it ended, and what had been reached a second after the start (None if no epoch had ended)."""
        seconds, accuracy = self.curve[-1]
        in_time = [reached for at, reached in self.curve if at <= 1]
        first_second = in_time[-1] if in_time else None
        return {"seconds": seconds, "accuracy": accuracy, "epochs": len(self.curve), "first_second": first_second}


def spec_for(mine: OwnTask, seed: int) -> TrainingSpec:
    """The recipe of this process's variant."""
    given: dict[str, Any] = {"seed": seed}
    if mine.variant == "one epoch":
        given["epochs"] = 1
    elif mine.variant == "short":
        given |= {"epochs": 3, "learning_rate": 0.006, "augmentation": Augmentation()}
    elif mine.variant == "plain":
        return replace(mine.spec, seed=seed)
    return mine.preset(given)


def main() -> None:
    """One training a turn."""
    mine = task()
    dataset, seed = mine.dataset, 0
    channel = Channel()
    channel.ready()
    while channel.wait():
        seed += 1
        stopwatch = Stopwatch()
        with suppress(Reached):
            train(spec_for(mine, seed), dataset, stopwatch, mine.threads)
        channel.answer(stopwatch.answer())


if __name__ == "__main__":
    main()
