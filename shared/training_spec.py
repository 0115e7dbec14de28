"""What a training job is told to do, with its limits, and what each epoch measured.

A spec that `violations` finds nothing wrong with can be trained; everything that can be known to fail is refused before
a worker sees it. Defaults are the presets': `trainer_service.presets`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shared.errors import FieldViolation, InvalidInputError
from shared.layers import Activation, Conv2D, Dense, Dropout, Layer, MaxPool2D, Shape
from shared.network import Architecture
from shared.recipe import MAX_EPOCHS, Augmentation, Initialization, Loss, Optimizer, Promotion, Range, Schedule

CONSTANT, NO_AUGMENTATION, PROMOTED = Schedule(), Augmentation(), Promotion()
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAX_LAYERS = 32
MAX_UNITS = 8192
MAX_FILTERS = 512
MAX_WINDOW = 15
MAX_PARAMETERS = 32 * 2**20  # 128 MiB
MAX_VALUES_OF_ONE = 4 * 2**20  # in all layers, for one example: 16 MiB in each thread that serves it
MAX_ACTIVATIONS = 32 * 2**20  # those × batch size: 128 MiB, of which training needs a few times as much
MAX_BATCH_SIZE = 65536
MAX_SEED = 2**63 - 1
SHARE = Range(0, 1, high_open=True)
LIMITS = {
    "epochs": Range(1, MAX_EPOCHS),
    "batch_size": Range(1, MAX_BATCH_SIZE),
    "learning_rate": Range(0, 10, low_open=True),
    "label_smoothing": SHARE,
    "momentum": SHARE,
    "weight_decay": Range(0, 1),
    "gradient_clip_norm": Range(0, 1e6),
    "validation_fraction": Range(0, 0.5),
    "early_stopping_patience": Range(0, MAX_EPOCHS),
    "ema_decay": SHARE,
}


@dataclass(frozen=True)
class TrainingSpec:
    """What to train, on what, and how. Field meanings and limits are those of `weightcast.v1.TrainingSpec`.

    `layers` are the hidden ones; a dense layer with a unit for each class follows them. A `parent` of 0 means none.
    """

    model: str
    dataset: str
    seed: int
    preset: str = ""
    layers: tuple[Layer, ...] = (Dense(256, Activation.RELU),)
    epochs: int = 5
    batch_size: int = 128
    optimizer: Optimizer = Optimizer.ADAM
    learning_rate: float = 0.001
    momentum: float = 0.0
    nesterov: bool = False
    loss: Loss = Loss.CROSS_ENTROPY
    label_smoothing: float = 0.0
    initialization: Initialization = Initialization.HE
    schedule: Schedule = CONSTANT
    weight_decay: float = 0.0
    gradient_clip_norm: float = 0.0
    validation_fraction: float = 0.0
    early_stopping_patience: int = 0
    ema_decay: float = 0.0
    augmentation: Augmentation = NO_AUGMENTATION
    publish: bool = True
    promotion: Promotion = PROMOTED
    parent: int = 0

    def architecture(self, input_shape: Shape, class_count: int) -> Architecture:
        """The network for examples of this shape; ValueError if the layers do not fit them or each other."""
        return Architecture(input_shape, (*self.layers, Dense(class_count, Activation.IDENTITY)))

    def largest_batch_size(self, input_shape: Shape, class_count: int) -> int:
        """The largest that is allowed for such examples, at least 1."""
        try:
            values = self.architecture(input_shape, class_count).values_of_one
        except ValueError:  # the layers do not fit, which `violations` says
            return MAX_BATCH_SIZE
        return max(1, MAX_ACTIVATIONS // values)

    def violations(self, input_shape: Shape | None = None, class_count: int = 2) -> Iterator[FieldViolation]:
        """Every field that is out of range, with what came and what is expected.

        `input_shape` is one example's, where it is known before the data set is loaded, as is `class_count`.
        """
        if violation := name_violation(self.model, "spec.model", "model"):
            yield violation
        if not self.dataset:
            yield FieldViolation("spec.dataset", "required: the name of a data set, see ListDatasets")
        for name, limits in LIMITS.items():
            if violation := limits.violation(f"spec.{name}", getattr(self, name)):
                yield violation
        if not 0 <= self.seed <= MAX_SEED:
            yield FieldViolation("spec.seed", f"got {self.seed}, expected 0 to {MAX_SEED}")
        yield from self.schedule.violations()
        yield from self.augmentation.violations()
        yield from self.promotion.violations()
        yield from self._contradictions(input_shape)
        bad_layers = list(layer_violations(self.layers))
        yield from bad_layers or self._network_violations(input_shape, class_count)

    def _contradictions(self, input_shape: Shape | None) -> Iterator[FieldViolation]:
        """Fields that say nothing beside another, which their sender cannot have meant."""
        if self.momentum and self.optimizer is not Optimizer.SGD:
            yield FieldViolation("spec.momentum", f"only OPTIMIZER_SGD takes one, not {self.optimizer.name}")
        if self.nesterov and not self.momentum:
            yield FieldViolation("spec.nesterov", "needs spec.momentum of more than 0")
        if self.label_smoothing and self.loss is not Loss.CROSS_ENTROPY:
            yield FieldViolation("spec.label_smoothing", "only LOSS_CROSS_ENTROPY takes it")
        if self.early_stopping_patience and not self.validation_fraction:
            yield FieldViolation("spec.early_stopping_patience", "needs spec.validation_fraction of more than 0")
        if self.augmentation and input_shape is not None and len(input_shape) == 1:
            yield FieldViolation(
                "spec.augmentation", f"the data set's examples are no images but rows of {input_shape[0]} features"
            )

    def _network_violations(self, input_shape: Shape | None, class_count: int) -> Iterator[FieldViolation]:
        if input_shape is None and not all(isinstance(layer, Dense | Dropout) for layer in self.layers):
            return  # looked at again when the data set is loaded
        try:
            architecture = self.architecture(input_shape or (1,), class_count)
        except ValueError as error:
            yield FieldViolation("spec.layers", str(error))
            return
        if architecture.parameter_count > MAX_PARAMETERS:
            yield FieldViolation(
                "spec.layers", f"got {architecture.parameter_count} weights, expected at most {MAX_PARAMETERS}"
            )
        values = architecture.values_of_one
        if values > MAX_VALUES_OF_ONE:
            yield FieldViolation(
                "spec.layers", f"one example takes {values} values in all layers, expected at most {MAX_VALUES_OF_ONE}"
            )
        elif values * self.batch_size > MAX_ACTIVATIONS:
            yield FieldViolation(
                "spec.batch_size",
                f"got {self.batch_size} for {values} values in all layers, expected a product of at most "
                f"{MAX_ACTIVATIONS}",
            )


def layer_violations(layers: tuple[Layer, ...]) -> Iterator[FieldViolation]:
    """Every layer whose own numbers are out of range."""
    if len(layers) > MAX_LAYERS:
        yield FieldViolation("spec.layers", f"got {len(layers)} layers, expected at most {MAX_LAYERS}")
        return
    for index, layer in enumerate(layers):
        for name, value, limits in layer_limits(layer):
            if violation := limits.violation(f"spec.layers[{index}].{name}", value):
                yield violation


def layer_limits(layer: Layer) -> tuple[tuple[str, float, Range], ...]:
    """A layer's numbers, each with its name in the contract and its limits."""
    match layer:
        case Dense():
            return (("dense.units", layer.units, Range(1, MAX_UNITS)),)
        case Conv2D():
            return (
                ("conv2d.filters", layer.filters, Range(1, MAX_FILTERS)),
                ("conv2d.kernel_size", layer.kernel_size, Range(1, MAX_WINDOW)),
                ("conv2d.padding", layer.padding, Range(0, max(0, min(layer.kernel_size, MAX_WINDOW) - 1))),
            )
        case MaxPool2D():
            return (("max_pool2d.size", layer.size, Range(2, MAX_WINDOW)),)
        case Dropout():
            return (("dropout.rate", layer.rate, Range(0, 1, low_open=True, high_open=True)),)
    return ()


def name_violation(name: str, field: str, what: str) -> FieldViolation | None:
    """What is wrong with the name of a model or a data set, if anything."""
    if MODEL_NAME.fullmatch(name):
        return None
    return FieldViolation(
        field,
        f"got {name[:80]!r}, expected 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit"
        if name
        else f"required: the {what}'s name",
    )


def checked_model_name(name: str) -> str:
    """A request's `model`, if it could be one.

    Raises:
        InvalidInputError: if it could not.
    """
    if violation := name_violation(name, "model", "model"):
        raise InvalidInputError(violation)
    return name


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch did, measured after its last update. Losses in nats, accuracies 0 to 1, times in seconds.

    The two of validation are None where nothing was set aside for it.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    samples_per_second: float
    seconds: float
    learning_rate: float = 0.0
    train_sample_loss: float = 0.0
    validation_loss: float | None = None
    validation_accuracy: float | None = None
