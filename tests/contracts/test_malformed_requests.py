"""Bytes that no client should send, to every method of the inference service: answered or refused, they break nothing.

Random bytes, right messages cut off, with flipped bits, with parts overwritten, left out or doubled, with any values in
their fields, alone and in streams. 150 of them always, 2,000 with WEIGHTCAST_SOAK=1 (`make soak`).
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from client.local_stack import LocalStack
from shared.pb.inference import model_config_pb2, model_repository_pb2, model_statistics_pb2
from shared.pb.inference import open_inference_service_pb2 as open_pb
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import tensor_pb2, training_pb2

SOAK = bool(os.environ.get("WEIGHTCAST_SOAK"))  # read now: no test sees the developer's own settings
REQUESTS = 2000 if SOAK else 150
TIMEOUT_SECONDS = 20.0
MODEL = "digits"
ALLOWED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
OURS, OPEN = "/weightcast.v1.InferenceService", "/inference.GRPCInferenceService"

BYTES = tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_UINT8, shape=[1, 8, 8], contents=bytes(64))
CLASSIFY = pb.ClassifyRequest(model=MODEL, alias="live", tensor=BYTES, top_k=3, include_probabilities=True)
IMAGES = pb.ClassifyRequest(model=MODEL, version=1, images=pb.EncodedImages(files=[b"\x89PNG\r\n\x1a\n"]))
INPUT = open_pb.ModelInferRequest.InferInputTensor(name="input", datatype="UINT8", shape=[1, 64])
RAW = open_pb.ModelInferRequest(model_name=MODEL, id="a", inputs=[INPUT], raw_input_contents=[bytes(64)])
RAW.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
RAW.parameters["timeout"].int64_param = 10
TYPED = open_pb.ModelInferRequest(model_name=MODEL, model_version="1", inputs=[INPUT])
TYPED.inputs[0].datatype = "FP32"
TYPED.inputs[0].contents.fp32_contents.extend([0.5] * 64)
NAMED = open_pb.ModelMetadataRequest(name=MODEL, version="1")  # four methods' messages are written the same
UNARY: dict[str, list[Message]] = {
    f"{OURS}/Classify": [CLASSIFY, IMAGES],
    f"{OURS}/GetModelStatus": [pb.GetModelStatusRequest(model=MODEL)],
    f"{OURS}/ListServedModels": [pb.ListServedModelsRequest()],
    f"{OPEN}/ModelInfer": [RAW, TYPED],
    f"{OPEN}/ServerLive": [open_pb.ServerLiveRequest()],
    f"{OPEN}/ServerReady": [open_pb.ServerReadyRequest()],
    f"{OPEN}/ServerMetadata": [open_pb.ServerMetadataRequest()],
    f"{OPEN}/ModelReady": [NAMED],
    f"{OPEN}/ModelMetadata": [NAMED],
    f"{OPEN}/ModelConfig": [model_config_pb2.ModelConfigRequest(name=MODEL, version="1")],
    f"{OPEN}/ModelStatistics": [model_statistics_pb2.ModelStatisticsRequest(name=MODEL)],
    f"{OPEN}/RepositoryIndex": [model_repository_pb2.RepositoryIndexRequest(ready=True)],
    f"{OPEN}/RepositoryModelLoad": [model_repository_pb2.RepositoryModelLoadRequest(model_name=MODEL)],
    f"{OPEN}/RepositoryModelUnload": [model_repository_pb2.RepositoryModelUnloadRequest(model_name=MODEL)],
}
STREAMS: dict[str, list[Message]] = {
    f"{OURS}/ClassifyStream": [pb.ClassifyStreamRequest(request=CLASSIFY)],
    f"{OPEN}/ModelStreamInfer": [RAW, TYPED],
}
# The four that take most: half of all requests go to them.
BUSY = [f"{OURS}/Classify", f"{OPEN}/ModelInfer", *STREAMS]


@st.composite
def damaged(draw: st.DrawFn, message: bytes) -> bytes:
    """A message with one to three things wrong with it."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(message)))
        end = draw(st.integers(start, min(len(message), start + 80)))
        match draw(st.sampled_from(["cut", "flip", "overwrite", "leave out", "double", "insert"])):
            case "cut":
                message = message[:start]
            case "flip" if start < len(message):
                message = (
                    message[:start] + bytes([message[start] ^ 1 << draw(st.integers(0, 7))]) + message[start + 1 :]
                )
            case "overwrite":
                message = message[:start] + draw(st.binary(min_size=end - start, max_size=end - start)) + message[end:]
            case "leave out":
                message = message[:start] + message[end:]
            case "double":
                message = message[:end] + message[start:]
            case "insert":
                message = message[:start] + draw(st.binary(max_size=12)) + message[start:]
    return message


INT64 = st.integers(-(2**63), 2**63 - 1)
SHAPES = st.sampled_from([[1, 64], [2, 8, 8]]) | st.lists(INT64 | st.integers(-1, 65), max_size=9)
ELEMENTS = st.sampled_from([bytes(64), bytes(256), b"\xff" * 256]) | st.binary(max_size=300)
PARAMETERS = st.dictionaries(
    st.sampled_from(["classification", "shared_memory_region", "sequence_id", "triton_x"]) | st.text(max_size=5),
    st.builds(open_pb.InferParameter, int64_param=INT64) | st.builds(open_pb.InferParameter, string_param=st.text()),
    max_size=2,
)
CONTENTS = st.builds(
    open_pb.InferTensorContents,
    fp32_contents=st.just([0.5] * 64) | st.lists(st.floats(width=32), max_size=3),
    uint_contents=st.just([]) | st.just([3] * 64) | st.lists(st.integers(0, 2**32 - 1), max_size=3),
    bytes_contents=st.just([]) | st.lists(st.binary(max_size=3), max_size=2),
)
# One or two of these are put in a right request's place of them.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model_name": st.text(max_size=70),
    "model_version": st.sampled_from(["", "1", "latest"]) | st.text(max_size=30) | INT64.map(str),
    "id": st.text(max_size=300),
    "parameters": PARAMETERS,
    "inputs": st.lists(
        st.builds(
            open_pb.ModelInferRequest.InferInputTensor,
            name=st.just("input") | st.text(max_size=5),
            datatype=st.sampled_from(["FP32", "UINT8", "FLOAT32", ""]),
            shape=SHAPES,
            parameters=PARAMETERS,
            contents=st.none() | CONTENTS,
        ),
        max_size=2,
    ),
    "outputs": st.lists(
        st.builds(
            open_pb.ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["probabilities", "class_ids", "scores", "logits"]),
            parameters=PARAMETERS,
        ),
        max_size=3,
    ),
    "raw_input_contents": st.lists(ELEMENTS, max_size=2),
}


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A ModelInferRequest with anything in one or two of its fields."""
    request = open_pb.ModelInferRequest.FromString(draw(st.sampled_from([RAW, TYPED])).SerializeToString())
    for field in draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=2, unique=True)):
        request.ClearField(field)  # type: ignore[arg-type]
        request.MergeFrom(open_pb.ModelInferRequest(**{field: draw(FIELDS[field])}))
    return request.SerializeToString()


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A method and what is sent to it."""
    method = draw(st.sampled_from(BUSY) | st.sampled_from([*UNARY, *STREAMS]))
    right = [message.SerializeToString() for message in (UNARY | STREAMS)[method]]
    wrong = st.binary(max_size=100) | st.sampled_from(right).flatmap(damaged)
    if RAW in (UNARY | STREAMS)[method]:
        wrong |= changed()
    if method in UNARY:
        return method, [draw(wrong)]
    return method, draw(st.lists(wrong | st.sampled_from(right), min_size=1, max_size=6))


@pytest.fixture(scope="module")
def send(stack: LocalStack, trained: training_pb2.TrainingJob) -> Iterator[Callable[[str, list[bytes]], list[bytes]]]:
    """Sends bytes to a method, and gives the bytes of what is answered."""
    with grpc.insecure_channel(stack.inference.address) as channel:

        def sent(method: str, messages: list[bytes]) -> list[bytes]:
            if method in STREAMS:
                streamed: Callable[..., Iterator[bytes]] = channel.stream_stream(method)
                return list(streamed(iter(messages), timeout=TIMEOUT_SECONDS))
            unary: Callable[..., bytes] = channel.unary_unary(method)
            return [unary(messages[0], timeout=TIMEOUT_SECONDS)]

        yield sent


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_bytes_break_the_service(
    send: Callable[[str, list[bytes]], list[bytes]], refusal_of: Callable[[grpc.RpcError], Any]
) -> None:
    """Never INTERNAL, never UNKNOWN, no call that hangs; and whoever asks next is answered."""
    tally: Counter[str] = Counter()

    @given(call=calls())
    @example((f"{OPEN}/ServerLive", [b"\xff"]))
    @example((f"{OURS}/GetModelStatus", [b"\x0a\x01\xff"]))
    @example((f"{OURS}/ClassifyStream", [STREAMS[f"{OURS}/ClassifyStream"][0].SerializeToString(), b"\xff"]))
    @example((f"{OPEN}/ModelStreamInfer", [b"\xff", RAW.SerializeToString()]))
    @settings(max_examples=REQUESTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def wrong(call: tuple[str, list[bytes]]) -> None:
        method, messages = call
        try:
            responses = send(method, messages)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            assert refusal.code in ALLOWED, (method, refusal)
            assert refusal.reason, (method, refusal)
            tally[refusal.code.name] += 1
        else:
            assert len(responses) == len(messages)
            tally["answered"] += 1
        asked, right = (f"{OURS}/Classify", CLASSIFY) if tally.total() % 2 else (f"{OPEN}/ModelInfer", TYPED)
        assert send(asked, [right.SerializeToString()])

    wrong()
    print(f"\n{tally.total()} requests: {dict(tally)}")  # noqa: T201 - what the soak shows
    assert tally["INVALID_ARGUMENT"] > tally.total() / 10  # what was meant to be wrong mostly is
    assert tally["answered"] > 0


@pytest.mark.parametrize("method", [*UNARY, *STREAMS])
def test_bytes_that_are_no_message_are_the_callers_mistake(
    send: Callable[[str, list[bytes]], list[bytes]], refusal_of: Callable[[grpc.RpcError], Any], method: str
) -> None:
    """INVALID_ARGUMENT of the field `request` by every method; a stream of the open protocol says so and goes on."""
    if method == f"{OPEN}/ModelStreamInfer":
        (response,) = send(method, [b"\xff"])
        assert "not the method's message" in open_pb.ModelStreamInferResponse.FromString(response).error_message
        return
    with pytest.raises(grpc.RpcError) as caught:
        send(method, [b"\xff"])
    refusal = refusal_of(caught.value)
    assert (refusal.code, list(refusal.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["request"])


@pytest.mark.parametrize("method", [*UNARY, *STREAMS])
def test_what_is_damaged_here_was_right(send: Callable[[str, list[bytes]], list[bytes]], method: str) -> None:
    """Or its damage would show nothing: it is answered, but for what is no image and what is always refused."""
    for message in (UNARY | STREAMS)[method]:
        if message is IMAGES or "RepositoryModel" in method:
            continue
        assert len(send(method, [message.SerializeToString()])) == 1
