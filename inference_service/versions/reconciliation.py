"""Makes what is served follow what the store says, loading before unloading.

A swap assigns a new state. A version that cannot be loaded changes nothing: the last good one goes on answering, and
the reason stands in the state until a later attempt succeeds. `follow_live` may be called from one thread,
`follow_rollouts` from another one, so that what is only tried never delays what is live.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from inference_service.versions.held_versions import HeldVersions
from inference_service.versions.kept_snapshots import KeptSnapshots
from inference_service.versions.loading import NO_VERSION, Loaded, Loading, Record
from inference_service.versions.model_state import LoadFailure, ModelState, ModelStates
from inference_service.versions.rollouts import ActiveRollout
from inference_service.versions.snapshot_loader import ServedVersion, VersionSource
from shared.errors import NotFoundError, SnapshotRejectedError, StoreUnavailableError
from shared.model_version import LATEST, LIVE, VersionRef

log = structlog.get_logger()


class Reconciliation:
    """Changes `states` as the store says; `announce` is told each model's state after every comparison."""

    def __init__(
        self,
        *,
        source: VersionSource,
        states: ModelStates,
        held: HeldVersions,
        loading: Loading,
        kept: KeptSnapshots,
        record: Record,
        announce: Callable[[str, ModelState], None],
    ) -> None:
        self._source = source
        self._states = states
        self._held = held
        self._loading = loading
        self._kept = kept
        self._record = record
        self._announce = announce
        self._start_time = datetime.now(UTC)

    def follow_live(self, models: Collection[str]) -> None:
        """Compares each of the store's models with what answers, and loads what differs.

        Raises:
            StoreUnavailableError: if the store is away; what is served stays.
        """
        for model in models:
            self._follow_model(model)
        for model in set(self._states) - set(models):
            state = self._states[model]
            if state.restored or state.live is None:  # what the store does not know is not served from a disk
                self._states.forget(model)
                self._announce(model, ModelState())
        self._kept.retain({model for model in models if self._may_be_kept(self._states[model])})

    def follow_rollouts(self) -> None:
        """Compares what is tried of each known model with the store, and loads what differs.

        Raises:
            StoreUnavailableError: if the store is away; what is tried stays.
        """
        for model in list(self._states):
            self._follow_rollout(model)

    def restore(self) -> list[str]:
        """Serves what the disk has kept of models of which nothing is known; returns which."""
        restored = []
        for model in self._kept.models():
            if model in self._states:
                continue
            outcome = self._kept.load(model)
            if isinstance(outcome, LoadFailure):
                self._set(model, failure=outcome)
            elif outcome is not None:
                self._set(model, live=outcome, aliases={LIVE: outcome.ref.version}, restored=True)
                self._note_restored(outcome)
                restored.append(model)
        return restored

    def _set(self, model: str, **fields: Any) -> None:  # noqa: ANN401 - the fields of a state
        """Swaps, and says so at once."""
        self._announce(model, self._states.change(model, **fields))

    def _follow_model(self, model: str) -> None:
        before = self._states.get(model, ModelState())
        try:
            aliases = self._source.aliases(model)
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever stands there, the other models follow theirs
            self._refuse(model, before, before.aliases, self._unreadable(model, error))
        else:
            self._follow_aliases(model, before, aliases)

    def _follow_aliases(self, model: str, before: ModelState, aliases: Mapping[str, int]) -> None:
        if LIVE not in aliases:
            live = None if before.restored else before.live
            self._set(model, live=live, aliases=aliases, failure=None, restored=False)
            return
        wanted = self._ref(model, aliases[LIVE])
        is_failing = before.failure is not None and before.failure.is_of(wanted)
        if before.live is not None and before.live.ref == wanted and not is_failing:
            self._set(model, aliases=aliases, failure=None, restored=False)
            return
        outcome = self._obtained(model, wanted, before.rollout.candidate if before.rollout else None)
        if isinstance(outcome, LoadFailure):
            self._refuse(model, before, aliases, outcome)
        else:
            self._swap(model, before, aliases, outcome)

    def _swap(self, model: str, before: ModelState, aliases: Mapping[str, int], loaded: Loaded) -> None:
        served = loaded.served
        if before.live is not None and before.live.ref == served.ref:  # from the disk, and now the store has it whole
            self._set(model, aliases=aliases, failure=None, restored=False)
            return
        self._set(model, live=served, aliases=aliases, failure=None, restored=False)
        self._held.discard(model, served.ref.version)
        if loaded.published is not None:
            self._kept.offer(loaded.published)
        is_fresh = served.publish_time >= self._start_time and not self._was_known(served.ref, before)
        seconds = max(0.0, (datetime.now(UTC) - served.publish_time).total_seconds()) if is_fresh else None
        self._record.swapped(model, served.ref.version, served.publish_time, seconds=seconds)
        log.info("serving", model=model, version=served.ref.version, digest=served.ref.digest)

    @staticmethod
    def _was_known(ref: VersionRef, before: ModelState) -> bool:
        """Whether a version was seen before it went live, so that somebody took his time to promote it."""
        if before.failure is not None and before.failure.is_of(ref):
            return False
        return before.aliases.get(LATEST, 0) >= ref.version

    def _refuse(self, model: str, before: ModelState, aliases: Mapping[str, int], failure: LoadFailure) -> None:
        """Lets the reason stand; where nothing answers yet, the version that the disk has kept shall."""
        kept = self._kept.load(model) if before.live is None else None
        if isinstance(kept, ServedVersion):
            self._set(model, live=kept, aliases=aliases, failure=failure, restored=True)
            self._note_restored(kept)
        else:
            self._set(model, aliases=aliases, failure=failure)

    def _note_restored(self, served: ServedVersion) -> None:
        self._record.swapped(served.model, served.ref.version, served.publish_time, seconds=None)
        log.warning("serving what the disk has kept", model=served.model, version=served.ref.version)

    def _follow_rollout(self, model: str) -> None:
        if (before := self._states.get(model)) is None:
            return  # it is gone since
        try:
            wanted = self._source.rollout(model)
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - as for the live version
            failure = self._unreadable(model, error)
            self._states.change(model, rollout=None, rollout_failure=failure, wanted_rollout=None)
            return
        if wanted is None or (before.live is not None and before.live.ref.version == wanted.version):
            self._states.change(model, rollout=None, rollout_failure=None, wanted_rollout=None)
            return
        ref = self._ref(model, wanted.version)
        active = before.rollout
        if active is None or active.candidate.ref != ref:
            outcome = self._obtained(model, ref, before.live)
            if isinstance(outcome, LoadFailure):
                self._states.change(model, rollout=None, rollout_failure=outcome, wanted_rollout=wanted)
                return
            active = ActiveRollout(wanted, outcome.served)
            log.info("trying", model=model, version=wanted.version, mode=wanted.mode.value, percent=wanted.percent)
        elif active.rollout != wanted:
            active = ActiveRollout(wanted, active.candidate)
        self._states.change(model, rollout=active, rollout_failure=None, wanted_rollout=wanted)
        self._held.discard(model, wanted.version)

    def _obtained(self, model: str, ref: VersionRef, other: ServedVersion | None) -> Loaded | LoadFailure:
        """A version: `other`, if it is that; or the one that requests named; or loaded now; or why it cannot be."""
        if other is not None and other.ref == ref:
            return Loaded(other, None)
        if held := self._held.find(model, ref):
            return Loaded(held, None)
        try:
            return self._loading.load(model, ref)
        except NotFoundError as error:  # a name that leads nowhere
            return self._loading.refused(model, ref, error)

    def _ref(self, model: str, version: int) -> VersionRef:
        """The version with its digest; with none where there is none to read, and then loading says what is wrong."""
        try:
            found = self._source.ref(model, version)
        except StoreUnavailableError:
            raise
        except Exception:  # noqa: BLE001 - said above
            found = None
        return found or VersionRef(version, "")

    def _unreadable(self, model: str, error: Exception) -> LoadFailure:
        if standing := self._loading.standing(model, NO_VERSION):
            return standing
        what = f"what the store says of {model!r} cannot be read: {error!r}"
        return self._loading.refused(model, NO_VERSION, SnapshotRejectedError(what, reason="MALFORMED_RECORD"))

    @staticmethod
    def _may_be_kept(state: ModelState) -> bool:
        """Whether the store has a live version of the model, as far as it can be read."""
        return LIVE in state.aliases or state.failure is not None
