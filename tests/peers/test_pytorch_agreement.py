"""The engine beside PyTorch: the same initial weights and minibatches give the same losses, step after step.

Runs with the `bench` extra: `make test-peers`. The engine's own parts are put together here as its loop does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from shared.layers import Activation, Conv2D, Dense, Flatten, Layer, MaxPool2D, Shape
from shared.network import FloatArray, LayerParameters, Network
from shared.recipe import Loss, Optimizer, Schedule, ScheduleKind
from shared.training_spec import TrainingSpec
from trainer_service.training.backpropagation import Backpropagation
from trainer_service.training.initialization import initial_network
from trainer_service.training.losses import fill_targets
from trainer_service.training.optimizers import clip_norm, optimizer_for
from trainer_service.training.schedules import LearningRates

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed; it is in the `bench` extra")
torch.set_num_threads(1)  # a few rows at a time: more threads only wait for each other

EPOCHS, STEPS, CLASSES = 4, 5, 10
BATCH_ROWS = (32, 32, 32, 32, 19)  # of an epoch; the last minibatch is shorter, as in training
IMAGE = (12, 12)
# Both round each sum of float32 in an order of their own, and RMSprop's first step makes the least gradient as large as
# any other. Losses were seen to differ by 7e-7 of themselves with AVX-512 kernels of OpenBLAS, by 1.2e-5 with AVX2.
TOLERANCE = 2e-5
LEAST_CHANGE = 5e-3

MLP = (Dense(24, Activation.RELU),)
CONVOLUTIONAL = (
    Conv2D(4, 3, 1, Activation.TANH),
    MaxPool2D(2),
    Conv2D(6, 3, 0, Activation.SIGMOID),
    MaxPool2D(2),
    Flatten(),
    Dense(16, Activation.TANH),
)
SIX = {
    "SGD": {"optimizer": Optimizer.SGD, "learning_rate": 0.1},
    "SGD with momentum": {"optimizer": Optimizer.SGD, "learning_rate": 0.05, "momentum": 0.9},
    "Nesterov": {"optimizer": Optimizer.SGD, "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "RMSprop": {"optimizer": Optimizer.RMSPROP, "learning_rate": 0.002},
    "Adam": {"optimizer": Optimizer.ADAM, "learning_rate": 0.005},
    "AdamW": {"optimizer": Optimizer.ADAMW, "learning_rate": 0.005},
}
SCHEDULES = {
    "constant": Schedule(),
    "step": Schedule(ScheduleKind.STEP, step_epochs=1, step_factor=0.5),
    "cosine": Schedule(ScheduleKind.COSINE),
    "one-cycle": Schedule(ScheduleKind.ONE_CYCLE, warmup_fraction=0.3),
}
DECAYS = {"without decay": 0.0, "with decay": 0.1}


@dataclass(frozen=True, eq=False)
class Batch:
    """Features float32 (rows, input_size) and class ids int64 (rows,)."""

    features: FloatArray
    class_ids: np.ndarray


def batches(input_size: int) -> list[Batch]:
    """Twenty minibatches of noisy pictures of ten kinds, values from 0 to about 1."""
    rng = np.random.default_rng(5)
    kinds = rng.random((CLASSES, input_size), np.float32)
    made = []
    for rows in BATCH_ROWS * EPOCHS:
        class_ids = rng.integers(0, CLASSES, rows)
        noise = rng.standard_normal((rows, input_size), np.float32)
        made.append(Batch(kinds[class_ids] + np.float32(0.3) * noise, class_ids))
    return made


def spec_with(fields: dict[str, Any], layers: tuple[Layer, ...] = MLP) -> TrainingSpec:
    """A spec that nothing is wrong with, of four epochs."""
    spec = TrainingSpec("agreement", "made-up", seed=0, layers=layers, epochs=EPOCHS, **fields)
    assert list(spec.violations(IMAGE)) == []
    return spec


def first_network(spec: TrainingSpec) -> Network:
    """Where both begin; biases are no zeros, so that decay and copying have something to get wrong."""
    rng = np.random.default_rng(11)
    network = initial_network(spec.architecture(IMAGE, CLASSES), rng, spec.initialization)
    for parameters in network.layers:
        parameters.bias[:] = rng.normal(0, 0.1, parameters.bias.shape)
    return network


def losses_here(spec: TrainingSpec, made: Sequence[Batch]) -> list[float]:
    """Each step's loss, by the engine."""
    network = first_network(spec)
    architecture = network.architecture
    backpropagation = Backpropagation(architecture, max(BATCH_ROWS), spec.loss, np.random.default_rng(0))
    optimizer = optimizer_for(spec, architecture.parameter_count)
    rates = LearningRates(spec, STEPS)
    losses = []
    for update, batch in enumerate(made):
        targets = np.empty((len(batch.class_ids), CLASSES), np.float32)
        fill_targets(targets, batch.class_ids, spec.label_smoothing)
        losses.append(backpropagation.compute(network, batch.features, targets))
        if spec.gradient_clip_norm:
            clip_norm(backpropagation.gradient, spec.gradient_clip_norm)
        optimizer.update(network.parameters, backpropagation.gradient, rates.at(update))
    return losses


def losses_there(spec: TrainingSpec, made: Sequence[Batch]) -> list[float]:
    """Each step's loss, by PyTorch alone."""
    network = first_network(spec)
    model = twin(network)
    optimizer = twin_optimizer(spec, model.parameters())
    schedule = twin_schedule(spec, optimizer)
    losses = []
    for update, batch in enumerate(made, start=1):
        optimizer.zero_grad()
        loss = twin_loss(spec, model(torch.from_numpy(batch.features)), torch.from_numpy(batch.class_ids))
        loss.backward()
        if spec.gradient_clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), spec.gradient_clip_norm)
        optimizer.step()
        losses.append(loss.item())
        if schedule is not None and (spec.schedule.kind is not ScheduleKind.STEP or update % STEPS == 0):
            schedule.step()
    return losses


def twin(network: Network) -> Any:  # noqa: ANN401 - PyTorch is not there to type against
    """The same network as a PyTorch module, with a copy of its parameters."""
    architecture = network.architecture
    modules = []
    if architecture.takes_images:
        modules.append(torch.nn.Unflatten(1, architecture.shapes[0]))
    for layer, parameters, inputs in zip(architecture.layers, network.layers, architecture.shapes, strict=False):
        modules += twin_layer(layer, parameters, inputs)
    return torch.nn.Sequential(*modules)


def twin_layer(layer: Layer, parameters: LayerParameters, inputs: Shape) -> list[Any]:
    """The modules of one layer and its activation."""
    match layer:
        case Dense():
            module, weight = torch.nn.Linear(inputs[0], layer.units), parameters.weight.T
        case Conv2D():
            module = torch.nn.Conv2d(inputs[0], layer.filters, layer.kernel_size, padding=layer.padding)
            weight = parameters.weight
        case MaxPool2D():
            return [torch.nn.MaxPool2d(layer.size)]
        case Flatten():
            return [torch.nn.Flatten()]
        case _:
            raise AssertionError(f"{layer} draws at random: nothing to compare")
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        module.bias.copy_(torch.from_numpy(parameters.bias))
    activation = {
        Activation.RELU: torch.nn.ReLU,
        Activation.TANH: torch.nn.Tanh,
        Activation.SIGMOID: torch.nn.Sigmoid,
        Activation.IDENTITY: torch.nn.Identity,
    }[layer.activation]
    return [module, activation()]


def twin_optimizer(spec: TrainingSpec, parameters: Any) -> Any:  # noqa: ANN401 - as above
    """PyTorch's optimizer for a spec."""
    given = {"lr": spec.learning_rate, "weight_decay": spec.weight_decay}
    match spec.optimizer:
        case Optimizer.SGD:
            return torch.optim.SGD(parameters, momentum=spec.momentum, nesterov=spec.nesterov, **given)
        case Optimizer.RMSPROP:
            return torch.optim.RMSprop(parameters, **given)
        case Optimizer.ADAM:
            return torch.optim.Adam(parameters, **given)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(parameters, **given)


def twin_schedule(spec: TrainingSpec, optimizer: Any) -> Any:  # noqa: ANN401 - as above
    """PyTorch's schedule for a spec; None for a constant rate."""
    schedules, schedule = torch.optim.lr_scheduler, spec.schedule
    match schedule.kind:
        case ScheduleKind.CONSTANT:
            return None
        case ScheduleKind.STEP:
            return schedules.StepLR(optimizer, schedule.step_epochs, schedule.step_factor)
        case ScheduleKind.COSINE:
            return schedules.CosineAnnealingLR(optimizer, EPOCHS * STEPS)
        case ScheduleKind.ONE_CYCLE:
            return schedules.OneCycleLR(
                optimizer,
                spec.learning_rate,
                total_steps=EPOCHS * STEPS,
                pct_start=schedule.warmup_fraction,
                cycle_momentum=False,
            )


def twin_loss(spec: TrainingSpec, logits: Any, class_ids: Any) -> Any:  # noqa: ANN401 - as above
    """PyTorch's loss for a spec."""
    functional = torch.nn.functional
    if spec.loss is Loss.CROSS_ENTROPY:
        return functional.cross_entropy(logits, class_ids, label_smoothing=spec.label_smoothing)
    targets = functional.one_hot(class_ids, CLASSES).to(logits.dtype)
    return functional.mse_loss(functional.softmax(logits, dim=1), targets)


def assert_agreement(spec: TrainingSpec) -> None:
    """All twenty losses are the same within rounding, and training did change them."""
    made = batches(IMAGE[0] * IMAGE[1])
    here, there = losses_here(spec, made), losses_there(spec, made)
    np.testing.assert_allclose(here, there, rtol=TOLERANCE)
    assert abs(there[-1] - there[0]) > LEAST_CHANGE * there[0], "a loss that stands still compares nothing"


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", SIX)
def test_every_optimizer_with_every_schedule_takes_pytorchs_steps(optimizer: str, schedule: str, decay: str) -> None:
    """Twenty losses agree, so nineteen updates did: each loss depends on all updates before it."""
    assert_agreement(spec_with({**SIX[optimizer], "schedule": SCHEDULES[schedule], "weight_decay": DECAYS[decay]}))


@pytest.mark.parametrize("layers", [MLP, CONVOLUTIONAL], ids=["dense", "convolutional"])
@pytest.mark.parametrize(
    "fields",
    [{}, {"label_smoothing": 0.1}, {"loss": Loss.MEAN_SQUARED_ERROR}, {"gradient_clip_norm": 0.3}],
    ids=["cross-entropy", "label smoothing", "mean squared error", "clipping"],
)
@pytest.mark.parametrize("optimizer", ["SGD with momentum", "Adam"])
def test_every_loss_and_layer_has_pytorchs_gradient(
    layers: tuple[Layer, ...], fields: dict[str, Any], optimizer: str
) -> None:
    """Dense, padded convolution, pooling, flattening; ReLU, tanh, sigmoid; both losses, smoothing and clipping."""
    assert_agreement(spec_with({**SIX[optimizer], **fields}, layers))


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        (SIX["SGD"] | {"weight_decay": 0.1}, {"weight_decay": 0.0}),
        (SIX["Adam"] | {"weight_decay": 0.1}, {"optimizer": Optimizer.ADAMW}),
        (SIX["AdamW"] | {"weight_decay": 0.1}, {"weight_decay": 0.0}),
        (SIX["Nesterov"], {"nesterov": False}),
        (SIX["Adam"] | {"schedule": SCHEDULES["step"]}, {"schedule": SCHEDULES["constant"]}),
        (
            SIX["Adam"] | {"schedule": SCHEDULES["one-cycle"]},
            {"schedule": Schedule(ScheduleKind.ONE_CYCLE, 10, 0.1, 0.35)},
        ),
        (SIX["SGD"] | {"gradient_clip_norm": 0.3}, {"gradient_clip_norm": 0.31}),
        (SIX["SGD"] | {"label_smoothing": 0.1}, {"label_smoothing": 0.11}),
    ],
    ids=["decay", "decoupled", "AdamW's decay", "Nesterov", "step", "warm-up", "clipping", "smoothing"],
)
def test_the_comparison_notices_another_recipe(fields: dict[str, Any], other: dict[str, Any]) -> None:
    """What differs by one small setting differs by more than the tolerance: agreement means something."""
    spec = spec_with(fields)
    made = batches(IMAGE[0] * IMAGE[1])
    there = losses_there(spec, made)
    assert not np.allclose(losses_here(replace(spec, **other), made), there, rtol=TOLERANCE)
