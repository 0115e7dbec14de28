"""A rollout that is under way in this process: which requests it takes, and by which version they are tried.

A request with a routing key is always treated the same way, by every process; those without one are spread evenly.
"""

import itertools
from dataclasses import dataclass, field

from inference_service.versions.snapshot_loader import ServedVersion
from shared.rollout import ALL_PERCENT, Rollout, RolloutMode, place_of

# Multiples of the golden ratio's fraction lie evenly between 0 and 1, however many there are (Weyl, 1916), so a share
# of them is exact to a request or two, and no burst falls to the candidate.
GOLDEN_FRACTION = 0.6180339887498949


@dataclass(frozen=True, eq=False)
class ActiveRollout:
    """A rollout whose candidate can answer. Replaced as a whole when the store says something else."""

    rollout: Rollout
    candidate: ServedVersion
    _turns: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def answers(self) -> bool:
        """Whether the candidate answers its share, and does not only compute beside the live version."""
        return self.rollout.mode is RolloutMode.CANARY

    @property
    def label(self) -> tuple[int, str]:
        """What it is counted under, beside the model's name: the candidate's number, and the mode."""
        return self.rollout.version, self.rollout.mode.value

    def takes(self, model: str, key: str | None) -> bool:
        """Whether a request with this routing key, or with none, is in the share."""
        place = next(self._turns) * GOLDEN_FRACTION % 1.0 if key is None else place_of(model, key)
        return place * ALL_PERCENT < self.rollout.percent
