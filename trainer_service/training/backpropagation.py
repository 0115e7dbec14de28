"""The gradient of the mean cross-entropy with respect to every parameter, by the chain rule.

Names follow scikit-learn and Goodfellow et al. (2016, 6.5): `deltas` are the derivatives of the loss with respect to a
layer's weighted sums. All results go into buffers made once; a step allocates no array the size of a batch.
"""

import numpy as np

from shared.forward_pass import ForwardPass, softmax_in_place
from shared.network import Activation, Architecture, FloatArray, Network, named_views

SMALLEST_PROBABILITY = np.finfo(np.float32).tiny


class Backpropagation:
    """Buffers for minibatches of up to `capacity` rows of one architecture.

    `gradient` is the flat vector (parameter_count,) that the last `compute` filled, in the order of the parameters.
    """

    def __init__(self, architecture: Architecture, capacity: int) -> None:
        self.gradient = np.zeros(architecture.parameter_count, np.float32)
        self._forward_pass = ForwardPass(architecture, capacity)
        views = named_views(architecture, self.gradient)
        self._weight_gradients = [views[f"dense_{index}.weight"] for index in range(len(architecture.layers))]
        self._bias_gradients = [views[f"dense_{index}.bias"] for index in range(len(architecture.layers))]
        hidden = architecture.layers[:-1]
        self._deltas = [np.empty((capacity, layer.units), np.float32) for layer in hidden]
        self._active = [np.empty((capacity, layer.units), np.bool_) for layer in hidden]

    def compute(self, network: Network, features: FloatArray, targets: FloatArray) -> float:
        """Fills `gradient` for a minibatch and returns its mean cross-entropy in nats.

        Args:
            network: the network as it is before the update.
            features: (rows, input_size).
            targets: one-hot, (rows, classes).
        """
        activations = self._forward_pass.activations(network, features)
        probabilities = softmax_in_place(activations[-1])  # (rows, classes)
        loss = mean_cross_entropy(probabilities, targets)
        # d(cross-entropy ∘ softmax)/d(logits) = probabilities − targets; divided by rows because the loss is a mean.
        deltas = probabilities
        deltas -= targets
        deltas /= len(features)
        for index in reversed(range(len(network.layers))):
            inputs = activations[index - 1] if index else features
            np.matmul(inputs.T, deltas, out=self._weight_gradients[index])  # (inputs, units)
            np.sum(deltas, axis=0, out=self._bias_gradients[index])  # (units,)
            if index:
                deltas = self._deltas_below(network, index, inputs, deltas)
        return loss

    def _deltas_below(self, network: Network, index: int, activations: FloatArray, deltas: FloatArray) -> FloatArray:
        """The deltas of layer `index` − 1, (rows, its units), from those of layer `index` and its own activations."""
        below, weight = network.layers[index - 1][0], network.layers[index][1]
        result = self._deltas[index - 1][: len(deltas)]
        np.matmul(deltas, weight.T, out=result)
        if below.activation is Activation.RELU:  # whose derivative is 1 where the activation is positive, else 0
            result *= np.greater(activations, 0, out=self._active[index - 1][: len(deltas)])
        return result


def mean_cross_entropy(probabilities: FloatArray, targets: FloatArray) -> float:
    """−Σ targets · ln(probabilities) / rows, in nats, for one-hot `targets` (rows, classes)."""
    predicted = np.einsum("rc,rc->r", probabilities, targets)  # the probability given to the right class
    return float(-np.log(np.maximum(predicted, SMALLEST_PROBABILITY)).mean(dtype=np.float64))
