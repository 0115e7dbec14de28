"""A checkpoint: everything that training changes, at one moment, as flat arrays and facts that JSON can carry.

It promises to share no memory with the training it was taken from, and to be whole after any way through the bytes of
its arrays and the JSON of its facts. What is in it is this package's own business; others read `updates` and `epochs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import WeightcastError
from shared.training_spec import EpochMetrics

FORMAT = 1  # another number, and checkpoints of before are refused
StateArray = npt.NDArray[np.float32 | np.int64]


class CheckpointMismatchError(WeightcastError):
    """The checkpoint is not of this training, which has to start from the beginning."""

    reason = "CHECKPOINT_MISMATCH"


def copies(arrays: Mapping[str, StateArray]) -> dict[str, StateArray]:
    """The same arrays as they are now, contiguous and in memory of their own."""
    return {name: array.copy() for name, array in arrays.items()}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training can be resumed from.

    Attributes:
        arrays: by name, each float32 or int64 (count,).
        facts: what JSON can carry; generators are 128-bit integers, floats have all their digits.
    """

    arrays: Mapping[str, StateArray]
    facts: Mapping[str, Any]

    @property
    def is_readable(self) -> bool:
        """Whether it is in the format that is written now."""
        return self.facts.get("format") == FORMAT

    @property
    def updates(self) -> int:
        """The updates that were done, 0 if the checkpoint is in another format."""
        return int(self.facts["position"]["updates"]) if self.is_readable else 0

    @property
    def epochs(self) -> tuple[EpochMetrics, ...]:
        """The epochs that were finished, none if the checkpoint is in another format."""
        return tuple(EpochMetrics(**each) for each in self.facts["epochs"]) if self.is_readable else ()
