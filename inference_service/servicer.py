"""The gRPC face of what is served: decodes a message, calls one method of the domain, encodes its answer.

`Classify` and `ClassifyStream` are answered from their bytes, before this is asked: `classify_protocol`.
"""

import grpc

from inference_service.board import HeldVersion
from inference_service.joint_status import JointStatus, held
from inference_service.model_manager import LoadFailure, ModelManager
from shared.network_codec import preprocessing_to_proto
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1.inference_service_pb2_grpc import InferenceServiceServicer
from shared.proto_values import timestamp
from shared.training_spec import checked_model_name


class InferenceServicer(InferenceServiceServicer):
    """weightcast.v1.InferenceService."""

    def __init__(self, manager: ModelManager, joint: JointStatus, max_rows: int) -> None:
        self._manager = manager
        self._joint = joint
        self._max_rows = max_rows

    def GetModelStatus(
        self, request: pb.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> pb.GetModelStatusResponse:
        """Says what is served for one model."""
        return pb.GetModelStatusResponse(status=self._status(checked_model_name(request.model)))

    def ListServedModels(
        self, request: pb.ListServedModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListServedModelsResponse:
        """Lists what is served for every model."""
        return pb.ListServedModelsResponse(models=[self._status(model) for model in self._manager.models()])

    def _status(self, model: str) -> pb.ModelStatus:
        state, contact = self._manager.state(model), self._manager.store_contact
        live = self._joint.live(model)
        status = pb.ModelStatus(
            model=model,
            state=pb.ModelStatus.STATE_READY if live else pb.ModelStatus.STATE_NOT_READY,
            pinned=[loaded_version(held(served)) for served in self._manager.pinned(model)],
            max_batch_rows=self._max_rows,
            store_reachable=contact.reachable,
        )
        if state.live and live:
            status.live.CopyFrom(loaded_version(live))
            status.preprocessing.CopyFrom(preprocessing_to_proto(state.live.manifest.preprocessing))
            status.class_labels.extend(state.live.manifest.class_labels)
        if state.failure:
            status.failure.CopyFrom(load_failure(state.failure))
        if contact.reconcile_time:
            status.reconcile_time.CopyFrom(timestamp(contact.reconcile_time))
        return status


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
