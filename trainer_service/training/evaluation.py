"""How well a network does on examples it is not being updated with: mean loss and accuracy."""

from dataclasses import dataclass

import numpy as np

from shared.forward_pass import ForwardPass, softmax_in_place
from shared.network import Architecture, FloatArray, Network
from shared.preprocessing import Preprocessing, one_hot
from trainer_service.datasets.dataset import Split
from trainer_service.training.backpropagation import mean_cross_entropy

CHUNK_ROWS = 1000


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats, and the share classified correctly, 0 to 1."""

    loss: float
    accuracy: float


class Evaluator:
    """Buffers for scoring networks of one architecture."""

    def __init__(self, architecture: Architecture, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self._class_count = architecture.class_count
        self._forward_pass = ForwardPass(architecture, CHUNK_ROWS)
        self._features = np.empty((CHUNK_ROWS, architecture.input_size), np.float32)

    def probabilities(self, network: Network, examples: np.ndarray) -> FloatArray:
        """Class probabilities, float32 (rows, classes), for up to CHUNK_ROWS raw `examples`; valid until the next."""
        features = self._preprocessing.scale_bytes(examples, out=self._features[: len(examples)])
        return softmax_in_place(self._forward_pass.logits(network, features))

    def score(self, network: Network, split: Split) -> Score:
        """The network's loss and accuracy over a whole split."""
        loss, correct = 0.0, 0
        for start in range(0, len(split), CHUNK_ROWS):
            class_ids = split.class_ids[start : start + CHUNK_ROWS]
            probabilities = self.probabilities(network, split.examples[start : start + CHUNK_ROWS])
            loss += mean_cross_entropy(probabilities, one_hot(class_ids, self._class_count)) * len(class_ids)
            correct += int(np.count_nonzero(probabilities.argmax(axis=1) == class_ids))
        return Score(loss / len(split), correct / len(split))
