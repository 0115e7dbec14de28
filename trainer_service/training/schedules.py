"""Learning rate schedules: the rate of each update, counted from 0 over the whole training.

Formulas are those of PyTorch's StepLR, CosineAnnealingLR and OneCycleLR, whose first steps they are tested against.
"""

import math

from shared.recipe import ScheduleKind
from shared.training_spec import TrainingSpec

START_DIVISOR = 25.0
END_DIVISOR = 25.0 * 10_000


class LearningRates:
    """The learning rate of every update of a training with `steps` updates an epoch."""

    def __init__(self, spec: TrainingSpec, steps: int) -> None:
        self._spec, self._steps = spec, steps
        self._total = spec.epochs * steps

    def at(self, update: int) -> float:
        """The rate of the update with this number, from 0."""
        largest, schedule = self._spec.learning_rate, self._spec.schedule
        match schedule.kind:
            case ScheduleKind.CONSTANT:
                return largest
            case ScheduleKind.STEP:
                return largest * schedule.step_factor ** (update // self._steps // schedule.step_epochs)
            case ScheduleKind.COSINE:
                return half_cosine(largest, 0.0, update / self._total)
            case ScheduleKind.ONE_CYCLE:
                return self._one_cycle(update)

    def _one_cycle(self, update: int) -> float:
        largest, last = self._spec.learning_rate, self._total - 1
        if not last:  # PyTorch would take the end's rate, by which a single update learns nothing
            return largest
        top = self._spec.schedule.warmup_fraction * self._total - 1
        if update <= top:
            return half_cosine(largest / START_DIVISOR, largest, update / top if top > 0 else 1.0)
        return half_cosine(largest, largest / END_DIVISOR, (update - top) / (last - top) if last > top else 1.0)


def half_cosine(start: float, end: float, share: float) -> float:
    """From `start` (share 0) to `end` (share 1), slowly at both."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
