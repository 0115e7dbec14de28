"""How `ModelInfer` and `ModelStreamInfer` of the Open Inference Protocol are answered, in bytes.

Outputs come as bytes to whoever sent bytes, and as numbers to whoever sent numbers. An answer is put together from the
rows' own memory and from what stays the same for a version, which is encoded once.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from inference_service.classifier import top_classes
from inference_service.open_inference import CLASS_IDS, PROBABILITIES, AskedOutput
from inference_service.questions import Answer
from inference_service.versions.snapshot_loader import ServedVersion
from shared.pb.inference import open_inference_service_pb2 as pb
from shared.wire import delimited, varint

REQUEST_ID = pb.ModelInferResponse.ID_FIELD_NUMBER
OUTPUTS = pb.ModelInferResponse.OUTPUTS_FIELD_NUMBER
RAW_CONTENTS = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
CONTENTS = pb.ModelInferResponse.InferOutputTensor.CONTENTS_FIELD_NUMBER
INT64_CONTENTS = pb.InferTensorContents.INT64_CONTENTS_FIELD_NUMBER
FP32_CONTENTS = pb.InferTensorContents.FP32_CONTENTS_FIELD_NUMBER
BYTES_CONTENTS = pb.InferTensorContents.BYTES_CONTENTS_FIELD_NUMBER
STREAMED_RESPONSE = pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER
RAW_TAG = delimited(RAW_CONTENTS, b"")[:1]
KEPT_ROWS = 64  # the shapes of larger batches are encoded each time, or there would be too many to keep
LENGTH_BYTES = 4
HEAD = "head"  # among what is kept, beside outputs


class Reply:
    """Writes the answer to one request, or to any that says the same beside its elements."""

    __slots__ = ("_is_common", "_is_raw", "_is_streamed", "_key", "_keyed", "_outputs", "_request_id")

    def __init__(self, request_id: str, outputs: tuple[AskedOutput, ...], *, raw: bool, streamed: bool = False) -> None:
        self._request_id = delimited(REQUEST_ID, request_id.encode()) if request_id else b""
        self._outputs = outputs
        self._keyed = [(output, f"{output.name}:{output.best}") for output in outputs]
        self._key = " ".join(key for _, key in self._keyed)
        self._is_raw = raw
        self._is_streamed = streamed
        self._is_common = not any(output.best for output in outputs)

    def __call__(self, answer: Answer) -> bytes:
        """A ModelInferResponse, or a ModelStreamInferResponse with one."""
        parts = self._raw(answer) if self._is_raw else self._typed(answer)
        response = b"".join(parts)
        return delimited(STREAMED_RESPONSE, response) if self._is_streamed else response

    def _raw(self, answer: Answer) -> list[bytes]:
        same = self._kept(answer, self._key, partial(self._head_and_descriptions, answer))
        parts = [same, self._request_id]
        for output in self._outputs:
            elements = raw_elements(output, answer)
            parts += (RAW_TAG, varint(len(elements)), elements)
        return parts

    def _typed(self, answer: Answer) -> list[bytes]:
        parts = [self._kept(answer, HEAD, partial(head, answer.served_by)), self._request_id]
        for output, key in self._keyed:
            described = self._kept(answer, key, partial(description, output, answer))
            parts.append(delimited(OUTPUTS, described + delimited(CONTENTS, typed_elements(output, answer))))
        return parts

    def _head_and_descriptions(self, answer: Answer) -> bytes:
        described = (delimited(OUTPUTS, description(output, answer)) for output in self._outputs)
        return b"".join((head(answer.served_by), *described))

    def _kept(self, answer: Answer, key: str, encode: Callable[[], bytes]) -> bytes:
        """What is the same in each answer of as many rows by this version, kept if it is likely to come again."""
        rows, encodings = len(answer.probabilities), answer.served_by.encodings
        same = encodings.get((key, rows, self._is_raw))
        if same is None:
            same = encode()
            if self._is_common and rows <= KEPT_ROWS:
                encodings[key, rows, self._is_raw] = same
        return same


def stream_refusal(why: str, request_id: str) -> bytes:
    """A ModelStreamInferResponse that says what was wrong with the request of this id."""
    return pb.ModelStreamInferResponse(
        error_message=why, infer_response=pb.ModelInferResponse(id=request_id)
    ).SerializeToString()


def head(served: ServedVersion) -> bytes:
    """Which version answered."""
    digest = pb.InferParameter(string_param=served.ref.digest)
    return pb.ModelInferResponse(
        model_name=served.model, model_version=str(served.ref.version), parameters={"digest": digest}
    ).SerializeToString()


def description(output: AskedOutput, answer: Answer) -> bytes:
    """An InferOutputTensor without its elements."""
    rows, classes = answer.probabilities.shape
    shape = [rows]
    if output.name == PROBABILITIES:
        shape.append(min(output.best or classes, classes))
    tensor = pb.ModelInferResponse.InferOutputTensor(name=output.name, datatype=output.datatype, shape=shape)
    return tensor.SerializeToString()


def raw_elements(output: AskedOutput, answer: Answer) -> bytes:
    """An output's elements as bytes: little-endian, and for BYTES each one's length first."""
    if output.best:
        texts = best_classes(output.best, answer)
        return b"".join(len(text).to_bytes(LENGTH_BYTES, "little") + text for text in texts)
    if output.name == CLASS_IDS:
        return answer.top.class_ids.astype("<i8", copy=False).tobytes()
    numbers = answer.probabilities if output.name == PROBABILITIES else answer.top.scores
    return numbers.astype("<f4", copy=False).tobytes()


def typed_elements(output: AskedOutput, answer: Answer) -> bytes:
    """An output's elements as an InferTensorContents."""
    if output.best:
        return b"".join(delimited(BYTES_CONTENTS, text) for text in best_classes(output.best, answer))
    if output.name == CLASS_IDS:
        return delimited(INT64_CONTENTS, b"".join(varint(number) for number in answer.top.class_ids.ravel().tolist()))
    return delimited(FP32_CONTENTS, raw_elements(output, answer))


def best_classes(best: int, answer: Answer) -> Iterator[bytes]:
    """The most probable classes of each row, best first, as "probability:class id:label"; at most all of them."""
    probabilities, labels = answer.probabilities, answer.served_by.manifest.class_labels
    class_ids, scores = top_classes(probabilities, min(best, probabilities.shape[1]))
    for class_id, score in zip(np.ravel(class_ids).tolist(), np.ravel(scores).tolist(), strict=True):
        yield f"{score:f}:{class_id}:{labels[class_id]}".encode()
