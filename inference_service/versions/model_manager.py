"""Which version of each model answers: what is live follows the store, what requests name is loaded when they do.

A request takes one reference and keeps it to its end; a swap assigns a new one. How the store is followed is in
`reconciliation`.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime

from inference_service.versions.held_versions import HeldVersions
from inference_service.versions.kept_snapshots import KeptSnapshots
from inference_service.versions.loading import Loading, Record
from inference_service.versions.model_state import LoadFailure, ModelState, ModelStates, StoreContact
from inference_service.versions.reconciliation import Reconciliation
from inference_service.versions.rollouts import ActiveRollout
from inference_service.versions.snapshot_disk import SnapshotDisk
from inference_service.versions.snapshot_loader import ServedVersion, VersionSource
from shared.errors import (
    CapacityError,
    NotFoundError,
    SnapshotRejectedError,
    StoreUnavailableError,
    UnavailableError,
)
from shared.model_version import LIVE, VersionRef

LOAD_WAIT_SECONDS = 1.0


class ModelManager:
    """Holds the served versions. Requests may call from any thread, `follow_live` and `settle` one thread each.

    Args:
        source: what says which versions there are.
        pinned_bytes: how much memory the versions may take that requests name, besides those live or tried.
        announce: is told each model's state after every comparison with the store.
        record: where swaps and failures are counted.
        disk: what keeps the live versions for a start without the store, if anything does.
    """

    def __init__(
        self,
        source: VersionSource,
        pinned_bytes: int,
        announce: Callable[[str, ModelState], None],
        record: Record,
        disk: SnapshotDisk | None = None,
    ) -> None:
        self._states = ModelStates()
        self._held = HeldVersions(pinned_bytes)
        self._loading = Loading(source, record)
        self._kept = KeptSnapshots(disk, source, record)
        self._reconciliation = Reconciliation(
            source=source,
            states=self._states,
            held=self._held,
            loading=self._loading,
            kept=self._kept,
            record=record,
            announce=announce,
        )
        self._record = record
        self._load_lock = threading.Lock()
        self._may_restore = True
        self.store_contact = StoreContact()

    def loaded(self, model: str, selector: int | str) -> ServedVersion | None:
        """The version that answers a request for `selector`, if that needs nothing to be loaded and nobody refused."""
        state = self._states.get(model)
        if state is None or state.live is None:
            return None
        if selector == LIVE:
            return state.live
        version = selector if isinstance(selector, int) else state.aliases.get(selector)
        return None if version is None else state.named(version) or self._held.get(model, version)

    def rollout(self, model: str) -> ActiveRollout | None:
        """The rollout of a model whose candidate can answer, if there is one."""
        state = self._states.get(model)
        return None if state is None else state.rollout

    def serve(self, model: str, selector: int | str) -> ServedVersion:
        """The version that answers a request for `selector`, a number or an alias.

        Raises:
            UnavailableError: NO_MODEL_YET while the model has no version that could be loaded.
            NotFoundError: if there is no such model, version or alias.
            SnapshotRejectedError: if the version named cannot be served; VERSION_TOO_LARGE if it could as `live` only.
        """
        state = self._states.get(model)
        if state is None:
            raise self._unknown(model)
        if selector == LIVE:
            if state.live is None:
                raise self._not_ready(model, state)
            return state.live
        version = selector if isinstance(selector, int) else self._resolve(model, state, selector)
        return state.named(version) or self._held.get(model, version) or self._load(model, version)

    def reconcile(self, models: Collection[str]) -> None:
        """Compares what is served, and then what is tried, with the store, and loads what differs.

        Raises:
            StoreUnavailableError: if the store is away; what is served stays.
        """
        self.follow_live(models)
        self._reconciliation.follow_rollouts()

    def follow_live(self, models: Collection[str]) -> None:
        """Compares what is served of the store's models with it, and loads what differs.

        Raises:
            StoreUnavailableError: if the store is away; what is served stays.
        """
        self._reconciliation.follow_live(models)
        self._may_restore = False
        self.store_contact = StoreContact(reachable=True, reconcile_time=datetime.now(UTC))
        self._record.store_contact(True)  # noqa: FBT003 - it is all that is said

    def settle(self) -> None:
        """Does what may wait while versions go live: loads what is to be tried, and keeps on disk what is served.

        Raises:
            StoreUnavailableError: if the store is away; what is tried stays.
        """
        self._reconciliation.follow_rollouts()
        self._kept.follow(self._states)

    def store_lost(self) -> None:
        """Notes that the store does not answer."""
        contact = self.store_contact
        self.store_contact = replace(contact, reachable=False, lost_time=contact.lost_time or datetime.now(UTC))
        self._record.store_contact(False)  # noqa: FBT003 - as above

    def restore(self) -> None:
        """Serves what the disk has kept, if the store could not be read since the start."""
        if self._may_restore:
            self._may_restore = False
            if confirmed := self._kept.confirm_time(self._reconciliation.restore()):
                self.store_contact = replace(self.store_contact, lost_time=confirmed)

    def state(self, model: str) -> ModelState:
        """What is known of one model.

        Raises:
            NotFoundError: if the store never had it.
            UnavailableError: if the store was never read, so that nobody can know.
        """
        if (state := self._states.get(model)) is None:
            raise self._unknown(model)
        return state

    def pinned(self, model: str) -> list[ServedVersion]:
        """The versions held because requests named them, oldest number first."""
        return self._held.of_model(model)

    def models(self) -> list[str]:
        """The name of every known model, sorted."""
        return sorted(self._states.copy())  # at one moment, for others may be added meanwhile

    def states(self) -> list[tuple[str, ModelState]]:
        """What is known of every known model, sorted by their names."""
        states = self._states.copy()
        return [(model, states[model]) for model in sorted(states)]

    def _resolve(self, model: str, state: ModelState, alias: str) -> int:
        if alias in state.aliases:
            return state.aliases[alias]
        if state.restored and not self.store_contact.reachable:
            raise StoreUnavailableError(f"where {alias!r} of {model!r} points is not known, and the store is away")
        known = ", ".join(sorted(state.aliases)) or "none"
        raise NotFoundError(f"model {model!r} has no alias {alias!r}; it has {known}", reason="ALIAS_NOT_FOUND")

    def _load(self, model: str, version: int) -> ServedVersion:
        """A version that is not held yet; those who come while it is loaded wait for it."""
        if not self.store_contact.reachable:
            raise StoreUnavailableError(f"version {version} of {model!r} is not loaded, and the store is away")
        ref = VersionRef(version, "")
        if refusal := self._loading.standing(model, ref):
            raise rejected(refusal)
        if not self._load_lock.acquire(timeout=LOAD_WAIT_SECONDS):  # or a store that hangs would take every thread
            raise CapacityError("another version is being loaded; try again", reason="LOAD_IN_PROGRESS")
        try:
            if held := self._held.get(model, version):
                return held
            outcome = self._loading.load(model, ref, self._held.check)
            if isinstance(outcome, LoadFailure):
                raise rejected(outcome)
            self._held.put(outcome.served)
            return outcome.served
        finally:
            self._load_lock.release()

    def _unknown(self, model: str) -> NotFoundError | UnavailableError:
        if self.store_contact.reconcile_time is None:
            return UnavailableError("the store was not read yet; try again", reason="STORE_UNAVAILABLE")
        if not self._states:
            return UnavailableError("nothing was published yet; train a model first", reason="NO_MODEL_YET")
        return NotFoundError(
            f"there is no model {model!r}; served here: {', '.join(self.models())}", reason="MODEL_NOT_FOUND"
        )

    @staticmethod
    def _not_ready(model: str, state: ModelState) -> UnavailableError:
        why = f": version {state.failure.ref.version}: {state.failure.message}" if state.failure else ""
        return UnavailableError(f"model {model!r} has no version that can be served yet{why}", reason="NO_MODEL_YET")


def rejected(failure: LoadFailure) -> SnapshotRejectedError:
    """What is said to whoever names a version that was refused."""
    return SnapshotRejectedError(failure.message, reason=failure.reason)
