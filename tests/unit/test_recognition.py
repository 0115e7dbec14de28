"""Messages that are recognised: read as if they had been parsed, and only where nothing but the numbers differs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.classify_protocol import ClassifyProtocol, ClassifyStreamProtocol
from inference_service.questions import Protocol, Reading
from inference_service.recognition import MAX_FRAME_BYTES, MAX_FRAMES, MAX_LENGTHS, Recognition
from shared.errors import InvalidInputError
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import tensor_pb2


class Counting(ClassifyProtocol):
    """Counts what is really read."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, message: bytes) -> Reading:
        """Understands a message."""
        self.reads += 1
        return super().read(message)


def request(contents: bytes, **fields: object) -> pb.ClassifyRequest:
    """A request for rows of six bytes."""
    tensor = tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_UINT8, shape=[len(contents) // 6, 6], contents=contents)
    return pb.ClassifyRequest(**{"model": "tiny", "tensor": tensor, **fields})  # type: ignore[arg-type]  # any field


def test_other_numbers_are_read_once() -> None:
    """And come as the message's own memory."""
    protocol = Counting()
    recognition = Recognition(protocol)
    for seed in range(5):
        contents = np.random.default_rng(seed).bytes(12)
        message = request(contents).SerializeToString()
        reading, got = recognition.read(message)
        assert isinstance(got, bytes | memoryview)
        assert reading.question == protocol.read(message).question
        assert bytes(got) == contents
        assert np.shares_memory(np.frombuffer(got, np.uint8), np.frombuffer(message, np.uint8)) is (seed > 0)
    assert protocol.reads == 1 + 5  # the one, and the test's own


OPTIONS = st.fixed_dictionaries(
    {"top_k": st.integers(0, 3), "include_probabilities": st.booleans(), "model": st.sampled_from(["tiny", "tony"])},
    optional={"version": st.integers(1, 2)},
)
ASKED = st.tuples(st.binary(min_size=6, max_size=6) | st.binary(min_size=12, max_size=12), OPTIONS)


@given(st.lists(ASKED, min_size=2, max_size=12))
@settings(max_examples=200, deadline=None)
def test_recognised_or_not_a_message_reads_the_same(asked: list[tuple[bytes, dict[str, object]]]) -> None:
    """Whatever was read before: model, version, options and numbers are the message's own."""
    protocol = ClassifyProtocol()
    recognition = Recognition(protocol)
    for contents, options in asked:
        message = request(contents, **options).SerializeToString()
        reading, got = recognition.read(message)
        fresh = protocol.read(message)
        assert isinstance(got, bytes | memoryview)
        assert isinstance(fresh.contents, bytes | memoryview)
        assert reading.question == fresh.question
        assert bytes(got) == bytes(fresh.contents) == contents
        assert reading.reply.keywords == fresh.reply.keywords  # type: ignore[attr-defined]  # a partial


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_is_never_taken_for_the_message_it_came_from(data: st.DataObject) -> None:
    """A changed message reads as it would without the one that was read before: the same, or refused the same."""
    protocols: list[Protocol] = [ClassifyProtocol(), ClassifyStreamProtocol()]
    protocol = data.draw(st.sampled_from(protocols))
    plain = request(bytes(range(12)), top_k=2)
    message = (
        pb.ClassifyStreamRequest(request=plain).SerializeToString() if protocol.streaming else plain.SerializeToString()
    )
    recognition = Recognition(protocol)
    recognition.read(message)
    changed = bytearray(message)
    changed[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert outcome(recognition, protocol, bytes(changed), known=True) == outcome(
        recognition, protocol, bytes(changed), known=False
    )


def outcome(recognition: Recognition, protocol: Protocol, message: bytes, *, known: bool) -> object:
    """What a message reads as, or how it is refused."""
    try:
        if known:
            reading, contents = recognition.read(message)
        else:
            reading = protocol.read(message)
            contents = reading.contents
    except InvalidInputError as error:
        return str(error)
    return reading.question, contents if isinstance(contents, tuple) else bytes(contents)


@pytest.mark.parametrize("twice", ["tensor", "contents"])
def test_what_is_there_twice_is_read_each_time(twice: str) -> None:
    """The last one counts, and which that is cannot be told from what stands around the first."""
    message = request(bytes(6)).SerializeToString()
    if twice == "tensor":
        message += message[6:]
    else:
        inner = request(bytes(6)).tensor.SerializeToString()
        inner += tensor_pb2.Tensor(contents=b"123456").SerializeToString()
        message = pb.ClassifyRequest(model="tiny").SerializeToString() + b"\x22" + bytes([len(inner)]) + inner
    assert ClassifyProtocol().read(message).span is None


def test_what_is_kept_is_bounded() -> None:
    """However many lengths and forms a client sends; and no numbers are kept."""
    recognition = Recognition(ClassifyProtocol())
    for rows in range(1, MAX_LENGTHS + 20):
        for model in ("a", "b", "c", "d", "e", "f"):
            recognition.read(request(bytes(6 * rows), model=model).SerializeToString())
    assert len(recognition._frames) <= MAX_LENGTHS
    frames = [frame for frames in recognition._frames.values() for frame in frames]
    assert len(frames) <= MAX_LENGTHS * MAX_FRAMES
    assert max(len(frame.before) + len(frame.after) for frame in frames) < 100
    assert all(frame.reading.contents == b"" for frame in frames)


def test_a_long_frame_is_not_kept() -> None:
    """An unknown field may be as long as a client likes."""
    recognition = Recognition(ClassifyProtocol())
    message = request(bytes(6)).SerializeToString() + b"\xfa\x01" + b"\xff\x7f" + bytes(16383)
    assert len(message) > MAX_FRAME_BYTES
    recognition.read(message)
    assert not recognition._frames
