"""The maps of augmentation: for every pixel of a changed image, where in the source it comes from and in what shares.

Promises: the same generator and the same turns give the same maps (with one BLAS kernel, which draws them), also where
the turns before were another pool's, whose `state` was handed over.
"""

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from shared.network import FloatArray
from shared.recipe import Augmentation
from trainer_service.training.checkpoint import StateArray

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

POOL_BYTES = 2**23
USES = 16
PARTS = 16  # of a pixel: the products of two such parts add up to 256 over the four neighbours
LANE = 16  # bits for each neighbour in a word: 255 · 256 fits, so no lane runs over into the next
UNDRAWN = -1


class MapPool:
    """Maps for `chunk` images at a time, in blocks of as many; a map is 16 bytes a pixel.

    `taps` are places of the upper left neighbour among the framed images of a chunk, `weights` the neighbours' shares.
    The generator is a PCG64, which can be wound to any draw: so it takes two numbers a block to say what a pool holds.
    """

    def __init__(
        self, augmentation: Augmentation, height: int, width: int, chunk: int, rng: np.random.Generator
    ) -> None:
        self._augmentation, self._rng = augmentation, rng
        self._pcg64 = cast("np.random.PCG64", rng.bit_generator)
        self._beginning = self._pcg64.state
        pixels, line = height * width, width + 2
        self._blocks = max(1, POOL_BYTES // (16 * chunk * pixels))
        self._taps = np.empty((self._blocks, chunk, pixels), np.int64)
        self._weights = np.empty((self._blocks, chunk, pixels), np.uint64)
        self._turn = np.zeros(1, np.int64)
        self._draws = np.full(self._blocks, UNDRAWN, np.int64)  # the number of the draw that each block holds

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
        lap, block = divmod(int(self._turn[0]), self._blocks)
        self._turn += 1
        if lap == 0 or (lap + block) % USES == 0:  # not all in one lap, so that no batch waits for all of them
            self._draws[block] = self._next_draw
            self._draw(self._taps[block], self._weights[block])
        return self._taps[block], self._weights[block]

    def state(self) -> dict[str, StateArray]:
        """How many blocks were taken, and which draw each block holds: live arrays."""
        return {"turn": self._turn, "draws": self._draws}

    def restore(self, state: Mapping[str, StateArray]) -> None:
        """Goes on after the last turn of the pool whose state this was: draws again what its blocks held."""
        np.copyto(self._turn, state["turn"])
        np.copyto(self._draws, state["draws"])
        for block in np.flatnonzero(self._draws != UNDRAWN):
            self._wind_to(self._draws[block])
            self._draw(self._taps[block], self._weights[block])
        self._wind_to(self._next_draw)

    @property
    def _next_draw(self) -> np.int64:
        return np.int64(self._draws.max() + 1)  # the last one is always held by some block

    def _wind_to(self, draw: np.int64) -> None:
        """Puts the generator where the draw with this number begins."""
        numbers = 4 * self._sources.shape[1] + (self._fields.size if self._augmentation.elastic_strength else 0)
        self._pcg64.state = self._beginning
        self._pcg64.advance(int(draw) * numbers // 2)  # one step of PCG64 gives two float32; `numbers` is even

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
