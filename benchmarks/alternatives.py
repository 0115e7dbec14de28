"""What the training engine does beside what it could do instead, measured side by side: `make bench-alternatives`.

Each line is a choice in the code: the first way is the one taken. Medians over rounds in which the ways take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from math import prod

from shared.blas import choose_kernel, running_kernel

choose_kernel()  # before anything below loads NumPy

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from shared import convolution
from shared.convolution import Conv2DForward
from shared.layers import Activation, Conv2D
from shared.network import Network
from shared.recipe import Loss
from shared.training_spec import TrainingSpec
from trainer_service.presets import SpecRequest, spec_of
from trainer_service.training.backpropagation import Backpropagation
from trainer_service.training.optimizers import Adam
from trainer_service.training.parallel import Gradient, ParallelBackpropagation, Threads

ROWS = 128
ROUND_SECONDS = 0.25
MNIST = (28, 28)
console = Console()
Way = Callable[[], object]


def microseconds(way: Way) -> float:
    """What one call takes, over a quarter of a second of them."""
    calls, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < ROUND_SECONDS:
        way()
        calls += 1
    return seconds / calls * 1e6


def compare(table: Table, what: str, ways: dict[str, Way], rounds: int) -> None:
    """Lets the ways take turns and adds a row for each."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(microseconds(way))
    medians = {name: statistics.median(times) for name, times in found.items()}
    taken = next(iter(medians.values()))
    for name, median in medians.items():
        table.add_row(what, name, f"{median:,.0f}", f"{median / taken:.2f}")
        what = ""


def filter_gradients() -> dict[str, Way]:
    """32 filters of 16 × 5 × 5 over 64 images of 14 × 14."""
    rng = np.random.default_rng(0)
    windows = rng.random((400, 14 * 14 * 64), dtype=np.float32)
    deltas = rng.random((32, 14 * 14 * 64), dtype=np.float32)
    across, along = np.empty((400, 32), np.float32), np.empty((32, 400), np.float32)
    return {
        "windows · deltasᵀ": lambda: np.matmul(windows, deltas.T, out=across),
        "deltas · windowsᵀ": lambda: np.matmul(deltas, windows.T, out=along),
    }


def first_convolution() -> dict[str, Way]:
    """6 filters of 5 × 5 over 64 images of 28 × 28, cut into strips or not."""
    layer = Conv2D(6, 5, 2, Activation.RELU)
    rng = np.random.default_rng(0)
    images = rng.random((1, 28, 28, 64), dtype=np.float32)
    parameters = Network(spec("lenet").architecture(MNIST, 10), rng.random(61706, dtype=np.float32)).layers[0]
    cut = Conv2DForward(layer, (1, 28, 28), 64)
    small, convolution.SMALL_PRODUCT = convolution.SMALL_PRODUCT, 0
    whole = Conv2DForward(layer, (1, 28, 28), 64)
    convolution.SMALL_PRODUCT = small

    def in_one() -> None:
        convolution.SMALL_PRODUCT = 0
        whole.run(parameters, images)
        convolution.SMALL_PRODUCT = small

    return {"strips of small products": lambda: cut.run(parameters, images), "one product": in_one}


def adam() -> dict[str, Way]:
    """One update of the 203,530 parameters of 784–256–10."""
    count = prod((784, 256)) + 256 + 2560 + 10
    rng = np.random.default_rng(0)
    parameters, gradient = (rng.standard_normal(count).astype(np.float32) for _ in range(2))
    kept, whole = gradient.copy(), Adam(count)
    block = 2**14
    blocks = [(slice(start, start + block), Adam(len(kept[start : start + block]))) for start in range(0, count, block)]

    def in_one() -> None:
        np.copyto(gradient, kept)
        whole.update(parameters, gradient, 1e-3)

    def by_blocks() -> None:
        np.copyto(gradient, kept)
        for part, optimizer in blocks:
            optimizer.update(parameters[part], gradient[part], 1e-3)

    return {"the whole vector, pass by pass": in_one, "blocks that fit the cache": by_blocks}


def spec(preset: str) -> TrainingSpec:
    """A preset's spec."""
    return spec_of(SpecRequest("alternatives", "mnist", preset, {"seed": 0}), MNIST, 60_000)


def gradient_steps(preset: str, threads: Threads) -> dict[str, Way]:
    """A minibatch's gradient with BLAS' own threads, and with as many threads of ours."""
    rng = np.random.default_rng(0)
    architecture = spec(preset).architecture(MNIST, 10)
    network = Network(architecture, rng.normal(0, 0.05, architecture.parameter_count).astype(np.float32))
    features = rng.random((ROWS, 784), dtype=np.float32)
    targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, ROWS)]

    def step(gradient: Gradient, blas_threads: int) -> Way:
        def run() -> None:
            gradient.compute(network, features, targets)

        def limited() -> None:
            with threadpool_limits(blas_threads, "blas"):
                for _ in range(10):
                    run()

        return limited

    by_blas = step(Backpropagation(architecture, ROWS, Loss.CROSS_ENTROPY, rng), threads.count)
    by_us = step(ParallelBackpropagation(architecture, ROWS, Loss.CROSS_ENTROPY, threads, rng.spawn(threads.count)), 1)
    ways = {f"{threads.count} BLAS threads, 10 steps": by_blas, f"{threads.count} parts, 10 steps": by_us}
    return dict(reversed(ways.items())) if architecture.takes_images else ways


def main() -> None:
    """Measures every choice and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    table = Table(title=f"Kernel {running_kernel()}")
    for heading in ("choice", "way", "µs", "ratio"):
        table.add_column(heading, justify="right" if heading in ("µs", "ratio") else "left")
    with threadpool_limits(1, "blas"):
        compare(table, "gradient of filters", filter_gradients(), options.rounds)
        compare(table, "first convolution", first_convolution(), options.rounds)
        compare(table, "Adam", adam(), options.rounds)
    with Threads(options.threads) as threads:
        for preset in ("mlp", "lenet"):
            compare(table, f"threads for {preset}", gradient_steps(preset, threads), options.rounds)
    console.print(table)


if __name__ == "__main__":
    main()
