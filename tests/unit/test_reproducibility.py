"""Training as a function of spec, data and threads; and a loss that is no number ends it by name."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import starmap

import numpy as np
import pytest

from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from shared.preprocessing import Standardisation
from shared.recipe import Augmentation, Initialization, Optimizer, Schedule, ScheduleKind
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.training.loop import Progress, TrainedNetwork, TrainingDivergedError, train

RELU = Activation.RELU
SPEC = TrainingSpec("m", "digits", seed=1, layers=(Dense(32, RELU),), epochs=2, batch_size=64)
PICTURES: tuple[Layer, ...] = (
    Conv2D(4, 3, 1, RELU), Dropout(0.2), MaxPool2D(2), Conv2D(6, 3, 0, RELU), Flatten(), Dropout(0.3), Dense(16, RELU),
)  # fmt: skip
EVERYTHING = replace(
    SPEC,
    layers=PICTURES,
    epochs=2,
    augmentation=Augmentation(shift=1, rotation=10, scale=0.1, elastic_strength=2),
    schedule=Schedule(ScheduleKind.ONE_CYCLE),
    label_smoothing=0.1,
    weight_decay=0.01,
    gradient_clip_norm=1.0,
    validation_fraction=0.1,
    early_stopping_patience=5,
    ema_decay=0.9,
)
WILD = replace(SPEC, layers=(Dense(64, RELU),) * 8, optimizer=Optimizer.SGD, learning_rate=10.0)
WILD_PICTURES = replace(WILD, layers=(*(Conv2D(8, 3, 1, RELU),) * 6, Flatten()))
Train = Callable[..., TrainedNetwork]


@dataclass
class Steps:
    """An observer that writes the steps down."""

    steps: list[Progress] = field(default_factory=list)

    def on_step(self, progress: Progress, _take: object) -> None:
        """Writes down a step."""
        self.steps.append(progress)

    def on_epoch(self, metrics: EpochMetrics, _take: object) -> None:
        """Takes note of nothing."""


@pytest.fixture(scope="module")
def few_digits(digits: Dataset) -> Dataset:
    """The first 500 of them."""
    return replace(digits, train=Split(digits.train.examples[:500], digits.train.class_ids[:500]))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("spec", [*(replace(SPEC, optimizer=each) for each in Optimizer), EVERYTHING])
def test_the_same_spec_gives_the_same_weights_to_the_last_bit(
    few_digits: Dataset, trained: Train, spec: TrainingSpec, threads: int
) -> None:
    """On one thread and on two, with everything that draws random numbers."""
    first, second = (trained(spec, few_digits, threads) for _ in range(2))
    assert first.network.parameters.tobytes() == second.network.parameters.tobytes()
    figures = [[replace(each, seconds=0, samples_per_second=0) for each in run.epochs] for run in (first, second)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("spec", [SPEC, EVERYTHING], ids=["dense", "everything"])
def test_another_seed_gives_other_weights(few_digits: Dataset, trained: Train, spec: TrainingSpec) -> None:
    """The seed decides the initial weights and the order."""
    other = trained(replace(spec, seed=2), few_digits).network.parameters
    assert not np.array_equal(trained(spec, few_digits).network.parameters, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation": Augmentation()},
        {"augmentation": Augmentation(shift=1)},
        {"schedule": Schedule()},
        {"label_smoothing": 0.0},
        {"weight_decay": 0.0},
        {"gradient_clip_norm": 0.0},
        {"validation_fraction": 0.2},
        {"ema_decay": 0.0},
        {"initialization": Initialization.GLOROT},
        {"learning_rate": 0.002},
        {"optimizer": Optimizer.ADAMW},
        {"batch_size": 50},
        {"layers": (*PICTURES[:-2], PICTURES[-1])},
    ],
    ids=str,
)
def test_every_word_of_a_recipe_counts(few_digits: Dataset, trained: Train, changes: dict[str, object]) -> None:
    """None is read and then forgotten: another value gives other weights."""
    everything = trained(EVERYTHING, few_digits).network.parameters
    other = trained(replace(EVERYTHING, **changes), few_digits).network.parameters  # type: ignore[arg-type]
    assert not np.array_equal(everything, other)


def test_threads_change_a_networks_training_by_rounding_only(few_digits: Dataset, trained: Train) -> None:
    """Without dropout, whose draws belong to threads, two threads take the steps that one takes."""
    layers = tuple(layer for layer in PICTURES if not isinstance(layer, Dropout))
    spec = replace(SPEC, layers=layers, optimizer=Optimizer.SGD, learning_rate=0.01)
    one, two = (trained(spec, few_digits, threads).network.parameters for threads in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


def expected_place(last: Progress | None) -> str:
    """Where the loss is found out: at the step after the last that went well."""
    if last is None:
        return "in epoch 1, step 1 of"
    epoch, step = (last.epoch, last.step + 1) if last.step < last.steps_per_epoch else (last.epoch + 1, 1)
    return f"in epoch {epoch}, step {step} of {last.steps_per_epoch}; try a learning rate below 10"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "spec",
    [*(replace(WILD, layers=(Dense(64, RELU),) * count) for count in (4, 8, 12)), WILD_PICTURES],
    ids=["4 layers", "8 layers", "12 layers", "convolutions"],
)
def test_divergence_is_told_with_epoch_step_and_remedy(digits: Dataset, spec: TrainingSpec, threads: int) -> None:
    """A loss that is not finite ends training by name; no numerical warning comes out instead (warnings are errors)."""
    observer = Steps()
    with pytest.raises(TrainingDivergedError) as raised:
        train(spec, digits, observer, threads)
    assert expected_place(observer.steps[-1] if observer.steps else None) in str(raised.value)
    assert raised.value.reason == "TRAINING_DIVERGED"


def lengths(wild: TrainingSpec) -> Iterator[tuple[TrainingSpec, int]]:
    """Trainings of 1 to 6 updates."""
    return ((replace(wild, epochs=1), steps * wild.batch_size) for steps in range(1, 7))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "wild", [WILD, WILD_PICTURES, replace(WILD, ema_decay=0.9)], ids=["dense", "images", "average"]
)
def test_no_network_comes_out_of_training_that_answers_nan(
    digits: Dataset, trained: Train, wild: TrainingSpec, threads: int
) -> None:
    """The last update may be the one that breaks it; however many there are, it ends well or in the error."""

    def metrics(spec: TrainingSpec, rows: int) -> EpochMetrics | None:
        short = replace(digits, train=Split(digits.train.examples[:rows], digits.train.class_ids[:rows]))
        with suppress(TrainingDivergedError):
            return trained(spec, short, threads).epochs[-1]
        return None

    found = list(starmap(metrics, lengths(wild)))
    assert None in found, "this is not wild enough"
    assert all(np.isfinite([each.train_loss, each.test_loss]).all() for each in found if each)


def test_a_feature_that_is_no_number_is_told_at_the_first_step(few_digits: Dataset, trained: Train) -> None:
    """Whatever it comes from, nothing is trained on it."""
    means = np.full(64, np.nan, np.float32)
    broken = replace(few_digits.preprocessing, standardisation=Standardisation(means, np.ones(64, np.float32)))
    with pytest.raises(TrainingDivergedError, match="nan in epoch 1, step 1 of 8"):
        trained(SPEC, replace(few_digits, preprocessing=broken))
