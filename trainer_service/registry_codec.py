"""Models, versions, rollouts and live changes to protobuf messages, and what callers want in the domain's words.

What an earlier build published without a verdict has none here either.
"""

from contextlib import suppress

from google.protobuf.message import DecodeError

from shared.errors import InvalidInputError, SnapshotRejectedError
from shared.model_version import Alias, Cause, Hold, LiveChange, ModelSummary, PublishedVersion, VersionFilter
from shared.pb.weightcast.v1 import model_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb
from shared.proto_values import key_of, timestamp
from shared.rollout import RolloutMode
from shared.rollout_codec import MODES, rollout_to_proto
from shared.store.records import ANNOTATIONS
from shared.verdict_codec import verdict_to_proto

CAUSES = {
    Cause.PUBLISHED: model_pb2.LiveChange.CAUSE_PUBLISHED,
    Cause.PROMOTED: model_pb2.LiveChange.CAUSE_PROMOTED,
    Cause.ROLLED_BACK: model_pb2.LiveChange.CAUSE_ROLLED_BACK,
}


def model_message(summary: ModelSummary) -> model_pb2.Model:
    """A model as a message."""
    return model_pb2.Model(
        name=summary.name,
        latest_version=summary.latest_version,
        live_version=summary.live_version,
        version_count=summary.version_count,
        aliases=[alias_message(alias) for alias in summary.aliases],
        previous_version=summary.previous_version,
        hold=hold_message(summary.hold) if summary.hold else None,
        rollout=rollout_to_proto(summary.rollout) if summary.rollout else None,
    )


def alias_message(alias: Alias) -> model_pb2.ModelAlias:
    """An alias as a message."""
    return model_pb2.ModelAlias(alias=alias.name, version=alias.version, etag=alias.etag)


def hold_message(hold: Hold) -> model_pb2.ModelHold:
    """A hold as a message."""
    return model_pb2.ModelHold(actor=hold.actor, reason=hold.reason, create_time=timestamp(hold.create_time))


def change_message(change: LiveChange) -> model_pb2.LiveChange:
    """A change of what is live as a message."""
    return model_pb2.LiveChange(
        version=change.version,
        previous_version=change.previous_version,
        change_time=timestamp(change.change_time),
        cause=CAUSES[change.cause],
        actor=change.actor,
        reason=change.reason,
    )


def version_message(published: PublishedVersion) -> model_pb2.ModelVersion:
    """A version as a message, without its manifest."""
    return model_pb2.ModelVersion(
        model=published.model,
        version=published.ref.version,
        digest=published.ref.digest,
        publish_time=timestamp(published.publish_time),
        aliases=published.aliases,
        weights_size_bytes=published.weights_size_bytes,
        promotion=verdict_to_proto(published.verdict) if published.verdict else None,
        notes=published.annotations.notes,
        labels=published.annotations.labels,
        pinned=published.annotations.pinned,
    )


def whole_version_message(published: PublishedVersion) -> model_pb2.ModelVersion:
    """A version with its manifest as a message.

    Raises:
        SnapshotRejectedError: MALFORMED_MANIFEST.
    """
    message = version_message(published)
    message.manifest.CopyFrom(manifest_message(published))
    return message


def listed_version_message(published: PublishedVersion) -> model_pb2.ModelVersion:
    """The same, where a manifest that cannot be read must not hide the rest: it is left out."""
    with suppress(SnapshotRejectedError):
        return whole_version_message(published)
    return version_message(published)


def manifest_message(published: PublishedVersion) -> model_pb2.Manifest:
    """A version's manifest as it was published.

    Raises:
        SnapshotRejectedError: MALFORMED_MANIFEST.
    """
    try:
        return model_pb2.Manifest.FromString(published.snapshot.manifest)
    except DecodeError as error:
        raise SnapshotRejectedError(
            f"the manifest of version {published.ref.version} is no protobuf: {error}", reason="MALFORMED_MANIFEST"
        ) from error


def version_filter(wanted: pb.VersionFilter) -> VersionFilter:
    """Which versions a request wants."""
    return VersionFilter(
        labels=dict(wanted.labels),
        dataset=wanted.dataset,
        training_job_id=wanted.training_job_id,
        pinned=wanted.pinned if wanted.HasField("pinned") else None,
    )


def masked_fields(request: pb.UpdateModelVersionRequest) -> frozenset[str]:
    """What a request wants written.

    Raises:
        InvalidInputError: naming update_mask, where that is nothing or something else.
    """
    paths = frozenset(request.update_mask.paths)
    if not paths or not paths <= set(ANNOTATIONS):
        got = ", ".join(sorted(paths))[:80] or "nothing"
        raise InvalidInputError.of("update_mask", f"got {got}, expected some of {', '.join(ANNOTATIONS)}")
    return paths


def rollout_mode(value: int) -> RolloutMode:
    """What shall become of a share's requests.

    Raises:
        InvalidInputError: naming mode.
    """
    try:
        return key_of(MODES, value, "mode")
    except ValueError:
        got = f"got {value}" if value else "required"
        raise InvalidInputError.of("mode", f"{got}, expected MODE_CANARY or MODE_SHADOW") from None
