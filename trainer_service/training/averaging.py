"""An exponential moving average of the weights, which generalises better than the last step's (Polyak, 1992)."""

import numpy as np

from shared.network import Network
from trainer_service.training.checkpoint import StateArray


class MovingAverage:
    """`network` follows another one; it keeps `decay` of itself at every update, near the beginning less."""

    def __init__(self, network: Network, decay: float) -> None:
        self.network = Network(network.architecture, network.parameters.copy())
        self._decay = decay
        self._updates = np.zeros(1, np.int64)
        self._scratch = np.empty_like(network.parameters)

    def update(self, network: Network) -> None:
        """One step towards `network`."""
        self._updates += 1
        updates = int(self._updates[0])
        decay = min(self._decay, (1 + updates) / (10 + updates))
        np.subtract(network.parameters, self.network.parameters, out=self._scratch)
        np.multiply(self._scratch, np.float32(1 - decay), out=self._scratch)
        np.add(self.network.parameters, self._scratch, out=self.network.parameters)

    def state(self) -> dict[str, StateArray]:
        """All that changes: live arrays by name."""
        return {"parameters": self.network.parameters, "updates": self._updates}
