"""The versions that are held because requests named them: as many as fit into so many bytes, the last used ones.

What is live or tried by a rollout is not among them and takes none of their room.
"""

import threading
from collections import OrderedDict

from inference_service.versions.snapshot_loader import ServedVersion
from shared.errors import SnapshotRejectedError
from shared.model_version import VersionRef


class HeldVersions:
    """Versions by model and number, `capacity` bytes of them at most. Safe to use from any thread."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[tuple[str, int], ServedVersion] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, model: str, version: int) -> ServedVersion | None:
        """The version, which counts as used."""
        with self._lock:
            if served := self._held.get((model, version)):
                self._held.move_to_end((model, version))
            return served

    def find(self, model: str, ref: VersionRef) -> ServedVersion | None:
        """The version, if it is the one with this digest; it does not count as used."""
        with self._lock:
            served = self._held.get((model, ref.version))
        return served if served is not None and served.ref == ref else None

    def put(self, served: ServedVersion) -> None:
        """Takes a version in; those that were not used for longest go, until it fits.

        Raises:
            SnapshotRejectedError: VERSION_TOO_LARGE, if it never will.
        """
        self.check(served.model, served.ref.version, served.memory_bytes)
        with self._lock:
            self._remove((served.model, served.ref.version))
            self._held[served.model, served.ref.version] = served
            self._bytes += served.memory_bytes
            while self._bytes > self._capacity:
                self._remove(next(iter(self._held)))

    def check(self, model: str, version: int, size: int) -> None:
        """Returns if a version of `size` bytes can be held at all.

        Raises:
            SnapshotRejectedError: VERSION_TOO_LARGE, if it cannot.
        """
        if size > self._capacity:
            raise SnapshotRejectedError(
                f"version {version} of {model!r} takes {size} bytes, and versions that requests name may take "
                f"{self._capacity} together; raise WEIGHTCAST_INFERENCE_PINNED_BYTES, or promote it",
                reason="VERSION_TOO_LARGE",
            )

    def discard(self, model: str, version: int) -> None:
        """Lets go of a version, if it is held: something else holds it now."""
        with self._lock:
            self._remove((model, version))

    def of_model(self, model: str) -> list[ServedVersion]:
        """Those of one model, oldest number first."""
        with self._lock:
            held = [served for (name, _), served in self._held.items() if name == model]
        return sorted(held, key=lambda served: served.ref.version)

    def _remove(self, key: tuple[str, int]) -> None:
        if served := self._held.pop(key, None):
            self._bytes -= served.memory_bytes
