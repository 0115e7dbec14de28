"""Which version of each model answers: makes what is served follow what the store says, loading before unloading.

A request takes one reference and keeps it to its end; a swap assigns a new one. A version that cannot be loaded changes
nothing: the last good one goes on answering, and the reason stands in the status until a later attempt succeeds.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from inference_service.snapshot_loader import ServedVersion, VersionSource, load_version
from shared.errors import CapacityError, NotFoundError, StoreUnavailableError, UnavailableError, WeightcastError
from shared.model_version import LIVE, VersionRef

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0
LOAD_WAIT_SECONDS = 1.0
MAX_DOUBLINGS = 10  # far past the longest pause, and far from what a float can hold
log = structlog.get_logger()


@dataclass(frozen=True)
class LoadFailure:
    """A version that could not be loaded, why, and when it is tried again."""

    ref: VersionRef
    reason: str
    message: str
    attempts: int
    attempt_time: datetime

    @property
    def retry_time(self) -> datetime:
        """Each failed attempt doubles the wait for the next."""
        doublings = min(self.attempts - 1, MAX_DOUBLINGS)
        return self.attempt_time + timedelta(seconds=min(FIRST_RETRY_SECONDS * 2**doublings, LONGEST_RETRY_SECONDS))


@dataclass(frozen=True)
class ModelState:
    """What is known of one model. Replaced as a whole, never changed, so that a reader needs no lock."""

    live: ServedVersion | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)
    failure: LoadFailure | None = None


@dataclass(frozen=True)
class StoreContact:
    """Whether the store answered when last asked, and when what is served was last compared with it."""

    reachable: bool = False
    reconcile_time: datetime | None = None


class ModelManager:
    """Holds the served versions. `serve` may be called from any thread, `reconcile` from one.

    `announce` is told each model and the version it answers by, if it can, after every comparison with the store.
    """

    def __init__(
        self,
        source: VersionSource,
        pinned_capacity: int,
        announce: Callable[[str, ServedVersion | None], None],
    ) -> None:
        self._source = source
        self._announce = announce
        self._states: dict[str, ModelState] = {}
        self._pinned: OrderedDict[tuple[str, int], ServedVersion] = OrderedDict()
        self._pinned_capacity = pinned_capacity
        self._pinned_lock = threading.Lock()
        self._load_lock = threading.Lock()
        self.store_contact = StoreContact()

    def loaded(self, model: str, selector: int | str) -> ServedVersion | None:
        """The version that answers a request for `selector`, if that needs nothing to be loaded and nobody refused."""
        state = self._states.get(model)
        if state is None or state.live is None:
            return None
        if selector == LIVE:
            return state.live
        version = selector if isinstance(selector, int) else state.aliases.get(selector)
        if version == state.live.ref.version:
            return state.live
        return None if version is None else self._held(model, version)

    def serve(self, model: str, selector: int | str) -> ServedVersion:
        """The version that answers a request for `selector`, a number or an alias.

        Raises:
            UnavailableError: NO_MODEL_YET while the model has no version that could be loaded.
            NotFoundError: if there is no such model, version or alias.
            SnapshotRejectedError: if the version named cannot be served.
        """
        state = self._states.get(model)
        if state is None:
            raise self._unknown(model)
        if selector == LIVE:
            if state.live is None:
                raise self._not_ready(model, state)
            return state.live
        version = selector if isinstance(selector, int) else self._resolve(model, state, selector)
        if state.live is not None and state.live.ref.version == version:
            return state.live
        return self._pinned_version(model, version)

    def reconcile(self, models: Sequence[str]) -> None:
        """Compares what is served with the store and loads what differs.

        Raises:
            StoreUnavailableError: if the store is away; what is served stays.
        """
        for model in models:
            state = self._states.get(model, ModelState())
            updated = self._reconciled(model, state)
            self._states = {**self._states, model: updated}
            self._announce(model, updated.live)
        self.store_contact = StoreContact(reachable=True, reconcile_time=datetime.now(UTC))

    def store_lost(self) -> None:
        """Notes that the store does not answer."""
        self.store_contact = StoreContact(reachable=False, reconcile_time=self.store_contact.reconcile_time)

    def state(self, model: str) -> ModelState:
        """What is known of one model.

        Raises:
            NotFoundError: if the store never had it.
            UnavailableError: if the store was never read, so that nobody can know.
        """
        if model not in self._states:
            raise self._unknown(model)
        return self._states[model]

    def pinned(self, model: str) -> list[ServedVersion]:
        """The versions held because requests named them, oldest number first."""
        with self._pinned_lock:
            held = [served for (name, _), served in self._pinned.items() if name == model]
        return sorted(held, key=lambda served: served.ref.version)

    def models(self) -> list[str]:
        """The name of every known model, sorted."""
        return sorted(self._states)

    def _reconciled(self, model: str, state: ModelState) -> ModelState:
        try:
            aliases = self._source.aliases(model)
            wanted = self._source.ref(model, aliases[LIVE]) if LIVE in aliases else None
        except StoreUnavailableError:
            raise
        except Exception:
            log.exception("the store's record of a model cannot be read; keeping what is served", model=model)
            return state
        if wanted is None or (state.live is not None and state.live.ref == wanted):
            return ModelState(state.live, aliases)
        attempts = 1
        if state.failure is not None and state.failure.ref == wanted:
            if datetime.now(UTC) < state.failure.retry_time:
                return ModelState(state.live, aliases, state.failure)
            attempts = state.failure.attempts + 1
        try:
            served = load_version(self._source, model, wanted.version)
        except StoreUnavailableError:
            raise
        except Exception as error:
            reason = error.reason if isinstance(error, WeightcastError) else "LOAD_FAILED"
            log.exception("version refused", model=model, version=wanted.version, reason=reason)
            failure = LoadFailure(wanted, reason, str(error), attempts, datetime.now(UTC))
            return ModelState(state.live, aliases, failure)
        log.info("serving", model=model, version=wanted.version, digest=wanted.digest)
        return ModelState(served, aliases)

    def _resolve(self, model: str, state: ModelState, alias: str) -> int:
        if alias not in state.aliases:
            known = ", ".join(sorted(state.aliases)) or "none"
            raise NotFoundError(f"model {model!r} has no alias {alias!r}; it has {known}", reason="ALIAS_NOT_FOUND")
        return state.aliases[alias]

    def _pinned_version(self, model: str, version: int) -> ServedVersion:
        if served := self._held(model, version):
            return served
        if not self.store_contact.reachable:
            raise StoreUnavailableError(f"version {version} of {model!r} is not loaded, and the store is away")
        if not self._load_lock.acquire(timeout=LOAD_WAIT_SECONDS):  # or a store that hangs would take every thread
            raise CapacityError("another version is being loaded; try again", reason="LOAD_IN_PROGRESS")
        try:
            return self._held(model, version) or self._load_pinned(model, version)
        finally:
            self._load_lock.release()

    def _load_pinned(self, model: str, version: int) -> ServedVersion:
        served = load_version(self._source, model, version)
        with self._pinned_lock:
            self._pinned[model, version] = served
            while len(self._pinned) > self._pinned_capacity:
                self._pinned.popitem(last=False)
        return served

    def _held(self, model: str, version: int) -> ServedVersion | None:
        with self._pinned_lock:
            if served := self._pinned.get((model, version)):
                self._pinned.move_to_end((model, version))
            return served

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
