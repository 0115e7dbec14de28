"""Has a disk follow what is served: what is live and proven is kept, for a start without the store, and nothing else.

Whether the disk can be written to delays no swap and no request: it is tried again later, and said once.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial

import structlog

from inference_service.versions.loading import NO_VERSION, Loading, Record
from inference_service.versions.model_state import LoadFailure, ModelState, retry_seconds
from inference_service.versions.snapshot_disk import SnapshotDisk
from inference_service.versions.snapshot_loader import ServedVersion, SnapshotSource, fetch
from shared import snapshot_codec
from shared.errors import NotFoundError, SnapshotRejectedError, StoreUnavailableError, WeightcastError
from shared.model_version import PublishedVersion, VersionRef
from shared.training_spec import name_violation

FOLDER = ""  # stands for what is no single model's
CONFIRM_SECONDS = 5.0  # how exact the time is that a restart finds; also how often the folder is looked at
log = structlog.get_logger()


class KeptSnapshots:
    """What is kept of what `source` publishes; nothing, where there is no disk.

    `follow` belongs to one thread, `offer` and `retain` to another.
    """

    def __init__(self, disk: SnapshotDisk | None, source: SnapshotSource, record: Record) -> None:
        self._disk = disk
        self._source = source
        self._loading = Loading(disk, record, "disk") if disk else None
        self._offered: dict[str, PublishedVersion] = {}
        self._wanted: set[str] | None = None
        self._due: dict[str, float] = {}  # by model, and for the folder as a whole; of time.monotonic
        self._failures: dict[str, int] = {}  # how often in a row, by the same

    def models(self) -> list[str]:
        """The models of which something is kept, sorted."""
        return self._disk.models() if self._disk else []

    def load(self, model: str) -> ServedVersion | LoadFailure | None:
        """The version that is kept, checked as one of the store's is; or why it is refused; None if there is none."""
        if self._disk is None or self._loading is None or name_violation(model, "model", "model"):
            return None
        try:
            outcome = self._loading.load(model, self._disk.ref(model) or NO_VERSION)
        except NotFoundError:
            return None
        return outcome if isinstance(outcome, LoadFailure) else outcome.served

    def confirm_time(self, models: Iterable[str]) -> datetime | None:
        """When what is kept of any of these models was last compared with the store."""
        if self._disk is None:
            return None
        return max(filter(None, map(self._disk.confirm_time, models)), default=None)

    def offer(self, published: PublishedVersion) -> None:
        """Gives the bytes of a version that was just loaded and checked, so that they need not be fetched again."""
        if self._disk is not None:
            self._offered[published.model] = published

    def retain(self, models: set[str]) -> None:
        """Says of which models the store has a live version; nothing is kept of others."""
        self._wanted = models
        for model in self._offered.keys() - models:
            self._offered.pop(model, None)

    def follow(self, states: Mapping[str, ModelState]) -> None:
        """Makes the disk keep what is live, if that is what the store wants.

        Raises:
            StoreUnavailableError: if something has to be fetched again, and the store is away.
        """
        disk, wanted = self._disk, self._wanted
        if disk is None or wanted is None:
            return
        for model, state in list(states.items()):
            if model not in wanted or name_violation(model, "model", "model"):
                continue
            offered = self._offered.pop(model, None)
            if state.live is None or not state.is_followed:
                continue
            is_new = offered is not None and offered.ref == state.live.ref
            keep = partial(self._keep, disk, model, state.live.ref, offered if is_new else None)
            self._try(model, keep, at_once=is_new)
        self._try(FOLDER, partial(disk.retain, wanted))
        for gone in self._due.keys() - states.keys() - {FOLDER}:
            self._due.pop(gone)
            self._failures.pop(gone, None)

    def _keep(self, disk: SnapshotDisk, model: str, ref: VersionRef, offered: PublishedVersion | None) -> None:
        if offered is not None:
            disk.keep(offered)
        elif disk.ref(model) != ref:
            disk.keep(self._fetched(model, ref))
        disk.confirm(model)

    def _fetched(self, model: str, ref: VersionRef) -> PublishedVersion:
        """What was loaded and proven, once more: bytes of the same digest are the same bytes."""
        published = fetch(self._source, model, ref.version)
        if published.ref != ref:
            raise SnapshotRejectedError(
                f"version {ref.version} of {model!r} is another one by now", reason="DIGEST_MISMATCH"
            )
        snapshot_codec.verify_digest(published.snapshot)
        return published

    def _try(self, what: str, work: Callable[[], None], *, at_once: bool = False) -> None:
        """Does some work if it is due, or at once if it never failed; what fails is due later and later."""
        failures, now = self._failures.get(what, 0), time.monotonic()
        if now < self._due.get(what, 0.0) and (failures or not at_once):
            return
        try:
            work()
        except StoreUnavailableError:
            raise
        except (OSError, WeightcastError) as error:
            if not self._failures:
                log.warning("what is served cannot be kept on disk; trying again", what=what, error=str(error))
            self._failures[what] = failures + 1
            self._due[what] = now + retry_seconds(failures + 1)
        else:
            self._due[what] = now + CONFIRM_SECONDS
            if self._failures.pop(what, 0) and not self._failures:
                log.info("what is served is kept on disk again")
