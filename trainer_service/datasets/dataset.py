"""A labelled data set as training sees it: raw examples as bytes, class ids, and how examples become features."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shared.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Split:
    """Examples, flattened as stored, uint8 (rows, input_size), and the class of each, int64 (rows,)."""

    examples: npt.NDArray[np.uint8]
    class_ids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_ids)

    def sample(self, count: int) -> "Split":
        """At most `count` examples at even distances, so that a split sorted by class is sampled fairly. No copy."""
        stride = -(-len(self) // count)
        return Split(self.examples[::stride], self.class_ids[::stride])


@dataclass(frozen=True, eq=False)
class Dataset:
    """What training learns from (`train`) and what measures it (`test`)."""

    name: str
    preprocessing: Preprocessing
    class_labels: tuple[str, ...]
    train: Split
    test: Split

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shapes, examples and labels of both splits, lower-case hex."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(repr((split.examples.shape, self.class_labels)).encode())
            digest.update(np.ascontiguousarray(split.examples).data)
            digest.update(np.ascontiguousarray(split.class_ids, dtype="<i8").data)
        return digest.hexdigest()
