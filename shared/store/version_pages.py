"""Pages of a model's versions, newest first, whatever each has to say and however many there are.

A page is read at one moment, costs what is on it, and is cut short where it would not fit into a message.
"""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from shared.model_version import PublishedVersion, VersionFilter
from shared.pb.weightcast.v1 import model_pb2
from shared.store.connection import StoreConnection
from shared.store.records import aliases_from, version_from
from shared.store.scripts import ModelScript

PAGE_BYTES = 5 * 2**19  # a version of a thousand classes has a confusion matrix of a million counts
FILTER_STEP = 100  # versions that are read at once to look for those that are wanted …
FILTER_STEPS = 5  # … and how often, before the page ends where it is
EVERY = VersionFilter()


@dataclass(frozen=True)
class VersionPage:
    """Versions, and the number below which the next page begins; None where this is the last."""

    versions: tuple[PublishedVersion, ...]
    next_below: int | None


@dataclass(frozen=True)
class Batch:
    """Versions as they were read, each with its size in bytes, and whether there are older ones."""

    versions: list[tuple[PublishedVersion, int]]
    has_more: bool

    @property
    def oldest(self) -> int:
        """The number of the last one."""
        return self.versions[-1][0].ref.version


class VersionPages:
    """Reads pages. It raises StoreUnavailableError while Redis is away."""

    def __init__(self, connection: StoreConnection) -> None:
        self._page = ModelScript(connection, "page")

    def read(self, model: str, below: int | None, count: int, wanted: VersionFilter) -> VersionPage | None:
        """Up to `count` of the versions that are wanted; None if there is no such model."""
        found: list[PublishedVersion] = []
        size = 0
        step, steps = (count, 1) if wanted == EVERY else (FILTER_STEP, FILTER_STEPS)
        for _ in range(steps):
            batch = self._read(model, below, step)
            if batch is None:
                return None
            for version, version_bytes in batch.versions:
                if is_wanted(version, wanted):
                    size += version_bytes
                    if found and size > PAGE_BYTES:
                        return VersionPage(tuple(found), below)
                    found.append(version)
                below = version.ref.version
                if len(found) == count:
                    is_last = below == batch.oldest and not batch.has_more
                    return VersionPage(tuple(found), None if is_last else below)
            if not batch.has_more:
                return VersionPage(tuple(found), None)
        return VersionPage(tuple(found), below)

    def _read(self, model: str, below: int | None, count: int) -> Batch | None:
        reply = self._page(model, "+inf" if below is None else f"({below}", count, PAGE_BYTES)
        if reply is None:
            return None
        has_more, stored_aliases, entries = reply
        aliases = aliases_from(stored_aliases)
        return Batch(
            [
                (version_from(model, int(number), aliases, stored), sum(len(part or b"") for part in stored))
                for number, *stored in entries
            ],
            bool(has_more),
        )


def is_wanted(version: PublishedVersion, wanted: VersionFilter) -> bool:
    """Whether everything that is asked for holds for a version. Nothing holds for a manifest that cannot be read."""
    labels = version.annotations.labels
    if wanted.pinned not in {None, version.annotations.pinned}:
        return False
    if any(name not in labels or value not in {"", labels[name]} for name, value in wanted.labels.items()):
        return False
    if not wanted.dataset and not wanted.training_job_id:
        return True
    try:
        manifest = model_pb2.Manifest.FromString(version.snapshot.manifest)
    except DecodeError:
        return False
    return wanted.dataset in {"", manifest.spec.dataset} and wanted.training_job_id in {"", manifest.training_job_id}
