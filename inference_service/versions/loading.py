"""Attempts to load versions: a bad one is refused for a while, and so is not read anew for every request that names it.

Each attempt that fails is logged and counted, and stands until a later one succeeds.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import structlog

from inference_service.versions.model_state import LoadFailure
from inference_service.versions.snapshot_loader import ServedVersion, SnapshotSource, fetch, prove
from shared.errors import NotFoundError, StoreUnavailableError, WeightcastError
from shared.model_version import PublishedVersion, VersionRef

MOST_REFUSALS = 1000
MAX_MESSAGE = 500  # characters: a snapshot's own words may stand in it
NO_VERSION = VersionRef(0, "")
log = structlog.get_logger()


class Record(Protocol):
    """Where it is counted what became of versions: `inference_service.metrics.statistics.Statistics`."""

    def swapped(self, model: str, version: int, publish_time: datetime, *, seconds: float | None) -> None:
        """Notes that a version answers, so many seconds after it was published; None where that says nothing."""

    def load_failed(self, model: str, reason: str) -> None:
        """Counts an attempt that failed."""

    def store_contact(self, reachable: bool) -> None:  # noqa: FBT001 - it is all that is said
        """Notes whether the store answers."""


class Loaded(NamedTuple):
    """A version that can answer, and the bytes that it came from; None where it was held already."""

    served: ServedVersion
    published: PublishedVersion | None


# Raises if a version of so many bytes is not wanted: model, number, bytes.
Check = Callable[[str, int, int], None]


def any_size(_model: str, _version: int, _size: int) -> None:
    """Wants every version."""


class Loading:
    """Loads from one source, `place` in the log. Safe to use from any thread."""

    def __init__(self, source: SnapshotSource, record: Record, place: str = "store") -> None:
        self._source = source
        self._record = record
        self._place = place
        self._refused: OrderedDict[tuple[str, int], LoadFailure] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, model: str, ref: VersionRef, check: Check = any_size) -> Loaded | LoadFailure:
        """A version, or why it cannot be served; one that was refused is not read again before its time.

        Raises:
            StoreUnavailableError: if the source is away, for which no version is to blame.
            NotFoundError: if there is no such version.
        """
        if refusal := self.standing(model, ref):
            return refusal
        try:
            published = fetch(self._source, model, ref.version)
            # Nothing in memory is smaller than what is stored of it, so this is known before it is decoded.
            check(model, ref.version, len(published.snapshot.weights))
            served = prove(published)
            check(model, ref.version, served.memory_bytes)
        except (StoreUnavailableError, NotFoundError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a snapshot can do, it takes nothing with it
            return self.refused(model, ref, error)
        with self._lock:
            self._refused.pop((model, ref.version), None)
        return Loaded(served, published)

    def standing(self, model: str, ref: VersionRef) -> LoadFailure | None:
        """The refusal of a version that is not to be tried again yet."""
        failure = self._refused.get((model, ref.version))
        if failure is None or not failure.is_of(ref) or datetime.now(UTC) >= failure.retry_time:
            return None
        return failure

    def refused(self, model: str, ref: VersionRef, error: Exception) -> LoadFailure:
        """Notes, logs and counts a failed attempt."""
        with self._lock:
            before = self._refused.pop((model, ref.version), None)
            attempts = 1
            if before is not None and before.is_of(ref):
                attempts = before.attempts + 1
                ref = ref if ref.digest else before.ref
            reason, message = "LOAD_FAILED", repr(error)
            if isinstance(error, WeightcastError):
                reason, message = error.reason, error.message
            failure = LoadFailure(ref, reason, message[:MAX_MESSAGE], attempts, datetime.now(UTC))
            self._refused[model, ref.version] = failure
            while len(self._refused) > MOST_REFUSALS:
                self._refused.popitem(last=False)
        log.warning(
            "version refused",
            model=model,
            version=ref.version,
            place=self._place,
            reason=reason,
            error=failure.message,
            attempts=attempts,
            exc_info=None if isinstance(error, WeightcastError) else error,
        )
        self._record.load_failed(model, reason)
        return failure
