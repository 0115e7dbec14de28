"""From a version in the store to one that can answer: fetch, verify, decode, warm up, self-test.

What comes back has already answered its own test questions right, so swapping it in is one assignment.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from inference_service.classifier import Classifier
from shared import snapshot_codec
from shared.errors import SnapshotRejectedError
from shared.model_version import Manifest, PublishedVersion, VersionRef

# Both sides compute in float32, perhaps with another order of additions; a wrong weight or scale differs far more.
SELF_TEST_TOLERANCE = 1e-3


class VersionSource(Protocol):
    """Where versions come from: `shared.store.model_store.ModelStore`, or a test's stand-in."""

    def aliases(self, model: str) -> Mapping[str, int]:
        """Every alias of a model with its version."""

    def ref(self, model: str, version: int) -> VersionRef | None:
        """The number with its digest."""

    def version(self, model: str, selector: int | str) -> PublishedVersion:
        """One version with its bytes, unchecked."""


@dataclass(frozen=True, eq=False)
class ServedVersion:
    """A version that can answer."""

    model: str
    ref: VersionRef
    manifest: Manifest
    classifier: Classifier
    publish_time: datetime
    load_time: datetime
    # What protocols keep of their answers' bytes, so that it goes when the version goes.
    encodings: dict[Hashable, bytes] = field(default_factory=dict)

    @property
    def multiply_adds(self) -> int:
        """Multiplications for one row."""
        return self.manifest.architecture.multiply_adds


def load_version(source: VersionSource, model: str, version: int) -> ServedVersion:
    """Loads one version and proves that it answers as the trainer's did.

    Raises:
        SnapshotRejectedError: if it must not be served; the reason says why.
        NotFoundError: if there is no such version.
        StoreUnavailableError: if the store is away.
    """
    published = source.version(model, version)
    decoded = snapshot_codec.decode(published.snapshot)
    if decoded.manifest.model != model:
        raise SnapshotRejectedError(
            f"version {version} of {model!r} holds a snapshot of {decoded.manifest.model!r}", reason="WRONG_MODEL"
        )
    classifier = Classifier(decoded.network, decoded.manifest.preprocessing)
    warm_up(classifier, decoded.manifest)
    return ServedVersion(
        model=model,
        ref=published.ref,
        manifest=decoded.manifest,
        classifier=classifier,
        publish_time=published.publish_time,
        load_time=datetime.now(UTC),
    )


def warm_up(classifier: Classifier, manifest: Manifest) -> None:
    """Computes the self-test's examples, which touches every weight, and compares the answers with the trainer's.

    Raises:
        SnapshotRejectedError: SELF_TEST_FAILED.
    """
    expected = manifest.self_test.probabilities
    difference = np.abs(classifier.probabilities(manifest.self_test.inputs) - expected)
    # Written so that NaN fails too.
    if len(expected) == 0 or not difference.max() <= SELF_TEST_TOLERANCE:
        worst = difference.max() if len(expected) else "no examples"
        raise SnapshotRejectedError(
            f"the self-test's probabilities differ from the trainer's by {worst}, at most {SELF_TEST_TOLERANCE} may",
            reason="SELF_TEST_FAILED",
        )
