"""Why a change of a model was refused: the words that the scripts return, as errors that say what to do."""

from dataclasses import dataclass
from typing import Any

from shared.errors import ConflictError, NotFoundError, WeightcastError, WrongStateError
from shared.model_version import LIVE
from shared.registry_limits import MAX_ALIASES, SHOWN
from shared.store.model_store import no_model


@dataclass(frozen=True)
class Change:
    """What a change was about."""

    model: str
    version: int = 0
    alias: str = LIVE


def refusal(word: bytes, change: Change, details: list[Any]) -> WeightcastError:
    """The error that a script's word stands for; `no_version` is not among them, which only the store can explain."""
    match word:
        case b"no_alias":
            return no_alias(change)
        case b"stale":
            return stale(change, *details)
        case b"no_previous":
            return no_previous(change)
        case b"too_many_aliases":
            return too_many_aliases(change)
        case b"in_use":
            return in_use(change, *details)
    return no_model(change.model)


def no_alias(change: Change) -> NotFoundError:
    """The answer to the removal of an alias that is not there."""
    return NotFoundError(
        f"model {change.model!r} has no alias {change.alias!r} to remove; GetModel says which it has",
        reason="ALIAS_NOT_FOUND",
    )


def stale(change: Change, etag: bytes, version: bytes | None) -> ConflictError:
    """The answer to an etag that is not the alias's: says what it has now."""
    now = f"it points to version {version.decode()} now" if version else "it does not exist now"
    return ConflictError(
        f"etag: the alias {change.alias[:SHOWN]!r} of {change.model!r} was changed: {now}, and its etag is "
        f"{etag.decode()!r}; read the model again and decide anew",
        reason="ETAG_MISMATCH",
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


def in_use(change: Change, is_pinned: int, aliases: list[bytes]) -> WrongStateError:
    """The answer to the deletion of a version that something needs: says what, and what to do about each."""
    named = sorted(alias.decode() for alias in aliases)
    others = ", ".join(repr(alias) for alias in named if alias != LIVE)
    whys = (
        "it is live: promote another version first" if LIVE in named else "",
        f"it has the alias {others}: point that elsewhere or remove it with SetModelAlias first" if others else "",
        "it is pinned: unpin it with UpdateModelVersion first" if is_pinned else "",
    )
    return WrongStateError(
        f"version {change.version} of {change.model!r} cannot be deleted; {'; '.join(why for why in whys if why)}",
        reason="VERSION_IN_USE",
    )
