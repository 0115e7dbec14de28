"""Every field of a recipe that cannot be meant is refused by name, by real calls, and nothing is queued."""

from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from client.errors import RpcError
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

GOOD = {"model": "recipes", "dataset": "digits", "epochs": 1}
CONV = {"conv2d": {"filters": 4, "kernelSize": 3}}
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown preset": ({"preset": "resnet"}, "spec.preset", "mlp, mlp-512-256, lenet, convnet"),
    "network and layers": (
        {"network": {"hiddenLayerSizes": [4]}, "layers": [{"dense": {"units": 4}}]},
        "spec.layers",
        "send one of them",
    ),
    "a layer of no kind": ({"layers": [{}]}, "spec.layers[0].kind", "dense, conv2d"),
    "a layer of no units": ({"layers": [{"dense": {}}]}, "spec.layers[0].dense.units", "1 to 8192"),
    "a filter too many": (
        {"layers": [{"conv2d": {"filters": 513, "kernelSize": 3}}]},
        "spec.layers[0].conv2d.filters",
        "1 to 512",
    ),
    "padding as wide as the window": (
        {"layers": [{"conv2d": {"filters": 1, "kernelSize": 3, "padding": 3}}]},
        "spec.layers[0].conv2d.padding",
        "0 to 2",
    ),
    "a window larger than the image": (
        {"layers": [{"conv2d": {"filters": 1, "kernelSize": 9}}, {"flatten": {}}]},
        "spec.layers",
        "a window of 9 does not fit an image of 8 × 8",
    ),
    "no flatten before a dense layer": ({"layers": [CONV]}, "spec.layers", "put a flatten layer before it"),
    "a drop of everything": ({"layers": [{"dropout": {"rate": 1}}]}, "spec.layers[0].dropout.rate", "less than 1"),
    "33 layers": ({"layers": [{"dense": {"units": 1}}] * 33}, "spec.layers", "at most 32"),
    "an unknown activation": (
        {"layers": [{"dense": {"units": 1, "activation": 9}}]},
        "spec.layers[0].dense.activation",
        "ACTIVATION_RELU",
    ),
    "an unknown loss": ({"loss": 9}, "spec.loss", "LOSS_CROSS_ENTROPY"),
    "an unknown initialization": ({"initialization": 9}, "spec.initialization", "INITIALIZATION_HE"),
    "an unknown schedule": ({"schedule": {"kind": 9}}, "spec.schedule.kind", "KIND_ONE_CYCLE"),
    "a growing step": ({"schedule": {"kind": "KIND_STEP", "stepFactor": 2}}, "spec.schedule.step_factor", "at most 1"),
    "nothing but warm-up": (
        {"schedule": {"kind": "KIND_ONE_CYCLE", "warmupFraction": 1}},
        "spec.schedule.warmup_fraction",
        "less than 1",
    ),
    "momentum for Adam": ({"momentum": 0.9}, "spec.momentum", "only OPTIMIZER_SGD"),
    "Nesterov without momentum": (
        {"optimizer": "OPTIMIZER_SGD", "nesterov": True},
        "spec.nesterov",
        "needs spec.momentum",
    ),
    "smoothing of squares": (
        {"loss": "LOSS_MEAN_SQUARED_ERROR", "labelSmoothing": 0.1},
        "spec.label_smoothing",
        "only LOSS_CROSS_ENTROPY",
    ),
    "negative decay": ({"weightDecay": -1}, "spec.weight_decay", "0 to 1"),
    "an endless gradient": ({"gradientClipNorm": "Infinity"}, "spec.gradient_clip_norm", "got inf"),
    "most of the data for validation": ({"validationFraction": 0.9}, "spec.validation_fraction", "0 to 0.5"),
    "patience without validation": (
        {"earlyStoppingPatience": 3},
        "spec.early_stopping_patience",
        "needs spec.validation_fraction",
    ),
    "an average that never moves": ({"emaDecay": 1}, "spec.ema_decay", "less than 1"),
    "a turn too far": ({"augmentation": {"rotation": 181}}, "spec.augmentation.rotation", "0 to 180"),
    "an elastic field too smooth": (
        {"augmentation": {"elasticSmoothing": 0.5}},
        "spec.augmentation.elastic_smoothing",
        "1 to 16",
    ),
}


def spec_of(fields: Mapping[str, Any]) -> training_pb2.TrainingSpec:
    """A spec that is right but for these fields, which go by their JSON names."""
    return ParseDict({**GOOD, **fields}, training_pb2.TrainingSpec())


@pytest.mark.parametrize("name", BAD)
def test_a_recipe_that_cannot_be_meant_is_refused_by_field(trainer: TrainerClient, name: str) -> None:
    """INVALID_ARGUMENT names the one field and says what is expected; no job comes of it."""
    fields, field, words = BAD[name]
    jobs = len(trainer.jobs(200))
    with pytest.raises(RpcError) as caught:
        trainer.create_job(spec_of(fields))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(caught.value.violations) == [field]
    assert words in caught.value.violations[field]
    assert len(trainer.jobs(200)) == jobs
