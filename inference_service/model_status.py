"""What is served of a model, as messages: versions in memory, refusals, rollouts with what was counted of them."""

from inference_service.board import HeldVersion
from inference_service.metrics.counted import RoleTotals, RolloutTotals
from inference_service.versions.model_state import LoadFailure
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.proto_values import duration, timestamp
from shared.rollout import Rollout
from shared.rollout_codec import rollout_to_proto

NANOSECONDS = 1e9  # in a second


def loaded_version(version: HeldVersion) -> pb.LoadedVersion:
    """A version in memory as a message."""
    return pb.LoadedVersion(
        version=version.version,
        digest=version.digest,
        publish_time=timestamp(version.publish_time),
        load_time=timestamp(version.load_time),
    )


def load_failure(failure: LoadFailure) -> pb.LoadFailure:
    """A failed load as a message."""
    return pb.LoadFailure(
        version=failure.ref.version,
        reason=failure.reason,
        message=failure.message,
        attempt_time=timestamp(failure.attempt_time),
        retry_time=timestamp(failure.retry_time),
    )


def rollout_status(rollout: Rollout | None, failure: LoadFailure | None, totals: RolloutTotals) -> pb.RolloutStatus:
    """A rollout as it is carried out; None where the store's word on it cannot be read, and `failure` says so."""
    return pb.RolloutStatus(
        rollout=rollout_to_proto(rollout) if rollout else None,
        state=pb.RolloutStatus.STATE_FAILED if failure else pb.RolloutStatus.STATE_ACTIVE,
        failure=load_failure(failure) if failure else None,
        live=rollout_figures(totals.live),
        candidate=rollout_figures(totals.candidate),
        compared_rows=totals.compared_rows,
        agreed_rows=totals.agreed_rows,
        dropped_requests=totals.dropped_requests,
    )


def rollout_figures(totals: RoleTotals) -> pb.RolloutFigures:
    """What one side of a rollout computed as a message; of no requests there is no mean."""
    mean = duration(totals.compute_ns / NANOSECONDS / totals.requests) if totals.requests else None
    return pb.RolloutFigures(requests=totals.requests, rows=totals.rows, mean_compute_time=mean)
