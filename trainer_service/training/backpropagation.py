"""The gradient of the loss with respect to every parameter, by the chain rule.

Names follow scikit-learn and Goodfellow et al. (2016, 6.5): `deltas` are the derivatives of the loss with respect to a
layer's weighted sums. All results go into buffers made once; a step allocates no array the size of a batch.
"""

from math import prod

import numpy as np

from shared.activations import multiply_by_derivative
from shared.convolution import Conv2DForward, MaxPool2DForward
from shared.forward_pass import (
    DenseForward,
    DropoutForward,
    FlattenForward,
    ForwardPass,
    LayerForward,
    softmax_in_place,
)
from shared.network import Architecture, FloatArray, LayerParameters, Network, layer_views
from shared.recipe import Loss
from trainer_service.training.convolution_gradients import Conv2DBack, MaxPool2DBack
from trainer_service.training.losses import OutputLoss


class Backpropagation:
    """Buffers for minibatches of up to `capacity` rows of one architecture.

    `gradient` is the flat vector (parameter_count,) that the last `compute` filled, in the order of the parameters.
    Dropout layers draw from `rng`.
    """

    def __init__(self, architecture: Architecture, capacity: int, loss: Loss, rng: np.random.Generator) -> None:
        self.gradient = np.zeros(architecture.parameter_count, np.float32)
        self._loss = OutputLoss(loss, capacity, architecture.class_count)
        self._forward_pass = ForwardPass(architecture, capacity, rng)
        gradients = layer_views(architecture, self.gradient)
        # The first layer that has parameters: the deltas below it are nobody's gradient.
        first = next(index for index, views in enumerate(gradients) if views.weight.size)
        self._first = first
        self._layers = [
            gradient_of(forward, views, capacity, prod(inputs), is_first=index == first)
            for index, (forward, views, inputs) in enumerate(
                zip(self._forward_pass.layers, gradients, architecture.shapes, strict=False)
            )
        ]

    def compute(self, network: Network, features: FloatArray, targets: FloatArray, rows: int | None = None) -> float:
        """Fills `gradient` for a minibatch and returns its mean loss.

        Args:
            network: the network as it is before the update.
            features: (rows, input_size).
            targets: (rows, classes), each row's sum 1.
            rows: the rows of the whole minibatch, where this is a part of it: the mean is over them.
        """
        activations = self._forward_pass.activations(network, features)
        probabilities = softmax_in_place(activations[-1])  # (rows, classes)
        loss = self._loss.compute(probabilities, targets, rows or len(features))
        deltas = probabilities
        for index in reversed(range(self._first, len(self._layers))):
            inputs, outputs = activations[index], activations[index + 1]
            deltas = self._layers[index].back(network.layers[index], inputs, outputs, deltas)
        return loss


class DenseBack:
    """Back through a fully connected layer. Its deltas come as derivatives by its activations."""

    def __init__(
        self, forward: DenseForward, gradient: LayerParameters, capacity: int, input_size: int, *, is_first: bool
    ) -> None:
        self._layer, self._gradient = forward.layer, gradient
        self._ones = np.ones(capacity, np.float32)
        self._scratch = np.empty((capacity, forward.layer.units), np.float32)
        self._deltas_below = None if is_first else np.empty((capacity, input_size), np.float32)

    def back(
        self, parameters: LayerParameters, inputs: FloatArray, outputs: FloatArray, deltas: FloatArray
    ) -> FloatArray:
        """Fills the layer's gradient; returns the derivative by its inputs, (rows, inputs)."""
        rows = len(deltas)
        multiply_by_derivative(self._layer.activation, outputs, deltas, self._scratch[:rows])
        np.matmul(inputs.T, deltas, out=self._gradient.weight)  # (inputs, units)
        np.matmul(self._ones[:rows], deltas, out=self._gradient.bias)  # (units,): a sum over rows, by BLAS
        if self._deltas_below is None:
            return deltas
        return np.matmul(deltas, parameters.weight.T, out=self._deltas_below[:rows])


class FlattenBack:
    """Back from flat rows to images."""

    def __init__(self, forward: FlattenForward, capacity: int) -> None:
        self._shape = forward.input_shape
        self._deltas = np.empty(prod(self._shape) * capacity, np.float32)

    def back(
        self, _parameters: LayerParameters, _inputs: FloatArray, _outputs: FloatArray, deltas: FloatArray
    ) -> FloatArray:
        """The same deltas, (channels, height, width, rows)."""
        rows = len(deltas)
        images = self._deltas[: deltas.size].reshape(-1, rows)
        np.copyto(images, deltas.T)
        return images.reshape(*self._shape, rows)


class DropoutBack:
    """Back through a dropout layer: what was dropped has no influence."""

    def __init__(self, forward: DropoutForward) -> None:
        self._forward = forward

    def back(
        self, _parameters: LayerParameters, _inputs: FloatArray, _outputs: FloatArray, deltas: FloatArray
    ) -> FloatArray:
        """The deltas of the values that were kept, scaled as those were."""
        return np.multiply(deltas, self._forward.factors, out=deltas)


LayerBack = DenseBack | Conv2DBack | MaxPool2DBack | FlattenBack | DropoutBack


def gradient_of(
    forward: LayerForward,
    gradient: LayerParameters,
    capacity: int,
    input_size: int,
    *,
    is_first: bool,
) -> LayerBack:
    """What goes back through the layer that `forward` computes, filling the views `gradient`."""
    match forward:
        case DenseForward():
            return DenseBack(forward, gradient, capacity, input_size, is_first=is_first)
        case Conv2DForward():
            return Conv2DBack(forward, gradient, capacity, is_first=is_first)
        case MaxPool2DForward():
            return MaxPool2DBack(forward, capacity)
        case FlattenForward():
            return FlattenBack(forward, capacity)
        case DropoutForward():
            return DropoutBack(forward)
