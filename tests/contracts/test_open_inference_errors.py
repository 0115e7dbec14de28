"""What the Open Inference Protocol's methods refuse: the code, a reason for programs, and the field that was wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from client.local_stack import LocalStack
from shared.pb.inference import model_config_pb2, model_repository_pb2, model_statistics_pb2
from shared.pb.inference import open_inference_service_pb2 as pb
from shared.pb.inference.open_inference_service_pb2_grpc import GRPCInferenceServiceStub
from shared.pb.weightcast.v1 import training_pb2

MODEL = "digits"
ZEROS = bytes(2 * 64)
Change = Callable[[pb.ModelInferRequest], object]


@pytest.fixture(scope="module")
def channel(stack: LocalStack, trained: training_pb2.TrainingJob) -> Iterator[grpc.Channel]:
    """A channel to a server that serves `digits`."""
    with grpc.insecure_channel(stack.inference.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> GRPCInferenceServiceStub:
    """The protocol's own client."""
    return GRPCInferenceServiceStub(channel)


def right() -> pb.ModelInferRequest:
    """A request that is answered."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="input", datatype="UINT8", shape=[2, 8, 8])
    return pb.ModelInferRequest(model_name=MODEL, id="r", inputs=[tensor], raw_input_contents=[ZEROS])


def sets(**fields: Any) -> Change:  # noqa: ANN401 - any field
    """Overwrites fields of the request."""

    def change(request: pb.ModelInferRequest) -> None:
        for name in fields:
            request.ClearField(name)  # type: ignore[arg-type]
        request.MergeFrom(pb.ModelInferRequest(**fields))

    return change


def tensor(raw: bytes | None = None, contents: pb.InferTensorContents | None = None, **fields: Any) -> Change:  # noqa: ANN401
    """Overwrites fields of the input, and its elements."""

    def change(request: pb.ModelInferRequest) -> None:
        (given,) = request.inputs
        for name in fields:
            given.ClearField(name)  # type: ignore[arg-type]
        given.MergeFrom(pb.ModelInferRequest.InferInputTensor(**fields))
        if raw is not None:
            request.raw_input_contents[0] = raw
        if contents is not None:
            request.ClearField("raw_input_contents")
            given.contents.CopyFrom(contents)

    return change


def output(name: str, **parameters: int) -> Change:
    """Asks for an output."""

    def change(request: pb.ModelInferRequest) -> None:
        asked = request.outputs.add(name=name)
        for key, value in parameters.items():
            asked.parameters[key].int64_param = value

    return change


RAW, FLOATS, NUMBERS = "raw_input_contents[0]", "inputs[0].contents.fp32_contents", "inputs[0].contents.uint_contents"
NAN = np.full((2, 64), np.nan, "<f4").tobytes()
WRONG: dict[str, tuple[Change, str, str]] = {
    "no model": (sets(model_name=""), "model_name", "required"),
    "a version too large": (sets(model_version=str(2**63)), "model_version", "9223372036854775808"),
    "no input": (sets(inputs=[]), "inputs", "got 0 inputs"),
    "two inputs": (lambda request: request.inputs.append(request.inputs[0]), "inputs", "got 2 inputs"),
    "another input": (tensor(name="image"), "inputs[0].name", "'image'"),
    "another type": (tensor(datatype="FP64"), "inputs[0].datatype", "got 'FP64', expected FP32 or UINT8"),
    "our own word for a type": (tensor(datatype="FLOAT32"), "inputs[0].datatype", "'FLOAT32'"),
    "no shape": (tensor(shape=[]), "inputs[0].shape", "0 rows"),
    "a negative size": (tensor(shape=[-1, 64]), "inputs[0].shape", "-1"),
    "another shape": (tensor(shape=[2, 7, 8]), "inputs[0].shape", "[2, 7, 8]"),
    "too many rows": (tensor(shape=[10**6, 64]), "inputs[0].shape", "split the batch"),
    "too few bytes": (tensor(raw=ZEROS[1:]), RAW, "got 127 bytes, expected 128 for UINT8 [2, 8, 8]"),
    "UINT8 said to be FP32": (tensor(datatype="FP32"), RAW, "got 128 bytes, expected 512 for FP32"),
    "a byte out of range": (tensor(raw=b"\x11" * 128), RAW, "got a byte of 17, expected 0 to 16"),
    "NaN": (tensor(raw=NAN, datatype="FP32"), RAW, "row 0 holds NaN"),
    "two raw entries": (sets(raw_input_contents=[ZEROS, ZEROS]), "raw_input_contents", "got 2 entries for 1 input"),
    "both raw and typed": (
        lambda request: request.inputs[0].contents.uint_contents.extend(ZEROS),
        "inputs[0].contents",
        "one of the two",
    ),
    "no elements": (sets(raw_input_contents=[]), NUMBERS, "got 0 bytes, expected 128"),
    "too few numbers": (
        tensor(contents=pb.InferTensorContents(fp32_contents=[0.5]), datatype="FP32"),
        FLOATS,
        "expected 512 for FP32",
    ),
    "numbers of another type": (
        tensor(contents=pb.InferTensorContents(int64_contents=[1])),
        "inputs[0].contents.int64_contents",
        "uint_contents",
    ),
    "no byte": (tensor(contents=pb.InferTensorContents(uint_contents=[300] * 128)), NUMBERS, "got 300"),
    "infinity in numbers": (
        tensor(contents=pb.InferTensorContents(fp32_contents=[np.inf] * 128), datatype="FP32"),
        FLOATS,
        "infinity",
    ),
    "an unknown output": (output("logits"), "outputs[0].name", "'logits'"),
    "no class": (output("probabilities", classification=0), "outputs[0].parameters[classification]", "at least 1"),
    "shared memory": (
        output("scores", shared_memory_byte_size=1),
        "outputs[0].parameters[shared_memory_byte_size]",
        "raw_input_contents",
    ),
    "a sequence": (
        sets(parameters={"sequence_id": pb.InferParameter(int64_param=1)}),
        "parameters[sequence_id]",
        "leave",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_request_is_refused_by_its_field(
    stub: GRPCInferenceServiceStub, refusal_of: Callable[[grpc.RpcError], Any], case: str
) -> None:
    """INVALID_ARGUMENT, in the protocol's own words; and on a stream the same words, with the request's id."""
    change, field, words = WRONG[case]
    assert stub.ModelInfer(right(), timeout=20).id == "r"
    request = right()
    change(request)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, timeout=20)
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert list(refusal.violations) == [field]
    assert words in refusal.violations[field]
    first, second = stub.ModelStreamInfer(iter([request, right()]), timeout=20)
    assert (first.error_message, first.infer_response.id) == (refusal.message, "r")
    assert (second.error_message, second.infer_response.model_version) == ("", "1")


@pytest.mark.parametrize(
    ("model", "version", "reason"),
    [("nobodys", "", "MODEL_NOT_FOUND"), (MODEL, "99", "VERSION_NOT_FOUND"), (MODEL, "none", "ALIAS_NOT_FOUND")],
)
def test_what_is_not_there_is_not_found(
    stub: GRPCInferenceServiceStub,
    refusal_of: Callable[[grpc.RpcError], Any],
    model: str,
    version: str,
    reason: str,
) -> None:
    """By whichever method it is asked for."""
    request = right()
    request.model_name, request.model_version = model, version
    asked = {"name": model, "version": version}
    for call in (
        lambda: stub.ModelInfer(request, timeout=20),
        lambda: stub.ModelMetadata(pb.ModelMetadataRequest(**asked), timeout=20),
        lambda: stub.ModelConfig(model_config_pb2.ModelConfigRequest(**asked), timeout=20),
        lambda: stub.ModelStatistics(model_statistics_pb2.ModelStatisticsRequest(**asked), timeout=20),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, reason)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
def test_a_description_of_nothing_is_refused_by_the_field(
    stub: GRPCInferenceServiceStub, refusal_of: Callable[[grpc.RpcError], Any], method: str
) -> None:
    """These methods call the model's name `name`."""
    messages = {"ModelMetadata": pb.ModelMetadataRequest, "ModelConfig": model_config_pb2.ModelConfigRequest}
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(messages[method](), timeout=20)
    assert list(refusal_of(caught.value).violations) == ["name"]


def test_models_are_not_loaded_and_unloaded_by_hand(
    stub: GRPCInferenceServiceStub, refusal_of: Callable[[grpc.RpcError], Any]
) -> None:
    """The refusal says what does it."""
    for call in (
        lambda: stub.RepositoryModelLoad(model_repository_pb2.RepositoryModelLoadRequest(model_name=MODEL), timeout=20),
        lambda: stub.RepositoryModelUnload(
            model_repository_pb2.RepositoryModelUnloadRequest(model_name=MODEL), timeout=20
        ),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FOLLOWS_REGISTRY")
        assert "PromoteModelVersion" in refusal.message


def test_extensions_that_are_not_there_are_unimplemented(channel: grpc.Channel) -> None:
    """Which is how clients find out."""
    for method in ("SystemSharedMemoryStatus", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings"):
        call: Callable[..., object] = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
