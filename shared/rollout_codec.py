"""Rollouts to protobuf messages."""

from shared.pb.weightcast.v1 import model_pb2
from shared.proto_values import timestamp
from shared.rollout import Rollout, RolloutMode

MODES = {
    RolloutMode.CANARY: model_pb2.ModelRollout.MODE_CANARY,
    RolloutMode.SHADOW: model_pb2.ModelRollout.MODE_SHADOW,
}


def rollout_to_proto(rollout: Rollout) -> model_pb2.ModelRollout:
    """A rollout as a message."""
    return model_pb2.ModelRollout(
        version=rollout.version,
        mode=MODES[rollout.mode],
        percent=rollout.percent,
        etag=rollout.etag,
        actor=rollout.actor,
        reason=rollout.reason,
        create_time=timestamp(rollout.create_time),
        update_time=timestamp(rollout.update_time),
    )
