"""The IDX reader: what was written comes back, and what is no whole IDX file is refused with the reason."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from trainer_service.datasets.idx import parse_idx


def idx_of(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file, written from the format's description."""
    header = bytes([0, 0, 0x08, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


GOOD = idx_of(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@given(np_st.arrays(np.uint8, np_st.array_shapes(min_dims=1, max_dims=4, max_side=7)))
@settings(max_examples=50, deadline=None)
def test_what_was_written_comes_back(array: np.ndarray) -> None:
    """Any shape of one to four dimensions."""
    np.testing.assert_array_equal(parse_idx(idx_of(array)), array)


@pytest.mark.parametrize(
    "start",
    [b"\1\0\x08\1", b"\0\1\x08\1", b"\0\0\x09\1", b"\0\0\x0d\1", b"\x1f\x8b\x08\0"],
    ids=["first byte", "second byte", "signed bytes", "floats", "still packed"],
)
def test_another_magic_number_is_refused(start: bytes) -> None:
    """The message shows what the file begins with."""
    with pytest.raises(ValueError, match=f"no IDX file of unsigned bytes: it begins with {start.hex(' ')}"):
        parse_idx(start + GOOD[4:])


@pytest.mark.parametrize("length", range(4))
def test_a_file_without_a_magic_number_is_refused(length: int) -> None:
    """Shorter than four bytes."""
    with pytest.raises(ValueError, match="no IDX file of unsigned bytes"):
        parse_idx(GOOD[:length])


@pytest.mark.parametrize("length", [4, 10, 15])
def test_a_truncated_header_is_refused(length: int) -> None:
    """Three dimensions need a header of 16 bytes."""
    with pytest.raises(ValueError, match=f"{length} bytes, shorter than its own header of 16"):
        parse_idx(GOOD[:length])


@pytest.mark.parametrize("data", [GOOD[:-1], GOOD[:16], GOOD + b"\0"], ids=["one short", "header only", "one long"])
def test_another_length_than_the_header_says_is_refused(data: bytes) -> None:
    """Both lengths are named: what came and what the header promises."""
    with pytest.raises(ValueError, match=f"{len(data)} bytes, its header says {len(GOOD)}"):
        parse_idx(data)


@given(st.binary(max_size=64))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_an_array_or_a_value_error(data: bytes) -> None:
    """A header that promises more than memory holds is refused before anything is made of it."""
    for start in (b"", b"\0\0\x08"):
        try:
            array = parse_idx(start + data)
        except ValueError:
            continue
        assert array.nbytes <= len(data)
