"""From a stored version to one that can answer: fetch, verify, decode, warm up, self-test.

What comes back has already answered its own test questions right, so swapping it in is one assignment. Nothing is
trusted on the way, wherever it was stored: what must not be served is refused with a reason.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Protocol

import numpy as np

from inference_service.classifier import Classifier
from shared import snapshot_codec
from shared.errors import SnapshotRejectedError, WeightcastError
from shared.model_version import Manifest, PublishedVersion, VersionRef
from shared.rollout import Rollout

OBJECTS_BYTES = 2**14  # what the Python objects around a version's arrays take, measured for a small one and rounded up
# Both sides compute in float32, perhaps with another order of additions; a wrong weight or scale differs far more.
SELF_TEST_TOLERANCE = 1e-3


class SnapshotSource(Protocol):
    """Where snapshots come from: the store, or this machine's disk."""

    def version(self, model: str, selector: int | str) -> PublishedVersion:
        """One version with its bytes, unchecked."""


class VersionSource(SnapshotSource, Protocol):
    """What says which versions there are: `shared.store.model_store.ModelStore`, or a test's stand-in."""

    def aliases(self, model: str) -> Mapping[str, int]:
        """Every alias of a model with its version."""

    def rollout(self, model: str) -> Rollout | None:
        """The version that is tried on a share of the requests, if one is."""

    def ref(self, model: str, version: int) -> VersionRef | None:
        """The number with its digest."""


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

    @cached_property
    def multiply_adds(self) -> int:
        """Multiplications for one row."""
        return self.manifest.architecture.multiply_adds

    @property
    def memory_bytes(self) -> int:
        """What it keeps in memory: its parameters, their copy for bytes, its self-test, a flat sum for the objects.

        Not counted are the buffers that each thread makes with its first request, and `encodings`.
        """
        test = self.manifest.self_test
        return self.classifier.memory_bytes + test.inputs.nbytes + test.probabilities.nbytes + OBJECTS_BYTES


def load_version(source: SnapshotSource, model: str, version: int) -> ServedVersion:
    """Loads one version and proves that it answers as the trainer's did.

    Raises:
        SnapshotRejectedError: if it must not be served; the reason says why.
        NotFoundError: if there is no such version.
        StoreUnavailableError: if the store is away.
    """
    return prove(fetch(source, model, version))


def fetch(source: SnapshotSource, model: str, version: int) -> PublishedVersion:
    """One version as it is stored.

    Raises:
        SnapshotRejectedError: MALFORMED_RECORD, if what stands beside its bytes cannot be read.
        NotFoundError: if there is no such version.
        StoreUnavailableError: if the store is away.
    """
    try:
        return source.version(model, version)
    except WeightcastError:
        raise
    except Exception as error:
        raise SnapshotRejectedError(
            f"what is stored about version {version} of {model!r} cannot be read: {error!r}", reason="MALFORMED_RECORD"
        ) from error


def prove(published: PublishedVersion) -> ServedVersion:
    """Decodes a version and proves that it answers as the trainer's did.

    Raises:
        SnapshotRejectedError: if it must not be served; the reason says why.
    """
    decoded = snapshot_codec.decode(published.snapshot)
    manifest, model = decoded.manifest, published.model
    if manifest.model != model:
        raise SnapshotRejectedError(
            f"version {published.ref.version} of {model!r} holds a snapshot of {manifest.model!r}",
            reason="WRONG_MODEL",
        )
    with np.errstate(all="ignore"):  # weights that overflow fail their self-test, which says more
        classifier = Classifier(decoded.network, manifest.preprocessing)
        warm_up(classifier, manifest)
    return ServedVersion(
        model=model,
        ref=published.ref,
        manifest=manifest,
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
    if len(expected) == 0:
        raise SnapshotRejectedError("the self-test has no examples; nothing proves it", reason="SELF_TEST_FAILED")
    worst = np.abs(classifier.probabilities(manifest.self_test.inputs) - expected).max()
    if not worst <= SELF_TEST_TOLERANCE:  # written so that NaN fails too
        raise SnapshotRejectedError(
            f"the self-test's probabilities differ from the trainer's by {worst}, at most {SELF_TEST_TOLERANCE} may",
            reason="SELF_TEST_FAILED",
        )
