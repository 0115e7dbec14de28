"""From a client's TrainingSpec message to what it asks for: the fields that are set, in the domain's words.

Unset fields are left out, so that the preset can speak for them. What is of an unknown kind is noted here; what is out
of range, by `TrainingSpec.violations`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from shared.errors import FieldViolation
from shared.layers import Dense, Layer
from shared.network_codec import ACTIVATIONS, layer_from_proto
from shared.pb.weightcast.v1 import network_pb2
from shared.pb.weightcast.v1 import training_pb2 as pb
from shared.proto_values import key_of
from shared.recipe import Range
from shared.spec_codec import (
    INITIALIZATIONS,
    LOSSES,
    OPTIMIZERS,
    augmentation_from_proto,
    given_numbers,
    promotion_from_proto,
    schedule_from_proto,
)
from shared.training_spec import MAX_UNITS
from trainer_service.presets import SpecRequest

MAX_HIDDEN_LAYERS = 16
ENUMS: tuple[tuple[str, Mapping[Any, int], Any], ...] = (
    ("optimizer", OPTIMIZERS, pb.Optimizer),
    ("loss", LOSSES, pb.Loss),
    ("initialization", INITIALIZATIONS, pb.Initialization),
)
MESSAGES: dict[Literal["schedule", "augmentation", "promotion"], Callable[[Any], Any]] = {
    "schedule": schedule_from_proto,
    "augmentation": augmentation_from_proto,
    "promotion": promotion_from_proto,
}


def spec_request(proto: pb.TrainingSpec) -> SpecRequest:
    """What a message asks for. A field of no kind this build knows is left out, and named in `violations`."""
    given, violations = given_numbers(proto), list(_kind_violations(proto))
    for name, table, _ in ENUMS:
        if word := next((word for word, value in table.items() if value == getattr(proto, name)), None):
            given[name] = word
    unreadable = {violation.field for violation in violations}
    for name, read in MESSAGES.items():
        if proto.HasField(name) and not unreadable & {f"spec.{name}.kind", f"spec.{name}.policy"}:
            given[name] = read(getattr(proto, name))
    if of_network := list(_network_violations(proto)):
        violations.extend(of_network)
    elif proto.HasField("network"):
        given["layers"] = dense_layers(proto.network)
    elif proto.layers:
        given["layers"] = hidden_layers(proto)
    return SpecRequest(proto.model, proto.dataset, proto.preset, given, tuple(violations), proto.parent)


def _kind_violations(proto: pb.TrainingSpec) -> Iterator[FieldViolation]:
    """Every enum with a value that this build does not know."""
    for field, value, kind in (
        *((name, getattr(proto, name), kind) for name, _, kind in ENUMS),
        ("schedule.kind", proto.schedule.kind, pb.Schedule.Kind),
        ("promotion.policy", proto.promotion.policy, pb.Promotion.Policy),
    ):
        if value not in kind.values():
            yield FieldViolation(f"spec.{field}", unknown_value(value, kind))


def dense_layers(network: pb.DenseNetwork) -> tuple[Layer, ...]:
    """Fully connected hidden layers."""
    activation = key_of(ACTIVATIONS, network.activation or network_pb2.ACTIVATION_RELU, "activation")
    return tuple(Dense(units, activation) for units in network.hidden_layer_sizes)


def hidden_layers(proto: pb.TrainingSpec) -> tuple[Layer, ...]:
    """The layers spelled out; a layer without activation gets ReLU."""
    layers = []
    for layer in proto.layers:
        filled = network_pb2.Layer()
        filled.CopyFrom(layer)
        for kind in ("dense", "conv2d"):
            if layer.HasField(kind) and not getattr(layer, kind).activation:
                getattr(filled, kind).activation = network_pb2.ACTIVATION_RELU
        layers.append(layer_from_proto(filled))
    return tuple(layers)


def _network_violations(proto: pb.TrainingSpec) -> Iterator[FieldViolation]:
    if proto.HasField("network") and proto.layers:
        yield FieldViolation("spec.layers", "not together with spec.network; send one of them")
    sizes = proto.network.hidden_layer_sizes
    if len(sizes) > MAX_HIDDEN_LAYERS:
        yield FieldViolation(
            "spec.network.hidden_layer_sizes", f"got {len(sizes)} layers, expected at most {MAX_HIDDEN_LAYERS}"
        )
    else:
        for index, units in enumerate(sizes):
            if violation := Range(1, MAX_UNITS).violation(f"spec.network.hidden_layer_sizes[{index}]", units):
                yield violation
    if proto.network.activation not in network_pb2.Activation.values():
        message = unknown_value(proto.network.activation, network_pb2.Activation)
        yield FieldViolation("spec.network.activation", message)
    for index, layer in enumerate(proto.layers):
        kind = layer.WhichOneof("kind")
        if kind is None:
            kinds = ", ".join(field.name for field in network_pb2.Layer.DESCRIPTOR.fields)
            yield FieldViolation(f"spec.layers[{index}].kind", f"not set, expected one of {kinds}")
        elif kind in ("dense", "conv2d") and getattr(layer, kind).activation not in network_pb2.Activation.values():
            message = unknown_value(getattr(layer, kind).activation, network_pb2.Activation)
            yield FieldViolation(f"spec.layers[{index}].{kind}.activation", message)


def unknown_value(value: int, kind: Any) -> str:  # noqa: ANN401 - generated enum wrappers share no type
    """What to say to a number that an enum has no name for."""
    return f"got {value}, expected {' or '.join(kind.keys()[1:])}"
