"""The options that make up a training recipe: `weightcast train` takes them all; what is not given stays unset."""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

import typer
from google.protobuf.message import Message
from rich.markup import escape

from client.cli.layer_text import ACTIVATIONS, SYNTAX, LayerTextError, layers_of
from shared.pb.weightcast.v1 import training_pb2

OptimizerName = Literal["sgd", "adam", "rmsprop", "adamw"]
LossName = Literal["cross-entropy", "mean-squared-error"]
InitializationName = Literal["he", "glorot", "small-normal", "zeros"]
ScheduleName = Literal["constant", "step", "cosine", "one-cycle"]
ActivationName = Literal["relu", "tanh", "sigmoid", "identity"]
PolicyName = Literal["always", "if-better", "manual"]
NETWORK, LEARNING, GENERAL, IMAGES = "Network", "Learning", "Generalisation", "Augmentation of images"
RESULT = "What becomes of the result"
# Which schedule each of its numbers belongs to.
SCHEDULE_OF = {"step_epochs": "step", "step_factor": "step", "warmup_fraction": "one-cycle"}
AUGMENTATION = ("shift", "rotation", "scale", "elastic_strength", "elastic_smoothing")
NUMBERS = (
    "epochs", "batch_size", "learning_rate", "seed", "momentum", "nesterov", "label_smoothing", "weight_decay",
    "gradient_clip_norm", "validation_fraction", "early_stopping_patience", "ema_decay", "publish",
)  # fmt: skip


def option(text: str, panel: str, *names: str, metavar: str | None = None) -> Any:  # noqa: ANN401 - what typer gives
    """An option in its part of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar)


@dataclass(frozen=True)
class Recipe:
    """How to train. None means not given: the preset's, or the service's default."""

    preset: Annotated[
        str | None, option("A network with its recipe: mlp, mlp-512-256, lenet or convnet; mlp if not given.", NETWORK)
    ] = None
    layers: Annotated[
        str | None,
        option(
            'The hidden layers, e.g. "conv 16x5 pad 2 relu, pool 2, flatten, dense 128 tanh, dropout 0.3". '
            f"Each is one of: {escape(SYNTAX)}. No activation means relu.",
            NETWORK,
        ),
    ] = None
    hidden: Annotated[
        str | None, option("Units of each dense hidden layer, e.g. 512,256; none means softmax regression.", NETWORK)
    ] = None
    activation: Annotated[ActivationName | None, option("The activation of the layers of --hidden.", NETWORK)] = None
    initialization: Annotated[InitializationName | None, option("How initial weights are drawn.", NETWORK)] = None
    parent: Annotated[
        str | None,
        option("Start from the weights of this version of the model: a number, live or another alias.", NETWORK),
    ] = None
    epochs: Annotated[int | None, option("Passes over the training data.", LEARNING)] = None
    batch_size: Annotated[int | None, option("Examples per update.", LEARNING)] = None
    optimizer: Annotated[OptimizerName | None, option("How gradients change the weights.", LEARNING)] = None
    learning_rate: Annotated[float | None, option("The optimizer's step size.", LEARNING)] = None
    momentum: Annotated[float | None, option("How much of the last update is repeated; for sgd.", LEARNING)] = None
    nesterov: Annotated[bool | None, option("Look ahead by the momentum.", LEARNING, "--nesterov/--no-nesterov")] = None
    schedule: Annotated[ScheduleName | None, option("How the learning rate changes.", LEARNING)] = None
    step_epochs: Annotated[int | None, option("Epochs between two steps, with --schedule step.", LEARNING)] = None
    step_factor: Annotated[float | None, option("What a step multiplies by, with --schedule step.", LEARNING)] = None
    warmup_fraction: Annotated[
        float | None, option("Share of updates that warm up, with --schedule one-cycle.", LEARNING)
    ] = None
    loss: Annotated[LossName | None, option("What training makes small.", LEARNING)] = None
    gradient_clip_norm: Annotated[float | None, option("Longer gradients are shortened to this.", LEARNING)] = None
    seed: Annotated[int | None, option("The same seed gives the same weights.", LEARNING)] = None
    publish: Annotated[
        bool | None, option("Publish the result, or only train and measure.", RESULT, "--publish/--no-publish")
    ] = None
    promote: Annotated[
        PolicyName | None,
        option(
            "Whether the new version goes live: always, which is the default; if it is better on the test split than "
            "the live one; or when you say so by `weightcast models promote`.",
            RESULT,
        ),
    ] = None
    margin: Annotated[
        float | None,
        option("Accuracy it must win by, with --promote if-better: 0.01 is one percentage point.", RESULT),
    ] = None
    label_smoothing: Annotated[float | None, option("Share of the target spread over all classes.", GENERAL)] = None
    weight_decay: Annotated[float | None, option("Pulls every weight towards 0.", GENERAL)] = None
    validation_fraction: Annotated[
        float | None, option("Share of the training data set aside to watch training by.", GENERAL)
    ] = None
    early_stopping_patience: Annotated[
        int | None, option("Epochs without a smaller validation loss until training ends.", GENERAL)
    ] = None
    ema_decay: Annotated[float | None, option("Publish a moving average of the weights.", GENERAL)] = None
    shift: Annotated[
        float | None, option("Most pixels moved. Any of these replaces the preset's augmentation.", IMAGES)
    ] = None
    rotation: Annotated[float | None, option("Most degrees turned.", IMAGES)] = None
    scale: Annotated[float | None, option("Most enlarged or shrunk, as a share.", IMAGES)] = None
    elastic_strength: Annotated[float | None, option("Strength of elastic distortion, in pixels.", IMAGES)] = None
    elastic_smoothing: Annotated[float | None, option("Its smoothing, in pixels.", IMAGES)] = None
    no_augmentation: Annotated[bool, option("Leave the images as they are.", IMAGES, "--no-augmentation")] = False

    def write(self, spec: training_pb2.TrainingSpec) -> None:
        """Writes what was given into a spec.

        Raises:
            typer.BadParameter: if an option cannot be read, or belongs to another that was not given.
        """
        spec.preset = self.preset or ""
        spec.parent = self.parent or ""
        self._write_network(spec)
        for name in NUMBERS:
            set_number(spec, name, getattr(self, name))
        if self.optimizer is not None:
            spec.optimizer = training_pb2.Optimizer.Value(f"OPTIMIZER_{enum_word(self.optimizer)}")
        if self.loss is not None:
            spec.loss = training_pb2.Loss.Value(f"LOSS_{enum_word(self.loss)}")
        if self.initialization is not None:
            spec.initialization = training_pb2.Initialization.Value(f"INITIALIZATION_{enum_word(self.initialization)}")
        self._write_schedule(spec)
        self._write_augmentation(spec)
        self._write_promotion(spec)

    def _write_network(self, spec: training_pb2.TrainingSpec) -> None:
        if self.hidden is not None:
            spec.network.CopyFrom(network_of(self.hidden))
            if self.activation is not None:
                spec.network.activation = ACTIVATIONS[self.activation]
        elif self.activation is not None:
            raise typer.BadParameter("needs --hidden; --layers names each layer's own", param_hint="--activation")
        if self.layers is not None:
            try:
                spec.layers.extend(layers_of(self.layers))
            except LayerTextError as error:
                raise typer.BadParameter(str(error), param_hint="--layers") from None

    def _write_schedule(self, spec: training_pb2.TrainingSpec) -> None:
        for name, kind in SCHEDULE_OF.items():
            if getattr(self, name) is not None and self.schedule != kind:
                raise typer.BadParameter(f"needs --schedule {kind}", param_hint=flag(name))
        if self.schedule is not None:
            spec.schedule.kind = training_pb2.Schedule.Kind.Value(f"KIND_{enum_word(self.schedule)}")
            for name in SCHEDULE_OF:
                set_number(spec.schedule, name, getattr(self, name))

    def _write_augmentation(self, spec: training_pb2.TrainingSpec) -> None:
        given = [name for name in AUGMENTATION if getattr(self, name) is not None]
        if self.no_augmentation and given:
            raise typer.BadParameter(f"contradicts {flag(given[0])}", param_hint="--no-augmentation")
        if self.no_augmentation or given:
            spec.augmentation.SetInParent()
        for name in given:
            set_number(spec.augmentation, name, getattr(self, name))

    def _write_promotion(self, spec: training_pb2.TrainingSpec) -> None:
        if self.margin is not None and self.promote != "if-better":
            raise typer.BadParameter("needs --promote if-better", param_hint="--margin")
        if self.promote is not None:
            spec.promotion.policy = training_pb2.Promotion.Policy.Value(f"POLICY_{enum_word(self.promote)}")
            set_number(spec.promotion, "margin", self.margin)


def with_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `recipe` stands for the options of a Recipe, each of which typer then sees."""
    hints = get_type_hints(Recipe, include_extras=True)
    names = [field.name for field in dataclasses.fields(Recipe)]

    def run(**given: Any) -> None:  # noqa: ANN401 - typer has checked each against its option
        command(recipe=Recipe(**{name: given.pop(name) for name in names}), **given)

    own = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(Recipe, name), annotation=hints[name])
        for name in names
    ]
    kept = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.parameters.items()
        if name != "recipe"
    ]
    parameters = [*kept, *options]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def flag(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


def enum_word(name: str) -> str:
    """A choice as the contract's enums spell it, without their prefix."""
    return name.replace("-", "_").upper()


def set_number(message: Message, name: str, value: float | None) -> None:
    """Sets a field that was given. What the message cannot hold is wrong usage; the rest is the service's to judge."""
    if value is None:
        return
    try:
        setattr(message, name, value)
    except ValueError:
        raise typer.BadParameter(f"got {value}, which is too large", param_hint=flag(name)) from None


def network_of(text: str) -> training_pb2.DenseNetwork:
    """512,256 as a network; none as one without hidden layers."""
    try:
        sizes = [] if text == "none" else [int(units) for units in text.split(",")]
        return training_pb2.DenseNetwork(hidden_layer_sizes=sizes)
    except ValueError:
        raise typer.BadParameter(
            f"got {text!r}, expected numbers such as 512,256, or none", param_hint="--hidden"
        ) from None
