"""From a trained network to a version: writes down where it came from and how to check it, and publishes both."""

import hashlib
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

import shared
import trainer_service
from shared import snapshot_codec
from shared.blas import running_kernel
from shared.model_version import Manifest, Provenance, SelfTest, StoredSnapshot
from shared.network import Network
from shared.training_spec import TrainingSpec
from trainer_service.datasets.dataset import Dataset
from trainer_service.training.evaluation import Evaluator
from trainer_service.training.loop import TrainedNetwork
from trainer_service.training.parallel import Threads
from trainer_service.training.report import evaluation_of

SELF_TEST_ROWS = 4
LIBRARIES = ("numpy", "safetensors", "protobuf")
OWN_PACKAGES = (shared, trainer_service)


def snapshot_of(
    trained: TrainedNetwork, spec: TrainingSpec, dataset: Dataset, job_id: str, versions: dict[str, str]
) -> StoredSnapshot:
    """The stored form of what a job trained; `versions` are those of `library_versions`."""
    provenance = Provenance(
        spec=spec,
        training_job_id=job_id,
        dataset_digest=dataset.digest,
        create_time=datetime.now(UTC),
        library_versions=versions,
        parent_version=spec.parent,
    )
    manifest = Manifest(
        model=spec.model,
        architecture=trained.network.architecture,
        preprocessing=dataset.preprocessing,
        class_labels=dataset.class_labels,
        epochs=trained.epochs,
        provenance=provenance,
        self_test=self_test(trained.network, dataset),
        evaluation=evaluation_of(
            trained.answers,
            dataset.test.class_ids,
            len(dataset.class_labels),
            trained.epochs[trained.published_epoch - 1].train_accuracy,
        ),
        published_epoch=trained.published_epoch,
    )
    return snapshot_codec.encode(manifest, trained.network)


def self_test(network: Network, dataset: Dataset) -> SelfTest:
    """The first test examples with the network's answers."""
    inputs = dataset.test.examples[:SELF_TEST_ROWS]
    evaluator = Evaluator(network.architecture, dataset.preprocessing, Threads(1))
    return SelfTest(inputs, evaluator.probabilities(network, inputs).copy())


def library_versions(threads: int) -> dict[str, str]:
    """What the weights depend on besides spec and data, by name; `threads` are those that trained."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "blas": f"{blas['name']} {blas['version']}",
        "blas kernel": running_kernel(),
        "threads": str(threads),
        "instructions": " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"]),
        "weightcast source": source_digest(),
        **{name: version(name) for name in LIBRARIES},
    }


@cache
def source_digest() -> str:
    """The first digits of a SHA-256 over the source of what trains: two builds of one version may differ.

    A container runs the source as it is, so there is no installed version to ask for.
    """
    digest = hashlib.sha256()
    for package in OWN_PACKAGES:
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
