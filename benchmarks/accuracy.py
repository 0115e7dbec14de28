"""What the presets reach on MNIST's test images, mean of several seeds: `make bench-accuracy`.

Each training is what a job does, in this process, with nothing changed but the seed.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.blas import choose_kernel, running_kernel

choose_kernel()  # before anything below loads NumPy

from rich.console import Console
from rich.table import Table

from shared.training_spec import EpochMetrics
from trainer_service.datasets.mnist import MNIST, load_relative
from trainer_service.presets import PRESETS, SpecRequest, spec_of
from trainer_service.training.loop import Progress, train

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
DATA_DIR = Path(os.environ.get("WEIGHTCAST_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")
console = Console()


@dataclass(frozen=True)
class Trained:
    """One training's end: accuracies 0 to 1, and the seconds it took, evaluation included."""

    seed: int
    test_accuracy: float
    train_accuracy: float
    seconds: float


class Lines:
    """Prints a line an epoch, because a preset may take minutes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_step(self, progress: Progress, _take: object) -> None:
        """Nothing."""

    def on_epoch(self, metrics: EpochMetrics, _take: object) -> None:
        """One line."""
        console.print(
            f"{self._name} epoch {metrics.epoch}  loss {metrics.train_loss:.4f}  test {metrics.test_accuracy:.2%}  "
            f"{metrics.samples_per_second:,.0f} samples/s",
            highlight=False,
        )


def main() -> None:
    """Trains every preset with every seed, prints a table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=tuple(PRESETS), default=list(PRESETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not (DATA_DIR / MNIST.name).is_dir():
        console.print("no MNIST here; set WEIGHTCAST_DATA_DIR to the folder that holds mnist/")
        return
    dataset = load_relative(MNIST, DATA_DIR, DATA_DIR)
    results: dict[str, list[Trained]] = {}
    for preset in options.presets:
        results[preset] = []
        for seed in options.seeds:
            request = SpecRequest("accuracy", MNIST.name, preset, {"seed": seed})
            started = time.perf_counter()
            last = train(
                spec_of(request, (28, 28), 60_000), dataset, Lines(f"{preset}/{seed}"), options.threads
            ).epochs[-1]
            seconds = time.perf_counter() - started
            results[preset].append(Trained(seed, last.test_accuracy, last.train_accuracy, seconds))
    table = Table(title=f"Test accuracy on MNIST, kernel {running_kernel()}, threads {options.threads}")
    for heading in ("preset", "mean", "worst", "best", "seconds each"):
        table.add_column(heading, justify="right")
    for preset, trained in results.items():
        accuracies = [each.test_accuracy for each in trained]
        table.add_row(
            preset,
            f"{statistics.mean(accuracies):.2%}",
            f"{min(accuracies):.2%}",
            f"{max(accuracies):.2%}",
            f"{statistics.median(each.seconds for each in trained):.0f}",
        )
    console.print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    found = {preset: [asdict(each) for each in trained] for preset, trained in results.items()}
    RESULTS.write_text(json.dumps({"kernel": running_kernel(), "threads": options.threads, "presets": found}, indent=2))


if __name__ == "__main__":
    main()
