"""A stand-in for the store, in memory, and for what counts: for tests of what follows the store."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

from shared.errors import NotFoundError, StoreUnavailableError
from shared.model_version import LATEST, LIVE, PublishedVersion, StoredSnapshot, VersionRef
from shared.rollout import Rollout, RolloutMode

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def rollout_of(version: int, percent: float = 10.0, mode: RolloutMode = RolloutMode.CANARY) -> Rollout:
    """A rollout as the store would say it."""
    return Rollout(version, mode, percent, f"{version}-{percent}", "someone", "", NEW_YEAR, NEW_YEAR)


def cut(snapshot: StoredSnapshot) -> StoredSnapshot:
    """A snapshot whose weights lost a byte after they were published."""
    return StoredSnapshot(snapshot.manifest, snapshot.weights[:-1], snapshot.digest)


def waiting(condition: threading.Event) -> None:
    """Waits for what a test will let happen."""
    assert condition.wait(10)


class Shelf:
    """Versions in memory, given out as a store would; it counts the fetches and can be away or slow.

    `gates` hold the fetches of a version up until they are set.
    """

    def __init__(self) -> None:
        self._snapshots: dict[tuple[str, int], StoredSnapshot] = {}
        self._aliases: dict[str, dict[str, int]] = {}
        self._publish_times: dict[tuple[str, int], datetime] = {}
        self.rollouts: dict[str, Rollout | Exception] = {}
        self.unreadable: set[tuple[str, int]] = set()
        self.fetches: Counter[tuple[str, int]] = Counter()
        self.order: list[tuple[str, int]] = []
        self.gates: dict[int, threading.Event] = {}
        self.away = False

    def put(
        self,
        version: int,
        snapshot: StoredSnapshot,
        *,
        model: str = "tiny",
        live: bool = True,
        published: datetime = NEW_YEAR,
    ) -> None:
        """Publishes a version."""
        self._snapshots[model, version] = snapshot
        self._publish_times[model, version] = published
        self.point(LATEST, version, model=model)
        if live:
            self.point(LIVE, version, model=model)

    def point(self, alias: str, version: int, *, model: str = "tiny") -> None:
        """Moves an alias, or removes it if `version` is 0."""
        aliases = self._aliases.setdefault(model, {})
        aliases[alias] = version
        if not version:
            del aliases[alias]

    def aliases(self, model: str) -> dict[str, int]:
        """Every alias of a model with its version."""
        self._be_there()
        return dict(self._aliases.get(model, {}))

    def rollout(self, model: str) -> Rollout | None:
        """The version that is tried."""
        self._be_there()
        said = self.rollouts.get(model)
        if isinstance(said, Exception):
            raise said
        return said

    def ref(self, model: str, version: int) -> VersionRef | None:
        """The number with its digest."""
        self._be_there()
        if (model, version) in self.unreadable:
            raise ValueError("no record")
        snapshot = self._snapshots.get((model, version))
        return VersionRef(version, snapshot.digest) if snapshot else None

    def version(self, model: str, selector: int | str) -> PublishedVersion:
        """One version with its bytes, unchecked."""
        number = selector if isinstance(selector, int) else self._aliases[model][selector]
        self.fetches[model, number] += 1
        self.order.append((model, number))
        if gate := self.gates.get(number):
            waiting(gate)
        self._be_there()
        if (model, number) in self.unreadable:
            raise ValueError("no record")
        if (model, number) not in self._snapshots:
            raise NotFoundError(f"model {model!r} has no version {number}", reason="VERSION_NOT_FOUND")
        snapshot = self._snapshots[model, number]
        ref = VersionRef(number, snapshot.digest)
        published = self._publish_times[model, number]
        return PublishedVersion(model, ref, published, len(snapshot.weights), snapshot)

    def _be_there(self) -> None:
        if self.away:
            raise StoreUnavailableError("the shelf is away")


class Tally:
    """Counts what became of versions, as statistics do, and keeps it to be looked at."""

    def __init__(self) -> None:
        self.swaps: list[tuple[str, int, bool]] = []  # whether seconds since publication were said
        self.seconds: list[float] = []
        self.failures: list[tuple[str, str]] = []
        self.contacts: list[bool] = []

    def swapped(self, model: str, version: int, publish_time: datetime, *, seconds: float | None) -> None:
        """Notes that a version answers."""
        assert publish_time.utcoffset() == timedelta(0)
        self.swaps.append((model, version, seconds is not None))
        if seconds is not None:
            self.seconds.append(seconds)

    def load_failed(self, model: str, reason: str) -> None:
        """Counts an attempt that failed."""
        self.failures.append((model, reason))

    def store_contact(self, reachable: bool) -> None:  # noqa: FBT001 - as it is where it is counted
        """Notes whether the store answers."""
        self.contacts.append(reachable)
