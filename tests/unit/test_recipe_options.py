"""What `weightcast train` is told, as the message it sends."""

from collections.abc import Callable
from typing import Any

import pytest
import typer
from google.protobuf.descriptor import FieldDescriptor

from client.cli.layer_text import layers_of
from client.cli.recipe_options import Recipe
from client.cli.training import model_name
from shared.pb.weightcast.v1 import network_pb2, training_pb2
from shared.pb.weightcast.v1.training_pb2 import Augmentation, Promotion, Schedule, TrainingSpec

ALL = Recipe(
    preset="lenet",
    parent="live",
    promote="if-better",
    margin=0.0,
    layers="dense 8 tanh",
    hidden="9",
    activation="sigmoid",
    initialization="small-normal",
    epochs=1,
    batch_size=2,
    optimizer="adamw",
    learning_rate=0.5,
    momentum=0.9,
    nesterov=False,
    schedule="step",
    step_epochs=4,
    step_factor=0.25,
    loss="mean-squared-error",
    gradient_clip_norm=5.0,
    seed=6,
    publish=False,
    label_smoothing=0.125,
    weight_decay=0.0,
    validation_fraction=0.5,
    early_stopping_patience=7,
    ema_decay=0.75,
    shift=1.0,
    rotation=2.0,
    scale=0.25,
    elastic_strength=3.0,
    elastic_smoothing=4.0,
)


def spec_of(**given: Any) -> TrainingSpec:  # noqa: ANN401 - any option
    spec = TrainingSpec()
    Recipe(**given).write(spec)
    return spec


def test_what_is_not_given_stays_unset() -> None:
    """The service fills in the defaults, so the message is empty."""
    assert spec_of() == TrainingSpec()


def test_every_option_reaches_its_field() -> None:
    """The whole recipe, values of 0 and false included: they are no defaults."""
    spec = TrainingSpec()
    ALL.write(spec)
    assert spec == TrainingSpec(
        preset="lenet",
        parent="live",
        promotion=Promotion(policy=Promotion.POLICY_IF_BETTER, margin=0),
        layers=layers_of("dense 8 tanh"),
        network=training_pb2.DenseNetwork(hidden_layer_sizes=[9], activation=network_pb2.ACTIVATION_SIGMOID),
        initialization=training_pb2.INITIALIZATION_SMALL_NORMAL,
        epochs=1,
        batch_size=2,
        optimizer=training_pb2.OPTIMIZER_ADAMW,
        learning_rate=0.5,
        momentum=0.9,
        nesterov=False,
        schedule=Schedule(kind=Schedule.KIND_STEP, step_epochs=4, step_factor=0.25),
        loss=training_pb2.LOSS_MEAN_SQUARED_ERROR,
        gradient_clip_norm=5.0,
        seed=6,
        publish=False,
        label_smoothing=0.125,
        weight_decay=0.0,
        validation_fraction=0.5,
        early_stopping_patience=7,
        ema_decay=0.75,
        augmentation=Augmentation(shift=1, rotation=2, scale=0.25, elastic_strength=3, elastic_smoothing=4),
    )
    fields: list[FieldDescriptor] = list(TrainingSpec.DESCRIPTOR.fields)
    missing = {field.name for field in fields} - {field.name for field, _ in spec.ListFields()}
    assert missing == {"model", "dataset"}  # a field that the contract gains wants an option


@pytest.mark.parametrize(("text", "sizes"), [("none", []), ("512,256", [512, 256])])
def test_hidden_layers_are_a_network_even_if_there_are_none(text: str, sizes: list[int]) -> None:
    """No hidden layer is something other than nothing said."""
    spec = spec_of(hidden=text)
    assert spec.HasField("network")
    assert list(spec.network.hidden_layer_sizes) == sizes


def test_no_augmentation_is_something_other_than_nothing_said() -> None:
    """The message is there and all 0; one number alone leaves the others 0."""
    assert spec_of(no_augmentation=True).HasField("augmentation")
    assert spec_of(shift=2.0).augmentation == Augmentation(shift=2)


@pytest.mark.parametrize(
    ("promote", "policy"),
    [
        ("always", Promotion.POLICY_ALWAYS),
        ("if-better", Promotion.POLICY_IF_BETTER),
        ("manual", Promotion.POLICY_MANUAL),
    ],
)
def test_every_policy_reaches_the_spec(promote: str, policy: Promotion.Policy.ValueType) -> None:
    """By the name that the help lists."""
    assert spec_of(promote=promote).promotion == Promotion(policy=policy)


def test_a_margin_reaches_the_spec() -> None:
    """As a share, as it was given."""
    expected = Promotion(policy=Promotion.POLICY_IF_BETTER, margin=0.01)
    assert spec_of(promote="if-better", margin=0.01).promotion == expected


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "an activation of nothing": (lambda: spec_of(activation="tanh"), "needs --hidden"),
    "a step without steps": (lambda: spec_of(step_epochs=3), "needs --schedule step"),
    "a step of another schedule": (lambda: spec_of(schedule="cosine", step_factor=0.5), "needs --schedule step"),
    "a warm-up of nothing": (lambda: spec_of(warmup_fraction=0.1), "needs --schedule one-cycle"),
    "a margin of nothing": (lambda: spec_of(margin=0.1), "needs --promote if-better"),
    "a margin of another policy": (lambda: spec_of(promote="always", margin=0.1), "needs --promote if-better"),
    "all and nothing": (lambda: spec_of(no_augmentation=True, scale=0.1), "contradicts --scale"),
    "layers that are none": (lambda: spec_of(layers="dense"), "layer 1"),
    "hidden layers that are none": (lambda: spec_of(hidden="x"), "512,256"),
    "what no field holds": (lambda: spec_of(batch_size=2**40), "too large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_lost_or_means_something_else_is_refused(name: str) -> None:
    """An option that belongs to another must not be passed over silently."""
    make, words = REFUSED[name]
    with pytest.raises(typer.BadParameter, match=words):
        make()


@pytest.mark.parametrize(
    ("dataset", "model"), [("mnist", "mnist"), ("openml:Iris_2", "iris-2"), ("openml:(x)", "x"), ("a" * 80, "a" * 63)]
)
def test_a_data_set_gives_its_model_a_name(dataset: str, model: str) -> None:
    """The data set's own where that can be a model's, and one made of it otherwise."""
    assert model_name(dataset) == model
