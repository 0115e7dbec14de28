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

import numpy as np
import numpy.typing as npt

from shared.layers import Shape
from shared.network import FloatArray
from shared.recipe import Augmentation

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

CHUNK_PIXELS = 2**15  # of the images that are worked on at once, so that all their arrays stay in a core's cache
POOL_BYTES = 2**23
USES = 16
PARTS = 16  # of a pixel: the products of two such parts add up to 256 over the four neighbours
LANE = 16  # bits for each neighbour in a word: 255 · 256 fits, so no lane runs over into the next
TOP_LANE = 3 * LANE
ROUNDING = np.uint64(PARTS * PARTS // 2 << TOP_LANE)
TOP_BYTE = np.uint64(TOP_LANE + 8)  # shifting by this leaves the top lane divided by 256


class _Pool:
    """Maps for `chunk` images at a time, in blocks of as many; a map is 16 bytes a pixel.

    `taps` are places of the upper left neighbour among the framed images of a chunk, `weights` the neighbours' shares.
    """

    def __init__(
        self, augmentation: Augmentation, height: int, width: int, chunk: int, rng: np.random.Generator
    ) -> None:
        self._augmentation, self._rng = augmentation, rng
        pixels, line = height * width, width + 2
        self._blocks = max(1, POOL_BYTES // (16 * chunk * pixels))
        self._taps = np.empty((self._blocks, chunk, pixels), np.int64)
        self._weights = np.empty((self._blocks, chunk, pixels), np.uint64)
        self._turn = 0

        self._centre = np.array([height - 1, width - 1], np.float32)[:, np.newaxis] / 2
        grid = np.indices((height, width), np.float32).reshape(2, pixels) - self._centre
        self._grid = np.concatenate((grid, np.ones((1, pixels), np.float32)))  # (3, pixels): down, right, 1
        self._smooth_down = _gaussian(height, augmentation.elastic_smoothing)
        self._smooth_across = _gaussian(width, augmentation.elastic_smoothing)

        # What a place along an axis, in parts of a pixel from the frame's outer line, means for taps and weights.
        down, right = np.arange((height + 1) * PARTS + 1), np.arange((width + 1) * PARTS + 1)
        self._down_taps, self._right_taps = down // PARTS * line, right // PARTS
        self._down_weights, self._right_weights = _pair_weights(down, 2 * LANE), _pair_weights(right, LANE)
        self._starts = (np.arange(chunk) * (height + 2) * line)[:, np.newaxis]

        self._sources = np.empty((2, chunk, pixels), np.float32)
        self._fields = np.empty((2, chunk, height, width), np.float32)
        self._smoothed = np.empty((2, chunk, height, width), np.float32)
        self._places = np.empty((2, chunk, pixels), np.int64)
        self._scratch = np.empty((chunk, pixels), np.int64)

    def next(self) -> tuple[Indices, Words]:
        """The next block's taps and weights (chunk, pixels), drawn anew when they have been used often enough."""
        lap, block = divmod(self._turn, self._blocks)
        self._turn += 1
        if lap == 0 or (lap + block) % USES == 0:  # not all in one lap, so that no batch waits for all of them
            self._draw(self._taps[block], self._weights[block])
        return self._taps[block], self._weights[block]

    def _draw(self, taps: Indices, weights: Words) -> None:
        chosen = self._augmentation
        amounts = np.array([chosen.shift, chosen.shift, math.radians(chosen.rotation), chosen.scale], np.float32)
        down, right, angle, growth = amounts[:, np.newaxis] * self._uniform(np.empty((4, len(taps)), np.float32))
        sources = self.affine_sources(down, right, angle, 1 + growth)
        if chosen.elastic_strength:
            sources += self.displacements()
        self.fix(sources, taps, weights)

    def affine_sources(self, down: FloatArray, right: FloatArray, angle: FloatArray, size: FloatArray) -> FloatArray:
        """The row and the column that each pixel comes from, float32 (2, chunk, pixels), counted from the corner.

        Each image is scaled by `size`, turned by `angle` (radians, counter-clockwise) about its centre, and then moved
        by pixels `down` and `right`; all are float32 (chunk,).
        """
        cosine, sine = np.cos(angle) / size, np.sin(angle) / size
        row_and_column = np.empty((2, len(size), 3), np.float32)  # of the inverse change: from the result to the source
        row_and_column[0] = np.stack((cosine, sine, self._centre[0] - cosine * down - sine * right), axis=1)
        row_and_column[1] = np.stack((-sine, cosine, self._centre[1] + sine * down - cosine * right), axis=1)
        return np.matmul(row_and_column, self._grid, out=self._sources)

    def displacements(self) -> FloatArray:
        """Elastic distortion, down and right, float32 (2, chunk, pixels), never more pixels than its strength.

        Simard, Steinkraus and Platt (2003): values between −1 and 1, smoothed by a Gaussian, times the strength.
        """
        width = self._fields.shape[-1]
        self._uniform(self._fields)
        # One product for all rows of all fields, then one for each field.
        np.matmul(self._fields.reshape(-1, width), self._smooth_across, out=self._smoothed.reshape(-1, width))
        np.matmul(self._smooth_down, self._smoothed, out=self._fields)
        self._fields *= np.float32(self._augmentation.elastic_strength)
        return self._fields.reshape(self._sources.shape)

    def fix(self, sources: FloatArray, taps: Indices, weights: Words) -> None:
        """Turns sources (2, chunk, pixels), which it overwrites, into taps and weights (chunk, pixels)."""
        sources += 1  # the frame
        sources *= PARTS
        np.rint(sources, out=sources)
        np.copyto(self._places, sources, casting="unsafe")
        down, right = self._places
        scratch = self._scratch
        # mode="clip" moves what lies outside the image onto its frame of zeros.
        np.take(self._down_taps, down, out=taps, mode="clip")
        taps += np.take(self._right_taps, right, out=scratch, mode="clip")
        taps += self._starts
        np.take(self._down_weights, down, out=weights, mode="clip")
        weights *= np.take(self._right_weights, right, out=scratch.view(np.uint64), mode="clip")

    def _uniform(self, out: FloatArray) -> FloatArray:
        self._rng.random(dtype=np.float32, out=out)
        out *= 2
        out -= 1
        return out


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
        self._pool = _Pool(augmentation, height, width, self._chunk, rng)
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


def _gaussian(size: int, deviation: float) -> FloatArray:
    """Smoothing along an axis as a matrix (size, size); what lies beyond the ends counts as 0."""
    places = np.arange(size)
    distances = (places[:, np.newaxis] - places) / deviation
    kernel = np.exp(-0.5 * distances**2) / (deviation * math.sqrt(2 * math.pi))
    return kernel.astype(np.float32)


def _pair_weights(places: Indices, shift: int) -> Words:
    """The shares of two neighbours, in parts: of the second in the lowest lane, of the first `shift` bits above it.

    The product of both axes' pairs has the shares of all four neighbours, in the reverse of the order in which `_pack`
    puts the neighbours: so the top lane of shares times neighbours is the sum over all four.
    """
    second = places % PARTS
    return (second + (PARTS - second << shift)).astype(np.uint64)
