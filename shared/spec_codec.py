"""Training specs and epochs to protobuf messages and back, for the contract and for storage alike."""

from typing import Any

from shared.layers import Activation, Dense
from shared.network_codec import layer_from_proto, layer_to_proto
from shared.pb.weightcast.v1 import training_pb2 as pb
from shared.proto_values import duration, key_of
from shared.recipe import (
    Augmentation,
    Initialization,
    Loss,
    Optimizer,
    Promotion,
    PromotionPolicy,
    Schedule,
    ScheduleKind,
)
from shared.training_spec import EpochMetrics, TrainingSpec

OPTIMIZERS = {
    Optimizer.SGD: pb.OPTIMIZER_SGD,
    Optimizer.ADAM: pb.OPTIMIZER_ADAM,
    Optimizer.RMSPROP: pb.OPTIMIZER_RMSPROP,
    Optimizer.ADAMW: pb.OPTIMIZER_ADAMW,
}
LOSSES = {
    Loss.CROSS_ENTROPY: pb.LOSS_CROSS_ENTROPY,
    Loss.MEAN_SQUARED_ERROR: pb.LOSS_MEAN_SQUARED_ERROR,
}
INITIALIZATIONS = {
    Initialization.HE: pb.INITIALIZATION_HE,
    Initialization.GLOROT: pb.INITIALIZATION_GLOROT,
    Initialization.SMALL_NORMAL: pb.INITIALIZATION_SMALL_NORMAL,
    Initialization.ZEROS: pb.INITIALIZATION_ZEROS,
}
SCHEDULES = {
    ScheduleKind.CONSTANT: pb.Schedule.KIND_CONSTANT,
    ScheduleKind.STEP: pb.Schedule.KIND_STEP,
    ScheduleKind.COSINE: pb.Schedule.KIND_COSINE,
    ScheduleKind.ONE_CYCLE: pb.Schedule.KIND_ONE_CYCLE,
}
POLICIES = {
    PromotionPolicy.ALWAYS: pb.Promotion.POLICY_ALWAYS,
    PromotionPolicy.IF_BETTER: pb.Promotion.POLICY_IF_BETTER,
    PromotionPolicy.MANUAL: pb.Promotion.POLICY_MANUAL,
}
# Fields that are the same word and the same number on both sides, whose presence says whether they were given.
NUMBERS = (
    "epochs", "batch_size", "learning_rate", "seed", "label_smoothing", "momentum", "nesterov", "weight_decay",
    "gradient_clip_norm", "validation_fraction", "early_stopping_patience", "ema_decay", "publish",
)  # fmt: skip


def spec_to_proto(spec: TrainingSpec) -> pb.TrainingSpec:
    """A spec as a message with every field set, so that it asks for the very same again.

    `network` stays unset, because `layers` says more; but it is set, and empty, where there is no hidden layer: without
    both, the preset's would be meant.
    """
    return pb.TrainingSpec(
        network=None if spec.layers else pb.DenseNetwork(),
        model=spec.model,
        dataset=spec.dataset,
        preset=spec.preset,
        layers=[layer_to_proto(layer) for layer in spec.layers],
        optimizer=OPTIMIZERS[spec.optimizer],
        loss=LOSSES[spec.loss],
        initialization=INITIALIZATIONS[spec.initialization],
        schedule=schedule_to_proto(spec.schedule),
        augmentation=augmentation_to_proto(spec.augmentation),
        promotion=promotion_to_proto(spec.promotion),
        parent=str(spec.parent) if spec.parent else "",
        **{name: getattr(spec, name) for name in NUMBERS},
    )


def spec_from_proto(proto: pb.TrainingSpec) -> TrainingSpec:
    """A spec from a message that `spec_to_proto` made, or an earlier build's, which did without the later fields.

    Raises:
        ValueError: if it has a value that this build does not know, or no seed.
    """
    if not proto.HasField("seed"):
        raise ValueError("spec.seed is not set")
    hidden = proto.network.hidden_layer_sizes
    return TrainingSpec(
        model=proto.model,
        dataset=proto.dataset,
        preset=proto.preset,
        layers=tuple(map(layer_from_proto, proto.layers)) or tuple(Dense(units, Activation.RELU) for units in hidden),
        optimizer=key_of(OPTIMIZERS, proto.optimizer, "optimizer"),
        loss=key_of(LOSSES, proto.loss or pb.LOSS_CROSS_ENTROPY, "loss"),
        initialization=key_of(INITIALIZATIONS, proto.initialization or pb.INITIALIZATION_HE, "initialization"),
        schedule=schedule_from_proto(proto.schedule),
        augmentation=augmentation_from_proto(proto.augmentation),
        promotion=promotion_from_proto(proto.promotion),
        parent=int(proto.parent or 0),
        **given_numbers(proto),
    )


def given_numbers(proto: pb.TrainingSpec) -> dict[str, Any]:
    """The NUMBERS that are set, by name."""
    return {field.name: value for field, value in proto.ListFields() if field.name in NUMBERS}


def schedule_to_proto(schedule: Schedule) -> pb.Schedule:
    """A schedule as a message."""
    return pb.Schedule(
        kind=SCHEDULES[schedule.kind],
        step_epochs=schedule.step_epochs,
        step_factor=schedule.step_factor,
        warmup_fraction=schedule.warmup_fraction,
    )


def schedule_from_proto(proto: pb.Schedule) -> Schedule:
    """A schedule from a message; 0 means the default, as the contract says. ValueError for an unknown kind."""
    usual = Schedule()
    return Schedule(
        kind=key_of(SCHEDULES, proto.kind, "kind") if proto.kind else usual.kind,
        step_epochs=proto.step_epochs or usual.step_epochs,
        step_factor=proto.step_factor or usual.step_factor,
        warmup_fraction=proto.warmup_fraction or usual.warmup_fraction,
    )


def augmentation_to_proto(augmentation: Augmentation) -> pb.Augmentation:
    """An augmentation as a message."""
    return pb.Augmentation(
        shift=augmentation.shift,
        rotation=augmentation.rotation,
        scale=augmentation.scale,
        elastic_strength=augmentation.elastic_strength,
        elastic_smoothing=augmentation.elastic_smoothing,
    )


def augmentation_from_proto(proto: pb.Augmentation) -> Augmentation:
    """An augmentation from a message; a smoothing of 0 means the default, as the contract says."""
    return Augmentation(
        shift=proto.shift,
        rotation=proto.rotation,
        scale=proto.scale,
        elastic_strength=proto.elastic_strength,
        elastic_smoothing=proto.elastic_smoothing or Augmentation().elastic_smoothing,
    )


def promotion_to_proto(promotion: Promotion) -> pb.Promotion:
    """A promotion as a message."""
    return pb.Promotion(policy=POLICIES[promotion.policy], margin=promotion.margin)


def promotion_from_proto(proto: pb.Promotion) -> Promotion:
    """A promotion from a message; no policy means the default, as the contract says. ValueError for an unknown one."""
    policy = key_of(POLICIES, proto.policy, "policy") if proto.policy else Promotion().policy
    return Promotion(policy, proto.margin)


def epoch_to_proto(metrics: EpochMetrics) -> pb.EpochMetrics:
    """An epoch's metrics as a message."""
    return pb.EpochMetrics(
        epoch=metrics.epoch,
        train_loss=metrics.train_loss,
        train_accuracy=metrics.train_accuracy,
        test_loss=metrics.test_loss,
        test_accuracy=metrics.test_accuracy,
        samples_per_second=metrics.samples_per_second,
        duration=duration(metrics.seconds),
        learning_rate=metrics.learning_rate,
        train_sample_loss=metrics.train_sample_loss,
        validation_loss=metrics.validation_loss,
        validation_accuracy=metrics.validation_accuracy,
    )


def epoch_from_proto(proto: pb.EpochMetrics) -> EpochMetrics:
    """An epoch's metrics from a message."""
    return EpochMetrics(
        epoch=proto.epoch,
        train_loss=proto.train_loss,
        train_accuracy=proto.train_accuracy,
        test_loss=proto.test_loss,
        test_accuracy=proto.test_accuracy,
        samples_per_second=proto.samples_per_second,
        seconds=proto.duration.ToTimedelta().total_seconds(),
        learning_rate=proto.learning_rate,
        train_sample_loss=proto.train_sample_loss,
        validation_loss=proto.validation_loss if proto.HasField("validation_loss") else None,
        validation_accuracy=proto.validation_accuracy if proto.HasField("validation_accuracy") else None,
    )
