"""From rows of features to classes: the arithmetic of a request, for one network that never changes.

Safe to call from many threads at once: each has its own buffers, and the network is read-only.
"""

import threading
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from shared.forward_pass import ForwardPass, rows_at_once, softmax_in_place
from shared.network import FloatArray, Network
from shared.preprocessing import Preprocessing, Rows

Classes = npt.NDArray[np.intp]  # class ids
CHUNK_ROWS = 256  # at most, computed at a time


class TopClasses(NamedTuple):
    """The best classes of each row, best first: class ids and their probabilities, float32, both (rows, top_k)."""

    class_ids: Classes
    scores: FloatArray


class _Buffers(threading.local):
    """What one thread needs to compute a chunk."""

    def __init__(self, network: Network, rows: int) -> None:
        self.forward_pass = ForwardPass(network.architecture, rows)
        self.features = np.empty((rows, network.architecture.input_size), np.float32)


class Classifier:
    """A network together with the preprocessing it was trained with."""

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        self._network = network
        self._for_bytes = scaled_by_its_weights(network, preprocessing)
        self._preprocessing = preprocessing
        self._chunk_rows = rows_at_once(network.architecture, CHUNK_ROWS)
        self._buffers = _Buffers(network, self._chunk_rows)

    def probabilities(self, rows: Rows) -> FloatArray:
        """Class probabilities, float32 (rows, classes), for uint8 or float32 `rows` (rows, input_size)."""
        buffers, step = self._buffers, self._chunk_rows
        network = self._for_bytes if rows.dtype == np.uint8 else self._network
        result = np.empty((len(rows), network.architecture.class_count), np.float32)
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            features = self._features(chunk, buffers.features[: len(chunk)])
            result[start : start + step] = buffers.forward_pass.logits(network, features)
        return softmax_in_place(result)

    @property
    def memory_bytes(self) -> int:
        """What the parameters take, with the copy of them for bytes where there is one; not the threads' buffers."""
        copies = 1 if self._for_bytes is self._network else 2
        return copies * self._network.parameters.nbytes

    def _features(self, rows: Rows, out: FloatArray) -> FloatArray:
        """What the first layer takes: the rows themselves, or in `out`, converted as little as need be."""
        if self._preprocessing.standardisation is None:
            if rows.dtype == np.float32 and rows.flags.aligned:
                return cast("FloatArray", rows)
            if rows.dtype != np.uint8 or self._for_bytes is not self._network:
                np.copyto(out, rows)
                return out
        return self._preprocessing.features(rows, out)


def scaled_by_its_weights(network: Network, preprocessing: Preprocessing) -> Network:
    """A network that takes bytes as they are: `uint8_scale` is in the first layer's weights, (s·x)·W = x·(s·W).

    The network itself where that does not hold: where features are standardised, or the first layer is not dense.
    """
    if preprocessing.standardisation is not None or network.architecture.takes_images:
        return network
    scaled = Network(network.architecture, network.parameters.copy())
    first = next(layer for layer in scaled.layers if layer.weight.size)
    np.multiply(first.weight, np.float32(preprocessing.uint8_scale), out=first.weight)
    return scaled


def top_classes(probabilities: FloatArray, top_k: int) -> TopClasses:
    """The `top_k` most probable classes of each row; equally probable ones in the order of their ids."""
    if top_k == 1:
        return TopClasses(probabilities.argmax(axis=1, keepdims=True), probabilities.max(axis=1, keepdims=True))
    class_ids = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return TopClasses(class_ids, np.take_along_axis(probabilities, class_ids, axis=1))
