"""Versions that need no training: a network of zeros, each like no other by its provenance."""

from datetime import UTC, datetime

import numpy as np

from shared import snapshot_codec
from shared.model_version import Manifest, Provenance, SelfTest, StoredSnapshot
from shared.network import Architecture, Network
from shared.preprocessing import Preprocessing
from shared.training_spec import TrainingSpec

ROWS = np.zeros((3, 4), np.uint8)


def snapshot_of_zeros(model: str, number: int) -> StoredSnapshot:
    """The `number`-th of a model: four features, two classes, each as likely as the other."""
    architecture = Architecture.dense(4, (), 2)
    manifest = Manifest(
        model=model,
        architecture=architecture,
        preprocessing=Preprocessing(input_shape=(4,), uint8_scale=1.0),
        class_labels=("no", "yes"),
        epochs=(),
        provenance=Provenance(TrainingSpec(model, "made", number), f"job-{number}", "0" * 64, datetime.now(UTC), {}),
        self_test=SelfTest(ROWS, np.full((3, 2), 0.5, np.float32)),
    )
    return snapshot_codec.encode(manifest, Network(architecture, np.zeros(architecture.parameter_count, np.float32)))
