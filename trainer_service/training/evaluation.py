"""How well a network does on examples it is not being updated with: answers, mean loss and accuracy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.forward_pass import ForwardPass, rows_at_once, softmax_in_place
from shared.network import Architecture, FloatArray, Network
from shared.preprocessing import Preprocessing
from trainer_service.datasets.dataset import Split
from trainer_service.training.losses import cross_entropy_sum
from trainer_service.training.parallel import Threads, threads_for

CHUNK_ROWS = 1000


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network made of a split.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: the share classified correctly, 0 to 1.
        class_ids: the most probable class of each example, (rows,).
        confidences: the probability of that class, float32 (rows,).
    """

    loss: float
    accuracy: float
    class_ids: npt.NDArray[np.int64]
    confidences: FloatArray


class _Chunk:
    """Buffers of one thread."""

    def __init__(self, architecture: Architecture, rows: int) -> None:
        self.forward_pass = ForwardPass(architecture, rows)
        self.features = np.empty((rows, architecture.input_size), np.float32)


class Evaluator:
    """Buffers for scoring networks of one architecture, on as many threads as `threads` has."""

    def __init__(self, architecture: Architecture, preprocessing: Preprocessing, threads: Threads) -> None:
        self._preprocessing, self._threads = preprocessing, threads
        self._rows = rows_at_once(architecture, CHUNK_ROWS)
        self._chunks = [_Chunk(architecture, self._rows) for _ in range(threads.count)]

    def probabilities(self, network: Network, examples: np.ndarray, number: int = 0) -> FloatArray:
        """Class probabilities, float32 (rows, classes), for a chunk of raw `examples`; valid until the next."""
        chunk = self._chunks[number]
        features = self._preprocessing.features(examples, out=chunk.features[: len(examples)])
        return softmax_in_place(chunk.forward_pass.logits(network, features))

    def answers(self, network: Network, split: Split) -> Answers:
        """The network's answers over a whole split, which has at least one example."""
        class_ids = np.empty(len(split), np.int64)
        confidences = np.empty(len(split), np.float32)

        def score(number: int) -> float:
            loss = 0.0
            for start in range(number * self._rows, len(split), self._rows * self._threads.count):
                part = slice(start, start + self._rows)
                probabilities = self.probabilities(network, split.examples[part], number)
                loss += cross_entropy_sum(probabilities, split.class_ids[part])
                class_ids[part] = probabilities.argmax(axis=1)
                confidences[part] = probabilities.max(axis=1)
            return loss

        loss = sum(self._threads.run(score)) / len(split)
        return Answers(loss, float(np.mean(class_ids == split.class_ids)), class_ids, confidences)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # an answer that is no number is a wrong one
def accuracy_on(network: Network, preprocessing: Preprocessing, split: Split, threads: int = 1) -> float:
    """The share of a split that `network` classifies correctly behind `preprocessing`, as training would measure it."""
    with threads_for(network.architecture, threads) as own_threads:
        return Evaluator(network.architecture, preprocessing, own_threads).answers(network, split).accuracy
