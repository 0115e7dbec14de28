"""Gradients on several threads: the same numbers as on one, whatever is left over for a thread."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

from shared.layers import Activation, Conv2D, Dense, Flatten, MaxPool2D
from shared.network import Architecture, Network
from shared.recipe import Loss
from trainer_service.training.backpropagation import Backpropagation
from trainer_service.training.parallel import ParallelBackpropagation, Threads

CAPACITY = 7
ARCHITECTURE = Architecture(
    (6, 5),
    (
        Conv2D(3, 3, 1, Activation.RELU),
        MaxPool2D(2),
        Flatten(),
        Dense(4, Activation.TANH),
        Dense(3, Activation.IDENTITY),
    ),
)


def generators(count: int) -> list[np.random.Generator]:
    return np.random.default_rng(0).spawn(count)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_threads_compute_what_one_does(
    make_network: Callable[[Architecture, int], Network], count: int, loss: Loss
) -> None:
    """For full batches, smaller ones after them, and fewer rows than threads; up to rounding, as sums are cut up."""
    network = make_network(ARCHITECTURE, 0)
    rng = np.random.default_rng(1)
    one = Backpropagation(ARCHITECTURE, CAPACITY, loss, rng)
    with Threads(count) as threads:
        several = ParallelBackpropagation(ARCHITECTURE, CAPACITY, loss, threads, generators(count))
        for rows in (7, 2, 1, 5, 7):
            features = rng.normal(0, 1, (rows, 30)).astype(np.float32)
            targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, rows)]
            expected = one.compute(network, features, targets)
            assert several.compute(network, features, targets) == pytest.approx(expected, rel=1e-6)
            np.testing.assert_allclose(several.gradient, one.gradient, rtol=1e-4, atol=1e-7)


def test_the_same_batches_give_the_same_bits(make_network: Callable[[Architecture, int], Network]) -> None:
    """Which thread is ready first does not decide the order of sums."""
    network, rng = make_network(ARCHITECTURE, 0), np.random.default_rng(1)
    features = rng.normal(0, 1, (CAPACITY, 30)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, CAPACITY)]
    results = set()
    with Threads(3) as threads:
        several = ParallelBackpropagation(ARCHITECTURE, CAPACITY, Loss.CROSS_ENTROPY, threads, generators(3))
        for _ in range(20):
            several.compute(network, features, targets)
            results.add(several.gradient.tobytes())
    assert len(results) == 1


def test_work_runs_on_as_many_threads_as_were_asked_for() -> None:
    """All at once, the caller's own among them, with the results in order; afterwards the others are gone."""
    together = threading.Barrier(3)

    def work(number: int) -> tuple[int, int]:
        together.wait(30)
        return number, threading.get_ident()

    before = threading.active_count()
    with Threads(3) as threads:
        results = threads.run(work)
    assert [number for number, _ in results] == [0, 1, 2]
    assert results[0][1] == threading.get_ident()
    assert len({thread for _, thread in results}) == 3
    assert threading.active_count() == before


def test_what_goes_wrong_on_a_thread_is_told_to_the_caller() -> None:
    """An error is not lost with its thread."""

    def work(number: int) -> None:
        if number == 1:
            raise ZeroDivisionError

    with Threads(2) as threads, pytest.raises(ZeroDivisionError):
        threads.run(work)
