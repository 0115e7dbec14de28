"""From a client's message to the fields it sets: in the domain's words, with everything unknown named at once."""

from typing import Any

import pytest

from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPool2D
from shared.pb.weightcast.v1 import network_pb2
from shared.pb.weightcast.v1 import training_pb2 as pb
from shared.recipe import Augmentation, Initialization, Loss, Optimizer, Schedule, ScheduleKind
from trainer_service.presets import SpecRequest
from trainer_service.spec_request import spec_request

UNKNOWN: Any = 99


def given_fields(proto: pb.TrainingSpec) -> dict[str, Any]:
    """What a message without mistakes sets."""
    request = spec_request(proto)
    assert request.violations == ()
    return dict(request.given)


def refusal(proto: pb.TrainingSpec) -> dict[str, str]:
    """What is wrong with each field."""
    return {violation.field: violation.description for violation in spec_request(proto).violations}


def test_a_message_that_sets_nothing_gives_nothing() -> None:
    """So that the preset can speak for all of it."""
    request = spec_request(pb.TrainingSpec(model="m", dataset="d", preset="lenet"))
    assert request == SpecRequest("m", "d", "lenet", {}, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("seed", 0),
        ("label_smoothing", 0.0),
        ("momentum", 0.0),
        ("nesterov", False),
        ("weight_decay", 0.0),
        ("gradient_clip_norm", 0.0),
        ("validation_fraction", 0.0),
        ("early_stopping_patience", 0),
        ("ema_decay", 0.0),
        ("publish", False),
    ],
)
def test_a_number_that_is_set_to_zero_is_set(name: str, value: Any) -> None:  # noqa: ANN401 - 0 of any type
    """0 is something to ask for, and not what the preset would say."""
    assert given_fields(pb.TrainingSpec(**{name: value})) == {name: value}


def test_words_come_in_the_domains_words() -> None:
    """Optimizer, loss, initialisation, schedule and augmentation; what a message leaves 0 is the default there."""
    proto = pb.TrainingSpec(
        optimizer=pb.OPTIMIZER_RMSPROP,
        loss=pb.LOSS_MEAN_SQUARED_ERROR,
        initialization=pb.INITIALIZATION_ZEROS,
        schedule=pb.Schedule(kind=pb.Schedule.KIND_STEP, step_epochs=7),
        augmentation=pb.Augmentation(rotation=5),
    )
    assert given_fields(proto) == {
        "optimizer": Optimizer.RMSPROP,
        "loss": Loss.MEAN_SQUARED_ERROR,
        "initialization": Initialization.ZEROS,
        "schedule": Schedule(ScheduleKind.STEP, step_epochs=7, step_factor=0.1, warmup_fraction=0.3),
        "augmentation": Augmentation(rotation=5, elastic_smoothing=4),
    }


def test_an_empty_schedule_or_augmentation_is_given_too() -> None:
    """It says constant, and none."""
    proto = pb.TrainingSpec(schedule=pb.Schedule(), augmentation=pb.Augmentation())
    assert given_fields(proto) == {"schedule": Schedule(), "augmentation": Augmentation()}


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (pb.DenseNetwork(), ()),
        (pb.DenseNetwork(hidden_layer_sizes=[5, 4]), (Dense(5, Activation.RELU), Dense(4, Activation.RELU))),
        (
            pb.DenseNetwork(hidden_layer_sizes=[5], activation=network_pb2.ACTIVATION_SIGMOID),
            (Dense(5, Activation.SIGMOID),),
        ),
        (pb.DenseNetwork(hidden_layer_sizes=[8192] * 16), (Dense(8192, Activation.RELU),) * 16),
    ],
)
def test_a_dense_network_is_its_hidden_layers(network: pb.DenseNetwork, layers: tuple[Dense, ...]) -> None:
    """With ReLU where it names no activation; an empty one is softmax regression and not the preset's."""
    assert given_fields(pb.TrainingSpec(network=network)) == {"layers": layers}


def test_layers_of_every_kind_can_be_spelled_out() -> None:
    """With ReLU where they name no activation; the message itself stays as it came."""
    proto = pb.TrainingSpec(
        layers=[
            network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=4, kernel_size=3, padding=1)),
            network_pb2.Layer(
                conv2d=network_pb2.Conv2D(filters=4, kernel_size=3, activation=network_pb2.ACTIVATION_TANH)
            ),
            network_pb2.Layer(max_pool2d=network_pb2.MaxPool2D(size=2)),
            network_pb2.Layer(flatten=network_pb2.Flatten()),
            network_pb2.Layer(dropout=network_pb2.Dropout(rate=0.5)),
            network_pb2.Layer(dense=network_pb2.Dense(units=9)),
            network_pb2.Layer(dense=network_pb2.Dense(units=8, activation=network_pb2.ACTIVATION_IDENTITY)),
        ]
    )
    before = proto.SerializeToString()
    assert given_fields(proto)["layers"] == (
        Conv2D(4, 3, 1, Activation.RELU),
        Conv2D(4, 3, 0, Activation.TANH),
        MaxPool2D(2),
        Flatten(),
        Dropout(0.5),
        Dense(9, Activation.RELU),
        Dense(8, Activation.IDENTITY),
    )
    assert proto.SerializeToString() == before


def test_every_word_of_no_known_kind_is_named_at_once() -> None:
    """Each with its path, what came and the words there are; it is left out of what is given."""
    proto = pb.TrainingSpec(
        epochs=3,
        optimizer=UNKNOWN,
        loss=UNKNOWN,
        initialization=UNKNOWN,
        schedule=pb.Schedule(kind=UNKNOWN),
        network=pb.DenseNetwork(activation=UNKNOWN, hidden_layer_sizes=[4, 0, 8193]),
    )
    proto.layers.add().dense.activation = UNKNOWN
    proto.layers.add().conv2d.activation = UNKNOWN
    proto.layers.add()
    assert spec_request(proto).given == {"epochs": 3}
    assert refusal(proto) == {
        "spec.optimizer": "got 99, expected OPTIMIZER_SGD or OPTIMIZER_ADAM or OPTIMIZER_RMSPROP or OPTIMIZER_ADAMW",
        "spec.loss": "got 99, expected LOSS_CROSS_ENTROPY or LOSS_MEAN_SQUARED_ERROR",
        "spec.initialization": "got 99, expected INITIALIZATION_HE or INITIALIZATION_GLOROT"
        " or INITIALIZATION_SMALL_NORMAL or INITIALIZATION_ZEROS",
        "spec.schedule.kind": "got 99, expected KIND_CONSTANT or KIND_STEP or KIND_COSINE or KIND_ONE_CYCLE",
        "spec.layers": "not together with spec.network; send one of them",
        "spec.network.hidden_layer_sizes[1]": "got 0, expected 1 to 8192",
        "spec.network.hidden_layer_sizes[2]": "got 8193, expected 1 to 8192",
        **dict.fromkeys(
            ("spec.network.activation", "spec.layers[0].dense.activation", "spec.layers[1].conv2d.activation"),
            "got 99, expected ACTIVATION_RELU or ACTIVATION_IDENTITY or ACTIVATION_TANH or ACTIVATION_SIGMOID",
        ),
        "spec.layers[2].kind": "not set, expected one of dense, conv2d, max_pool2d, flatten, dropout",
    }


def test_too_many_hidden_layers_are_counted() -> None:
    """And not looked at one by one."""
    found = refusal(pb.TrainingSpec(network=pb.DenseNetwork(hidden_layer_sizes=[0] * 17)))
    assert found == {"spec.network.hidden_layer_sizes": "got 17 layers, expected at most 16"}
