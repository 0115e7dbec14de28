"""Losses, and beside each its derivative with respect to the logits that the softmax turns into probabilities.

Both are means over the rows of a minibatch, of which the rows at hand may be a part.
"""

import numpy as np
import numpy.typing as npt

from shared.network import FloatArray
from shared.recipe import Loss

SMALLEST_PROBABILITY = np.finfo(np.float32).tiny


class OutputLoss:
    """A loss with its buffers, for up to `capacity` rows of `class_count` classes."""

    def __init__(self, loss: Loss, capacity: int, class_count: int) -> None:
        self._loss = loss
        self._scratch = np.empty((capacity, class_count), np.float32)
        self._sums = np.empty((capacity, 1), np.float32)

    def compute(self, probabilities: FloatArray, targets: FloatArray, rows: int) -> float:
        """The sum of the loss over these rows divided by `rows`; `probabilities` becomes its derivative by the logits.

        Args:
            probabilities: (rows at hand, classes); overwritten.
            targets: (rows at hand, classes), each row's sum 1.
            rows: what the mean is over.
        """
        scratch = self._scratch[: len(probabilities)]
        if self._loss is Loss.CROSS_ENTROPY:
            np.maximum(probabilities, SMALLEST_PROBABILITY, out=scratch)
            np.log(scratch, out=scratch)
            value = -float(np.vdot(targets, scratch)) / rows
            # d(cross-entropy ∘ softmax)/d(logits) = probabilities − targets (Goodfellow et al., 2016, 6.2.2)
            np.subtract(probabilities, targets, out=probabilities)
            np.multiply(probabilities, np.float32(1 / rows), out=probabilities)
            return value
        errors, sums = np.subtract(probabilities, targets, out=scratch), self._sums[: len(probabilities)]
        classes: int = targets.shape[1]
        value = float(np.vdot(errors, errors)) / (rows * classes)
        # The chain rule through the softmax, p ⊙ (e − Σ e·p), after the derivative of the squares, 2 e / classes.
        np.einsum("rc,rc->r", errors, probabilities, out=sums[:, 0])
        np.subtract(errors, sums, out=errors)
        np.multiply(probabilities, errors, out=probabilities)
        np.multiply(probabilities, np.float32(2 / (rows * classes)), out=probabilities)
        return value


def fill_targets(targets: FloatArray, class_ids: npt.NDArray[np.integer], label_smoothing: float) -> None:
    """Writes one-hot targets (rows, classes), the share `label_smoothing` of each spread over all classes.

    Label smoothing: Szegedy et al., 2016.
    """
    spread = label_smoothing / targets.shape[1]
    targets.fill(spread)
    targets[np.arange(len(targets)), class_ids] = 1 - label_smoothing + spread


def cross_entropy_sum(probabilities: FloatArray, class_ids: npt.NDArray[np.integer]) -> float:
    """−Σ ln of the probability (rows, classes) of each row's class, in nats; 0 counts as the least float32."""
    right = probabilities[np.arange(len(class_ids)), class_ids]
    return -float(np.log(np.maximum(right, SMALLEST_PROBABILITY)).sum(dtype=np.float64))
