"""How `Classify` and `ClassifyStream` of weightcast.v1 ask and are answered, in bytes.

The answer is put together from the rows' own memory and from what stays the same for a version, which is encoded once.
"""

from collections.abc import Callable
from functools import partial

from inference_service.inputs import MAX_DIMENSIONS
from inference_service.questions import Answer, Contents, Question, Reading, TensorForm
from inference_service.versions.snapshot_loader import ServedVersion
from shared.errors import InvalidInputError
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import tensor_pb2
from shared.proto_values import request_from, selector_of, tensor_to_proto
from shared.training_spec import checked_model_name
from shared.wire import delimited, only_field

DATA_TYPES = {tensor_pb2.DATA_TYPE_UINT8: "UINT8", tensor_pb2.DATA_TYPE_FLOAT32: "FLOAT32"}
TENSOR = pb.ClassifyRequest.TENSOR_FIELD_NUMBER
CONTENTS = tensor_pb2.Tensor.CONTENTS_FIELD_NUMBER
CLASS_IDS = pb.ClassifyResponse.CLASS_IDS_FIELD_NUMBER
SCORES = pb.ClassifyResponse.SCORES_FIELD_NUMBER
PROBABILITIES = pb.ClassifyResponse.PROBABILITIES_FIELD_NUMBER
STREAMED_REQUEST = pb.ClassifyStreamRequest.REQUEST_FIELD_NUMBER
STREAMED_RESPONSE = pb.ClassifyStreamResponse.RESPONSE_FIELD_NUMBER


class ClassifyProtocol:
    """weightcast.v1.InferenceService/Classify."""

    method = "/weightcast.v1.InferenceService/Classify"
    streaming = False

    def read(self, message: bytes) -> Reading:
        """Understands a ClassifyRequest."""
        request = request_from(message, pb.ClassifyRequest.FromString)
        return reading_of(request, contents_span(message, (0, len(message))), response_bytes)

    def refusal(self, _why: str, _message: bytes) -> bytes | None:
        """There is no stream."""
        return None


class ClassifyStreamProtocol:
    """weightcast.v1.InferenceService/ClassifyStream. A wrong batch ends the stream, after the answers before it."""

    method = "/weightcast.v1.InferenceService/ClassifyStream"
    streaming = True

    def read(self, message: bytes) -> Reading:
        """Understands a ClassifyStreamRequest."""
        streamed = request_from(message, pb.ClassifyStreamRequest.FromString)
        within = only_field(message, STREAMED_REQUEST)
        span = contents_span(message, within) if within else None
        return reading_of(streamed.request, span, streamed_response_bytes)

    def refusal(self, _why: str, _message: bytes) -> bytes | None:
        """The stream ends."""
        return None


def contents_span(message: bytes, within: tuple[int, int]) -> tuple[int, int] | None:
    """Where the tensor's contents stand in a ClassifyRequest that stands `within` a message."""
    tensor = only_field(message, TENSOR, within)
    return only_field(message, CONTENTS, tensor) if tensor else None


def reading_of(request: pb.ClassifyRequest, span: tuple[int, int] | None, encode: Callable[..., bytes]) -> Reading:
    """What a request asks."""
    form: TensorForm | None
    contents: Contents
    match request.WhichOneof("input"):
        case "tensor":
            tensor = request.tensor
            if len(tensor.shape) > MAX_DIMENSIONS:
                raise InvalidInputError.of("tensor.shape", f"got {len(tensor.shape)} dimensions, expected 2 to 4")
            name = DATA_TYPES.get(tensor.data_type, f"data type {tensor.data_type}")
            form, contents = TensorForm(name, tuple(tensor.shape)), tensor.contents
        case "images":
            form, contents, span = None, tuple(request.images.files), None
        case _:
            raise InvalidInputError.of("input", "required: either tensor or images")
    question = Question(checked_model_name(request.model), selector_of(request), form, request.top_k or 1)
    reply = partial(encode, include_probabilities=request.include_probabilities)
    return Reading(question, contents, span, reply)


def response_bytes(answer: Answer, *, include_probabilities: bool) -> bytes:
    """A ClassifyResponse: class ids and scores from the rows' memory, the rest as it was encoded for this version."""
    (class_ids, scores), top_k, probabilities, served = answer
    same = served.encodings.get(top_k)
    if same is None:
        same = served.encodings[top_k] = constant_part(served, top_k)
    message = delimited(CLASS_IDS, class_ids.astype("<u4").tobytes()) + delimited(SCORES, scores.tobytes()) + same
    if include_probabilities:
        message += delimited(PROBABILITIES, tensor_to_proto(probabilities).SerializeToString())
    return message


def streamed_response_bytes(answer: Answer, *, include_probabilities: bool) -> bytes:
    """A ClassifyStreamResponse."""
    return delimited(STREAMED_RESPONSE, response_bytes(answer, include_probabilities=include_probabilities))


def constant_part(served: ServedVersion, top_k: int) -> bytes:
    """What is the same in every answer of one version."""
    served_by = pb.ServedBy(model=served.model, version=served.ref.version, digest=served.ref.digest)
    return pb.ClassifyResponse(
        top_k=top_k, class_labels=served.manifest.class_labels, served_by=served_by
    ).SerializeToString()
