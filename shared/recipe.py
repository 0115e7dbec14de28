"""The words of a training recipe: optimizers, losses, initialisations, schedules, augmentation, promotion, with limits.

`shared.training_spec` puts them together; field meanings are those of `weightcast.v1.TrainingSpec`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from shared.errors import FieldViolation

MAX_EPOCHS = 1000


class Optimizer(Enum):
    """How gradients change the parameters."""

    SGD = "sgd"
    ADAM = "adam"
    RMSPROP = "rmsprop"
    ADAMW = "adamw"


class Loss(Enum):
    """What training makes small."""

    CROSS_ENTROPY = "cross_entropy"
    MEAN_SQUARED_ERROR = "mean_squared_error"


class Initialization(Enum):
    """How the initial weights are drawn."""

    HE = "he"
    GLOROT = "glorot"
    SMALL_NORMAL = "small_normal"
    ZEROS = "zeros"


class ScheduleKind(Enum):
    """How the learning rate changes while training goes on."""

    CONSTANT = "constant"
    STEP = "step"
    COSINE = "cosine"
    ONE_CYCLE = "one_cycle"


@dataclass(frozen=True)
class Range:
    """The values a number may have; an end that is open is not among them."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def violation(self, field: str, value: float) -> FieldViolation | None:
        """What is wrong with `value`, if anything."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        if above and below and math.isfinite(value):
            return None
        low = f"more than {number(self.low)} and " if self.low_open else f"{number(self.low)} to "
        high = f"{'less than' if self.high_open else 'at most'} {number(self.high)}"
        expected = low + (number(self.high) if not (self.low_open or self.high_open) else high)
        return FieldViolation(field, f"got {number(value)}, expected {expected}")


def number(value: float) -> str:
    """A whole number with all its digits, another one with those that matter."""
    return str(value) if isinstance(value, int) else f"{value:g}"


@dataclass(frozen=True)
class Schedule:
    """The learning rate's shape; what belongs to another kind is not looked at."""

    kind: ScheduleKind = ScheduleKind.CONSTANT
    step_epochs: int = 10
    step_factor: float = 0.1
    warmup_fraction: float = 0.3

    def violations(self) -> Iterator[FieldViolation]:
        """Every field that is out of range."""
        for name, value, limits in (
            ("step_epochs", self.step_epochs, Range(1, MAX_EPOCHS)),
            ("step_factor", self.step_factor, Range(0, 1, low_open=True)),
            ("warmup_fraction", self.warmup_fraction, Range(0, 1, low_open=True, high_open=True)),
        ):
            if violation := limits.violation(f"spec.schedule.{name}", value):
                yield violation


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images: pixels, degrees, a share of the size, and the elastic distortion's two."""

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    elastic_strength: float = 0.0
    elastic_smoothing: float = 4.0

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any((self.shift, self.rotation, self.scale, self.elastic_strength))

    def violations(self) -> Iterator[FieldViolation]:
        """Every field that is out of range."""
        for name, value, limits in (
            ("shift", self.shift, Range(0, 16)),
            ("rotation", self.rotation, Range(0, 180)),
            ("scale", self.scale, Range(0, 0.5)),
            ("elastic_strength", self.elastic_strength, Range(0, 64)),
            ("elastic_smoothing", self.elastic_smoothing, Range(1, 16)),
        ):
            if violation := limits.violation(f"spec.augmentation.{name}", value):
                yield violation


class PromotionPolicy(Enum):
    """What decides whether a version goes live when it is published."""

    ALWAYS = "always"
    IF_BETTER = "if_better"
    MANUAL = "manual"


@dataclass(frozen=True)
class Promotion:
    """Whether a version goes live; `margin` is by how much its accuracy must be higher, for IF_BETTER."""

    policy: PromotionPolicy = PromotionPolicy.ALWAYS
    margin: float = 0.0

    def violations(self) -> Iterator[FieldViolation]:
        """What is out of range, or says nothing."""
        if violation := Range(0, 1).violation("spec.promotion.margin", self.margin):
            yield violation
        elif self.margin and self.policy is not PromotionPolicy.IF_BETTER:
            yield FieldViolation("spec.promotion.margin", f"only POLICY_IF_BETTER takes one, not {self.policy.name}")
