"""Losses, and beside each its derivative with respect to the logits that the softmax turns into probabilities.

Both are means over the rows of a minibatch; `rows` may be more than the rows at hand, for a part of a minibatch.
"""

import numpy as np

from shared.network import FloatArray
from shared.recipe import Loss

SMALLEST_PROBABILITY = np.finfo(np.float32).tiny


def loss_and_deltas(loss: Loss, probabilities: FloatArray, targets: FloatArray, rows: int) -> float:
    """The sum of the loss over these rows divided by `rows`; `probabilities` becomes its derivative by the logits.

    Args:
        loss: which one.
        probabilities: (rows at hand, classes); overwritten.
        targets: (rows at hand, classes), each row's sum 1.
        rows: what the mean is over.
    """
    if loss is Loss.CROSS_ENTROPY:
        value = cross_entropy_sum(probabilities, targets) / rows
        # d(cross-entropy ∘ softmax)/d(logits) = probabilities − targets (Goodfellow et al., 2016, 6.2.2)
        np.subtract(probabilities, targets, out=probabilities)
        np.multiply(probabilities, np.float32(1 / rows), out=probabilities)
        return value
    errors = probabilities - targets  # (rows, classes)
    classes: int = targets.shape[1]
    value = float(np.square(errors).sum(dtype=np.float64)) / (rows * classes)
    # The chain rule through the softmax: p ⊙ (e − Σ e·p), times the derivative of the mean of squares, 2 e / classes.
    errors -= np.einsum("rc,rc->r", errors, probabilities)[:, np.newaxis]
    np.multiply(probabilities, errors, out=probabilities)
    np.multiply(probabilities, np.float32(2 / (rows * classes)), out=probabilities)
    return value


def cross_entropy_sum(probabilities: FloatArray, targets: FloatArray) -> float:
    """−Σ targets · ln(probabilities) over rows and classes, in nats; a probability of 0 counts as the least float32."""
    logarithms = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    return -float(np.vdot(targets, logarithms))


def smoothed(targets: FloatArray, label_smoothing: float) -> FloatArray:
    """Targets (rows, classes), the share `label_smoothing` of each spread over all classes (Szegedy et al., 2016)."""
    classes = targets.shape[1]
    result: FloatArray = targets * np.float32(1 - label_smoothing) + np.float32(label_smoothing / classes)
    return result
