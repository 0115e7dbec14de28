"""The forward pass that training, evaluation and inference share: features in, logits and probabilities out.

It writes into buffers made once, so that a step or a request allocates nothing; one instance belongs to one thread.
"""

from math import prod

import numpy as np

from shared.activations import activate
from shared.convolution import Conv2DForward, MaxPool2DForward
from shared.layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, Shape
from shared.network import Architecture, FloatArray, LayerParameters, Network

# Rows computed at a time hold about this many values in all layers: enough for the products to be efficient, few enough
# to stay near a core.
CHUNK_VALUES = 2**19


class DenseForward:
    """Outputs of one fully connected layer."""

    def __init__(self, layer: Dense, _inputs: Shape, capacity: int) -> None:
        self.layer = layer
        self._outputs = np.empty((capacity, layer.units), np.float32)

    def run(self, parameters: LayerParameters, inputs: FloatArray) -> FloatArray:
        """activation(x·W + b), (rows, units)."""
        outputs = self._outputs[: len(inputs)]
        np.matmul(inputs, parameters.weight, out=outputs)
        np.add(outputs, parameters.bias, out=outputs)
        activate(self.layer.activation, outputs)
        return outputs


class FlattenForward:
    """From images (channels, height, width, rows) to rows (rows, features)."""

    def __init__(self, layer: Flatten, inputs: Shape, capacity: int) -> None:
        self.layer, self.input_shape = layer, inputs
        self._outputs = np.empty((capacity, prod(inputs)), np.float32)

    def run(self, _parameters: LayerParameters, images: FloatArray) -> FloatArray:
        """(rows, features)."""
        rows = images.shape[-1]
        outputs = self._outputs[:rows]
        np.copyto(outputs, images.reshape(-1, rows).T)
        return outputs


class DropoutForward:
    """What a dropout layer does while training; without a generator, nothing.

    `factors`, of the last inputs' shape, is 0 where a value was dropped and 1 / (1 − rate) elsewhere.
    """

    def __init__(self, layer: Dropout, inputs: Shape, capacity: int, rng: np.random.Generator | None) -> None:
        self.layer, self._rng = layer, rng
        size = prod(inputs) * capacity if rng else 0
        self._outputs, self._factors = np.empty(size, np.float32), np.empty(size, np.float32)
        self._kept = np.empty(size, np.bool_)
        self.factors: FloatArray = self._factors

    def run(self, _parameters: LayerParameters, inputs: FloatArray) -> FloatArray:
        """The values that are kept, scaled up, and 0 for the others."""
        if self._rng is None:
            return inputs
        outputs, kept = self._outputs[: inputs.size], self._kept[: inputs.size]
        factors = self._factors[: inputs.size]
        self._rng.random(out=factors, dtype=np.float32)
        np.greater_equal(factors, np.float32(self.layer.rate), out=kept)
        np.multiply(kept, np.float32(1 / (1 - self.layer.rate)), out=factors)
        self.factors = factors.reshape(inputs.shape)
        return np.multiply(inputs, self.factors, out=outputs.reshape(inputs.shape))


LayerForward = DenseForward | Conv2DForward | MaxPool2DForward | FlattenForward | DropoutForward


def layer_forward(layer: Layer, inputs: Shape, capacity: int, rng: np.random.Generator | None) -> LayerForward:
    """What computes a layer."""
    match layer:
        case Dense():
            return DenseForward(layer, inputs, capacity)
        case Conv2D():
            return Conv2DForward(layer, inputs, capacity)
        case MaxPool2D():
            return MaxPool2DForward(layer, inputs, capacity)
        case Flatten():
            return FlattenForward(layer, inputs, capacity)
        case Dropout():
            return DropoutForward(layer, inputs, capacity, rng)


class ForwardPass:
    """Buffers for up to `capacity` rows of one architecture, and the arithmetic that fills them.

    With a generator, dropout layers drop; that is for training only.
    """

    def __init__(self, architecture: Architecture, capacity: int, rng: np.random.Generator | None = None) -> None:
        self.capacity = capacity
        self._architecture = architecture
        first = prod(architecture.input_shape) * capacity if architecture.takes_images else 0
        self._images = np.empty(first, np.float32)
        self.layers = [
            layer_forward(layer, inputs, capacity, rng)
            for layer, inputs in zip(architecture.layers, architecture.shapes, strict=False)
        ]

    def activations(self, network: Network, features: FloatArray) -> list[FloatArray]:
        """What went into the first layer, and then each layer's output for `features` (rows, input_size).

        Flat ones are (rows, units), images (channels, height, width, rows); the last one holds the logits. They are
        float32 and valid until the next call.
        """
        activations = [self._first_inputs(features)]
        for layer, parameters in zip(self.layers, network.layers, strict=True):
            activations.append(layer.run(parameters, activations[-1]))
        return activations

    def logits(self, network: Network, features: FloatArray) -> FloatArray:
        """The last layer's outputs: float32 (rows, classes), valid until the next call."""
        return self.activations(network, features)[-1]

    def _first_inputs(self, features: FloatArray) -> FloatArray:
        if not self._architecture.takes_images:
            return features
        rows, shape = len(features), self._architecture.input_shape
        images = self._images[: features.size].reshape(*self._architecture.shapes[0], rows)
        examples = features.reshape(rows, *shape)
        if len(shape) == 2:  # noqa: PLR2004 - height and width, no channels
            np.copyto(images[0], examples.transpose(1, 2, 0))
        else:
            np.copyto(images, examples.transpose(3, 1, 2, 0))
        return images


def rows_at_once(architecture: Architecture, most: int) -> int:
    """How many rows of an architecture are best computed together, 1 to `most`."""
    return max(1, min(most, CHUNK_VALUES // architecture.values_of_one))


def softmax_in_place(logits: FloatArray) -> FloatArray:
    """Turns logits (rows, classes) into probabilities in place and returns them.

    exp(z − max z) / Σ exp(z − max z), which equals the softmax and cannot overflow (Goodfellow et al., 2016, 4.1).
    """
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
