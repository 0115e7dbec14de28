"""Augmentation: every image is shifted, turned, scaled and bent a little differently each time it is seen.

Promises: all arithmetic on pixels is in integers, a pixel that nothing moves keeps its value, what comes from outside
an image is 0, and the same generator and the same calls give the same bytes (with one BLAS kernel, which draws maps).

A map says where in the source each pixel comes from, in sixteenths of a pixel. Maps are drawn into a pool; every image
takes the next one, and each is drawn anew after USES images. Images of one call share none while it has no more rows
than the pool has maps (640 for 28 × 28). Four neighbours of a source pixel are packed into one uint64, so that bilinear
interpolation is one gather and one multiplication.

Measured on one core of a Zen 5, in µs per image of 28 × 28: 2.2 in all, with elastic distortion 2.6 (of which drawing
maps, 4 or 9 µs each, is 0.3 and 0.6). Not used: four gathers with float weights, 2.4 without drawing, and three times
the memory for maps; `scipy.ndimage.map_coordinates`, 18; a SciPy sparse matrix product per group of 16 images, 1.4, but
a group then shares one map.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared.layers import Shape
from shared.recipe import Augmentation
from trainer_service.training.augmentation_maps import LANE, PARTS, Indices, MapPool, Words
from trainer_service.training.checkpoint import StateArray

Bytes = npt.NDArray[np.uint8]

CHUNK_PIXELS = 2**15  # of the images that are worked on at once, so that all their arrays stay in a core's cache
TOP_LANE = 3 * LANE
ROUNDING = np.uint64(PARTS * PARTS // 2 << TOP_LANE)
TOP_BYTE = np.uint64(TOP_LANE + 8)  # shifting by this leaves the top lane divided by 256


class Augmenter:
    """Changes images of `input_shape`, (height, width) or (height, width, channels), as an augmentation says.

    `capacity` is the most rows of a call. The generator should be its own: each call may draw from it.

    Raises:
        ValueError: if `input_shape` is no image's.
    """

    def __init__(self, augmentation: Augmentation, input_shape: Shape, rng: np.random.Generator, capacity: int) -> None:
        match input_shape:
            case (height, width):
                channels = 1
            case (height, width, channels):
                pass
            case _:
                raise ValueError(f"augmentation changes images, and the examples are {list(input_shape)}")
        self._height, self._width, self._channels, self._capacity = height, width, channels, capacity
        pixels = height * width
        calls = math.ceil(capacity / max(1, CHUNK_PIXELS // pixels))
        self._chunk = math.ceil(capacity / calls)
        self._pool = MapPool(augmentation, height, width, self._chunk, rng)
        self._framed = np.zeros((self._chunk, height + 2, width + 2), np.uint64)  # the frame stays 0
        self._shifted = np.empty(self._framed.size, np.uint64)
        self._pairs = np.zeros(self._framed.size, np.uint64)
        self._neighbours = np.zeros(self._framed.size, np.uint64)
        self._sums = np.empty((self._chunk, pixels), np.uint64)
        self._bytes = np.empty((self._chunk, pixels), np.uint8)

    def apply(self, examples: Bytes, out: npt.NDArray[np.uint8 | np.float32]) -> npt.NDArray[np.uint8 | np.float32]:
        """Writes each image, uint8 (rows, input_size), changed, to the same row of `out`, whole values from 0 to 255.

        `out` may be `examples`.

        Raises:
            ValueError: if there are more rows than `capacity`, or the shapes differ or are not input_size wide.
        """
        if len(examples) > self._capacity or examples.shape != out.shape:
            raise ValueError(f"expected two arrays of up to {self._capacity} rows, got {examples.shape}, {out.shape}")
        shape = (len(examples), self._height, self._width, self._channels)
        images, changed = examples.reshape(shape), out.reshape(shape, copy=False)
        for start in range(0, len(examples), self._chunk):
            rows = slice(start, start + self._chunk)
            taps, weights = self._pool.next()
            for channel in range(self._channels):
                self._change(images[rows, :, :, channel], taps, weights, changed[rows, :, :, channel])
        return out

    def state(self) -> dict[str, StateArray]:
        """Where it is in its use of chance: live arrays."""
        return self._pool.state()

    def restore(self, state: Mapping[str, StateArray]) -> None:
        """Goes on as the augmenter whose state this was; it had the same arguments and an equal generator."""
        self._pool.restore(state)

    def _change(self, images: Bytes, taps: Indices, weights: Words, out: npt.NDArray[np.uint8 | np.float32]) -> None:
        """One channel of at most a chunk of images, (rows, height, width)."""
        rows = len(images)
        np.copyto(self._framed[:rows, 1:-1, 1:-1], images)
        self._pack(rows)
        sums, values = self._sums[:rows], self._bytes[:rows]
        # mode="clip" lets NumPy write straight into `out`; the taps are in range by construction.
        np.take(self._neighbours, taps[:rows], out=sums, mode="clip")
        np.multiply(sums, weights[:rows], out=sums)
        np.add(sums, ROUNDING, out=sums)
        np.right_shift(sums, TOP_BYTE, out=sums)
        np.copyto(values, sums, casting="unsafe")
        np.copyto(out, values.reshape(images.shape))

    def _pack(self, rows: int) -> None:
        """Gathers each pixel, its right, its lower and its lower right neighbour into one word, lowest lane first."""
        line = self._width + 2
        size = rows * (self._height + 2) * line
        source, shifted = self._framed.reshape(-1)[:size], self._shifted[:size]
        pairs, neighbours = self._pairs[:size], self._neighbours[:size]
        np.left_shift(source[1:], np.uint64(LANE), out=shifted[1:])
        np.bitwise_or(source[:-1], shifted[1:], out=pairs[:-1])
        np.left_shift(pairs[line:], np.uint64(2 * LANE), out=shifted[line:])
        np.bitwise_or(pairs[:-line], shifted[line:], out=neighbours[:-line])
