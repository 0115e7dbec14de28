"""A training spec and a job's digests as lines for people: what was asked for, without what says nothing."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from rich.console import Console

from client.cli.layer_text import activation_name, layers_text
from shared.pb.weightcast.v1 import training_pb2
from shared.pb.weightcast.v1.training_pb2 import TrainingJob, TrainingSpec

NAME_WIDTH = 16


def print_fields(console: Console, fields: dict[str, str]) -> None:
    """Names and values, one a line, without those that are empty."""
    width = max([NAME_WIDTH, *(len(name) for name, value in fields.items() if value)])
    for name, value in fields.items():
        if value:
            console.print(f"  {name:{width}} {value}", highlight=False, markup=False, soft_wrap=True)


def job_fields(job: TrainingJob) -> dict[str, str]:
    """A job's spec, what created it, and what identifies its result."""
    libraries = ", ".join(f"{name} {value}" for name, value in sorted(job.library_versions.items()))
    return {
        **spec_fields(job.spec),
        "created by": job.schedule and f"schedule {job.schedule}",
        "weights": job.weights_digest and f"SHA-256 {job.weights_digest}",
        "data": job.dataset_digest and f"SHA-256 {job.dataset_digest}",
        "libraries": libraries,
    }


def spec_fields(spec: TrainingSpec) -> dict[str, str]:
    """What a spec asks for, by name; what it leaves out is empty."""
    return {
        "model": spec.model + (", not published" if spec.HasField("publish") and not spec.publish else ""),
        "data set": spec.dataset,
        "parent": spec.parent and f"version {spec.parent}",
        "network": network_text(spec),
        "initial weights": enum_text(training_pb2.Initialization.DESCRIPTOR, spec.initialization),
        "training": f"{spec.epochs} epochs in batches of {spec.batch_size}, seed {spec.seed}",
        "loss": loss_text(spec),
        "optimizer": optimizer_text(spec),
        "schedule": schedule_text(spec.schedule),
        "generalisation": ", ".join(generalisation(spec)),
        "augmentation": ", ".join(augmentation(spec.augmentation)),
        "promotion": promotion_text(spec.promotion),
    }


def given_fields(spec: TrainingSpec) -> dict[str, str]:
    """What a spec says whose defaults are not filled in, by the names of its fields, without what it leaves open."""
    texts = {
        "network": network_text(TrainingSpec(network=spec.network)),
        "layers": layers_text(spec.layers),
        "schedule": schedule_text(spec.schedule),
        "augmentation": ", ".join(augmentation(spec.augmentation)) or "none",
        "promotion": promotion_text(spec.promotion),
    }
    fields: list[tuple[FieldDescriptor, Any]] = list(spec.ListFields())
    return {field.name.replace("_", " "): texts.get(field.name) or value_text(field, value) for field, value in fields}


def value_text(field: FieldDescriptor, value: Any) -> str:  # noqa: ANN401 - a field may be of any type
    """A field's value: an enum by its name, a boolean as yes or no, all else as it is."""
    if field.enum_type:
        return enum_text(field.enum_type, value)
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def enum_text(enum: EnumDescriptor, value: int) -> str:
    """An enum's value in lower case without its prefix; empty where it is not set."""
    if not value:
        return ""
    if value not in enum.values_by_number:
        return f"number {value}, which this program does not know"
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return enum.values_by_number[value].name.removeprefix(prefix).replace("_", "-").lower()


def network_text(spec: TrainingSpec) -> str:
    """The hidden layers as `--layers` takes them, and the preset they stand in."""
    if spec.HasField("network") and not spec.layers:
        sizes = ",".join(map(str, spec.network.hidden_layer_sizes)) or "none"
        name = f" {activation_name(spec.network.activation)}" if spec.network.activation else ""
        layers = f"hidden layers {sizes}{name}"
    else:
        layers = layers_text(spec.layers)
    return f"{layers} (preset {spec.preset})" if spec.preset else layers


def promotion_text(promotion: training_pb2.Promotion) -> str:
    """What decides whether a version goes live, as `--promote` takes it, and the margin to win by."""
    policy = enum_text(training_pb2.Promotion.Policy.DESCRIPTOR, promotion.policy)
    return f"{policy}, by a margin of {promotion.margin:g}" if promotion.margin else policy


def loss_text(spec: TrainingSpec) -> str:
    """The loss, and what smooths it."""
    smoothing = f", label smoothing {spec.label_smoothing:g}" if spec.label_smoothing else ""
    return enum_text(training_pb2.Loss.DESCRIPTOR, spec.loss) + smoothing


def optimizer_text(spec: TrainingSpec) -> str:
    """The optimizer and its numbers."""
    parts = [enum_text(training_pb2.Optimizer.DESCRIPTOR, spec.optimizer), f"learning rate {spec.learning_rate:g}"]
    if spec.momentum:
        parts.append(f"{'Nesterov ' if spec.nesterov else ''}momentum {spec.momentum:g}")
    return ", ".join(parts)


def schedule_text(schedule: training_pb2.Schedule) -> str:
    """The schedule and the numbers that belong to it."""
    name = enum_text(training_pb2.Schedule.Kind.DESCRIPTOR, schedule.kind)
    match schedule.kind:
        case training_pb2.Schedule.KIND_STEP:
            return f"{name}, times {schedule.step_factor:g} after every {schedule.step_epochs} epochs"
        case training_pb2.Schedule.KIND_ONE_CYCLE:
            return f"{name}, warm-up over {schedule.warmup_fraction:.0%} of all updates"
    return name


def generalisation(spec: TrainingSpec) -> Iterator[str]:
    """What keeps the network from learning by heart."""
    if spec.weight_decay:
        yield f"weight decay {spec.weight_decay:g}"
    if spec.gradient_clip_norm:
        yield f"gradients clipped to {spec.gradient_clip_norm:g}"
    if spec.validation_fraction:
        yield f"{spec.validation_fraction:.0%} set aside for validation"
    if spec.early_stopping_patience:
        yield f"stops after {spec.early_stopping_patience} epochs without a better one"
    if spec.ema_decay:
        yield f"weights averaged with decay {spec.ema_decay:g}"


def augmentation(changes: training_pb2.Augmentation) -> Iterator[str]:
    """What is done to training images."""
    if changes.shift:
        yield f"shift {changes.shift:g} px"
    if changes.rotation:
        yield f"rotation {changes.rotation:g}°"
    if changes.scale:
        yield f"scale {changes.scale:.0%}"
    if changes.elastic_strength:
        yield f"elastic {changes.elastic_strength:g} px smoothed over {changes.elastic_smoothing:g} px"
