"""The limit: the matrix products of a fully connected network's step, forwards and backwards, and nothing else."""

from itertools import pairwise

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.contenders.channel import BATCH_SIZE, run_turns, task
from shared.network import FloatArray


class Products:
    """One layer's three: forwards, its weight's gradient, and the deltas below (not for the first layer)."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, *, is_first: bool) -> None:
        self._inputs = rng.standard_normal((BATCH_SIZE, inputs), np.float32)
        self._weight = rng.standard_normal((inputs, outputs), np.float32)
        self._deltas = rng.standard_normal((BATCH_SIZE, outputs), np.float32)
        self._outputs, self._gradient = np.empty_like(self._deltas), np.empty_like(self._weight)
        self._deltas_below: FloatArray | None = None if is_first else np.empty_like(self._inputs)

    def forwards(self) -> None:
        """(rows, inputs) · (inputs, outputs)."""
        np.matmul(self._inputs, self._weight, out=self._outputs)

    def backwards(self) -> None:
        """(inputs, rows) · (rows, outputs), then (rows, outputs) · (outputs, inputs)."""
        np.matmul(self._inputs.T, self._deltas, out=self._gradient)
        if self._deltas_below is not None:
            np.matmul(self._deltas, self._weight.T, out=self._deltas_below)


def main() -> None:
    """As many steps a turn as an epoch has full minibatches."""
    mine = task()
    rng = np.random.default_rng(0)
    sizes = [size for (size,) in mine.architecture.shapes]
    layers = [Products(*pair, rng, is_first=index == 0) for index, pair in enumerate(pairwise(sizes))]
    steps = mine.examples // BATCH_SIZE

    def products() -> int:
        for _ in range(steps):
            for layer in layers:
                layer.forwards()
            for layer in reversed(layers):
                layer.backwards()
        return steps * BATCH_SIZE

    with threadpool_limits(mine.threads, "blas"):
        run_turns(products)


if __name__ == "__main__":
    main()
