"""A minibatch's gradient on several threads, each with a part of the rows and one BLAS thread.

For networks with convolutions, whose step is as much copying and comparing as multiplying. Fully connected networks are
faster with one thread of ours and BLAS' own threads (`make bench-alternatives` compares the two).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, Self, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from shared.network import Architecture, FloatArray, Network
from shared.recipe import Loss
from trainer_service.training.backpropagation import Backpropagation

Result = TypeVar("Result")


class Gradient(Protocol):
    """What computes a minibatch's gradient: `Backpropagation`, or several of them."""

    gradient: FloatArray

    def compute(self, network: Network, features: FloatArray, targets: FloatArray) -> float:
        """Fills `gradient` and returns the mean loss."""


class Threads:
    """Runs one function on each of `count` threads, the calling one among them."""

    def __init__(self, count: int) -> None:
        self.count = count
        # NumPy's handling of overflows belongs to a thread: divergence is looked for, and told in our own words.
        quiet = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}
        self._others: Executor | None = (
            ThreadPoolExecutor(count - 1, "training", initializer=lambda: np.seterr(**quiet)) if count > 1 else None  # type: ignore[arg-type]
        )

    def run(self, work: Callable[[int], Result]) -> list[Result]:
        """What `work` returns for 0 to count − 1."""
        if self._others is None:
            return [work(0)]
        others = [self._others.submit(work, number) for number in range(1, self.count)]
        return [work(0), *(other.result() for other in others)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._others is not None:
            self._others.shutdown()


@contextmanager
def threads_for(architecture: Architecture, count: int) -> Iterator[Threads]:
    """Threads to compute a network on, `count` in all.

    Fully connected networks leave them to BLAS; the others use them here, with one BLAS thread each.
    """
    ours, of_blas = (count, 1) if architecture.takes_images else (1, count)
    with threadpool_limits(of_blas, "blas"), Threads(ours) as threads:
        yield threads


class ParallelBackpropagation:
    """One `Backpropagation` a thread; `gradient` is the sum of theirs, always added in the same order."""

    def __init__(
        self,
        architecture: Architecture,
        capacity: int,
        loss: Loss,
        threads: Threads,
        rngs: Sequence[np.random.Generator],
    ) -> None:
        self._threads = threads
        part = -(-capacity // threads.count)
        self._parts = [Backpropagation(architecture, part, loss, rng) for rng in rngs[: threads.count]]
        self.gradient = self._parts[0].gradient

    def compute(self, network: Network, features: FloatArray, targets: FloatArray) -> float:
        """Fills `gradient` for a minibatch and returns its mean loss."""
        rows = len(features)
        bounds = [rows * number // self._threads.count for number in range(self._threads.count + 1)]

        def part(number: int) -> float:
            start, stop = bounds[number], bounds[number + 1]
            if start == stop:  # fewer rows than threads
                self._parts[number].gradient.fill(0)
                return 0.0
            return self._parts[number].compute(network, features[start:stop], targets[start:stop], rows)

        loss = sum(self._threads.run(part))
        for other in self._parts[1:]:
            np.add(self.gradient, other.gradient, out=self.gradient)
        return loss
