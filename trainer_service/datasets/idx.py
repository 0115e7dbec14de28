"""Reads the IDX format of the MNIST database: big-endian header (type, dimensions, sizes), then the elements.

Only unsigned bytes are read, which is all that MNIST and its relatives use. Format: yann.lecun.com/exdb/mnist.
"""

import math

import numpy as np
import numpy.typing as npt

UNSIGNED_BYTE = 0x08


def parse_idx(data: bytes) -> npt.NDArray[np.uint8]:
    """The array in an unpacked IDX file.

    Raises:
        ValueError: if it is no IDX file of unsigned bytes, or is longer or shorter than its header says.
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTE:  # noqa: PLR2004 - the header's first four bytes
        raise ValueError(f"no IDX file of unsigned bytes: it begins with {data[:4].hex(' ')}")
    dimensions = data[3]
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise ValueError(f"{len(data)} bytes, shorter than its own header of {header}")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", dimensions, offset=4))
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes, its header says {expected}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
