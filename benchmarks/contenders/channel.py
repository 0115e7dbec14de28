"""What every contender's process shares: its task, its turns, and the data.

A contender is a process of its own, so that thread pools of different libraries never fight. It says that it is ready,
then works once for every line it is sent and answers with figures, as JSON, until there are no more lines.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.task import Answer, Task
from shared.blas import running_kernel
from shared.network import Architecture, FloatArray
from shared.recipe import MAX_EPOCHS, Augmentation, Optimizer, Schedule
from shared.training_spec import TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.datasets.mnist import MNIST, load_relative
from trainer_service.presets import SpecRequest, spec_of

BATCH_SIZE = 128
LEARNING_RATES = {Optimizer.SGD: 0.1, Optimizer.ADAM: 0.001}


@dataclass(frozen=True)
class OwnTask(Task):
    """This process's task, with all that follows from it."""

    def preset(self, given: Mapping[str, Any]) -> TrainingSpec:
        """The preset's own recipe, but for what is `given`."""
        request = SpecRequest("benchmark", self.dataset.name, self.network, given)
        return spec_of(request, self.dataset.preprocessing.input_shape, len(self.dataset.train))

    @cached_property
    def spec(self) -> TrainingSpec:
        """The preset's layers with the plainest recipe: one learning rate, no augmentation, epochs without end."""
        optimizer = Optimizer(self.optimizer)
        return self.preset({
            "seed": 0,
            "epochs": MAX_EPOCHS,
            "batch_size": BATCH_SIZE,
            "optimizer": optimizer,
            "learning_rate": LEARNING_RATES[optimizer],
            "schedule": Schedule(),
            "augmentation": Augmentation(),
        })  # fmt: skip

    @cached_property
    def dataset(self) -> Dataset:
        """MNIST, its training split cut to `examples`."""
        whole = load_relative(MNIST, Path(os.environ["WEIGHTCAST_DATA_DIR"]), Path())
        train = Split(whole.train.examples[: self.examples], whole.train.class_ids[: self.examples])
        return Dataset(whole.name, whole.preprocessing, whole.class_labels, train, whole.test)

    @cached_property
    def architecture(self) -> Architecture:
        """The network's shape."""
        return self.spec.architecture(self.dataset.preprocessing.input_shape, len(self.dataset.class_labels))


def task() -> OwnTask:
    """What this process was started for."""
    return OwnTask(**json.loads(sys.argv[1]))


def features(split: Split) -> FloatArray:
    """A whole split as libraries are usually given it: float32 (rows, 784), 0 to 1."""
    rows: FloatArray = split.examples.astype(np.float32)
    rows /= np.float32(255)
    return rows


class Channel:
    """The contender's end of the two pipes. What anything else prints goes to standard error from here on."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def ready(self) -> None:
        """Says so, and on which kernel NumPy multiplies."""
        self._write({"kernel": running_kernel()})

    def wait(self) -> bool:
        """Until it is this contender's turn; False if there will be none."""
        return bool(sys.stdin.readline())

    def answer(self, figures: Answer) -> None:
        """What the turn gave."""
        self._write(figures)

    def _write(self, message: Mapping[str, object]) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()


def run_turns(work: Callable[[], int]) -> None:
    """Answers every turn with samples per second; `work` trains for a while and returns how many samples that were."""
    channel = Channel()
    channel.ready()
    while channel.wait():
        started = time.perf_counter()
        samples = work()
        channel.answer({"samples_per_second": samples / (time.perf_counter() - started)})
