"""Minibatches in a shuffled order: examples gathered, augmented and turned into features, in buffers made once.

Augmentation takes about as long as a small network's step, so it runs one minibatch ahead on a thread of its own; NumPy
lets go of the interpreter while it works. The order of draws, and so the result, is the same as without the thread.
"""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from shared.network import FloatArray
from shared.preprocessing import Preprocessing
from trainer_service.datasets.dataset import Split
from trainer_service.training.augmentation import Augmenter
from trainer_service.training.checkpoint import StateArray, copies
from trainer_service.training.losses import fill_targets


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Features (rows, input_size) and targets (rows, classes), valid until the next one is asked for.

    `augmentation` is a copy of the augmenter's state after this minibatch, whatever has been made ahead of it since.
    """

    features: FloatArray
    targets: FloatArray
    augmentation: Mapping[str, StateArray]

    def __len__(self) -> int:
        return len(self.features)


class Minibatches:
    """The minibatches of a split."""

    def __init__(
        self,
        split: Split,
        class_count: int,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        label_smoothing: float = 0.0,
        augmenter: Augmenter | None = None,
    ) -> None:
        self._split, self._preprocessing = split, preprocessing
        self._batch_size, self._label_smoothing, self._augmenter = batch_size, label_smoothing, augmenter
        self.steps = math.ceil(len(split) / batch_size)
        self._examples = np.empty((batch_size, preprocessing.input_size), split.examples.dtype)
        self._buffers = [
            (
                np.empty((batch_size, preprocessing.input_size), np.float32),
                np.empty((batch_size, class_count), np.float32),
            )
            for _ in range(1 if augmenter is None else 2)
        ]

    def epoch(self, order: np.ndarray, done: int = 0) -> Iterator[Minibatch]:
        """Every example once, in this order of indices; the last minibatch may be shorter.

        The first `done` minibatches are left out.
        """
        starts = range(done * self._batch_size, len(order), self._batch_size)
        parts = [order[start : start + self._batch_size] for start in starts]
        if self._augmenter is None:
            for part in parts:
                yield self._prepare(part, self._buffers[0])
            return
        if not parts:
            return
        with ThreadPoolExecutor(1, thread_name_prefix="augmentation") as ahead:
            following = ahead.submit(self._prepare, parts[0], self._buffers[0])
            for number, part in enumerate(parts[1:], start=1):
                current = following.result()
                following = ahead.submit(self._prepare, part, self._buffers[number % 2])
                yield current
            yield following.result()

    def _prepare(self, part: np.ndarray, buffers: tuple[FloatArray, FloatArray]) -> Minibatch:
        rows = len(part)
        features, targets = (buffer[:rows] for buffer in buffers)
        # mode="clip" lets NumPy write straight into `out`; the indices are in range by construction.
        examples = np.take(self._split.examples, part, axis=0, out=self._examples[:rows], mode="clip")
        fill_targets(targets, self._split.class_ids[part], self._label_smoothing)
        if self._augmenter is None:
            self._preprocessing.features(examples, out=features)
            return Minibatch(features, targets, {})
        images = cast("npt.NDArray[np.uint8]", examples)  # a spec that augments anything else is refused
        self._augmenter.apply(images, out=features)
        np.multiply(features, np.float32(self._preprocessing.uint8_scale), out=features)
        return Minibatch(features, targets, copies(self._augmenter.state()))
