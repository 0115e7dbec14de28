"""A model version as the domain sees it: a network, what must be done before it, and where it came from.

A snapshot is the version's stored form; `shared.snapshot_codec` turns one into the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from shared.network import Architecture, FloatArray, Network
from shared.preprocessing import Preprocessing, Rows
from shared.recipe import Promotion
from shared.rollout import Rollout
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


class PromotionOutcome(Enum):
    """Whether a version went live when it was published, or why it did not."""

    PROMOTED = "promoted"
    NOT_BETTER = "not_better"
    NOT_COMPARABLE = "not_comparable"
    MANUAL = "manual"
    HELD = "held"


@dataclass(frozen=True)
class PromotionVerdict:
    """What was decided about a version when it was published, and by what.

    Attributes:
        outcome: the decision.
        promotion: the policy it was decided by.
        accuracy: the new version's on the job's test split, 0 to 1.
        live_version: the version that was live then; 0 means none.
        live_accuracy: that version's on the same test split; None where it was not evaluated.
    """

    outcome: PromotionOutcome
    promotion: Promotion
    accuracy: float
    live_version: int = 0
    live_accuracy: float | None = None


@dataclass(frozen=True)
class Publication:
    """What a training job published, and the verdict on it; None where an earlier build published it."""

    ref: VersionRef
    verdict: PromotionVerdict | None


@dataclass(frozen=True)
class Annotations:
    """What people wrote about a version; the only thing about it that may change."""

    notes: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    pinned: bool = False


@dataclass(frozen=True)
class PublishedVersion:
    """A version in the store."""

    model: str
    ref: VersionRef
    publish_time: datetime
    weights_size_bytes: int
    snapshot: StoredSnapshot
    aliases: tuple[str, ...] = ()
    verdict: PromotionVerdict | None = None
    annotations: Annotations = Annotations()


@dataclass(frozen=True)
class VersionFilter:
    """Which versions to list; what is left empty does not matter, and a label's empty value means any."""

    labels: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    training_job_id: str = ""
    pinned: bool | None = None


@dataclass(frozen=True)
class Alias:
    """A name that points to a version; `etag` changes whenever it is pointed anew, and is empty for `latest`."""

    name: str
    version: int
    etag: str


@dataclass(frozen=True)
class Hold:
    """Why new versions of a model do not go live by themselves."""

    actor: str
    reason: str
    create_time: datetime


class Cause(Enum):
    """What made a version live."""

    PUBLISHED = "published"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True)
class LiveChange:
    """One change of what is live; a `previous_version` of 0 means that none was."""

    version: int
    previous_version: int
    change_time: datetime
    cause: Cause
    actor: str
    reason: str


@dataclass(frozen=True)
class ModelSummary:
    """A named line of versions. A version of 0 means that there is none."""

    name: str
    latest_version: int
    live_version: int
    version_count: int
    aliases: tuple[Alias, ...] = ()
    previous_version: int = 0
    hold: Hold | None = None
    rollout: Rollout | None = None


@dataclass(frozen=True)
class DecodedSnapshot:
    """A snapshot that passed its checks: digest, format, shapes, finite numbers."""

    manifest: Manifest
    network: Network
