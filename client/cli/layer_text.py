"""Layers as people write them, such as "conv 16x5 pad 2 relu, pool 2, flatten, dense 128 tanh": read and written."""

from collections.abc import Iterable, Sequence

from shared.pb.weightcast.v1 import network_pb2
from shared.pb.weightcast.v1.network_pb2 import Activation, Layer

SYNTAX = "conv FILTERSxSIZE [pad N] [ACTIVATION], pool SIZE, flatten, dense UNITS [ACTIVATION], dropout RATE"
ACTIVATIONS = {
    "relu": network_pb2.ACTIVATION_RELU,
    "tanh": network_pb2.ACTIVATION_TANH,
    "sigmoid": network_pb2.ACTIVATION_SIGMOID,
    "identity": network_pb2.ACTIVATION_IDENTITY,
}
ACTIVATION_NAMES = {value: name for name, value in ACTIVATIONS.items()}


class LayerTextError(ValueError):
    """A layer that cannot be read; the message says which, and what is expected."""


def layers_of(text: str) -> list[Layer]:
    """The layers of a text, separated by commas.

    Raises:
        LayerTextError: naming the layer that cannot be read.
    """
    layers = []
    for number, part in enumerate(text.split(","), start=1):
        try:
            layers.append(layer_of(part.lower().split()))
        except ValueError as error:
            raise LayerTextError(f"layer {number}, {part.strip()!r}: {error}") from None
    return layers


def layer_of(words: Sequence[str]) -> Layer:
    """One layer of its words; ValueError says what was expected."""
    match words:
        case ["conv", window, *rest]:
            filters, _, size = window.partition("x")
            padding, rest = (rest[1], rest[2:]) if rest[:1] == ["pad"] and len(rest) > 1 else ("0", rest)
            conv2d = network_pb2.Conv2D(
                filters=whole(filters, "filters and the window's size such as 16x5"),
                kernel_size=whole(size, "filters and the window's size such as 16x5"),
                padding=whole(padding, "the padding"),
                activation=activation_of(rest),
            )
            return Layer(conv2d=conv2d)
        case ["pool", size]:
            return Layer(max_pool2d=network_pb2.MaxPool2D(size=whole(size, "the window's size")))
        case ["flatten"]:
            return Layer(flatten=network_pb2.Flatten())
        case ["dense", units, *rest]:
            return Layer(dense=network_pb2.Dense(units=whole(units, "units"), activation=activation_of(rest)))
        case ["dropout", rate]:
            return Layer(dropout=network_pb2.Dropout(rate=share(rate)))
    raise ValueError(f"expected one of: {SYNTAX}")


def activation_of(words: Sequence[str]) -> Activation.ValueType:
    """The activation that ends a layer; ReLU where none is named."""
    match words:
        case []:
            return network_pb2.ACTIVATION_RELU
        case [name] if name in ACTIVATIONS:
            return ACTIVATIONS[name]
    raise ValueError(f"got {' '.join(words)!r}, expected an activation: {', '.join(ACTIVATIONS)}")


def whole(text: str, what: str) -> int:
    """A whole number that a message can hold."""
    if text.isascii() and text.isdigit() and int(text) < 2**31:
        return int(text)
    raise ValueError(f"got {text!r}, expected {what}, as whole numbers")


def share(text: str) -> float:
    """A number such as 0.3."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"got {text!r}, expected a share such as 0.3") from None


def layers_text(layers: Iterable[Layer]) -> str:
    """Layers as `layers_of` reads them, "none" where there are none."""
    return ", ".join(map(layer_text, layers)) or "none"


def layer_text(layer: Layer) -> str:
    """One layer as `layer_of` reads it."""
    match layer.WhichOneof("kind"):
        case "dense":
            return f"dense {layer.dense.units} {activation_name(layer.dense.activation)}"
        case "conv2d":
            conv = layer.conv2d
            padding = f" pad {conv.padding}" if conv.padding else ""
            return f"conv {conv.filters}x{conv.kernel_size}{padding} {activation_name(conv.activation)}"
        case "max_pool2d":
            return f"pool {layer.max_pool2d.size}"
        case "flatten":
            return "flatten"
        case "dropout":
            return f"dropout {layer.dropout.rate:g}"
    return "unknown"  # a kind that a newer service knows


def activation_name(activation: Activation.ValueType) -> str:
    """Relu and the like, in lower case."""
    return ACTIVATION_NAMES.get(activation, "unknown")


def architecture_text(architecture: network_pb2.Architecture) -> str:
    """A network as one line, "28×28 → conv 6 of 5×5 relu → pool 2 → … → 10"; the last layer's units are the classes."""
    shape = "×".join(map(str, architecture.input_shape or [architecture.input_size]))
    parts = []
    for layer in architecture.layers:
        if layer.HasField("conv2d"):
            conv = layer.conv2d
            padding = f" pad {conv.padding}" if conv.padding else ""
            name = activation_name(conv.activation)
            parts.append(f"conv {conv.filters} of {conv.kernel_size}×{conv.kernel_size}{padding} {name}")
        else:
            parts.append(layer_text(layer).removesuffix(" identity"))
    if parts:
        parts[-1] = parts[-1].removeprefix("dense ")
    return " → ".join([shape, *parts])
