"""What a training job may be told: the ends of every range, contradictions, and every bad field named at once."""

import math
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import InvalidInputError
from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, Shape
from shared.network import Architecture
from shared.recipe import Augmentation, Loss, Optimizer, Schedule, ScheduleKind
from shared.training_spec import TrainingSpec, checked_model_name

GOOD = TrainingSpec("mnist", "digits", seed=0)
RELU = Activation.RELU
SGD: dict[str, Any] = {"optimizer": Optimizer.SGD}
PICTURES = (Conv2D(6, 5, 2, RELU), MaxPool2D(2), Flatten())


def violations(input_shape: Shape | None = None, **changes: Any) -> dict[str, str]:  # noqa: ANN401 - any field's value
    """Each bad field with what is wrong with it."""
    return {found.field: found.description for found in replace(GOOD, **changes).violations(input_shape)}


def schedule(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - the same
    return {"schedule": Schedule(ScheduleKind.STEP, **changes)}


def augmentation(**changes: float) -> dict[str, Any]:
    return {"augmentation": Augmentation(**changes)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": "a"},
        {"model": "0-a"},
        {"model": "a" * 63},
        {"layers": ()},
        {"layers": (Dense(1, RELU),) * 32},
        {"layers": (Dense(8192, RELU), Dense(1, RELU))},
        {"layers": (Conv2D(512, 15, 14, RELU), MaxPool2D(15), Flatten())},
        {"layers": (Dropout(1e-9), Conv2D(1, 1, 0, RELU), MaxPool2D(2), Flatten(), Dropout(0.999))},
        *({"epochs": value} for value in (1, 1000)),
        *({"batch_size": value} for value in (1, 65536)),
        *({"learning_rate": value} for value in (10.0, 1e-12)),
        *({"seed": value} for value in (0, 2**63 - 1)),
        *({"label_smoothing": value} for value in (0.0, 0.999)),
        *({**SGD, "momentum": value, "nesterov": value > 0} for value in (0.0, 0.999)),
        *({"weight_decay": value} for value in (0.0, 1.0)),
        *({"gradient_clip_norm": value} for value in (0.0, 1e6)),
        *({"validation_fraction": value} for value in (0.0, 0.5)),
        *({"early_stopping_patience": value, "validation_fraction": 0.1} for value in (0, 1000)),
        *({"ema_decay": value} for value in (0.0, 0.9999)),
        *(schedule(step_epochs=value) for value in (1, 1000)),
        *(schedule(step_factor=value) for value in (1e-9, 1.0)),
        *(schedule(warmup_fraction=value) for value in (1e-9, 0.999)),
        augmentation(shift=16.0, rotation=180.0, scale=0.5, elastic_strength=64.0, elastic_smoothing=16.0),
        augmentation(shift=0.0, rotation=0.0, scale=0.0, elastic_strength=0.0, elastic_smoothing=1.0),
    ],
    ids=str,
)
def test_everything_within_the_limits_can_be_trained(changes: dict[str, Any]) -> None:
    """Both ends of every range."""
    assert violations(**changes) == {}


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("epochs", (0, -1, 1001), "1 to 1000"),
        ("batch_size", (0, -1, 65537), "1 to 65536"),
        ("learning_rate", (0.0, -0.1, 10.5, math.nan, math.inf), "more than 0 and at most 10"),
        ("label_smoothing", (-0.1, 1.0, math.nan), "0 to less than 1"),
        ("weight_decay", (-0.1, 1.5, math.nan), "0 to 1"),
        ("gradient_clip_norm", (-1.0, 2e6, math.nan, math.inf), "0 to 1e+06"),
        ("validation_fraction", (-0.1, 0.6, math.nan), "0 to 0.5"),
        ("ema_decay", (-0.1, 1.0, math.nan), "0 to less than 1"),
        ("seed", (-1, 2**63), "0 to 9223372036854775807"),
        ("schedule.step_epochs", (0, 1001), "1 to 1000"),
        ("schedule.step_factor", (0.0, 1.5, math.nan), "more than 0 and at most 1"),
        ("schedule.warmup_fraction", (0.0, 1.0, math.nan), "more than 0 and less than 1"),
        ("augmentation.shift", (-1.0, 17.0, math.nan), "0 to 16"),
        ("augmentation.rotation", (-1.0, 181.0, math.inf), "0 to 180"),
        ("augmentation.scale", (-0.1, 0.6), "0 to 0.5"),
        ("augmentation.elastic_strength", (-1.0, 65.0), "0 to 64"),
        ("augmentation.elastic_smoothing", (0.5, 17.0), "1 to 16"),
    ],
)
def test_what_is_out_of_range_is_named(field: str, values: tuple[float, ...], expected: str) -> None:
    """The field's path in the request, what came and what is expected."""
    name, _, inner = field.partition(".")
    for value in values:
        changes: dict[str, Any] = {name: replace(getattr(GOOD, name), **{inner: value}) if inner else value}
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        assert violations(**changes) == {f"spec.{field}": f"got {shown}, expected {expected}"}


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_a_momentum_out_of_range_is_named(momentum: float) -> None:
    """With the optimizer that takes one."""
    expected = f"got {momentum:g}, expected 0 to less than 1"
    assert violations(**SGD, momentum=momentum) == {"spec.momentum": expected}


@pytest.mark.parametrize("patience", [-1, 1001])
def test_a_patience_out_of_range_is_named(patience: int) -> None:
    """Even where there is a validation split."""
    expected = f"got {patience}, expected 0 to 1000"
    found = violations(validation_fraction=0.1, early_stopping_patience=patience)
    assert found == {"spec.early_stopping_patience": expected}


@pytest.mark.parametrize(
    ("layer", "field", "expected"),
    [
        (Dense(0, RELU), "dense.units", "got 0, expected 1 to 8192"),
        (Dense(8193, RELU), "dense.units", "got 8193, expected 1 to 8192"),
        (Conv2D(0, 3, 0, RELU), "conv2d.filters", "got 0, expected 1 to 512"),
        (Conv2D(513, 3, 0, RELU), "conv2d.filters", "got 513, expected 1 to 512"),
        (Conv2D(1, 0, 0, RELU), "conv2d.kernel_size", "got 0, expected 1 to 15"),
        (Conv2D(1, 16, 0, RELU), "conv2d.kernel_size", "got 16, expected 1 to 15"),
        (Conv2D(1, 3, -1, RELU), "conv2d.padding", "got -1, expected 0 to 2"),
        (Conv2D(1, 3, 3, RELU), "conv2d.padding", "got 3, expected 0 to 2"),
        (MaxPool2D(1), "max_pool2d.size", "got 1, expected 2 to 15"),
        (MaxPool2D(16), "max_pool2d.size", "got 16, expected 2 to 15"),
        (Dropout(0.0), "dropout.rate", "got 0, expected more than 0 and less than 1"),
        (Dropout(1.0), "dropout.rate", "got 1, expected more than 0 and less than 1"),
        (Dropout(math.nan), "dropout.rate", "got nan, expected more than 0 and less than 1"),
    ],
)
@pytest.mark.parametrize("input_shape", [None, (28, 28), (7,)])
def test_a_layers_bad_number_is_named_with_its_place(
    layer: Layer, field: str, expected: str, input_shape: Shape | None
) -> None:
    """Whether the data set is known or not, and nothing else is said about layers that make no sense."""
    assert violations(input_shape, layers=(Dropout(0.5), layer)) == {f"spec.layers[1].{field}": expected}


def test_too_many_layers_are_counted() -> None:
    """And not looked at one by one."""
    found = violations(layers=(Dense(0, RELU),) * 33)
    assert found == {"spec.layers": "got 33 layers, expected at most 32"}


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"momentum": 0.9}, "momentum", "only OPTIMIZER_SGD takes one, not ADAM"),
        ({"optimizer": Optimizer.RMSPROP, "momentum": 0.9}, "momentum", "only OPTIMIZER_SGD takes one, not RMSPROP"),
        ({**SGD, "nesterov": True}, "nesterov", "needs spec.momentum of more than 0"),
        (
            {"loss": Loss.MEAN_SQUARED_ERROR, "label_smoothing": 0.1},
            "label_smoothing",
            "only LOSS_CROSS_ENTROPY takes it",
        ),
        ({"early_stopping_patience": 3}, "early_stopping_patience", "needs spec.validation_fraction of more than 0"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict[str, Any], field: str, message: str) -> None:
    """What would be ignored was not meant to be."""
    assert violations(**changes) == {f"spec.{field}": message}


def test_only_images_can_be_augmented() -> None:
    """A row of features is no picture; where the data set is not known yet, it is looked at later."""
    changed = augmentation(shift=1.0)
    assert violations((8, 8), **changed) == violations((8, 8, 3), **changed) == violations(None, **changed) == {}
    message = "the data set's examples are no images but rows of 7 features"
    assert violations((7,), **changed) == {"spec.augmentation": message}
    assert violations((7,), **augmentation(elastic_smoothing=2.0)) == {}


@pytest.mark.parametrize(
    ("input_shape", "layers", "message"),
    [
        ((7,), PICTURES, "layer 0: it takes an image and the examples are [7]"),
        ((28, 28), PICTURES[:2], "layer 2: a dense layer takes flat inputs and gets [6, 14, 14]; put a flatten layer"),
        ((1, 8), PICTURES, "layer 1: a window of 2 does not fit an image of 1 × 8"),
        (None, (Dense(3, RELU), Dense(2, RELU)), None),
        (None, PICTURES[:2], None),
        ((28, 28), PICTURES, None),
    ],
)
def test_layers_that_do_not_fit_the_examples_are_refused(
    input_shape: Shape | None, layers: tuple[Layer, ...], message: str | None
) -> None:
    """With the layer's place; where the data set is not known yet, only what is wrong for every one."""
    found = violations(input_shape, layers=layers)
    assert list(found) == (["spec.layers"] if message else [])
    assert found.get("spec.layers", "").startswith(message or "")


def test_too_many_weights_are_refused() -> None:
    """More than 2^25 between them."""
    found = violations(layers=(Dense(8192, RELU), Dense(4096, RELU)))
    assert found == {"spec.layers": "got 33583106 weights, expected at most 33554432"}
    assert violations(layers=(Dense(8192, RELU), Dense(4080, RELU))) == {}


def test_a_batch_too_large_for_the_layers_is_refused() -> None:
    """Values of all layers, the example's and the classes' with them, times the rows, at most 2^25."""
    assert violations(layers=(Dense(512 - 3, RELU),), batch_size=65536) == {}
    assert list(violations(layers=(Dense(512 - 2, RELU),), batch_size=65536)) == ["spec.batch_size"]
    pictures: dict[str, Any] = {"layers": (Conv2D(64, 3, 1, RELU), Flatten())}
    assert violations(None, **pictures, batch_size=65536) == {}
    assert list(violations((28, 28), **pictures, batch_size=65536)) == ["spec.batch_size"]


def test_a_network_too_large_for_one_example_is_refused() -> None:
    """What one row takes while it is served, in all layers or in the windows of one line, is bounded: 2^22 values."""
    wide = (Conv2D(120, 1, 0, RELU), MaxPool2D(15), Flatten())
    assert "one example takes" in violations((500, 500), layers=wide, batch_size=1)["spec.layers"]
    deep = (Conv2D(512, 1, 0, RELU), Conv2D(1, 15, 7, RELU), Flatten())
    assert "one example takes" in violations((64, 64), layers=deep, batch_size=1)["spec.layers"]
    assert violations((64, 64), layers=(Conv2D(500, 1, 0, RELU), Flatten()), batch_size=1) == {}


def test_the_output_layer_follows_the_hidden_ones() -> None:
    """One dense unit for each class, whose logits the softmax takes as they are."""
    architecture = replace(GOOD, layers=PICTURES).architecture((28, 28), 10)
    assert architecture == Architecture((28, 28), (*PICTURES, Dense(10, Activation.IDENTITY)))


@pytest.mark.parametrize("name", ["-a", "A", "a_b", "a.b", "a b", "ä", "a" * 64, "a/b", "{a}", "a\n", "a:b"])
def test_a_name_that_no_key_could_carry_is_refused(name: str) -> None:
    """Names go into keys, file names and health checks, so only plain ones are taken."""
    (description,) = violations(model=name).values()
    assert description.startswith(f"got {name!r}, expected 1 to 63 of a-z, 0-9 and '-'")


def test_every_bad_field_is_named_at_once() -> None:
    """One answer mends them all."""
    found = violations(
        model="",
        dataset="",
        layers=(Dense(0, RELU), Dense(4, RELU), Dropout(2.0)),
        epochs=0,
        seed=-1,
        momentum=0.5,
        **schedule(step_epochs=0),
        **augmentation(shift=-1.0),
    )
    assert found["spec.model"] == "required: the model's name"
    assert found["spec.dataset"] == "required: the name of a data set, see ListDatasets"
    assert set(found) == {
        "spec.model",
        "spec.dataset",
        "spec.layers[0].dense.units",
        "spec.layers[2].dropout.rate",
        "spec.epochs",
        "spec.seed",
        "spec.momentum",
        "spec.schedule.step_epochs",
        "spec.augmentation.shift",
    }


def test_a_long_name_is_cut_in_the_message() -> None:
    """What a client sends does not come back whole."""
    (description,) = violations(model="x" * 10_000).values()
    assert len(description) < 200


def test_a_requests_model_is_checked_by_the_same_rule() -> None:
    """With the field of that request."""
    assert checked_model_name("mnist") == "mnist"
    with pytest.raises(InvalidInputError, match="model: required"):
        checked_model_name("")
