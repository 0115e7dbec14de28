"""The forward pass that training, evaluation and inference share: features in, logits and probabilities out.

It writes into buffers made once, so that a step or a request allocates nothing; one instance belongs to one thread.
"""

import numpy as np

from shared.network import Activation, Architecture, FloatArray, Network


class ForwardPass:
    """Buffers for up to `capacity` rows of one architecture, and the arithmetic that fills them."""

    def __init__(self, architecture: Architecture, capacity: int) -> None:
        self.capacity = capacity
        self._outputs = [np.empty((capacity, layer.units), np.float32) for layer in architecture.layers]

    def activations(self, network: Network, features: FloatArray) -> list[FloatArray]:
        """Every layer's output for `features` (rows, input_size); the last one holds the logits.

        They are float32 views (rows, units), valid until the next call.
        """
        rows = len(features)
        activations = [buffer[:rows] for buffer in self._outputs]
        inputs = features
        for (layer, weight, bias), outputs in zip(network.layers, activations, strict=True):
            np.matmul(inputs, weight, out=outputs)  # (rows, units)
            np.add(outputs, bias, out=outputs)
            if layer.activation is Activation.RELU:
                np.maximum(outputs, 0, out=outputs)
            inputs = outputs
        return activations

    def logits(self, network: Network, features: FloatArray) -> FloatArray:
        """The last layer's outputs: float32 (rows, classes), valid until the next call."""
        return self.activations(network, features)[-1]


def softmax_in_place(logits: FloatArray) -> FloatArray:
    """Turns logits (rows, classes) into probabilities in place and returns them.

    exp(z − max z) / Σ exp(z − max z), which equals the softmax and cannot overflow (Goodfellow et al., 2016, 4.1).
    """
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
