"""The gRPC face of what is served: decodes a message, calls one method of the domain, encodes its answer.

`Classify` and `ClassifyStream` are answered from their bytes, before this is asked: `classify_protocol`.
"""

from typing import Protocol

import grpc

from inference_service.joint_status import JointStatus, held
from inference_service.limits import Limits
from inference_service.metrics.counted import RolloutTotals
from inference_service.model_status import load_failure, loaded_version, rollout_status
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.model_state import ModelState, StoreContact
from shared.network_codec import preprocessing_to_proto
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1.inference_service_pb2_grpc import InferenceServiceServicer
from shared.proto_values import timestamp
from shared.training_spec import checked_model_name

NOTHING_COUNTED = RolloutTotals()


class RolloutCounts(Protocol):
    """What was counted of rollouts: `inference_service.metrics.statistics.Statistics`."""

    def rollout_totals(self, model: str, version: int, mode: str) -> RolloutTotals:
        """What came of a rollout, in all processes together."""


class InferenceServicer(InferenceServiceServicer):
    """weightcast.v1.InferenceService."""

    def __init__(self, manager: ModelManager, joint: JointStatus, limits: Limits, counts: RolloutCounts) -> None:
        self._manager = manager
        self._joint = joint
        self._limits = limits
        self._counts = counts

    def GetModelStatus(
        self, request: pb.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> pb.GetModelStatusResponse:
        """Says what is served for one model."""
        model = checked_model_name(request.model)
        return pb.GetModelStatusResponse(status=self._status(model, self._manager.state(model)))

    def ListServedModels(
        self, request: pb.ListServedModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListServedModelsResponse:
        """Lists what is served for every model."""
        return pb.ListServedModelsResponse(models=[self._status(*each) for each in self._manager.states()])

    def _status(self, model: str, state: ModelState) -> pb.ModelStatus:
        live = self._joint.live(model)
        status = pb.ModelStatus(
            model=model,
            state=pb.ModelStatus.STATE_READY if live else pb.ModelStatus.STATE_NOT_READY,
            pinned=[loaded_version(held(served)) for served in self._manager.pinned(model)],
            max_batch_rows=self._limits.max_rows,
            max_message_bytes=self._limits.max_message_bytes,
            max_in_flight=self._limits.max_in_flight,
        )
        if state.live and live:
            status.live.CopyFrom(loaded_version(live))
            status.restored = live.restored
            status.preprocessing.CopyFrom(preprocessing_to_proto(state.live.manifest.preprocessing))
            status.class_labels.extend(state.live.manifest.class_labels)
        if state.failure:
            status.failure.CopyFrom(load_failure(state.failure))
        self._add_rollout(status, state)
        add_contact(status, self._manager.store_contact)
        return status

    def _add_rollout(self, status: pb.ModelStatus, state: ModelState) -> None:
        rollout, failure = state.wanted_rollout, state.rollout_failure
        if rollout or failure:
            totals = NOTHING_COUNTED
            if rollout:
                totals = self._counts.rollout_totals(status.model, rollout.version, rollout.mode.value)
            status.rollout.CopyFrom(rollout_status(rollout, failure, totals))


def add_contact(status: pb.ModelStatus, contact: StoreContact) -> None:
    """Adds what is known of the store."""
    status.store_reachable = contact.reachable
    if contact.reconcile_time:
        status.reconcile_time.CopyFrom(timestamp(contact.reconcile_time))
    if contact.lost_time:
        status.store_lost_time.CopyFrom(timestamp(contact.lost_time))
