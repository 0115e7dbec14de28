"""Networks with the recipe that suits each: what a spec's fields are where its sender leaves them unset.

The README's "Figures" say what each reaches on MNIST.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shared.errors import FieldViolation, InvalidInputError
from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPool2D, Shape
from shared.recipe import Augmentation, Optimizer, Schedule, ScheduleKind
from shared.training_spec import MAX_SEED, NO_AUGMENTATION, TrainingSpec

DEFAULT = "mlp"
MNIST_SIDE = 28
LARGEST_BATCH_SIZE, UNKNOWN_BATCH_SIZE, SMALLEST_BATCH_SIZE, STEPS_AN_EPOCH = 128, 32, 8, 50
# Every preset trains with Adam, by a learning rate of its own; another optimizer takes the one here.
LEARNING_RATES = {Optimizer.SGD: 0.1, Optimizer.ADAM: 0.001, Optimizer.RMSPROP: 0.001, Optimizer.ADAMW: 0.001}
RELU = Activation.RELU
ONE_CYCLE = Schedule(ScheduleKind.ONE_CYCLE)

COMMON: dict[str, Any] = {"epochs": 20, "learning_rate": 0.004, "schedule": ONE_CYCLE}
AFFINE = Augmentation(shift=2, rotation=10, scale=0.1)
ELASTIC = Augmentation(shift=1.5, rotation=10, scale=0.1, elastic_strength=15)
PRESETS: dict[str, dict[str, Any]] = {
    "mlp": {**COMMON, "augmentation": AFFINE, "layers": (Dense(256, RELU),)},
    "mlp-512-256": {**COMMON, "augmentation": AFFINE, "layers": (Dense(512, RELU), Dense(256, RELU))},
    "lenet": {
        **COMMON,
        "augmentation": AFFINE,
        "layers": (
            Conv2D(6, 5, 2, RELU), MaxPool2D(2), Conv2D(16, 5, 0, RELU), MaxPool2D(2),
            Flatten(), Dense(120, RELU), Dense(84, RELU),
        ),
    },
    "convnet": {
        **COMMON,
        "batch_size": 64,
        "learning_rate": 0.002,
        "ema_decay": 0.999,
        "augmentation": ELASTIC,
        "layers": (
            Conv2D(24, 5, 0, RELU), MaxPool2D(2), Conv2D(48, 3, 1, RELU), Conv2D(96, 3, 0, RELU), MaxPool2D(2),
            Flatten(), Dropout(0.2), Dense(192, RELU), Dropout(0.2),
        ),
    },
}  # fmt: skip


@dataclass(frozen=True)
class SpecRequest:
    """What a client asks for: `given` are the spec's other fields that it set, `violations` those of no known kind.

    `parent` is the number or the alias of the version to start from, or empty.
    """

    model: str
    dataset: str
    preset: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    violations: tuple[FieldViolation, ...] = ()
    parent: str = ""


def spec_of(
    request: SpecRequest,
    input_shape: Shape | None = None,
    train_size: int | None = None,
    class_count: int | None = None,
) -> TrainingSpec:
    """The spec of what was given; the rest is the preset's, fitted to the data set, and a seed is drawn at random.

    Args:
        request: what was given.
        input_shape: one example's, None if that is not known yet. Only images are augmented, by the same share of their
            size as MNIST's are.
        train_size: examples in the training split, None if that is not known yet. Small data sets get small
            minibatches, so that an epoch has steps enough to learn by.
        class_count: classes, None if that is not known yet.

    Raises:
        InvalidInputError: if there is no such preset.
    """
    if violation := preset_violation(request.preset):
        raise InvalidInputError(violation)
    name, given = request.preset or DEFAULT, request.given
    fields: dict[str, Any] = {"seed": secrets.randbelow(MAX_SEED), **PRESETS[name]}
    fields["augmentation"] = augmentation_for(input_shape, fields["augmentation"])
    fields["batch_size"] = min(fields.get("batch_size", LARGEST_BATCH_SIZE), batch_size_for(train_size))
    if given.get("optimizer", TrainingSpec.optimizer) is not TrainingSpec.optimizer:
        fields["learning_rate"] = LEARNING_RATES[given["optimizer"]]
    spec = TrainingSpec(model=request.model, dataset=request.dataset, preset=name, **{**fields, **given})
    if "batch_size" not in given and input_shape is not None:
        spec = replace(
            spec, batch_size=max(1, min(spec.batch_size, spec.largest_batch_size(input_shape, class_count or 2)))
        )
    return spec


def preset_violation(name: str) -> FieldViolation | None:
    """What is wrong with a request's preset, if anything."""
    if not name or name in PRESETS:
        return None
    return FieldViolation("spec.preset", f"got {name[:80]!r}, expected one of {', '.join(PRESETS)}")


def augmentation_for(input_shape: Shape | None, of_mnist: Augmentation) -> Augmentation:
    """An augmentation that suits MNIST, for images of another size; none for what is no image."""
    if input_shape is None or len(input_shape) == 1:
        return NO_AUGMENTATION
    size = min(input_shape[:2]) / MNIST_SIDE
    return replace(
        of_mnist,
        shift=min(16.0, of_mnist.shift * size),
        elastic_strength=min(64.0, of_mnist.elastic_strength * size),
        elastic_smoothing=min(16.0, max(1.0, of_mnist.elastic_smoothing * size)),
    )


def batch_size_for(train_size: int | None) -> int:
    """128 examples for large data sets, and at least some 50 minibatches an epoch for small ones."""
    if train_size is None:
        return UNKNOWN_BATCH_SIZE
    return max(SMALLEST_BATCH_SIZE, min(LARGEST_BATCH_SIZE, train_size // STEPS_AN_EPOCH))
