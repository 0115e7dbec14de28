"""The bytes of a ModelInferResponse: protobuf reads the answer in them, raw for who sent raw, typed for others."""

import struct
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from inference_service.classifier import top_classes
from inference_service.infer_reply import KEPT_ROWS, Reply
from inference_service.open_inference import ALL_OUTPUTS, AskedOutput
from inference_service.questions import Answer
from inference_service.versions.snapshot_loader import ServedVersion
from shared.model_version import StoredSnapshot, VersionRef
from shared.pb.inference import open_inference_service_pb2 as pb
from shared.snapshot_codec import decode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TYPES = {"FP32": "<f4", "INT64": "<i8"}
Ask = Callable[[int], Answer]


@pytest.fixture
def served(make_snapshot: Callable[..., StoredSnapshot]) -> ServedVersion:
    """Version 300 of the model `tiny`, which has three classes."""
    snapshot = make_snapshot()
    decoded = decode(snapshot)
    return ServedVersion("tiny", VersionRef(300, snapshot.digest), decoded.manifest, None, NOW, NOW)  # type: ignore[arg-type]


@pytest.fixture
def ask(served: ServedVersion) -> Ask:
    """An answer for so many rows, the same for the same number."""

    def answer(rows: int) -> Answer:
        probabilities = np.random.default_rng(rows).dirichlet([1, 1, 1], rows).astype(np.float32)
        return Answer(top_classes(probabilities, 1), 1, probabilities, served)

    return answer


def numbers_of(response: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """Each output as an array in its shape, whichever way it came."""
    arrays = {}
    for index, output in enumerate(response.outputs):
        dtype = TYPES[output.datatype]
        if response.raw_output_contents:
            assert not output.HasField("contents")
            flat = np.frombuffer(response.raw_output_contents[index], dtype)
        else:
            flat = np.array(output.contents.fp32_contents or output.contents.int64_contents, dtype)
        arrays[output.name] = flat.reshape(output.shape)
    return arrays


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("rows", [1, 3, KEPT_ROWS, KEPT_ROWS + 1, 300])
def test_all_of_the_answer_is_in_the_response(ask: Ask, rows: int, raw: bool) -> None:  # noqa: FBT001 - a case
    """Name, version, id, digest and every output's numbers, the second time too, when parts are kept."""
    answer, reply = ask(rows), Reply("r-1", ALL_OUTPUTS, raw=raw)
    for _ in "12":
        response = pb.ModelInferResponse.FromString(reply(answer))
        assert (response.model_name, response.model_version, response.id) == ("tiny", "300", "r-1")
        assert response.parameters["digest"].string_param == answer.served_by.ref.digest
        arrays = numbers_of(response)
        assert list(arrays) == ["probabilities", "class_ids", "scores"]
        assert len(response.raw_output_contents) == (3 if raw else 0)
        np.testing.assert_array_equal(arrays["probabilities"], answer.probabilities)
        np.testing.assert_array_equal(arrays["class_ids"], answer.probabilities.argmax(axis=1))
        np.testing.assert_array_equal(arrays["scores"], answer.probabilities.max(axis=1))


@pytest.mark.parametrize("raw", [True, False])
def test_only_what_was_asked_for_comes_in_that_order(ask: Ask, raw: bool) -> None:  # noqa: FBT001 - a case
    """Whatever another request of as many rows asked for before."""
    answer = ask(2)
    for names in (("scores", "class_ids"), ("class_ids", "scores"), ("class_ids",), ("probabilities", "scores")):
        reply = Reply("", tuple(AskedOutput(name) for name in names), raw=raw)
        response = pb.ModelInferResponse.FromString(reply(answer))
        assert tuple(numbers_of(response)) == names
        assert response.id == ""


def test_a_class_is_one_of_the_rows_own_where_more_are_known(ask: Ask) -> None:
    """Answers that were computed together may be views of a wider array."""
    answer = ask(4)
    wide = top_classes(answer.probabilities, 3)
    narrow = answer._replace(top=type(wide)(wide.class_ids[:, :1], wide.scores[:, :1]))
    for raw in (True, False):
        reply = Reply("", ALL_OUTPUTS, raw=raw)
        assert reply(narrow) == reply(answer)


@pytest.mark.parametrize(("best", "count"), [(1, 1), (2, 2), (3, 3), (99, 3), (2**63 - 1, 3)])
def test_the_best_classes_come_as_text(ask: Ask, best: int, count: int) -> None:
    """Best first, with probability, id and label; raw, each has its length before it; never more than there are."""
    answer = ask(2)
    labels = answer.served_by.manifest.class_labels
    order = np.argsort(-answer.probabilities, axis=1)[:, :count]
    expected = [
        f"{answer.probabilities[row, class_id]:f}:{class_id}:{labels[class_id]}".encode()
        for row in range(2)
        for class_id in order[row]
    ]
    asked = (AskedOutput("probabilities", best), AskedOutput("class_ids"))
    for raw in (True, False):
        response = pb.ModelInferResponse.FromString(Reply("", asked, raw=raw)(answer))
        output = response.outputs[0]
        assert (output.name, output.datatype, list(output.shape)) == ("probabilities", "BYTES", [2, count])
        if raw:
            assert response.raw_output_contents[0] == b"".join(struct.pack("<I", len(text)) + text for text in expected)
        else:
            assert list(output.contents.bytes_contents) == expected


def test_what_is_kept_is_bounded(ask: Ask, served: ServedVersion) -> None:
    """A request cannot make the server keep what only it would ask for."""
    for rows in (1, 2, KEPT_ROWS, KEPT_ROWS + 1, 200):
        for best in range(4):
            Reply(f"id-{rows}", (AskedOutput("probabilities", best),), raw=True)(ask(rows))
    assert len(served.encodings) == 3


def test_a_streams_response_holds_the_same(ask: Ask) -> None:
    """In another message, with no error."""
    streamed = pb.ModelStreamInferResponse.FromString(Reply("i", ALL_OUTPUTS, raw=True, streamed=True)(ask(2)))
    assert streamed.error_message == ""
    assert streamed.infer_response == pb.ModelInferResponse.FromString(Reply("i", ALL_OUTPUTS, raw=True)(ask(2)))
