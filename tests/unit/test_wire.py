"""The wire walker against protobuf itself: what it finds is what protobuf reads there, and nothing else is touched."""

import struct
from collections.abc import Sequence

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from shared.pb.inference import open_inference_service_pb2 as pb
from shared.wire import MOST_FIELDS, delimited, only_field, varint

RAW, INPUTS, CONTENTS, FP32 = 7, 5, 5, 6
INT64 = st.integers(-(2**63), 2**63 - 1)
TENSORS = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.text(max_size=5),
    shape=st.lists(INT64, max_size=3),
    contents=st.none()
    | st.builds(pb.InferTensorContents, fp32_contents=st.lists(st.just(0.5), max_size=3), int_contents=st.just([1])),
)
REQUESTS = st.builds(
    pb.ModelInferRequest,
    model_name=st.text(max_size=20),
    id=st.text(max_size=3),
    inputs=st.lists(TENSORS, max_size=2),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=2),
)


def parsed(message: bytes) -> pb.ModelInferRequest | None:
    """What protobuf reads, None if it refuses."""
    try:
        return pb.ModelInferRequest.FromString(message)
    except DecodeError:
        return None


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """A message, or two one after the other, perhaps with a part overwritten or cut off."""
    message = b"".join(request.SerializeToString() for request in draw(st.lists(REQUESTS, min_size=1, max_size=2)))
    start = draw(st.integers(0, len(message)))
    patch = draw(st.sampled_from([b"", b""]) | st.binary(max_size=3))
    kept = len(message) if draw(st.booleans()) else draw(st.integers(0, len(message)))
    return (message[:start] + patch + message[start + len(patch) :])[:kept]


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_protobufs(number: int) -> None:
    """Byte by byte."""
    assert b"\x08" + varint(number) == pb.InferParameter(uint64_param=number).SerializeToString().replace(
        b"\x28", b"\x08", 1
    )


@given(st.binary(max_size=300))
def test_a_delimited_field_is_protobufs(payload: bytes) -> None:
    """Byte by byte."""
    assert delimited(RAW, payload) == pb.ModelInferRequest(raw_input_contents=[payload]).SerializeToString()


@given(altered() | st.binary(max_size=40))
def test_what_is_found_is_what_protobuf_reads(message: bytes) -> None:
    """The payload is the field's only value, and other bytes in its place change that value and nothing else."""
    request, span = parsed(message), only_field(message, RAW)
    if request is None or span is None:
        return
    start, end = span
    assert list(request.raw_input_contents) == [message[start:end]]
    other = bytes(byte ^ 0xFF for byte in message[start:end])
    request.raw_input_contents[:] = [other]
    assert parsed(message[:start] + other + message[end:]) == request


@given(REQUESTS)
def test_a_field_that_is_there_once_is_found(request: pb.ModelInferRequest) -> None:
    """In what protobuf writes; where it is there twice, or not at all, there is no one place."""
    assert (only_field(request.SerializeToString(), RAW) is not None) is (len(request.raw_input_contents) == 1)


@given(altered())
def test_packed_numbers_are_found_two_levels_down(message: bytes) -> None:
    """Other floats in their place are read as those floats, in their order."""
    tensor = only_field(message, INPUTS)
    contents = only_field(message, CONTENTS, tensor) if tensor else None
    span = only_field(message, FP32, contents) if contents else None
    if parsed(message) is None or span is None:
        return
    start, end = span
    floats = [float(index) for index in range((end - start) // 4)]
    reread = parsed(message[:start] + struct.pack(f"<{len(floats)}f", *floats) + message[end:])
    assert reread is not None
    assert [list(tensor.contents.fp32_contents) for tensor in reread.inputs] == [floats]


PAIR = delimited(RAW, b"a") + delimited(RAW, b"b")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "nothing is there"),
        (PAIR, "it is there twice"),
        (delimited(RAW, b"abc")[:-1], "its end is missing"),
        (b"\x38\x01", "it is a number"),
        (delimited(RAW, b"a") + b"\x38\x01", "it is there as a number too"),
        (delimited(RAW, b"a") + b"\x0b\x0c", "a group follows"),
        (delimited(RAW, b"a") + b"\xff", "a tag does not end"),
        (delimited(RAW, b"a") + b"\x08" + b"\xff" * 10, "a number does not end"),
        (delimited(RAW, b"a") + b"\x0d\x00", "four bytes are announced and one is there"),
        (delimited(RAW, b"a") + b"\x09\x00", "eight bytes are announced and one is there"),
    ],
)
def test_what_cannot_be_followed_has_no_place(message: bytes, why: str) -> None:
    """Rather read in full than read wrongly."""
    assert only_field(message, RAW) is None, why


def test_other_kinds_of_fields_are_stepped_over() -> None:
    """Numbers, four bytes, eight bytes, and messages that hold the same field number."""
    before: Sequence[bytes] = (b"\x08\x96\x01", b"\x15abcd", b"\x19abcdefgh", delimited(4, delimited(RAW, b"inner")))
    message = b"".join(before) + delimited(RAW, b"outer") + b"\x40\x00"
    assert message[slice(*(only_field(message, RAW) or (0, 0)))] == b"outer"


def test_a_message_of_very_many_fields_is_not_followed() -> None:
    """Each costs a step, and a client may send millions of them."""
    one = delimited(4, b"x")
    for unknown, found in ((MOST_FIELDS - 1, (2, 3)), (MOST_FIELDS, None)):
        assert only_field(one + b"\x08\x01" * unknown, 4) == found
