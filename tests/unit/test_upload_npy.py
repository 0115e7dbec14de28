"""Odd arrays in an uploaded .npz, and archives that unpack to more than they should: refused by name, unread."""

import tracemalloc
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from trainer_service.datasets import archive, limits, npy
from trainer_service.datasets.upload_npz import read_npz

Y = np.arange(30) % 3
TABLE = np.random.default_rng(0).normal(0, 10, (30, 4))
MIB = 2**20


def zip_of(x: bytes, y: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An .npz file of these .npy files."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", y)
    return file.getvalue()


def npy_of(array: np.ndarray) -> bytes:
    """An array as a .npy file."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def refusal(content: bytes) -> str:
    """What is said of `chunk`."""
    with pytest.raises(InvalidInputError) as raised:
        read_npz(BytesIO(content), "made")
    assert [violation.field for violation in raised.value.violations] == ["chunk"]
    return raised.value.violations[0].description


def raw_header(text: str) -> bytes:
    """A .npy file's first bytes with this header."""
    line = text.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


def described_as(descr: str, shape: str) -> bytes:
    """The header of an array of this type and shape, and no data."""
    return raw_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")


def header_of(shape: str) -> bytes:
    """A .npy file's header that promises this shape of float64, and no data."""
    return described_as("'<f8'", shape)


@pytest.mark.parametrize(
    "shape", ["(1000000000, 1000)", "(30, 4)", "(-1, -8)", "(30,)", "(0, 3)", f"({'9' * 4000}, {'9' * 4000})"]
)
def test_a_header_that_promises_other_than_there_is_is_refused(shape: str) -> None:
    """However much it promises, nothing of that size is made."""
    tracemalloc.start()
    try:
        message = refusal(zip_of(x=header_of(shape), y=npy_of(Y)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "its header says" in message or "it is empty" in message
    assert peak < 2**22


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    """A megabyte of zeros that were a gigabyte: refused by what the archive declares."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        for _ in range(limits.MAX_DECODED_BYTES // 2**24 + 1):
            member.write(bytes(2**24))
    tracemalloc.start()
    try:
        message = refusal(file.getvalue())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message.startswith("'x.npy' takes the unpacked size over the limit of 536870912 bytes")
    assert peak < 2**24


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (described_as("'<f4'", "(True, 4)"), 16),
        (described_as("'<f4'", "(30, 4.0)"), 480),
        (described_as("'<f4'", str((30, 4) + (1,) * 69)), 480),
        (described_as("('<f4', (4,))", "(30,)"), 480),
        (described_as("('<i4', (2,))", "(30,)"), 240),
        (described_as("'<U0'", "(30, 4)"), 0),
        (described_as("'<V0'", "(30, 4)"), 0),
        (described_as("()", "(30, 4)"), 0),
        (described_as("[1]", "(30, 4)"), 0),
        (described_as("[" * 3000 + "]" * 3000, "(30, 4)"), 0),
        (raw_header("(" * 5000), 0),
        (raw_header("{'descr': '<f4', 'shape':"), 0),
        (raw_header("-" * 9000 + "1"), 0),
        (raw_header("[1]"), 0),
    ],
    ids=[
        "a true side", "a fractional side", "71 axes", "arrays as elements", "pairs as elements", "text of no size",
        "bytes of no size", "an empty type", "a type of numbers", "a deep type", "open brackets", "half a header",
        "many signs", "a list",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning:numpy")  # NumPy tries the grammar of Python 2 before it gives up
@pytest.mark.parametrize("which", ["x", "y"])
def test_an_odd_header_is_refused_with_the_arrays_name(header: bytes, size: int, which: str) -> None:
    """Whatever NumPy makes of it."""
    odd = header + bytes(size)
    content = zip_of(odd, npy_of(Y)) if which == "x" else zip_of(npy_of(TABLE), odd)
    assert refusal(content).startswith(f"'{which}.npy' is no .npy array: ")


@given(st.text("()[]{}'\",:<|>fiUVOS0123456789TrueFalsedscptohn_- L", max_size=120))
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning:numpy", "ignore::SyntaxWarning")
def test_any_header_is_an_array_or_a_refusal(text: str) -> None:
    """Of the characters that headers are made of, in any order."""
    assert "'x.npy' " in refusal(zip_of(x=raw_header(text), y=npy_of(Y)))


def test_a_header_is_read_before_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not fit its header is never unpacked."""
    read: list[int | None] = []
    whole = archive.read_member

    def noted(opened: zipfile.ZipFile, member: zipfile.ZipInfo, most: int | None = None) -> bytes:
        if member.filename == "x.npy":
            read.append(most)
        return whole(opened, member, most)

    monkeypatch.setattr(npy, "read_member", noted)
    message = refusal(zip_of(x=header_of("(1, 1)") + bytes(4 * MIB), y=npy_of(Y)))
    assert message == "'x.npy' has 4194304 bytes of data, its header says 8; save it again"
    assert read == [npy.MAX_HEADER_BYTES]


def test_an_archive_that_unpacks_to_many_times_its_size_is_refused() -> None:
    """Though it is within all other limits; uncompressed the same is taken."""
    zeros = np.zeros((3000, 1000))
    zeros[0, :] = 1
    labels = npy_of(np.arange(3000) % 3)
    message = refusal(zip_of(npy_of(zeros), labels))
    assert "more than 200 times as much, most of it 'x.npy'; if that is no mistake, send it uncompressed" in message
    stored = zip_of(npy_of(zeros), labels, zipfile.ZIP_STORED)
    assert read_npz(BytesIO(stored), "made").preprocessing.input_shape == (1000,)


def test_a_small_archive_may_be_packed_well() -> None:
    """A table of mostly zeros is no bomb."""
    zeros = np.zeros((300, 1000))
    zeros[0, :] = 1
    content = zip_of(npy_of(zeros), npy_of(np.arange(300) % 3))
    assert zeros.nbytes > limits.MAX_ARCHIVE_RATIO * len(content)
    assert read_npz(BytesIO(content), "made").preprocessing.input_shape == (1000,)
