"""Activation functions and their derivatives; both work in place, whatever the array's shape.

A derivative is written in terms of the activation itself, so that the weighted sums need not be kept (Goodfellow et
al., 2016, 6.3): 1 where a ReLU is positive, 1 − tanh² for the tanh, s·(1 − s) for the sigmoid s.
"""

import numpy as np

from shared.layers import Activation
from shared.network import FloatArray

HALF, ONE = np.float32(0.5), np.float32(1)
# NumPy takes five times as long for the maximum of an array and a number as for that of two arrays.
ZEROS = np.zeros(2**16, np.float32)
ZEROS.flags.writeable = False


def activate(activation: Activation, sums: FloatArray) -> None:
    """Replaces weighted sums by their activations."""
    match activation:
        case Activation.RELU:
            np.maximum(sums, zeros_for(sums), out=sums)
        case Activation.TANH:
            np.tanh(sums, out=sums)
        case Activation.SIGMOID:  # as (1 + tanh(z/2)) / 2, which cannot overflow
            np.multiply(sums, HALF, out=sums)
            np.tanh(sums, out=sums)
            np.add(sums, ONE, out=sums)
            np.multiply(sums, HALF, out=sums)
        case Activation.IDENTITY:
            pass


def zeros_for(values: FloatArray) -> FloatArray | np.float32:
    """Zeros that broadcast to the shape of `values`: all of them, a row of them, or for long rows one."""
    if values.size <= ZEROS.size:
        return ZEROS[: values.size].reshape(values.shape)
    length = values.shape[-1]
    return ZEROS[:length] if length <= ZEROS.size else np.float32(0)


def multiply_by_derivative(
    activation: Activation, activations: FloatArray, deltas: FloatArray, scratch: FloatArray
) -> None:
    """Multiplies `deltas` by the derivative at `activations`; `scratch`, contiguous, of their shape, is overwritten."""
    match activation:
        case Activation.RELU:
            active = scratch.reshape(-1).view(np.bool_)[: scratch.size].reshape(scratch.shape)  # a byte each
            np.greater(activations, 0, out=active)
            np.multiply(deltas, active, out=deltas)
        case Activation.TANH:
            np.square(activations, out=scratch)
            np.subtract(ONE, scratch, out=scratch)
            np.multiply(deltas, scratch, out=deltas)
        case Activation.SIGMOID:
            np.subtract(ONE, activations, out=scratch)
            np.multiply(scratch, activations, out=scratch)
            np.multiply(deltas, scratch, out=deltas)
        case Activation.IDENTITY:
            pass
