"""What a training job is told to do, with its defaults and its limits, and what each epoch measured.

A spec that `violations` finds nothing wrong with can be trained; everything that can be known to fail is refused before
a worker sees it.
"""

import math
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, Self

from shared.errors import FieldViolation, InvalidInputError

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAX_HIDDEN_LAYERS = 16
MAX_UNITS = 8192
MAX_HIDDEN_PARAMETERS = 32 * 2**20  # between hidden layers, together: 128 MiB
MAX_ACTIVATIONS = 32 * 2**20  # hidden units × batch size: 128 MiB
MAX_EPOCHS = 1000
MAX_BATCH_SIZE = 65536
MAX_LEARNING_RATE = 10.0
MAX_SEED = 2**63 - 1


class Optimizer(Enum):
    """How gradients change the parameters."""

    SGD = "sgd"
    ADAM = "adam"


DEFAULT_LEARNING_RATE = {Optimizer.SGD: 0.1, Optimizer.ADAM: 0.001}


@dataclass(frozen=True)
class TrainingSpec:
    """What to train, on what, and how. Field meanings and limits are those of `weightcast.v1.TrainingSpec`."""

    model: str
    dataset: str
    seed: int
    hidden_layer_sizes: tuple[int, ...] = (256,)
    epochs: int = 5
    batch_size: int = 128
    optimizer: Optimizer = Optimizer.ADAM
    learning_rate: float = DEFAULT_LEARNING_RATE[Optimizer.ADAM]

    @classmethod
    def with_defaults(cls, model: str, dataset: str, optimizer: Optimizer, **given: Any) -> Self:  # noqa: ANN401 - fields of several types
        """A spec of what was given; else the learning rate that suits the optimizer, and a random seed."""
        defaults = {"learning_rate": DEFAULT_LEARNING_RATE[optimizer], "seed": secrets.randbelow(MAX_SEED)}
        return cls(model=model, dataset=dataset, optimizer=optimizer, **{**defaults, **given})

    def violations(self) -> Iterator[FieldViolation]:
        """Every field that is out of range, with what came and what is expected."""
        if violation := model_name_violation(self.model, "spec.model"):
            yield violation
        if not self.dataset:
            yield FieldViolation("spec.dataset", "required: the name of a data set, see ListDatasets")
        yield from self._network_violations()
        for name, value, limit in (
            ("epochs", self.epochs, MAX_EPOCHS),
            ("batch_size", self.batch_size, MAX_BATCH_SIZE),
        ):
            if not 1 <= value <= limit:
                yield FieldViolation(f"spec.{name}", f"got {value}, expected 1 to {limit}")
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= MAX_LEARNING_RATE):
            yield FieldViolation(
                "spec.learning_rate",
                f"got {self.learning_rate:g}, expected more than 0 and at most {MAX_LEARNING_RATE:g}",
            )
        if not 0 <= self.seed <= MAX_SEED:
            yield FieldViolation("spec.seed", f"got {self.seed}, expected 0 to {MAX_SEED}")

    def _network_violations(self) -> Iterator[FieldViolation]:
        if len(self.hidden_layer_sizes) > MAX_HIDDEN_LAYERS:
            yield FieldViolation(
                "spec.network.hidden_layer_sizes",
                f"got {len(self.hidden_layer_sizes)} layers, expected at most {MAX_HIDDEN_LAYERS}",
            )
            return
        for index, units in enumerate(self.hidden_layer_sizes):
            if not 1 <= units <= MAX_UNITS:
                field = f"spec.network.hidden_layer_sizes[{index}]"
                yield FieldViolation(field, f"got {units} units, expected 1 to {MAX_UNITS}")
        if max(self.hidden_layer_sizes, default=0) > MAX_UNITS:
            return  # said already; what follows from it need not be
        parameters = sum(inputs * units for inputs, units in pairwise(self.hidden_layer_sizes))
        if parameters > MAX_HIDDEN_PARAMETERS:
            yield FieldViolation(
                "spec.network.hidden_layer_sizes",
                f"got {parameters} weights between hidden layers, expected at most {MAX_HIDDEN_PARAMETERS}",
            )
        if sum(self.hidden_layer_sizes) * self.batch_size > MAX_ACTIVATIONS:
            yield FieldViolation(
                "spec.batch_size",
                f"got {self.batch_size} for {sum(self.hidden_layer_sizes)} hidden units, expected a product of at most "
                f"{MAX_ACTIVATIONS}",
            )


def model_name_violation(name: str, field: str) -> FieldViolation | None:
    """What is wrong with a model's name, if anything."""
    if MODEL_NAME.fullmatch(name):
        return None
    return FieldViolation(
        field,
        f"got {name[:80]!r}, expected 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit"
        if name
        else "required: the model's name",
    )


def checked_model_name(name: str) -> str:
    """A request's `model`, if it could be one.

    Raises:
        InvalidInputError: if it could not.
    """
    if violation := model_name_violation(name, "model"):
        raise InvalidInputError(violation)
    return name


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch did, measured after its last update. Losses in nats, accuracies 0 to 1, times in seconds."""

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    samples_per_second: float
    seconds: float
