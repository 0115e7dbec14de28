"""A model version as the domain sees it: a network, what must be done before it, and where it came from.

A snapshot is the version's stored form; `shared.snapshot_codec` turns one into the other.
"""

from dataclasses import dataclass
from datetime import datetime

from shared.network import Architecture, FloatArray, Network
from shared.preprocessing import Preprocessing, Rows
from shared.training_spec import EpochMetrics, TrainingSpec

LIVE = "live"
LATEST = "latest"


@dataclass(frozen=True, eq=False)
class SelfTest:
    """A few examples with the answers the trainer computed, for whoever loads the snapshot to compute again.

    Attributes:
        inputs: raw examples as stored in the data set, uint8 or float32 (rows, input_size).
        probabilities: what the trainer's network answered, float32 (rows, classes).
    """

    inputs: Rows
    probabilities: FloatArray


@dataclass(frozen=True)
class ClassScore:
    """Precision and recall of one class on the test split; None where there is nothing to divide by."""

    precision: float | None
    recall: float | None
    support: int


@dataclass(frozen=True)
class Evaluation:
    """What was learned, measured on the test split; field meanings are those of `weightcast.v1.Evaluation`.

    `confusion[truth][answer]` counts examples.
    """

    examples: int
    loss: float
    accuracy: float
    accuracy_gap: float
    calibration_error: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Provenance:
    """Where a version came from: enough to train it again and to tell why it differs from another."""

    spec: TrainingSpec
    training_job_id: str
    dataset_digest: str
    create_time: datetime
    library_versions: dict[str, str]
    parent_version: int = 0


@dataclass(frozen=True)
class Manifest:
    """Everything about a version but its numbers. It never changes once published."""

    model: str
    architecture: Architecture
    preprocessing: Preprocessing
    class_labels: tuple[str, ...]
    epochs: tuple[EpochMetrics, ...]
    provenance: Provenance
    self_test: SelfTest
    evaluation: Evaluation | None = None
    published_epoch: int = 0


@dataclass(frozen=True)
class StoredSnapshot:
    """A snapshot as bytes: what is published, and what is read back before it is trusted.

    Attributes:
        manifest: a serialized `weightcast.v1.Manifest`.
        weights: a safetensors file; empty where only the manifest was asked for.
        digest: SHA-256 over both, lower-case hex.
    """

    manifest: bytes
    weights: bytes
    digest: str


@dataclass(frozen=True)
class VersionRef:
    """Which version: enough to tell whether it is the one already served."""

    version: int
    digest: str


@dataclass(frozen=True)
class PublishedVersion:
    """A version in the store."""

    model: str
    ref: VersionRef
    publish_time: datetime
    weights_size_bytes: int
    snapshot: StoredSnapshot
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSummary:
    """A named line of versions. A `live_version` of 0 means that none is."""

    name: str
    latest_version: int
    live_version: int
    version_count: int


@dataclass(frozen=True)
class DecodedSnapshot:
    """A snapshot that passed its checks: digest, format, shapes, finite numbers."""

    manifest: Manifest
    network: Network
