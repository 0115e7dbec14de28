"""How a ModelInferRequest is understood: what it asks, where its numbers stand, and what is refused by which field."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from inference_service.infer_protocol import InferProtocol, InferStreamProtocol
from shared.errors import InvalidInputError
from shared.model_version import LIVE
from shared.pb.inference import open_inference_service_pb2 as pb

FLOATS = np.arange(12, dtype="<f4") / 12
Change = Callable[[pb.ModelInferRequest], object]


def raw(**changes: Any) -> pb.ModelInferRequest:  # noqa: ANN401 - any field
    """A right request with its elements as bytes."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="input", datatype="FP32", shape=[2, 6])
    fields: dict[str, Any] = {"model_name": "tiny", "inputs": [tensor], "raw_input_contents": [FLOATS.tobytes()]}
    return pb.ModelInferRequest(**{**fields, **changes})


def typed(datatype: str = "FP32", **contents: Any) -> pb.ModelInferRequest:  # noqa: ANN401 - any field
    """A right request with its elements as numbers."""
    elements = pb.InferTensorContents(**(contents or {"fp32_contents": FLOATS}))
    tensor = pb.ModelInferRequest.InferInputTensor(name="input", datatype=datatype, shape=[2, 6], contents=elements)
    return pb.ModelInferRequest(model_name="tiny", inputs=[tensor])


def read(request: pb.ModelInferRequest) -> Any:  # noqa: ANN401 - a Reading, whose contents may be anything
    """The reading of a request."""
    return InferProtocol().read(request.SerializeToString())


def test_raw_contents_are_read_where_they_stand() -> None:
    """The span is theirs, and they are not copied."""
    message = raw().SerializeToString()
    reading = InferProtocol().read(message)
    assert reading.question.form is not None
    assert (reading.question.form.data_type, reading.question.form.shape) == ("FLOAT32", (2, 6))
    assert reading.span is not None
    assert message[slice(*reading.span)] == FLOATS.tobytes()
    assert isinstance(reading.contents, memoryview)
    assert reading.contents.obj is message


def test_packed_floats_are_read_where_they_stand() -> None:
    """Typed contents of FP32 are little-endian floats one after the other, too."""
    message = typed().SerializeToString()
    reading = InferProtocol().read(message)
    assert reading.span is not None
    assert message[slice(*reading.span)] == FLOATS.tobytes() == bytes(reading.contents)  # type: ignore[arg-type]


def test_floats_in_two_runs_are_read_all_the_same() -> None:
    """Protobuf lets a writer begin a list anew; then there is no one place."""
    halves = [pb.InferTensorContents(fp32_contents=FLOATS[half]) for half in (slice(6), slice(6, 12))]
    tensor = pb.ModelInferRequest.InferInputTensor
    first = tensor(name="input", datatype="FP32", shape=[2, 6], contents=halves[0])
    joined = first.SerializeToString() + tensor(contents=halves[1]).SerializeToString()
    message = b"\x0a\x04tiny\x2a" + bytes([len(joined)]) + joined
    reading = InferProtocol().read(message)
    assert reading.span is None
    assert reading.contents == FLOATS.tobytes()


def test_bytes_that_came_as_numbers_are_bytes() -> None:
    """UINT8 elements travel as 32-bit numbers of varying length, so there is no place to take them from."""
    reading = read(typed("UINT8", uint_contents=range(244, 256)))
    assert (reading.contents, reading.span, reading.question.form.data_type) == (bytes(range(244, 256)), None, "UINT8")


@pytest.mark.parametrize(
    ("version", "selector"),
    [("", LIVE), ("live", "live"), ("latest", "latest"), ("7", 7), ("007", 7), ("-1", "-1"), ("٣", "٣"), ("v7", "v7")],
)
def test_a_version_is_a_number_or_an_alias(version: str, selector: int | str) -> None:
    """Digits are a number; nothing is `live`."""
    assert read(raw(model_version=version)).question.selector == selector


def test_a_question_asks_for_one_class() -> None:
    """How many come as text is the reply's business."""
    question = read(raw()).question
    assert (question.model, question.top_k) == ("tiny", 1)


def test_parameters_without_a_meaning_here_are_passed_over() -> None:
    """Of the request, the input and the outputs."""
    parameter = {"any": pb.InferParameter(bool_param=True)}
    request = raw(
        parameters={"timeout": pb.InferParameter(int64_param=5), "triton_x": pb.InferParameter(), **parameter}
    )
    request.inputs[0].parameters["binary_data_size"].int64_param = 48
    request.outputs.add(name="scores").parameters["binary_data"].bool_param = True
    assert read(request).question.model == "tiny"


def change(**fields: Any) -> Change:  # noqa: ANN401 - any field
    """Sets fields of the input."""
    return lambda request: request.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(**fields))


def classification(output: str, best: int) -> Change:
    """Asks for an output's best classes."""

    def asks(request: pb.ModelInferRequest) -> None:
        request.outputs.add(name=output).parameters["classification"].int64_param = best

    return asks


def parameter(of: Callable[[pb.ModelInferRequest], Message], key: str) -> Change:
    """Sets a parameter of something."""
    return lambda request: getattr(of(request), "parameters")[key].SetInParent()  # noqa: B009 - of three types


WRONG: list[tuple[pb.ModelInferRequest, Change, str, str]] = [
    (raw(), lambda r: r.ClearField("model_name"), "model_name", "required"),
    (raw(), lambda r: setattr(r, "model_name", "No!"), "model_name", "'No!'"),
    (raw(), lambda r: setattr(r, "model_version", "9" * 500), "model_version", "999"),
    (raw(), lambda r: setattr(r, "model_version", str(2**63)), "model_version", "9223372036854775808"),
    (raw(), lambda r: r.ClearField("inputs"), "inputs", "got 0 inputs, expected one, named 'input'"),
    (raw(), lambda r: r.inputs.add(), "inputs", "got 2 inputs"),
    (raw(), change(name="image"), "inputs[0].name", "got 'image', expected 'input'"),
    (raw(), change(datatype="FLOAT32"), "inputs[0].datatype", "got 'FLOAT32', expected FP32 or UINT8"),
    (raw(), change(contents={"fp32_contents": [1]}), "inputs[0].contents", "beside raw_input_contents"),
    (raw(), lambda r: r.raw_input_contents.append(b""), "raw_input_contents", "got 2 entries for 1 input"),
    (raw(), parameter(lambda r: r, "sequence_id"), "parameters[sequence_id]", "leave the sequence's parameters out"),
    (
        raw(),
        parameter(lambda r: r.inputs[0], "shared_memory_region"),
        "inputs[0].parameters[shared_memory_region]",
        "raw",
    ),
    (
        raw(),
        parameter(lambda r: r.outputs.add(name="scores"), "shared_memory_offset"),
        "outputs[0].parameters[shared_memory_offset]",
        "raw",
    ),
    (
        raw(),
        lambda r: r.outputs.add(name="logits"),
        "outputs[0].name",
        "expected one of probabilities, class_ids, scores",
    ),
    (raw(), lambda r: [r.outputs.add(name="scores") for _ in "12"], "outputs[1].name", "asked for twice"),
    (raw(), classification("probabilities", 0), "outputs[0].parameters[classification]", "at least 1"),
    (raw(), classification("scores", 2), "outputs[0].parameters[classification]", "only probabilities"),
    (typed(), change(contents={"int_contents": [1]}), "inputs[0].contents.int_contents", "go in fp32_contents"),
    (
        typed("UINT8", uint_contents=[0]),
        change(contents={"uint_contents": [256]}),
        "inputs[0].contents.uint_contents",
        "got 256, expected UINT8: 0 to 255",
    ),
]


@pytest.mark.parametrize(("request_", "spoil", "field", "text"), WRONG, ids=[row[2] for row in WRONG])
def test_what_is_wrong_is_refused_by_its_field(
    request_: pb.ModelInferRequest, spoil: Change, field: str, text: str
) -> None:
    """With what came and what is expected."""
    read(request_)  # right so far
    spoiled = pb.ModelInferRequest.FromString(request_.SerializeToString())
    spoil(spoiled)
    with pytest.raises(InvalidInputError) as raised:
        read(spoiled)
    (violation,) = raised.value.violations
    assert violation.field == field
    assert text in violation.description


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05tiny", b"\x0a\x01\xff"], ids=["no tag", "cut off", "no UTF-8"])
def test_bytes_that_are_no_message_are_refused(message: bytes) -> None:
    """As the request's fault; and a stream that gets them goes on."""
    with pytest.raises(InvalidInputError, match="request: these bytes are not the method's message"):
        InferProtocol().read(message)
    refusal = pb.ModelStreamInferResponse.FromString(InferStreamProtocol().refusal("why", message) or b"")
    assert (refusal.error_message, refusal.infer_response.id) == ("why", "")


def test_a_streams_refusal_carries_the_requests_id() -> None:
    """So that a client that has many under way knows which it was."""
    refusal = InferStreamProtocol().refusal("it was wrong", raw(id="r-9").SerializeToString())
    response = pb.ModelStreamInferResponse.FromString(refusal or b"")
    assert (response.error_message, response.infer_response.id) == ("it was wrong", "r-9")
    assert InferProtocol().refusal("it was wrong", b"") is None


def test_more_outputs_than_there_are_are_refused_by_their_number() -> None:
    """Before each of them is looked at."""
    outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name="scores")] * 5
    message = pb.ModelInferRequest(
        model_name="tiny",
        inputs=[pb.ModelInferRequest.InferInputTensor(name="input", datatype="UINT8", shape=[1, 6])],
        outputs=outputs,
        raw_input_contents=[bytes(6)],
    ).SerializeToString()
    with pytest.raises(InvalidInputError, match="outputs: got 5, expected at most 3"):
        InferProtocol().read(message)


def test_a_long_key_is_named_by_its_beginning() -> None:
    """A status travels in headers, and those have an end."""
    message = pb.ModelInferRequest(model_name="tiny", parameters={"shared_memory_" + "x" * 20_000: pb.InferParameter()})
    with pytest.raises(InvalidInputError) as raised:
        InferProtocol().read(message.SerializeToString())
    assert len(raised.value.violations[0].field) < 100
