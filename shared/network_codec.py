"""Architectures and preprocessings to protobuf messages and back.

The two directions of a type stand together, so that a field added to one is not forgotten in the other.
"""

import math

import numpy as np

from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from shared.network import Architecture
from shared.pb.weightcast.v1 import network_pb2 as pb
from shared.preprocessing import LabelEncoding, Preprocessing, Standardisation
from shared.proto_values import key_of
from shared.training_spec import layer_limits

ACTIVATIONS = {
    Activation.RELU: pb.ACTIVATION_RELU,
    Activation.IDENTITY: pb.ACTIVATION_IDENTITY,
    Activation.TANH: pb.ACTIVATION_TANH,
    Activation.SIGMOID: pb.ACTIVATION_SIGMOID,
}
LABEL_ENCODINGS = {LabelEncoding.ONE_HOT: pb.LABEL_ENCODING_ONE_HOT}


def layer_to_proto(layer: Layer) -> pb.Layer:
    """A layer as a message."""
    match layer:
        case Dense():
            return pb.Layer(dense=pb.Dense(units=layer.units, activation=ACTIVATIONS[layer.activation]))
        case Conv2D():
            conv2d = pb.Conv2D(
                filters=layer.filters,
                kernel_size=layer.kernel_size,
                padding=layer.padding,
                activation=ACTIVATIONS[layer.activation],
            )
            return pb.Layer(conv2d=conv2d)
        case MaxPool2D():
            return pb.Layer(max_pool2d=pb.MaxPool2D(size=layer.size))
        case Flatten():
            return pb.Layer(flatten=pb.Flatten())
        case Dropout():
            return pb.Layer(dropout=pb.Dropout(rate=layer.rate))


def layer_from_proto(proto: pb.Layer) -> Layer:
    """A layer from a message; ValueError where it is of no kind, or has no activation. Numbers are not looked at."""
    match proto.WhichOneof("kind"):
        case "dense":
            return Dense(proto.dense.units, key_of(ACTIVATIONS, proto.dense.activation, "dense.activation"))
        case "conv2d":
            conv2d = proto.conv2d
            activation = key_of(ACTIVATIONS, conv2d.activation, "conv2d.activation")
            return Conv2D(conv2d.filters, conv2d.kernel_size, conv2d.padding, activation)
        case "max_pool2d":
            return MaxPool2D(proto.max_pool2d.size)
        case "flatten":
            return Flatten()
        case "dropout":
            return Dropout(proto.dropout.rate)
        case _:
            raise ValueError("kind is not set, or one that this build does not know")


def architecture_to_proto(architecture: Architecture) -> pb.Architecture:
    """An architecture as a message."""
    return pb.Architecture(
        input_size=architecture.input_size,
        input_shape=architecture.input_shape,
        layers=[layer_to_proto(layer) for layer in architecture.layers],
    )


def architecture_from_proto(proto: pb.Architecture) -> Architecture:
    """An architecture from a message; ValueError where it describes none."""
    input_shape = tuple(proto.input_shape) or (proto.input_size,)
    if min(input_shape) < 1 or math.prod(input_shape) != proto.input_size:
        raise ValueError(f"architecture.input_shape {list(input_shape)} does not give input_size {proto.input_size}")
    layers = []
    for index, layer in enumerate(proto.layers):
        try:
            layers.append(layer_from_proto(layer))
        except ValueError as error:
            raise ValueError(f"architecture.layers[{index}].{error}") from None
        for name, value, limits in layer_limits(layers[-1]):
            if violation := limits.violation(f"architecture.layers[{index}].{name}", value):
                raise ValueError(f"{violation.field}: {violation.description}")
    return Architecture(input_shape, tuple(layers))


def preprocessing_to_proto(preprocessing: Preprocessing) -> pb.Preprocessing:
    """A preprocessing as a message."""
    proto = pb.Preprocessing(
        input_shape=preprocessing.input_shape,
        uint8_scale=preprocessing.uint8_scale,
        feature_min=preprocessing.feature_min,
        feature_max=preprocessing.feature_max,
        label_encoding=LABEL_ENCODINGS[preprocessing.label_encoding],
        feature_names=preprocessing.feature_names,
    )
    if preprocessing.standardisation is not None:
        proto.feature_means.extend(preprocessing.standardisation.means.tolist())
        proto.feature_deviations.extend(preprocessing.standardisation.deviations.tolist())
    return proto


def preprocessing_from_proto(proto: pb.Preprocessing) -> Preprocessing:
    """A preprocessing from a message; ValueError where it describes none."""
    if not proto.input_shape or min(proto.input_shape) < 1:
        raise ValueError("preprocessing needs an input_shape of positive sizes")
    if not (0 < proto.uint8_scale < math.inf and -math.inf < proto.feature_min < proto.feature_max < math.inf):
        raise ValueError("preprocessing needs a positive uint8_scale and a finite range of features")
    preprocessing = Preprocessing(
        input_shape=tuple(proto.input_shape),
        uint8_scale=proto.uint8_scale,
        feature_min=proto.feature_min,
        feature_max=proto.feature_max,
        label_encoding=key_of(LABEL_ENCODINGS, proto.label_encoding, "label_encoding"),
        standardisation=_standardisation_from_proto(proto),
        feature_names=tuple(proto.feature_names),
    )
    for name, found in (("means", proto.feature_means), ("names", proto.feature_names)):
        if found and len(found) != preprocessing.input_size:
            raise ValueError(f"preprocessing has {len(found)} feature_{name} for {preprocessing.input_size} features")
    return preprocessing


def _standardisation_from_proto(proto: pb.Preprocessing) -> Standardisation | None:
    if not proto.feature_means and not proto.feature_deviations:
        return None
    means = np.array(proto.feature_means, np.float32)
    deviations = np.array(proto.feature_deviations, np.float32)
    fit = len(means) == len(deviations) and np.isfinite(means).all() and np.isfinite(deviations).all()
    if not fit or not (deviations > 0).all():
        raise ValueError("preprocessing needs as many positive feature_deviations as feature_means")
    return Standardisation(means, deviations)
