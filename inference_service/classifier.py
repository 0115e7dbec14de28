"""From rows of features to classes: the arithmetic of a request, for one network that never changes.

Safe to call from many threads at once: each has its own buffers, and the network is read-only.
"""

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.forward_pass import ForwardPass, rows_at_once, softmax_in_place
from shared.network import FloatArray, Network
from shared.preprocessing import Preprocessing, Rows

CHUNK_ROWS = 256  # at most, computed at a time


@dataclass(frozen=True, eq=False)
class TopClasses:
    """The best classes of each row, best first.

    Attributes:
        class_ids: (rows, top_k).
        scores: the probability of each of those classes, float32 (rows, top_k).
    """

    class_ids: npt.NDArray[np.intp]
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
        self._preprocessing = preprocessing
        self._chunk_rows = rows_at_once(network.architecture, CHUNK_ROWS)
        self._buffers = _Buffers(network, self._chunk_rows)

    def probabilities(self, rows: Rows) -> FloatArray:
        """Class probabilities, float32 (rows, classes), for uint8 or float32 `rows` (rows, input_size)."""
        buffers, step = self._buffers, self._chunk_rows
        result = np.empty((len(rows), self._network.architecture.class_count), np.float32)
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            features = self._preprocessing.features(chunk, out=buffers.features[: len(chunk)])
            result[start : start + step] = buffers.forward_pass.logits(self._network, features)
        return softmax_in_place(result)


def top_classes(probabilities: FloatArray, top_k: int) -> TopClasses:
    """The `top_k` most probable classes of each row; equally probable ones in the order of their ids."""
    if top_k == 1:
        class_ids = probabilities.argmax(axis=1, keepdims=True)
    else:
        class_ids = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return TopClasses(class_ids, np.take_along_axis(probabilities, class_ids, axis=1))
