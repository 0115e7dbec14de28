"""Checkpoints: wherever one was taken, a training that is resumed from it ends as if nothing had happened."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from shared.recipe import Augmentation, Optimizer, Schedule, ScheduleKind
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.training import augmentation_maps
from trainer_service.training.checkpoint import Checkpoint, CheckpointMismatchError
from trainer_service.training.loop import Progress, TrainedNetwork, train

RELU = Activation.RELU
ROWS, BATCH, STEPS, EPOCHS = 90, 20, 4, 5  # of 72 rows, as 18 are set aside: the last minibatch is shorter
PLAIN: tuple[Layer, ...] = (Dense(12, RELU),)
DROPPING: tuple[Layer, ...] = (Dropout(0.2), Dense(12, RELU), Dropout(0.4))
PICTURES: tuple[Layer, ...] = (
    Conv2D(3, 3, 1, RELU), Dropout(0.2), MaxPool2D(2), Flatten(), Dropout(0.3), Dense(7, RELU),
)  # fmt: skip
SPEC = TrainingSpec("m", "digits", seed=1, layers=PLAIN, epochs=EPOCHS, batch_size=BATCH, validation_fraction=0.2)
AFFINE, ELASTIC = Augmentation(shift=1, rotation=10, scale=0.1), Augmentation(shift=1, elastic_strength=3)
NO_AUGMENTATION = Augmentation()
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "plain": {"optimizer": Optimizer.SGD, "learning_rate": 0.1},
    "momentum": {"optimizer": Optimizer.SGD, "momentum": 0.9, "learning_rate": 0.05},
    "nesterov": {"optimizer": Optimizer.SGD, "momentum": 0.9, "nesterov": True, "learning_rate": 0.05},
    "rmsprop": {"optimizer": Optimizer.RMSPROP},
    "adam": {"optimizer": Optimizer.ADAM},
    "decayed": {"optimizer": Optimizer.ADAM, "weight_decay": 0.01},
    "decoupled": {"optimizer": Optimizer.ADAMW, "weight_decay": 0.01},
}
EVERYTHING = replace(
    SPEC,
    layers=PICTURES,
    augmentation=replace(ELASTIC, rotation=10, scale=0.1),
    schedule=Schedule(ScheduleKind.ONE_CYCLE),
    label_smoothing=0.1,
    weight_decay=0.01,
    gradient_clip_norm=1.0,
    early_stopping_patience=EPOCHS,
    ema_decay=0.9,
)
# One piece of state each, so that a failure says which is missing.
SPECS = {
    **{name: replace(SPEC, **fields) for name, fields in OPTIMIZERS.items()},
    **{f"schedule {kind.value}": replace(SPEC, schedule=Schedule(kind, step_epochs=2)) for kind in ScheduleKind},
    "average": replace(SPEC, ema_decay=0.9),
    "dropout": replace(SPEC, layers=DROPPING),
    "pictures": replace(SPEC, layers=PICTURES),
    "affine": replace(SPEC, augmentation=AFFINE),
    "elastic": replace(SPEC, augmentation=ELASTIC),
    "everything": EVERYTHING,
}
# Learns so fast that the second epoch is its best.
HASTY = replace(SPEC, epochs=40, learning_rate=0.3, early_stopping_patience=2)
Place = tuple[int, int]  # an epoch and a step in it, or the step after its last for its end


@dataclass
class Notebook:
    """An observer that writes everything down, and takes a checkpoint everywhere."""

    steps: list[Progress] = field(default_factory=list)
    epochs: list[EpochMetrics] = field(default_factory=list)
    checkpoints: dict[Place, Checkpoint] = field(default_factory=dict)

    def on_step(self, progress: Progress, take: Callable[[], Checkpoint]) -> None:
        """Writes down a step."""
        self.steps.append(replace(progress, samples_per_second=0, seconds_left=0))
        self.checkpoints[progress.epoch, progress.step] = take()

    def on_epoch(self, metrics: EpochMetrics, take: Callable[[], Checkpoint]) -> None:
        """Writes down an epoch."""
        self.epochs.append(timeless(metrics))
        self.checkpoints[metrics.epoch, STEPS + 1] = take()


def timeless(metrics: EpochMetrics) -> EpochMetrics:
    """All that does not depend on how fast this machine is."""
    return replace(metrics, seconds=0, samples_per_second=0)


def stored(checkpoint: Checkpoint) -> Checkpoint:
    """What comes back from a store that keeps bytes and JSON, and nothing else."""
    arrays: dict[str, np.ndarray] = {}
    for name, array in checkpoint.arrays.items():
        assert array.dtype.name in {"float32", "int64"}
        assert array.ndim == 1
        arrays[name] = np.frombuffer(array.tobytes(), array.dtype.name)
    return Checkpoint(arrays, json.loads(json.dumps(checkpoint.facts, allow_nan=False)))


def digest(array: np.ndarray) -> str:
    """Of every bit; shorter in a failure's message than the bits."""
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def digests(checkpoint: Checkpoint) -> dict[str, str]:
    """All that is in it."""
    return {name: digest(array) for name, array in checkpoint.arrays.items()} | {"facts": json.dumps(checkpoint.facts)}


def outcome(trained: TrainedNetwork) -> tuple[object, ...]:
    """Everything a training ends with, to the last bit, but the times."""
    answers = trained.answers
    return (
        digest(trained.network.parameters),
        [timeless(metrics) for metrics in trained.epochs],
        trained.published_epoch,
        (answers.loss, answers.accuracy, digest(answers.class_ids), digest(answers.confidences)),
    )


def places(epochs: int = EPOCHS) -> list[Place]:
    """Every place where a checkpoint is taken, in order."""
    return list(itertools.product(range(1, epochs + 1), range(1, STEPS + 2)))


def check_resumes(spec: TrainingSpec, dataset: Dataset, threads: int, chosen: list[Place]) -> None:
    """From each of these places, what is left of training is what the undisturbed one did from there on."""
    notebook = Notebook()
    undisturbed = train(spec, dataset, notebook, threads)
    for place in chosen:
        checkpoint, again = stored(notebook.checkpoints[place]), Notebook()
        assert outcome(train(spec, dataset, again, threads, resume=checkpoint)) == outcome(undisturbed), place
        epoch, step = place
        assert checkpoint.updates == (epoch - 1) * STEPS + min(step, STEPS)
        assert again.steps == notebook.steps[checkpoint.updates :], place
        assert again.epochs == notebook.epochs[len(checkpoint.epochs) :], place
        assert len(checkpoint.epochs) == (epoch if step > STEPS else epoch - 1)


@pytest.fixture(scope="module", autouse=True)
def small_pool() -> Iterator[None]:
    """A pool of maps of which each is used again, and drawn anew, within these short trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation_maps, "POOL_BYTES", 3 * BATCH * 64 * 16)
        patch.setattr(augmentation_maps, "USES", 4)
        yield


@pytest.fixture(scope="module")
def few_digits(digits: Dataset) -> Dataset:
    """The first of them."""
    return replace(
        digits,
        train=Split(digits.train.examples[:ROWS], digits.train.class_ids[:ROWS]),
        test=Split(digits.test.examples[:40], digits.test.class_ids[:40]),
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_resumed_training_ends_to_the_last_bit_as_the_undisturbed(
    few_digits: Dataset, spec: TrainingSpec, threads: int
) -> None:
    """From the first step, the middle, the last step of an epoch, its end, the last step of all, and the end."""
    chosen = [(1, 1), (2, 2), (3, STEPS), (3, STEPS + 1), (EPOCHS, 3), (EPOCHS, STEPS), (EPOCHS, STEPS + 1)]
    check_resumes(spec, few_digits, threads, chosen)


@given(data=st.data(), threads=st.sampled_from([1, 2]))
@settings(max_examples=25, deadline=None, phases=[Phase.generate])  # to shrink a failure would take minutes
def test_any_recipe_can_be_resumed_anywhere(few_digits: Dataset, data: st.DataObject, threads: int) -> None:
    """Whatever is put together."""
    spec = replace(
        SPEC,
        seed=data.draw(st.integers(0, 2**63 - 1)),
        layers=data.draw(st.sampled_from([PLAIN, DROPPING, PICTURES])),
        augmentation=data.draw(st.sampled_from([NO_AUGMENTATION, AFFINE, ELASTIC])),
        schedule=Schedule(data.draw(st.sampled_from(ScheduleKind)), step_epochs=1),
        ema_decay=data.draw(st.sampled_from([0.0, 0.8])),
        gradient_clip_norm=data.draw(st.sampled_from([0.0, 0.5])),
        early_stopping_patience=data.draw(st.sampled_from([0, EPOCHS])),
        **data.draw(st.sampled_from(list(OPTIMIZERS.values()))),
    )
    chosen = data.draw(st.lists(st.sampled_from(places()), min_size=1, max_size=3, unique=True))
    check_resumes(spec, few_digits, threads, chosen)


def test_taking_checkpoints_changes_nothing(few_digits: Dataset, trained: Callable[..., TrainedNetwork]) -> None:
    """Whoever looks at a training leaves it as it is."""
    undisturbed = trained(EVERYTHING, few_digits)
    assert outcome(train(EVERYTHING, few_digits, Notebook())) == outcome(undisturbed)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_resumed_training_can_be_resumed(few_digits: Dataset, threads: int) -> None:
    """Its checkpoints are those of the undisturbed training, however often it was interrupted before."""
    first, resumed = Notebook(), Notebook()
    undisturbed = train(EVERYTHING, few_digits, first, threads)
    taken, last = first.checkpoints, undisturbed
    for before, after in itertools.pairwise([(1, 2), (2, 3), (3, STEPS), (3, STEPS + 1), (4, STEPS), (EPOCHS, 1)]):
        resumed = Notebook()
        last = train(EVERYTHING, few_digits, resumed, threads, resume=stored(taken[before]))
        assert outcome(last) == outcome(undisturbed)
        taken = resumed.checkpoints
        for name, array in first.checkpoints[after].arrays.items():
            assert digest(taken[after].arrays[name]) == digest(array), (name, after)
    assert outcome(last) == outcome(undisturbed)


@pytest.mark.parametrize("ema_decay", [0.0, 0.8])
def test_early_stopping_counts_on_over_a_resume(few_digits: Dataset, ema_decay: float) -> None:
    """The best epoch's weights, its loss and the patience left are kept; once it has ended training, it has."""
    spec, notebook = replace(HASTY, ema_decay=ema_decay), Notebook()
    undisturbed = train(spec, few_digits, notebook)
    epochs = len(undisturbed.epochs)
    assert 1 < undisturbed.published_epoch == epochs - 2 < 38
    check_resumes(spec, few_digits, 1, places(epochs)[-4 * (STEPS + 1) :])
    after_the_end = Notebook()
    train(spec, few_digits, after_the_end, resume=stored(notebook.checkpoints[epochs, STEPS + 1]))
    assert (after_the_end.steps, after_the_end.epochs) == ([], [])


def test_a_checkpoint_says_how_far_training_was(few_digits: Dataset) -> None:
    """The updates done and what the finished epochs measured, times too."""
    notebook = Notebook()
    epochs = train(SPEC, few_digits, notebook).epochs
    checkpoint = stored(notebook.checkpoints[3, 2])
    assert checkpoint.updates == 2 * STEPS + 2
    assert checkpoint.epochs == epochs[:2]


def test_a_checkpoint_stays_as_it_was_taken(few_digits: Dataset) -> None:
    """It shares no memory with the training, which goes on."""
    seen: dict[str, str] = {}

    class Early(Notebook):
        def on_step(self, progress: Progress, take: Callable[[], Checkpoint]) -> None:
            super().on_step(progress, take)
            if len(self.steps) == 2:
                seen.update(digests(self.checkpoints[1, 2]))

    notebook = Early()
    train(EVERYTHING, few_digits, notebook)
    assert digests(notebook.checkpoints[1, 2]) == seen
    assert digests(notebook.checkpoints[1, 3])["network.parameters"] != seen["network.parameters"]


def test_a_checkpoint_may_be_resumed_from_twice(few_digits: Dataset) -> None:
    """To resume from it does not change it either."""
    notebook = Notebook()
    undisturbed = train(EVERYTHING, few_digits, notebook)
    for _ in range(2):
        resumed = train(EVERYTHING, few_digits, Notebook(), resume=notebook.checkpoints[2, 1])
        assert outcome(resumed) == outcome(undisturbed)


def test_the_clock_goes_on_where_it_stopped(few_digits: Dataset) -> None:
    """An epoch's seconds are those before and after, and the time left is estimated from all updates."""
    notebook = Notebook()
    train(SPEC, few_digits, notebook)
    checkpoint = stored(notebook.checkpoints[3, 2])
    slow = {**checkpoint.facts["position"], "seconds_before": 800.0, "seconds": 200.0}

    class Clock(Notebook):
        def on_step(self, progress: Progress, take: Callable[[], Checkpoint]) -> None:
            super().on_step(progress, take)
            self.steps[-1] = progress

    clock = Clock()
    trained = train(
        SPEC, few_digits, clock, resume=Checkpoint(checkpoint.arrays, {**checkpoint.facts, "position": slow})
    )
    first = clock.steps[0]
    updates = 2 * STEPS + 3
    assert first.seconds_left == pytest.approx(1000 / updates * (EPOCHS * STEPS - updates), rel=0.1)
    assert first.samples_per_second == pytest.approx(3 * BATCH / 200, rel=0.1)
    assert trained.epochs[2].seconds == pytest.approx(200, rel=0.1)
    assert trained.epochs[3].seconds < 100


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 2}, "seed 1, expected 2"),
        ({"batch_size": 10}, "batch_size 20, expected 10"),
        ({"validation_fraction": 0.1}, r"examples \[72, 18, 40\], expected \[81, 9, 40\]"),
        ({"layers": (Dense(13, RELU),)}, "network.parameters"),
        ({"layers": DROPPING}, "dropout_threads 0, expected 1"),
        ({"optimizer": Optimizer.RMSPROP}, "optimizer.squares"),
        ({"ema_decay": 0.9}, "average.parameters"),
        ({"augmentation": AFFINE}, "augmentation.draws"),
        ({"early_stopping_patience": 3}, "best.parameters"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(few_digits: Dataset, changes: dict[str, Any], named: str) -> None:
    """By name, and before anything is trained."""
    notebook, other = Notebook(), Notebook()
    train(replace(SPEC, epochs=1), few_digits, notebook)
    with pytest.raises(CheckpointMismatchError, match=named) as caught:
        train(replace(SPEC, **changes), few_digits, other, resume=stored(notebook.checkpoints[1, 2]))
    assert caught.value.reason == "CHECKPOINT_MISMATCH"
    assert other.steps == []


def test_a_checkpoint_that_lost_an_array_or_is_in_another_format_is_refused(few_digits: Dataset) -> None:
    """And tells those who ask that nothing of it can be used."""
    notebook = Notebook()
    train(replace(SPEC, epochs=1), few_digits, notebook)
    whole = stored(notebook.checkpoints[1, STEPS + 1])
    name = "optimizer.first_moment"
    without = {key: array for key, array in whole.arrays.items() if key != name}
    short = {**whole.arrays, name: whole.arrays[name][:-1]}
    old = Checkpoint(whole.arrays, {**whole.facts, "format": 0})
    for broken in (Checkpoint(without, whole.facts), Checkpoint(short, whole.facts), old):
        with pytest.raises(CheckpointMismatchError):
            train(SPEC, few_digits, Notebook(), resume=broken)
    assert (old.updates, old.epochs) == (0, ())


def test_only_dropout_ties_a_checkpoint_to_a_number_of_threads(few_digits: Dataset) -> None:
    """Its draws belong to threads; everything else may go on with other threads, up to rounding."""
    dropping, plain = (
        replace(SPEC, layers=layers, optimizer=Optimizer.SGD)
        for layers in (PICTURES, tuple(layer for layer in PICTURES if not isinstance(layer, Dropout)))
    )
    notebook = Notebook()
    train(dropping, few_digits, notebook, 2)
    with pytest.raises(CheckpointMismatchError, match="dropout_threads 2, expected 1"):
        train(dropping, few_digits, Notebook(), 1, resume=stored(notebook.checkpoints[2, 1]))
    notebook = Notebook()
    two = train(plain, few_digits, notebook, 2)
    one = train(plain, few_digits, Notebook(), 1, resume=stored(notebook.checkpoints[2, 1]))
    np.testing.assert_allclose(one.network.parameters, two.network.parameters, rtol=1e-3, atol=1e-5)
