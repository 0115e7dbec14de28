"""What stands in the store's fields, to domain values and back: records, verdicts, annotations, rollouts, models.

What an earlier build wrote, which kept less, is read too.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from shared.model_version import (
    LATEST,
    LIVE,
    Alias,
    Annotations,
    Cause,
    Hold,
    LiveChange,
    ModelSummary,
    PromotionOutcome,
    PromotionVerdict,
    Publication,
    PublishedVersion,
    StoredSnapshot,
    VersionRef,
)
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import Rollout, RolloutMode

Stored: TypeAlias = bytes | None
Fields: TypeAlias = Sequence[bytes] | Mapping[bytes, bytes]  # in turn from a script, a mapping from a command
STRUCK_OFF = b"0 "
NOT_EVALUATED = "-"
ANNOTATIONS = ("notes", "labels", "pinned")
FIELDS = 7  # of a version that is read with its weights


def verdict_words(verdict: PromotionVerdict) -> tuple[str, ...]:
    """A verdict as the words that are stored; `verdict_from` reads them back without loss."""
    live_accuracy = NOT_EVALUATED if verdict.live_accuracy is None else repr(float(verdict.live_accuracy))
    return (
        verdict.outcome.value,
        verdict.promotion.policy.value,
        repr(float(verdict.promotion.margin)),
        repr(float(verdict.accuracy)),
        str(verdict.live_version),
        live_accuracy,
    )


def verdict_from(words: Sequence[str]) -> PromotionVerdict:
    """A verdict from its words."""
    outcome, policy, margin, accuracy, live_version, live_accuracy = words
    return PromotionVerdict(
        outcome=PromotionOutcome(outcome),
        promotion=Promotion(PromotionPolicy(policy), float(margin)),
        accuracy=float(accuracy),
        live_version=int(live_version),
        live_accuracy=None if live_accuracy == NOT_EVALUATED else float(live_accuracy),
    )


def publication_from(entry: Stored) -> Publication | None:
    """What a job's entry says that it published; the digest is empty where an earlier build did not write it there."""
    if entry is None or entry.startswith(STRUCK_OFF):
        return None
    number, *rest = entry.decode().split()
    if not rest:
        return Publication(VersionRef(int(number), ""), None)
    digest, *words = rest
    return Publication(VersionRef(int(number), digest), verdict_from(words))


def annotation_fields(version: int) -> tuple[str, ...]:
    """The fields of what people wrote about a version."""
    return tuple(f"{version}:{name}" for name in ANNOTATIONS)


def annotations_from(notes: Stored, labels: Stored, pinned: Stored) -> Annotations:
    """What people wrote about a version."""
    return Annotations((notes or b"").decode(), json.loads(labels or b"{}"), pinned == b"1")


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as they are stored."""
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False, separators=(",", ":"))


def version_from(model: str, number: int, aliases: Mapping[str, int], stored: Sequence[Stored]) -> PublishedVersion:
    """A version from its record, verdict, three annotations, manifest, and weights where they were read.

    Its bytes are unchecked, and empty where they are missing.
    """
    record, verdict, notes, labels, pinned, manifest, weights = (*stored, None) if len(stored) < FIELDS else stored
    digest, publish_ms, size = (record or b"").decode().split()
    return PublishedVersion(
        model=model,
        ref=VersionRef(number, digest),
        publish_time=moment_of(publish_ms),
        weights_size_bytes=int(size),
        snapshot=StoredSnapshot(manifest or b"", weights or b"", digest),
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
        verdict=verdict_from(verdict.decode().split()) if verdict else None,
        annotations=annotations_from(notes, labels, pinned),
    )


def aliases_from(reply: Fields) -> dict[str, int]:
    """Every alias with its version."""
    return {alias: int(version) for alias, version in pairs(reply).items()}


def summary_from(model: str, reply: Sequence[Any]) -> ModelSummary:
    """A model from what `summary` in `model.lua` returns."""
    version_count, stored_aliases, stored_revisions, previous, hold, rollout = reply
    aliases, revisions = aliases_from(stored_aliases), pairs(stored_revisions)
    return ModelSummary(
        name=model,
        latest_version=aliases.get(LATEST, 0),
        live_version=aliases.get(LIVE, 0),
        version_count=version_count,
        aliases=tuple(Alias(name, aliases[name], etag_of(name, aliases, revisions)) for name in sorted(aliases)),
        previous_version=int(previous or 0),
        hold=hold_from(pairs(hold)),
        rollout=rollout_from(pairs(rollout)),
    )


def etag_of(alias: str, aliases: Mapping[str, int], revisions: Mapping[str, bytes]) -> str:
    """The etag of an alias that exists; `model.lua` says the same."""
    if alias == LATEST:
        return ""
    return revisions[alias].decode() if alias in revisions else f"v{aliases[alias]}"


def hold_from(fields: Mapping[str, bytes]) -> Hold | None:
    """A hold, if there is one."""
    if not fields:
        return None
    return Hold(fields["actor"].decode(), fields["reason"].decode(), moment_of(fields["time"]))


def rollout_from(fields: Mapping[str, bytes]) -> Rollout | None:
    """A rollout, if there is one.

    Raises:
        ValueError: if its fields are not what `set_rollout.lua` writes.
    """
    if not fields:
        return None
    try:
        return Rollout(
            version=int(fields["version"]),
            mode=RolloutMode(fields["mode"].decode()),
            percent=float(fields["percent"]),
            etag=fields["revision"].decode(),
            actor=fields["actor"].decode(),
            reason=fields["reason"].decode(),
            create_time=moment_of(fields["created"]),
            update_time=moment_of(fields["updated"]),
        )
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"the stored rollout cannot be read: {error!r}; another build may have written it") from error


def change_from(stored: Mapping[bytes, bytes]) -> LiveChange:
    """One entry of the history."""
    fields = pairs(stored)
    return LiveChange(
        version=int(fields["version"]),
        previous_version=int(fields["previous"]),
        change_time=moment_of(fields["time"]),
        cause=Cause(fields["cause"].decode()),
        actor=fields["actor"].decode(),
        reason=fields["reason"].decode(),
    )


def moment_of(milliseconds: bytes | str) -> datetime:
    """A moment from its time in milliseconds."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def pairs(stored: Fields) -> dict[str, bytes]:
    """Fields with their values."""
    items = stored.items() if isinstance(stored, Mapping) else zip(stored[::2], stored[1::2], strict=True)
    return {field.decode(): value for field, value in items}
