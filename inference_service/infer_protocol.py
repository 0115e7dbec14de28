"""How `ModelInfer` and `ModelStreamInfer` of the Open Inference Protocol ask: from a message to a question.

Raw contents and packed FP32 contents are read where they stand in the message. What is wrong whatever the model is is
refused here, by the name of its field; the answer is written by `infer_reply`.
"""

from collections.abc import Sequence
from itertools import starmap

import numpy as np

from inference_service.infer_reply import Reply, stream_refusal
from inference_service.inputs import MAX_DIMENSIONS
from inference_service.open_inference import (
    ALL_OUTPUTS,
    CLASSIFICATION,
    DATATYPES,
    INPUT,
    OUTPUTS,
    PROBABILITIES,
    RAW_NAMES,
    TYPED_CONTENTS,
    TYPED_NAMES,
    AskedOutput,
    check_parameters,
    checked_name,
    selector_from,
)
from inference_service.questions import Contents, Question, Reading, TensorForm
from shared.errors import InvalidInputError
from shared.pb.inference import open_inference_service_pb2 as pb
from shared.proto_values import request_from
from shared.wire import only_field

SERVICE = "/inference.GRPCInferenceService"
INPUTS = pb.ModelInferRequest.INPUTS_FIELD_NUMBER
RAW_CONTENTS = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
CONTENTS = pb.ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER
FP32_CONTENTS = pb.InferTensorContents.FP32_CONTENTS_FIELD_NUMBER
LARGEST_BYTE = 255
Span = tuple[int, int] | None


class InferProtocol:
    """inference.GRPCInferenceService/ModelInfer."""

    method = f"{SERVICE}/ModelInfer"
    streaming = False

    def read(self, message: bytes) -> Reading:
        """Understands a ModelInferRequest."""
        return reading_of(message, streamed=False)

    def refusal(self, _why: str, _message: bytes) -> bytes | None:
        """There is no stream."""
        return None


class InferStreamProtocol:
    """inference.GRPCInferenceService/ModelStreamInfer. A request's refusal is its response, and the stream goes on."""

    method = f"{SERVICE}/ModelStreamInfer"
    streaming = True

    def read(self, message: bytes) -> Reading:
        """Understands a ModelInferRequest."""
        return reading_of(message, streamed=True)

    def refusal(self, why: str, message: bytes) -> bytes | None:
        """A response that says what is wrong, under the request's id."""
        try:
            request_id = request_from(message, pb.ModelInferRequest.FromString).id
        except InvalidInputError:
            request_id = ""
        return stream_refusal(why, request_id)


def reading_of(message: bytes, *, streamed: bool) -> Reading:
    """What a message asks.

    Raises:
        InvalidInputError: for what is wrong whatever the model is.
    """
    request = request_from(message, pb.ModelInferRequest.FromString)
    model = checked_name(request.model_name, "model_name")
    selector = selector_from(request.model_version, "model_version")
    check_parameters(request.parameters, "parameters")
    form, contents, span = tensor_of(request, message)
    if len(request.outputs) > len(OUTPUTS):
        raise InvalidInputError.of("outputs", f"got {len(request.outputs)}, expected at most {len(OUTPUTS)}")
    outputs = tuple(starmap(asked_output, enumerate(request.outputs))) or ALL_OUTPUTS
    check_once([output.name for output in outputs])
    is_raw = bool(request.raw_input_contents)
    return Reading(
        Question(model, selector, form), contents, span, Reply(request.id, outputs, raw=is_raw, streamed=streamed)
    )


def tensor_of(request: pb.ModelInferRequest, message: bytes) -> tuple[TensorForm, Contents, Span]:
    """The one input: its form, its elements, and where they stand in the message if they stand there as they are."""
    if len(request.inputs) != 1:
        raise InvalidInputError.of("inputs", f"got {len(request.inputs)} inputs, expected one, named {INPUT!r}")
    (tensor,) = request.inputs
    if tensor.name != INPUT:
        raise InvalidInputError.of("inputs[0].name", f"got {tensor.name[:80]!r}, expected {INPUT!r}")
    if tensor.datatype not in DATATYPES:
        expected = " or ".join(DATATYPES)
        raise InvalidInputError.of("inputs[0].datatype", f"got {tensor.datatype[:80]!r}, expected {expected}")
    check_parameters(tensor.parameters, "inputs[0].parameters")
    if len(tensor.shape) > MAX_DIMENSIONS:
        raise InvalidInputError.of("inputs[0].shape", f"got {len(tensor.shape)} dimensions, expected 2 to 4")
    raw = request.raw_input_contents
    if raw:
        check_raw(len(raw), tensor.contents)
        span = only_field(message, RAW_CONTENTS)
        contents: Contents = raw[0] if span is None else memoryview(message)[slice(*span)]
        return TensorForm(DATATYPES[tensor.datatype], tuple(tensor.shape), RAW_NAMES), contents, span
    contents, span = typed_contents(tensor, message)
    return TensorForm(DATATYPES[tensor.datatype], tuple(tensor.shape), TYPED_NAMES[tensor.datatype]), contents, span


def check_raw(entries: int, contents: pb.InferTensorContents) -> None:
    """Whether all inputs, which are one, came as bytes and in no other way."""
    if entries != 1:
        raise InvalidInputError.of(
            "raw_input_contents", f"got {entries} entries for 1 input, expected as many entries as inputs, or none"
        )
    if contents.ByteSize():
        raise InvalidInputError.of(
            "inputs[0].contents", "set beside raw_input_contents; send the elements in one of the two"
        )


def typed_contents(tensor: pb.ModelInferRequest.InferInputTensor, message: bytes) -> tuple[Contents, Span]:
    """The elements of a tensor that came as numbers."""
    expected = TYPED_CONTENTS[tensor.datatype]
    for field, _ in tensor.contents.ListFields():
        if field.name != expected:
            raise InvalidInputError.of(
                f"inputs[0].contents.{field.name}", f"set for {tensor.datatype}, whose elements go in {expected}"
            )
    if expected == "uint_contents":
        return bytes_of(tensor.contents.uint_contents), None
    span = fp32_span(message)
    if span is None:
        return np.array(tensor.contents.fp32_contents, "<f4").tobytes(), None
    return memoryview(message)[slice(*span)], span


def fp32_span(message: bytes) -> Span:
    """Where packed FP32 contents, which are little-endian floats one after the other, stand in a message."""
    tensor = only_field(message, INPUTS)
    contents = only_field(message, CONTENTS, tensor) if tensor else None
    return only_field(message, FP32_CONTENTS, contents) if contents else None


def bytes_of(numbers: Sequence[int]) -> bytes:
    """Numbers from 0 to 255 as bytes."""
    wide = np.array(numbers, np.uint32)
    if wide.size and (largest := wide.max()) > LARGEST_BYTE:
        raise InvalidInputError.of("inputs[0].contents.uint_contents", f"got {largest}, expected UINT8: 0 to 255")
    return wide.astype(np.uint8).tobytes()


def asked_output(index: int, output: pb.ModelInferRequest.InferRequestedOutputTensor) -> AskedOutput:
    """An output that is asked for, as numbers or as the best classes in words."""
    if output.name not in OUTPUTS:
        raise InvalidInputError.of(
            f"outputs[{index}].name", f"got {output.name[:80]!r}, expected one of {', '.join(OUTPUTS)}"
        )
    field = f"outputs[{index}].parameters"
    check_parameters(output.parameters, field)
    if CLASSIFICATION not in output.parameters:
        return AskedOutput(output.name)
    best = output.parameters[CLASSIFICATION].int64_param
    if best < 1:
        raise InvalidInputError.of(f"{field}[{CLASSIFICATION}]", f"got {best}, expected an int64_param of at least 1")
    if output.name != PROBABILITIES:
        raise InvalidInputError.of(
            f"{field}[{CLASSIFICATION}]", f"only {PROBABILITIES} can be returned as classes, not {output.name}"
        )
    return AskedOutput(output.name, best)


def check_once(asked: Sequence[str]) -> None:
    """Whether each output is asked for once."""
    for index, name in enumerate(asked):
        if name in asked[:index]:
            raise InvalidInputError.of(f"outputs[{index}].name", f"{name} is asked for twice; ask once")
