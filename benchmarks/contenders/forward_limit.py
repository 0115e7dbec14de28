"""The limit: the forward pass's two matrix products alone, in a process of their own, on the service's kernel.

Prints one JSON document: requests per second for each number of rows, and the kernel.
"""

from shared.blas import choose_kernel, running_kernel

choose_kernel()  # before NumPy is loaded

import json
import timeit

import numpy as np
from threadpoolctl import threadpool_limits

ROWS = (1, 32, 1000)
INPUTS, HIDDEN, CLASSES = 784, 256, 10
SECONDS = 0.3


def rate(rows: int, rng: np.random.Generator) -> float:
    """How often a second the products of so many rows can be computed."""
    inputs = rng.random((rows, INPUTS), np.float32)
    first, second = rng.random((INPUTS, HIDDEN), np.float32), rng.random((HIDDEN, CLASSES), np.float32)
    hidden, logits = np.empty((rows, HIDDEN), np.float32), np.empty((rows, CLASSES), np.float32)

    def products() -> None:
        np.matmul(inputs, first, out=hidden)
        np.matmul(hidden, second, out=logits)

    timer = timeit.Timer(products)
    count, _ = timer.autorange()
    repeats = max(3, round(SECONDS / (timer.timeit(count) or SECONDS)))
    return count / min(timer.repeat(repeats, count))


def main() -> None:
    """Measures every number of rows."""
    rng = np.random.default_rng(0)
    with threadpool_limits(1, "blas"):
        rates = {rows: rate(rows, rng) for rows in ROWS}
    print(json.dumps({"kernel": running_kernel(), "rates": rates}))


if __name__ == "__main__":
    main()
