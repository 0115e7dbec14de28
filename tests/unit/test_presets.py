"""Presets: each can be trained as it is, fits the data set, and whatever is given goes before it."""

from typing import Any

import pytest

from shared.errors import InvalidInputError
from shared.layers import Activation, Dense, Shape
from shared.recipe import Augmentation, Optimizer, ScheduleKind
from shared.training_spec import TrainingSpec
from trainer_service.presets import LEARNING_RATES, PRESETS, SpecRequest, spec_of

MNIST_SHAPE = (28, 28)
MNIST_ROWS = 60_000


def for_mnist(preset: str = "", **given: Any) -> TrainingSpec:  # noqa: ANN401 - any field's value
    """The spec of a preset for MNIST."""
    return spec_of(SpecRequest("m", "mnist", preset, given), MNIST_SHAPE, MNIST_ROWS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("input_shape", [MNIST_SHAPE, (32, 32, 3), (16, 40)])
def test_every_preset_can_be_trained_on_pictures(preset: str, input_shape: Shape) -> None:
    """Nothing is wrong with it, its layers fit, and it augments."""
    spec = spec_of(SpecRequest("m", "mnist", preset), input_shape, MNIST_ROWS)
    assert list(spec.violations(input_shape)) == []
    assert spec.architecture(input_shape, 10).class_count == 10
    assert spec.augmentation
    assert (spec.preset, spec.model, spec.dataset) == (preset, "m", "mnist")


@pytest.mark.parametrize("input_shape", [(7,), None])
def test_rows_of_features_are_not_augmented(input_shape: Shape | None) -> None:
    """Nor is a data set of which nothing is known yet; the rest of the recipe stays."""
    spec = spec_of(SpecRequest("m", "wine"), input_shape)
    assert not spec.augmentation
    assert list(spec.violations(input_shape)) == []
    assert spec.schedule.kind is ScheduleKind.ONE_CYCLE


def test_pictures_of_another_size_are_moved_by_the_same_share() -> None:
    """Twice the pixels for twice the size, but never more than a spec may say; angles and scale are no pixels."""
    chosen = PRESETS["convnet"]["augmentation"]
    assert for_mnist("convnet").augmentation == chosen
    double = spec_of(SpecRequest("m", "d", "convnet"), (56, 70, 3)).augmentation
    assert (double.shift, double.elastic_strength) == (2 * chosen.shift, 2 * chosen.elastic_strength)
    assert double.elastic_smoothing == 2 * chosen.elastic_smoothing
    assert (double.rotation, double.scale) == (chosen.rotation, chosen.scale)
    huge = spec_of(SpecRequest("m", "d", "convnet"), (1000, 1000)).augmentation
    assert (huge.shift, huge.elastic_strength, huge.elastic_smoothing) == (16, 64, 16)
    assert spec_of(SpecRequest("m", "d", "convnet"), (5, 40)).augmentation.elastic_smoothing == 1


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 8), (400, 8), (1437, 28), (6400, 128), (60_000, 128), (None, 32)])
def test_small_data_sets_get_small_minibatches(rows: int | None, batch_size: int) -> None:
    """So that an epoch has some 50 updates, within 8 to 128 rows each; one that is given stays."""
    assert spec_of(SpecRequest("m", "d"), (7,), rows).batch_size == batch_size
    assert spec_of(SpecRequest("m", "d", "", {"batch_size": 5}), (7,), rows).batch_size == 5


def test_who_names_no_preset_gets_the_smallest() -> None:
    """And its name is recorded."""
    spec = for_mnist(seed=1)
    assert spec == for_mnist("mlp", seed=1)
    assert (spec.preset, spec.layers) == ("mlp", (Dense(256, Activation.RELU),))


def test_what_is_given_goes_before_the_preset() -> None:
    """Field by field; an augmentation of nothing is none."""
    given = {
        "epochs": 3,
        "layers": (),
        "augmentation": Augmentation(),
        "seed": 5,
        "learning_rate": 0.5,
        "publish": False,
    }
    spec = for_mnist("lenet", **given)
    assert {name: getattr(spec, name) for name in given} == given
    assert spec.schedule == PRESETS["lenet"]["schedule"]


@pytest.mark.parametrize("optimizer", [each for each in Optimizer if each is not Optimizer.ADAM])
def test_another_optimizer_brings_its_own_learning_rate(optimizer: Optimizer) -> None:
    """The preset's suits the preset's optimizer only; one that is given stays."""
    spec = for_mnist(optimizer=optimizer)
    assert (spec.optimizer, spec.learning_rate) == (optimizer, LEARNING_RATES[optimizer])
    assert for_mnist(optimizer=optimizer, learning_rate=0.25).learning_rate == 0.25


def test_the_presets_own_optimizer_keeps_the_presets_learning_rate() -> None:
    """To name it is to say nothing."""
    rate = for_mnist("mlp", optimizer=Optimizer.ADAM).learning_rate
    assert rate == PRESETS["mlp"]["learning_rate"] != LEARNING_RATES[Optimizer.ADAM]


def test_every_optimizer_has_a_learning_rate() -> None:
    """So that none can be asked for and fail."""
    assert set(LEARNING_RATES) == set(Optimizer)


def test_a_seed_is_drawn_where_none_is_given() -> None:
    """Another one each time, within the limits."""
    specs = [for_mnist() for _ in range(20)]
    assert len({spec.seed for spec in specs}) == 20
    assert [found for spec in specs for found in spec.violations(MNIST_SHAPE)] == []
    assert for_mnist(seed=0).seed == 0


@pytest.mark.parametrize("name", ["vgg", "MLP", "x" * 10_000])
def test_an_unknown_preset_is_refused(name: str) -> None:
    """With those there are; a long name does not come back whole."""
    with pytest.raises(InvalidInputError) as raised:
        for_mnist(name)
    assert raised.value.message.startswith(f"spec.preset: got {name[:80]!r}, expected one of mlp, mlp-512-256, lenet")
    assert len(raised.value.message) < 250


def test_presets_are_fields_of_a_spec() -> None:
    """None is misspelt, and no preset says what only a request can."""
    fields = set(TrainingSpec.__dataclass_fields__) - {"model", "dataset", "seed", "preset"}
    assert {name for preset in PRESETS.values() for name in preset} <= fields
