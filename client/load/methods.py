"""The methods that a load test can call: a batch as the method's bytes, and what its answer's bytes say.

Requests are encoded once, before the clock runs; of an answer only what is counted is read: who answered, and whether
every row was.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared.pb.inference import open_inference_service_pb2 as open_pb
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import tensor_pb2

SERVICE = "/weightcast.v1.InferenceService"
OPEN_SERVICE = "/inference.GRPCInferenceService"
OPEN_DATA_TYPES = {tensor_pb2.DATA_TYPE_UINT8: "UINT8", tensor_pb2.DATA_TYPE_FLOAT32: "FP32"}


class WrongAnswerError(Exception):
    """An answer that does not fit its request."""


@dataclass(frozen=True)
class Method:
    """One way to have a batch classified.

    Attributes:
        path: the method's name on the wire.
        streams: whether requests go one after another on one stream.
        encode: a request as the method's message.
        version_of: which version an answer is of, given how many rows were sent; raises WrongAnswerError.
    """

    path: str
    streams: bool
    encode: Callable[[pb.ClassifyRequest], bytes]
    version_of: Callable[[bytes, int], str]


def checked_version(answer: pb.ClassifyResponse, rows: int) -> str:
    """The version that answered every one of `rows`.

    Raises:
        WrongAnswerError: if it is another number of rows.
    """
    if len(answer.class_ids) != rows:  # one class a row is what was asked for
        raise WrongAnswerError(f"got {len(answer.class_ids)} classes for {rows} rows, expected one a row")
    return str(answer.served_by.version)


def classify_version(answer: bytes, rows: int) -> str:
    """Of a ClassifyResponse."""
    return checked_version(pb.ClassifyResponse.FromString(answer), rows)


def stream_request(request: pb.ClassifyRequest) -> bytes:
    """The request as one message of a stream."""
    return pb.ClassifyStreamRequest(request=request).SerializeToString()


def stream_version(answer: bytes, rows: int) -> str:
    """Of a ClassifyStreamResponse."""
    return checked_version(pb.ClassifyStreamResponse.FromString(answer).response, rows)


def classify_request(request: pb.ClassifyRequest) -> bytes:
    """The request as it is."""
    return request.SerializeToString()


def infer_request(request: pb.ClassifyRequest) -> bytes:
    """The request in the Open Inference Protocol: the tensor's bytes as they are, one class a row asked for."""
    selector = request.WhichOneof("selector")
    tensor = open_pb.ModelInferRequest.InferInputTensor(
        name="input", datatype=OPEN_DATA_TYPES[request.tensor.data_type], shape=request.tensor.shape
    )
    return open_pb.ModelInferRequest(
        model_name=request.model,
        model_version=str(getattr(request, selector)) if selector else "",
        inputs=[tensor],
        outputs=[open_pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("class_ids", "scores")],
        raw_input_contents=[request.tensor.contents],
    ).SerializeToString()


def infer_version(answer: bytes, rows: int) -> str:
    """Of a ModelInferResponse."""
    response = open_pb.ModelInferResponse.FromString(answer)
    shapes = [list(output.shape) for output in response.outputs]
    if shapes != [[rows], [rows]]:
        raise WrongAnswerError(f"got outputs of the shapes {shapes} for {rows} rows, expected [{rows}] twice")
    return response.model_version


METHODS = {
    "classify": Method(f"{SERVICE}/Classify", False, classify_request, classify_version),  # noqa: FBT003
    "stream": Method(f"{SERVICE}/ClassifyStream", True, stream_request, stream_version),  # noqa: FBT003
    "infer": Method(f"{OPEN_SERVICE}/ModelInfer", False, infer_request, infer_version),  # noqa: FBT003
}
