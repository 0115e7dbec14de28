"""From a trained network to a version: writes down where it came from and how to check it, and publishes both."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from shared import snapshot_codec
from shared.model_version import Manifest, Provenance, SelfTest, StoredSnapshot
from shared.network import Network
from shared.training_spec import TrainingSpec
from trainer_service.datasets.dataset import Dataset
from trainer_service.training.evaluation import Evaluator
from trainer_service.training.loop import TrainedNetwork

SELF_TEST_ROWS = 4
LIBRARIES = ("numpy", "safetensors", "protobuf")


def snapshot_of(trained: TrainedNetwork, spec: TrainingSpec, dataset: Dataset, job_id: str) -> StoredSnapshot:
    """The stored form of what a job trained."""
    provenance = Provenance(
        spec=spec,
        training_job_id=job_id,
        dataset_digest=dataset.digest,
        create_time=datetime.now(UTC),
        library_versions=library_versions(),
    )
    manifest = Manifest(
        model=spec.model,
        architecture=trained.network.architecture,
        preprocessing=dataset.preprocessing,
        class_labels=dataset.class_labels,
        epochs=trained.epochs,
        provenance=provenance,
        self_test=self_test(trained.network, dataset),
    )
    return snapshot_codec.encode(manifest, trained.network)


def self_test(network: Network, dataset: Dataset) -> SelfTest:
    """The first test examples with the network's answers."""
    inputs = dataset.test.examples[:SELF_TEST_ROWS]
    evaluator = Evaluator(network.architecture, dataset.preprocessing)
    return SelfTest(inputs, evaluator.probabilities(network, inputs).copy())


def library_versions() -> dict[str, str]:
    """What the numbers may depend on, by name."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "blas": f"{blas['name']} {blas['version']}",
        **{name: version(name) for name in LIBRARIES},
    }
