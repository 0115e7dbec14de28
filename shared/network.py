"""A network is a value: an immutable architecture and one contiguous float32 vector with named views into it.

Publishing encodes such a value, a hot swap assigns a reference to one, an optimizer updates the vector in one pass.
"""

from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Activation(Enum):
    """What a layer applies to its weighted sums, element by element."""

    RELU = "relu"
    IDENTITY = "identity"


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, activation(x·W + b), with this many `units`."""

    units: int
    activation: Activation


@dataclass(frozen=True)
class Architecture:
    """The shape of a network: how many features go in, and the layers they pass through."""

    input_size: int
    layers: tuple[Dense, ...]

    @classmethod
    def dense(cls, input_size: int, hidden_layer_sizes: tuple[int, ...], class_count: int) -> "Architecture":
        """ReLU hidden layers and an identity output layer whose logits go into a softmax."""
        hidden = tuple(Dense(units, Activation.RELU) for units in hidden_layer_sizes)
        return cls(input_size, (*hidden, Dense(class_count, Activation.IDENTITY)))

    @property
    def class_count(self) -> int:
        """How many classes the last layer tells apart."""
        return self.layers[-1].units

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """The width of the input and of every layer."""
        return (self.input_size, *(layer.units for layer in self.layers))

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of every parameter, in the order in which they stand in the flat vector."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (inputs, units) in enumerate(pairwise(self.layer_sizes)):
            shapes[f"dense_{index}.weight"] = (inputs, units)
            shapes[f"dense_{index}.bias"] = (units,)
        return shapes

    @property
    def parameter_count(self) -> int:
        """The length of the flat parameter vector."""
        return sum(prod(shape) for shape in self.parameter_shapes().values())


def named_views(architecture: Architecture, vector: FloatArray) -> dict[str, FloatArray]:
    """Views into `vector` (parameter_count,), one for each parameter, sharing its memory."""
    views, start = {}, 0
    for name, shape in architecture.parameter_shapes().items():
        stop = start + prod(shape)
        views[name] = vector[start:stop].reshape(shape)
        start = stop
    return views


@dataclass(frozen=True, eq=False)
class Network:
    """An architecture with its parameters: a float32 vector (parameter_count,) and named views into it.

    `layers` holds each layer with its weight (inputs, units) and bias (units,), first to last.

    Raises:
        ValueError: if `parameters` is not a contiguous float32 vector of the architecture's length.
    """

    architecture: Architecture
    parameters: FloatArray
    views: dict[str, FloatArray] = field(init=False, repr=False)
    layers: tuple[tuple[Dense, FloatArray, FloatArray], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        expected = (self.architecture.parameter_count,)
        vector = self.parameters
        if vector.dtype != np.float32 or vector.shape != expected or not vector.flags.c_contiguous:
            raise ValueError(f"expected a contiguous float32 vector {expected}, got {vector.dtype} {vector.shape}")
        views = named_views(self.architecture, vector)
        object.__setattr__(self, "views", views)
        object.__setattr__(
            self,
            "layers",
            tuple(
                (layer, views[f"dense_{index}.weight"], views[f"dense_{index}.bias"])
                for index, layer in enumerate(self.architecture.layers)
            ),
        )

    def frozen(self) -> "Network":
        """A copy that nobody can change."""
        parameters = self.parameters.copy()
        parameters.flags.writeable = False
        return Network(self.architecture, parameters)
