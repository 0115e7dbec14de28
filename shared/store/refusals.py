"""Why a change of a model was refused: the words that the scripts return, as errors that say what to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import ConflictError, NotFoundError, WeightcastError, WrongStateError
from shared.model_version import LIVE
from shared.registry_limits import MAX_ALIASES, SHOWN
from shared.store.model_store import no_model
from shared.store.records import Fields, pairs, rollout_from

NO_ROLLOUT = "0"  # the etag where there is none; `model.lua` says the same


@dataclass(frozen=True)
class Change:
    """What a change was about."""

    model: str
    version: int = 0
    alias: str = LIVE


def refusal(word: bytes, change: Change, details: list[Any]) -> WeightcastError:
    """The error that a script's word stands for; `no_version` is not among them, which only the store can explain."""
    return REFUSALS[word](change, *details)


def no_alias(change: Change) -> NotFoundError:
    """The answer to the removal of an alias that is not there."""
    return NotFoundError(
        f"model {change.model!r} has no alias {change.alias!r} to remove; GetModel says which it has",
        reason="ALIAS_NOT_FOUND",
    )


def stale(change: Change, etag: bytes, version: bytes | None) -> ConflictError:
    """The answer to an etag that is not the alias's: says what it has now."""
    now = f"it points to version {version.decode()} now" if version else "it does not exist now"
    return changed_meanwhile(f"the alias {change.alias[:SHOWN]!r} of {change.model!r}", now, etag.decode())


def stale_rollout(change: Change, fields: Fields) -> ConflictError:
    """The answer to an etag that is not the rollout's: says what it is now."""
    now, etag = "there is none now", NO_ROLLOUT
    if rollout := rollout_from(pairs(fields)):
        now = f"it tries version {rollout.version} on {rollout.percent:g} % now, as {rollout.mode.value}"
        etag = rollout.etag
    return changed_meanwhile(f"the rollout of {change.model!r}", now, etag)


def changed_meanwhile(what: str, now: str, etag: str) -> ConflictError:
    """The answer to a stale etag."""
    return ConflictError(
        f"etag: {what} was changed: {now}, and its etag is {etag!r}; read the model again and decide anew",
        reason="ETAG_MISMATCH",
    )


def no_rollout(change: Change) -> WrongStateError:
    """The answer to the end of a rollout that is not there."""
    return WrongStateError(
        f"model {change.model!r} has no rollout to end; SetModelRollout begins one", reason="NO_ROLLOUT"
    )


def version_is_live(change: Change) -> WrongStateError:
    """The answer to a rollout of what answers everything already."""
    return WrongStateError(
        f"version {change.version} of {change.model!r} is live already; a rollout tries another one beside it",
        reason="VERSION_IS_LIVE",
    )


def no_live_version(change: Change) -> WrongStateError:
    """The answer to a rollout beside nothing."""
    return WrongStateError(
        f"no version of {change.model!r} is live, so there is nothing to try another one beside; make one live with "
        "PromoteModelVersion first",
        reason="NO_LIVE_VERSION",
    )


def no_previous(change: Change) -> WrongStateError:
    """The answer to a rollback that leads nowhere."""
    return WrongStateError(
        f"no version of {change.model!r} is left that was live before; say which one shall be with PromoteModelVersion",
        reason="NO_PREVIOUS_VERSION",
    )


def too_many_aliases(change: Change) -> WrongStateError:
    """The answer to one alias more than a model may have."""
    return WrongStateError(
        f"model {change.model!r} has {MAX_ALIASES} aliases and cannot have more; remove one with SetModelAlias",
        reason="TOO_MANY_ALIASES",
    )


def in_use(change: Change, is_pinned: int, is_tried: int, aliases: list[bytes]) -> WrongStateError:
    """The answer to the deletion of a version that something needs: says what, and what to do about each."""
    named = sorted(alias.decode() for alias in aliases)
    others = ", ".join(repr(alias) for alias in named if alias != LIVE)
    whys = (
        "it is live: promote another version first" if LIVE in named else "",
        f"it has the alias {others}: point that elsewhere or remove it with SetModelAlias first" if others else "",
        "it is pinned: unpin it with UpdateModelVersion first" if is_pinned else "",
        "it is tried by a rollout: end it with EndModelRollout first" if is_tried else "",
    )
    return WrongStateError(
        f"version {change.version} of {change.model!r} cannot be deleted; {'; '.join(why for why in whys if why)}",
        reason="VERSION_IN_USE",
    )


REFUSALS: Mapping[bytes, Callable[..., WeightcastError]] = {
    b"no_model": lambda change: no_model(change.model),
    b"no_alias": no_alias,
    b"stale": stale,
    b"stale_rollout": stale_rollout,
    b"no_rollout": no_rollout,
    b"is_live": version_is_live,
    b"no_live": no_live_version,
    b"no_previous": no_previous,
    b"too_many_aliases": too_many_aliases,
    b"in_use": in_use,
}
