"""What moves a model's aliases, tries and removes its versions and writes about them: promotion, rollouts, deletion.

Each change happens as a whole or not at all, however many are made at once: `live` names an existing, complete version
at every moment. Each but a note wakes the watchers, so that what goes live is served at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidInputError
from shared.model_version import LIVE, LiveChange, ModelSummary, PublishedVersion
from shared.registry_limits import (
    MAX_ALIASES,
    alias_violations,
    annotation_violations,
    asker_violations,
    keep_violations,
    percent_violations,
    refuse,
    version_violations,
)
from shared.rollout import RolloutMode
from shared.store.connection import Argument, StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_store import ModelStore, no_model
from shared.store.records import change_from, labels_text, summary_from
from shared.store.refusals import Change, refusal
from shared.store.scripts import ModelChange

MAX_PRUNED = 1000
PRUNE_STEP = 200  # versions that one script looks at, so that it holds up nobody for long


@dataclass(frozen=True)
class ChangePage:
    """Changes of what was live, and the revision below which the next page begins; None where this is the last."""

    changes: tuple[LiveChange, ...]
    next_below: int | None


@dataclass(frozen=True)
class Pruned:
    """Which versions went or would go, oldest first, the size of their weights together, and how many are left."""

    versions: tuple[int, ...]
    size_bytes: int
    kept_count: int


class ModelRegistry:
    """Changes models. Every method raises StoreUnavailableError while Redis is away, and NotFoundError MODEL_NOT_FOUND.

    Bad words are an InvalidInputError that names them. An `etag` that is not empty must be what the alias, or the
    rollout, has now: if it is not, the change raises ConflictError ETAG_MISMATCH.
    """

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._models = ModelStore(connection)
        self._promote, self._rollback, self._hold, self._alias, self._annotate, self._delete, self._prune = (
            ModelChange(connection, name)
            for name in ("promote", "rollback", "hold", "alias", "annotate", "delete", "prune")
        )
        self._set_rollout, self._end_rollout = (
            ModelChange(connection, name) for name in ("set_rollout", "end_rollout")
        )

    def promote(self, model: str, version: int, *, etag: str = "", actor: str = "", reason: str = "") -> ModelSummary:
        """Makes a version live, lifts a hold, and ends the rollout that tries this version.

        Raises:
            NotFoundError: VERSION_NOT_FOUND.
        """
        refuse(version_violations(version), asker_violations(actor, reason))
        return self._model_after(self._promote, Change(model, version), version, etag, actor, reason)

    def rollback(self, model: str, *, etag: str = "", actor: str = "", reason: str = "") -> ModelSummary:
        """Makes the version live that was live before, and puts a hold; again, the one before that.

        Raises:
            WrongStateError: NO_PREVIOUS_VERSION.
        """
        refuse(asker_violations(actor, reason))
        return self._model_after(self._rollback, Change(model), etag, actor, reason)

    def set_hold(self, model: str, *, held: bool, actor: str = "", reason: str = "") -> ModelSummary:
        """Puts a hold on a model, in the place of one that is there, or lifts it."""
        refuse(asker_violations(actor, reason))
        return self._model_after(self._hold, Change(model), int(held), actor, reason)

    def set_rollout(
        self,
        model: str,
        version: int,
        mode: RolloutMode,
        percent: float,
        *,
        etag: str = "",
        actor: str = "",
        reason: str = "",
    ) -> ModelSummary:
        """Tries a version on a share of the requests, in the place of another one, or changes how it is tried.

        It ends when the version goes live, however it does. Setting what is set already, with the same actor and
        reason, changes nothing, its etag included.

        Raises:
            NotFoundError: VERSION_NOT_FOUND.
            WrongStateError: VERSION_IS_LIVE, or NO_LIVE_VERSION where there is none to try it beside.
        """
        refuse(version_violations(version), percent_violations(percent), asker_violations(actor, reason))
        how = (mode.value, repr(float(percent)), etag, actor, reason)
        return self._model_after(self._set_rollout, Change(model, version), version, *how)

    def end_rollout(self, model: str, *, etag: str = "") -> ModelSummary:
        """Ends a rollout; its version stays as it is.

        Raises:
            WrongStateError: NO_ROLLOUT.
        """
        return self._model_after(self._end_rollout, Change(model), etag)

    def set_alias(self, model: str, alias: str, version: int, *, etag: str = "", actor: str = "") -> str:
        """Points an alias to a version, or removes it where that is 0; the etag to give with the next change.

        Pointing `live` is a promotion. Pointing an alias to where it points already changes nothing, its etag included.

        Raises:
            NotFoundError: VERSION_NOT_FOUND, or ALIAS_NOT_FOUND where there is nothing to remove.
            WrongStateError: TOO_MANY_ALIASES.
        """
        refuse(alias_violations(alias), version_violations(version, lowest=0), asker_violations(actor))
        if alias == LIVE:
            if version == 0:
                raise InvalidInputError.of(
                    "version", "got 0, but 'live' cannot be removed; expected a version's number"
                )
            summary = self.promote(model, version, etag=etag, actor=actor)
            return next(pointed.etag for pointed in summary.aliases if pointed.name == LIVE)
        change = Change(model, version, alias)
        (new_etag,) = self._changed(self._alias, change, alias, version, etag, MAX_ALIASES)
        return str(new_etag.decode())

    def history(self, model: str, *, count: int, below: int | None = None) -> ChangePage:
        """A page of up to `count` changes of `live`, newest first, whose revisions are below `below` if given."""
        keys = ModelKeys(model)
        newest = "+" if below is None else max(0, below - 1)
        is_there, entries = self._redis.commands(
            [("EXISTS", keys.counter), ("XREVRANGE", keys.history, newest, "-", "COUNT", count + 1)]
        )
        if not is_there:
            raise no_model(model)
        changes = tuple(change_from(fields) for _, fields in entries[:count])
        return ChangePage(changes, int(entries[count - 1][0].partition(b"-")[0]) if len(entries) > count else None)

    def annotate(
        self,
        model: str,
        version: int,
        *,
        notes: str | None = None,
        labels: Mapping[str, str] | None = None,
        pinned: bool | None = None,
    ) -> PublishedVersion:
        """Writes about a version what is not None, and returns the version without its weights.

        Raises:
            NotFoundError: VERSION_NOT_FOUND.
        """
        refuse(version_violations(version), annotation_violations(notes, labels))
        written: list[Argument] = []
        if notes is not None:
            written += ("notes", notes)
        if labels is not None:
            written += ("labels", labels_text(labels))
        if pinned is not None:
            written += ("pinned", int(pinned))
        self._changed(self._annotate, Change(model, version), version, *written)
        return self._models.version(model, version, with_weights=False)

    def delete(self, model: str, version: int) -> None:
        """Removes a version: its number is never used again, and no rollback leads to it any more.

        An inference service that holds it goes on answering requests that name it until it lets go of it by itself.

        Raises:
            NotFoundError: VERSION_NOT_FOUND.
            WrongStateError: VERSION_IN_USE, for one that is live, has another alias than `latest`, is pinned or tried.
        """
        refuse(version_violations(version))
        self._changed(self._delete, Change(model, version), version)

    def prune(self, model: str, keep_newest: int, *, dry_run: bool) -> Pruned:
        """Removes old versions, at most 1,000, oldest first; with `dry_run` only says which it would.

        Kept are the newest, and those that are live, that a rollback can lead to, that have an alias, are pinned or
        tried: each version goes only if none of this holds at the moment it goes.
        """
        refuse(keep_violations(keep_newest))
        gone: list[int] = []
        size_bytes, after = 0, b"0"
        while True:
            given = (keep_newest, after, PRUNE_STEP, MAX_PRUNED - len(gone), int(dry_run))
            numbers, step_bytes, after, stored = self._changed(self._prune, Change(model), *given)
            gone += numbers
            size_bytes += step_bytes
            if not after or len(gone) == MAX_PRUNED:
                return Pruned(tuple(gone), size_bytes, stored - len(gone) if dry_run else stored)

    def _changed(self, script: ModelChange, change: Change, *arguments: Argument) -> Any:  # noqa: ANN401 - as a script's
        """What a script returns when it is done; raises the refusal where it refused."""
        word, *reply = script(change.model, *arguments)
        if word == b"no_version":
            raise self._models.no_version(change.model, change.version)
        if word != b"done":
            raise refusal(word, change, reply)
        return reply

    def _model_after(self, script: ModelChange, change: Change, *arguments: Argument) -> ModelSummary:
        (reply,) = self._changed(script, change, *arguments)
        return summary_from(change.model, reply)
