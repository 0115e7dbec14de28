"""What a network can be made of: layers, their shapes, and the parameters each has. Values, no numbers.

Shapes are one example's: (features,) where it is flat, (channels, height, width) where it is an image.
"""

from dataclasses import dataclass
from enum import Enum
from math import prod

Shape = tuple[int, ...]
IMAGE_DIMENSIONS = 3  # channels, height, width


class Activation(Enum):
    """What a layer applies to its weighted sums, element by element."""

    RELU = "relu"
    IDENTITY = "identity"
    TANH = "tanh"
    SIGMOID = "sigmoid"


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, activation(x·W + b), with this many `units`."""

    units: int
    activation: Activation

    def output_shape(self, inputs: Shape) -> Shape:
        """(units,), for flat inputs."""
        if len(inputs) != 1:
            raise ValueError(f"a dense layer takes flat inputs and gets {list(inputs)}; put a flatten layer before it")
        return (self.units,)

    def parameter_shapes(self, inputs: Shape) -> dict[str, Shape]:
        """The weight's (inputs, units) and the bias' (units,)."""
        return {"weight": (inputs[0], self.units), "bias": (self.units,)}


@dataclass(frozen=True)
class Conv2D:
    """`filters` windows of `kernel_size` × `kernel_size`, moved over an image with `padding` zeros on each side."""

    filters: int
    kernel_size: int
    padding: int
    activation: Activation

    def output_shape(self, inputs: Shape) -> Shape:
        """(filters, height, width), for an image."""
        _, height, width = image_shape(inputs, "a convolutional layer")
        lost = self.kernel_size - 1 - 2 * self.padding
        if min(height, width) <= lost:
            raise ValueError(f"a window of {self.kernel_size} does not fit an image of {height} × {width}")
        return (self.filters, height - lost, width - lost)

    def parameter_shapes(self, inputs: Shape) -> dict[str, Shape]:
        """The weight's (filters, channels, kernel_size, kernel_size) and the bias' (filters,)."""
        return {"weight": (self.filters, inputs[0], self.kernel_size, self.kernel_size), "bias": (self.filters,)}


class _WithoutParameters:
    """What a layer says that has nothing to learn."""

    def parameter_shapes(self, _inputs: Shape) -> dict[str, Shape]:
        """None."""
        return {}


@dataclass(frozen=True)
class MaxPool2D(_WithoutParameters):
    """The largest value of each window of `size` × `size`; what is left over at the far edges is dropped."""

    size: int

    def output_shape(self, inputs: Shape) -> Shape:
        """(channels, height, width), for an image."""
        channels, height, width = image_shape(inputs, "a pooling layer")
        if min(height, width) < self.size:
            raise ValueError(f"a window of {self.size} does not fit an image of {height} × {width}")
        return (channels, height // self.size, width // self.size)


@dataclass(frozen=True)
class Flatten(_WithoutParameters):
    """From an image to a flat row: channels, then rows, then columns."""

    def output_shape(self, inputs: Shape) -> Shape:
        """(features,), for an image."""
        return (prod(image_shape(inputs, "a flatten layer")),)


@dataclass(frozen=True)
class Dropout(_WithoutParameters):
    """Sets a share of `rate` of the values to 0 while training, and divides the others by 1 − rate."""

    rate: float

    def output_shape(self, inputs: Shape) -> Shape:
        """What came in."""
        return inputs


Layer = Dense | Conv2D | MaxPool2D | Flatten | Dropout
# What a layer's parameters are called by, before its place among the layers.
NAMES: dict[type[Layer], str] = {
    Dense: "dense", Conv2D: "conv2d", MaxPool2D: "max_pool2d", Flatten: "flatten", Dropout: "dropout",
}  # fmt: skip


def image_shape(inputs: Shape, who: str) -> Shape:
    """`inputs` if they are an image, (channels, height, width); ValueError if not."""
    if len(inputs) != IMAGE_DIMENSIONS:
        raise ValueError(f"{who} takes an image and gets a flat row of {prod(inputs)}")
    return inputs
