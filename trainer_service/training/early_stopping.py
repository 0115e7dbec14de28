"""Early stopping: training ends when the validation loss stops falling, with the weights it was smallest with.

Only validation decides; where none is measured, or no patience was asked for, it never ends training.
"""

import numpy as np

from shared.network import Network
from shared.training_spec import EpochMetrics
from trainer_service.training.checkpoint import StateArray


class Best:
    """The weights of the epoch with the smallest validation loss, where early stopping asks for them.

    `metrics` are that epoch's; they and `state` are all that changes.
    """

    def __init__(self, patience: int, network: Network) -> None:
        self._patience = patience
        self._network = Network(network.architecture, np.zeros_like(network.parameters)) if patience else None
        self.metrics: EpochMetrics | None = None

    @property
    def network(self) -> Network | None:
        """The weights, if there are any yet."""
        return self._network if self.metrics else None

    @property
    def epoch(self) -> int:
        """Which epoch's they are, 0 before there are any."""
        return self.metrics.epoch if self.metrics else 0

    def note(self, metrics: EpochMetrics, network: Network) -> None:
        """Keeps a copy of `network` if this epoch's validation loss is the smallest so far."""
        loss, smallest = metrics.validation_loss, self.metrics.validation_loss if self.metrics else None
        if self._network and loss is not None and (smallest is None or loss < smallest):
            self.metrics = metrics
            np.copyto(self._network.parameters, network.parameters)

    def is_over(self, epochs: int) -> bool:
        """Whether of so many epochs the last `patience` brought no smaller loss."""
        return 0 < self.epoch <= epochs - self._patience

    def state(self) -> dict[str, StateArray]:
        """The live weights."""
        return {"parameters": self._network.parameters} if self._network else {}
