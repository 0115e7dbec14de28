"""How much was asked of each version of each model, and how long it took, since this process started.

Safe to use from many threads. What several processes counted can be added up, so that one can answer for all.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields

NANOSECONDS, MILLISECONDS = 1e9, 1e3  # in a second
# By model, by version as text, by the name of a count: what JSON can hold.
Snapshot = Mapping[str, Mapping[str, Mapping[str, int]]]


@dataclass(slots=True)
class Counts:
    """What was asked of one version.

    Attributes:
        requests: answered.
        rows: in those.
        executions: products; requests that arrived together share one.
        failures: requests that were not answered.
        queue_ns: how long the answered requests waited, each one's time added.
        compute_ns: how long their products took, each counted for every request that was in it.
        failure_ns: how long the failed requests took.
        last_ms: when a request was last answered, in milliseconds since 1970.
    """

    requests: int = 0
    rows: int = 0
    executions: int = 0
    failures: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    failure_ns: int = 0
    last_ms: int = 0

    def add(self, other: "Counts") -> None:
        """Adds another process's."""
        for field in fields(self):
            if field.name != "last_ms":
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        self.last_ms = max(self.last_ms, other.last_ms)


class Statistics:
    """One process's counts."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], Counts] = {}
        self._lock = threading.Lock()

    def record(
        self,
        model: str,
        version: int,
        requests: int,
        rows: int,
        *,
        seconds_compute: float,
        seconds_queue: float,
    ) -> None:
        """Counts one product of so many requests; `seconds_queue` is how long they waited, all together."""
        with self._lock:
            counts = self._of(model, version)
            counts.requests += requests
            counts.rows += rows
            counts.executions += 1
            counts.queue_ns += int(seconds_queue * NANOSECONDS)
            counts.compute_ns += int(seconds_compute * NANOSECONDS) * requests
            counts.last_ms = int(time.time() * MILLISECONDS)

    def record_failure(self, model: str, version: int, seconds: float) -> None:
        """Counts one request that this version did not answer."""
        with self._lock:
            counts = self._of(model, version)
            counts.failures += 1
            counts.failure_ns += int(seconds * NANOSECONDS)

    def snapshot(self) -> Snapshot:
        """The counts as they are now."""
        found: dict[str, dict[str, Mapping[str, int]]] = {}
        with self._lock:
            for (model, version), counts in self._counts.items():
                found.setdefault(model, {})[str(version)] = asdict(counts)
        return found

    def _of(self, model: str, version: int) -> Counts:
        counts = self._counts.get((model, version))
        if counts is None:
            counts = self._counts[model, version] = Counts()
        return counts


def merged(snapshots: Iterable[Snapshot]) -> dict[tuple[str, int], Counts]:
    """What several processes counted, together: by model and version, sorted."""
    total: dict[tuple[str, int], Counts] = {}
    for snapshot in snapshots:
        for model, versions in snapshot.items():
            for version, counts in versions.items():
                total.setdefault((model, int(version)), Counts()).add(Counts(**counts))
    return dict(sorted(total.items()))
