"""A network is a value: an immutable architecture and one contiguous float32 vector with named views into it.

Publishing encodes such a value, a hot swap assigns a reference to one, an optimizer updates the vector in one pass.
"""

from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from shared.layers import NAMES, Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, Shape

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Architecture:
    """The shape of a network: the shape of one example, and the layers it passes through.

    Raises:
        ValueError: if the layers do not fit together, or the last one is not dense; says which layer and why.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers or not isinstance(self.layers[-1], Dense):
            raise ValueError("the last layer of a network is dense: its units are the classes")
        _ = self.shapes

    @classmethod
    def dense(cls, input_size: int, hidden_layer_sizes: tuple[int, ...], class_count: int) -> "Architecture":
        """ReLU hidden layers and an identity output layer whose logits go into a softmax."""
        hidden = tuple(Dense(units, Activation.RELU) for units in hidden_layer_sizes)
        return cls((input_size,), (*hidden, Dense(class_count, Activation.IDENTITY)))

    @property
    def input_size(self) -> int:
        """Features of one example."""
        return prod(self.input_shape)

    @property
    def class_count(self) -> int:
        """How many classes the last layer tells apart."""
        return self.shapes[-1][0]

    @cached_property
    def takes_images(self) -> bool:
        """Whether the first layer looks at neighbouring pixels, or at a flat row."""
        first = next(layer for layer in self.layers if not isinstance(layer, Dropout))
        return isinstance(first, Conv2D | MaxPool2D | Flatten)

    @property
    def values_of_one(self) -> int:
        """How many numbers one example takes: in all layers, or in the windows of one line of a convolution."""
        in_windows = (
            inputs[0] * layer.kernel_size**2 * outputs[2]
            for layer, inputs, outputs in zip(self.layers, self.shapes, self.shapes[1:], strict=False)
            if isinstance(layer, Conv2D)
        )
        return max(sum(prod(shape) for shape in self.shapes), *in_windows, 1)

    @cached_property
    def multiply_adds(self) -> int:
        """How many multiplications with an addition the products for one example take."""
        total = 0
        for layer, inputs, outputs in zip(self.layers, self.shapes, self.shapes[1:], strict=False):
            places = prod(outputs[1:]) if isinstance(layer, Conv2D) else 1
            total += places * prod(layer.parameter_shapes(inputs).get("weight", (0,)))
        return total

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of one example at the first layer, then after each layer: flat, or (channels, height, width)."""
        shapes = [self._first_shape()]
        for index, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except ValueError as error:
                raise ValueError(f"layer {index}: {error}") from None
        return tuple(shapes)

    def _first_shape(self) -> Shape:
        if not self.takes_images:
            return (self.input_size,)
        match self.input_shape:
            case (height, width):
                return (1, height, width)
            case (height, width, channels):
                return (channels, height, width)
        raise ValueError(f"layer 0: it takes an image and the examples are {list(self.input_shape)}")

    @cached_property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The name and shape of every parameter, in the order in which they stand in the flat vector."""
        return {
            f"{NAMES[type(layer)]}_{index}.{kind}": shape
            for index, (layer, inputs) in enumerate(zip(self.layers, self.shapes, strict=False))
            for kind, shape in layer.parameter_shapes(inputs).items()
        }

    @property
    def parameter_count(self) -> int:
        """The length of the flat parameter vector."""
        return sum(prod(shape) for shape in self.parameter_shapes.values())


def named_views(architecture: Architecture, vector: FloatArray) -> dict[str, FloatArray]:
    """Views into `vector` (parameter_count,), one for each parameter, sharing its memory."""
    views, start = {}, 0
    for name, shape in architecture.parameter_shapes.items():
        stop = start + prod(shape)
        views[name] = vector[start:stop].reshape(shape)
        start = stop
    return views


@dataclass(frozen=True)
class LayerParameters:
    """A layer's weight and bias: views into a flat vector, empty for a layer that has none."""

    weight: FloatArray
    bias: FloatArray


NO_PARAMETERS = LayerParameters(np.empty(0, np.float32), np.empty(0, np.float32))


def layer_views(architecture: Architecture, vector: FloatArray) -> tuple[LayerParameters, ...]:
    """Each layer's parameters as views into `vector` (parameter_count,)."""
    views = named_views(architecture, vector)
    names = [f"{NAMES[type(layer)]}_{index}" for index, layer in enumerate(architecture.layers)]
    return tuple(
        LayerParameters(views[f"{name}.weight"], views[f"{name}.bias"]) if f"{name}.weight" in views else NO_PARAMETERS
        for name in names
    )


@dataclass(frozen=True, eq=False)
class Network:
    """An architecture with its parameters: a float32 vector (parameter_count,) and views into it.

    Raises:
        ValueError: if `parameters` is not a contiguous float32 vector of the architecture's length.
    """

    architecture: Architecture
    parameters: FloatArray
    views: dict[str, FloatArray] = field(init=False, repr=False)
    layers: tuple[LayerParameters, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        expected = (self.architecture.parameter_count,)
        vector = self.parameters
        if vector.dtype != np.float32 or vector.shape != expected or not vector.flags.c_contiguous:
            raise ValueError(f"expected a contiguous float32 vector {expected}, got {vector.dtype} {vector.shape}")
        object.__setattr__(self, "views", named_views(self.architecture, vector))
        object.__setattr__(self, "layers", layer_views(self.architecture, vector))

    def frozen(self) -> "Network":
        """A copy that nobody can change."""
        parameters = self.parameters.copy()
        parameters.flags.writeable = False
        return Network(self.architecture, parameters)
