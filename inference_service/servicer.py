"""The gRPC face of inference: decodes a message, calls one method of the domain, encodes its answer."""

from collections.abc import Iterator

import grpc

from inference_service.classification import Answer, Question, classify
from inference_service.inputs import ImagesInput, TensorInput
from inference_service.model_manager import LoadFailure, ModelManager
from inference_service.snapshot_loader import ServedVersion
from shared.errors import InvalidInputError
from shared.network_codec import preprocessing_to_proto
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import tensor_pb2
from shared.pb.weightcast.v1.inference_service_pb2_grpc import InferenceServiceServicer
from shared.proto_values import selector_of, tensor_to_proto, timestamp
from shared.training_spec import checked_model_name

DATA_TYPES = {tensor_pb2.DATA_TYPE_UINT8: "UINT8", tensor_pb2.DATA_TYPE_FLOAT32: "FLOAT32"}


class InferenceServicer(InferenceServiceServicer):
    """weightcast.v1.InferenceService."""

    def __init__(self, manager: ModelManager, max_rows: int) -> None:
        self._manager = manager
        self._max_rows = max_rows

    def Classify(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:
        """Classifies a batch."""
        answer = classify(self._manager, self._max_rows, question_of(request))
        return response_of(answer, include_probabilities=request.include_probabilities)

    def ClassifyStream(
        self, request_iterator: Iterator[pb.ClassifyStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ClassifyStreamResponse]:
        """Not implemented yet."""
        raise NotImplementedError

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
        status = pb.ModelStatus(
            model=model,
            state=pb.ModelStatus.STATE_READY if state.live else pb.ModelStatus.STATE_NOT_READY,
            pinned=[loaded_version(served) for served in self._manager.pinned(model)],
            max_batch_rows=self._max_rows,
            store_reachable=contact.reachable,
        )
        if state.live:
            status.live.CopyFrom(loaded_version(state.live))
            status.preprocessing.CopyFrom(preprocessing_to_proto(state.live.manifest.preprocessing))
            status.class_labels.extend(state.live.manifest.class_labels)
        if state.failure:
            status.failure.CopyFrom(load_failure(state.failure))
        if contact.reconcile_time:
            status.reconcile_time.CopyFrom(timestamp(contact.reconcile_time))
        return status


def question_of(request: pb.ClassifyRequest) -> Question:
    """The question in a request."""
    match request.WhichOneof("input"):
        case "tensor":
            tensor = request.tensor
            name = DATA_TYPES.get(tensor.data_type, f"data type {tensor.data_type}")
            given: TensorInput | ImagesInput = TensorInput(name, tuple(tensor.shape), tensor.contents)
        case "images":
            given = ImagesInput(request.images.files)
        case _:
            raise InvalidInputError.of("input", "required: either tensor or images")
    return Question(checked_model_name(request.model), selector_of(request), given, request.top_k)


def response_of(answer: Answer, *, include_probabilities: bool) -> pb.ClassifyResponse:
    """The answer as a message."""
    served = answer.served_by
    return pb.ClassifyResponse(
        class_ids=answer.top.class_ids.ravel().tolist(),
        scores=answer.top.scores.ravel().tolist(),
        top_k=answer.top_k,
        class_labels=served.manifest.class_labels,
        probabilities=tensor_to_proto(answer.probabilities) if include_probabilities else None,
        served_by=pb.ServedBy(model=served.model, version=served.ref.version, digest=served.ref.digest),
    )


def loaded_version(served: ServedVersion) -> pb.LoadedVersion:
    """A version in memory as a message."""
    return pb.LoadedVersion(
        version=served.ref.version,
        digest=served.ref.digest,
        publish_time=timestamp(served.publish_time),
        load_time=timestamp(served.load_time),
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
