"""Reads a .npy file that a stranger sent in an archive: its header first, and its body only where both agree.

Nothing is unpickled, and whatever the header says, the answer is an array or a refusal that names the file.
"""

import math
from io import BytesIO
from zipfile import ZipFile, ZipInfo

import numpy as np

from shared.errors import InvalidInputError
from trainer_service.datasets.archive import read_member, shown

MAX_HEADER_BYTES = 10_000
SHOWN_BYTES = 2**63  # no file has more; a header may tell of a number with thousands of digits
READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def array_in(archive: ZipFile, member: ZipInfo) -> np.ndarray:
    """The array in a member, read-only.

    Raises:
        InvalidInputError: naming the member, if it is no array, holds Python objects, or its header and its bytes
            disagree.
    """
    stream = BytesIO(read_member(archive, member, MAX_HEADER_BYTES))
    try:
        read_header = READ_HEADER[np.lib.format.read_magic(stream)]
        shape, by_column, dtype = read_header(stream)
    except Exception as error:  # NumPy raises many kinds over odd headers; whichever it is, the file is at fault
        raise no_array(member, error) from error
    start = stream.tell()
    check_header(member, shape, dtype, member.file_size - start)
    content = read_member(archive, member)
    try:
        return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if by_column else "C")
    except Exception as error:  # as above: more axes than NumPy has, for one
        raise no_array(member, error) from error


def check_header(member: ZipInfo, shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Returns if a body of `size` bytes is an array of this header; InvalidInputError naming the member if not."""
    if dtype.hasobject:
        raise InvalidInputError.of(
            "chunk",
            f"{shown(member)} holds pickled Python objects, which are never read; make it an array of numbers, or of "
            f"text by astype(str)",
        )
    if not dtype.itemsize or dtype.subdtype is not None or any(type(side) is not int for side in shape):
        raise no_array(member, f"it declares elements of {str(dtype)[:80]!r} in the shape {str(shape)[:80]}")
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != expected:
        declared = str(expected) if abs(expected) < SHOWN_BYTES else "far more"
        raise InvalidInputError.of(
            "chunk", f"{shown(member)} has {size} bytes of data, its header says {declared}; save it again"
        )
    if expected == 0:
        raise InvalidInputError.of("chunk", f"{shown(member)} has the shape {str(list(shape))[:80]}: it is empty")


def no_array(member: ZipInfo, why: Exception | str) -> InvalidInputError:
    """The refusal of a member that cannot be read as an array."""
    return InvalidInputError.of("chunk", f"{shown(member)} is no .npy array: {str(why)[:200]}; use numpy.savez")
