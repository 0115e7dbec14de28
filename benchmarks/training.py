"""The training engine beside PyTorch, Keras, scikit-learn and a plain NumPy loop: `make bench-training`.

Same data, network, batch size, optimizer, learning rate, float32 and threads; each contender in a process of its own,
one of them working at a time, turn after turn, so that a slow minute of the machine is everybody's. Figures are medians
over the rounds. A peer that is not installed is left out with a word; the `bench` extra has them all.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.contenders import entries, report
from benchmarks.contenders.running import ROOT, Contender, Run, say, take_turns
from benchmarks.contenders.task import Task
from shared.blas import CORETYPE, choose_kernel

RESULTS = Path(__file__).parent / "results" / "training.json"
LIBRARIES = ("numpy", "torch", "keras", "jax", "scikit-learn")
TRAIN_EXAMPLES, QUICK_EXAMPLES = 60_000, 6_400
QUICK_ROUNDS = 2
# Settings that change what a library does by itself. The kernel's is dropped, the others are written down.
SETTINGS = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "XLA_", "TORCH_")
GOAL = 0.98
MEBIBYTE = 2**20
SPEED_COLUMNS = {
    "": "contender", "samples/s": "samples_per_second:,", "least": "least:,", "most": "most:,",
    f"× {entries.PYTORCH}": "ratio:.2f",
}  # fmt: skip
SHARE_COLUMNS = {"": "contender", "samples/s": "samples_per_second:,", "share of the limit": "ratio:.0%"}
ACCURACY_COLUMNS = {
    "": "contender", "seconds": "seconds:.2f", "least": "least:.2f", "most": "most:.2f", "epochs": "epochs:g",
    "reached": "reached", "of": "turns", "× Keras on JAX": "ratio:.2f", "accuracy after 1 s": "after_first_second:.2%",
}  # fmt: skip


class Benchmark:
    """One run of the command: what was asked for, and the results so far."""

    def __init__(self, options: argparse.Namespace, kernel: str | None) -> None:
        self._kernel = kernel
        self._threads: int = options.threads
        self._quick: bool = options.quick
        self._rounds: int = QUICK_ROUNDS if options.quick else options.rounds
        self.groups: dict[str, list[report.Row]] = {}

    def speed(self, name: str) -> None:
        """Samples per second of one network with one optimizer."""
        group = entries.SPEED_GROUPS[name]
        say(f"measuring {group.title}{f'; {group.absent}' if group.absent else ''} …")
        contenders = group.contenders
        if self._kernel is None:  # the two plain loops are one
            contenders = tuple(contender for contender in contenders if contender.name != entries.PLAIN_OUR_KERNEL)
        runs = self._take_turns(contenders, group.network, group.optimizer)
        rows = self.groups[name] = report.speed_rows(runs, entries.PYTORCH)
        report.print_table(f"{group.title}, {threads_in_words(self._threads)}", SPEED_COLUMNS, rows)

    def shares(self) -> None:
        """How much of a step is matrix products, at one thread and at all."""
        for threads in sorted({1, self._threads}):
            title = f"mlp, the share of the limit, {threads_in_words(threads)}"
            say(f"measuring {title} …")
            runs = self._take_turns(entries.SHARES, "mlp", "sgd", threads=threads)
            rows = self.groups[f"limit, threads: {threads}"] = report.speed_rows(runs, entries.LIMIT)
            report.print_table(title, SHARE_COLUMNS, rows)

    def accuracy(self) -> None:
        """Wall time from random weights to the goal, and what a training of one epoch reaches."""
        title = f"mlp, from random weights to {GOAL:.0%} test accuracy"
        say(f"measuring {title} …")
        contenders = entries.TO_ACCURACY[:-1] if self._quick else entries.TO_ACCURACY
        # Always on all examples: fewer may never get there.
        rounds = 1 if self._quick else None
        runs = self._take_turns(contenders, "mlp", "adam", examples=TRAIN_EXAMPLES, rounds=rounds, warm_up=False)
        rows = self.groups["accuracy"] = report.accuracy_rows(runs, entries.KERAS, GOAL)
        report.print_table(title, ACCURACY_COLUMNS, rows)
        runs = self._take_turns((entries.ONE_EPOCH,), "mlp", "adam", examples=TRAIN_EXAMPLES)
        seconds, accuracy = runs[0].median("seconds"), runs[0].median("accuracy")
        self.groups["one epoch"] = [{"seconds": seconds, "accuracy": accuracy, "turns": len(runs[0].answers)}]
        say(f"{entries.ONE_EPOCH.name}: test accuracy {accuracy:.2%} after {seconds:.2f} s\n")

    def memory(self) -> None:
        """The most memory that a worker's job has."""
        say("measuring mlp, the memory of a worker's job …")
        runs = self._take_turns((entries.MEMORY,), "mlp", "adam", examples=TRAIN_EXAMPLES, rounds=1, warm_up=False)
        peak = round(runs[0].median("peak_bytes"))
        self.groups["memory"] = [{"peak_bytes": peak}]
        say(f"at most {peak / MEBIBYTE:.0f} MiB ({peak / 1e6:.0f} MB) resident\n")

    def _take_turns(
        self,
        contenders: tuple[Contender, ...],
        network: str,
        optimizer: str,
        *,
        threads: int | None = None,
        examples: int | None = None,
        rounds: int | None = None,
        warm_up: bool = True,
    ) -> list[Run]:
        chosen = examples or (QUICK_EXAMPLES if self._quick else TRAIN_EXAMPLES)
        task = Task(network, optimizer, threads or self._threads, chosen)
        return take_turns(contenders, task, rounds or self._rounds, self._kernel, warm_up=warm_up)

    def about(self) -> dict[str, Any]:
        """What the figures depend on."""
        return {
            "when": datetime.now(UTC).isoformat(),
            "command": " ".join(["python -m benchmarks.training", *sys.argv[1:]]),
            "machine": platform.machine(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "libraries": {name: found for name in LIBRARIES if (found := installed(name))},
            "chosen_kernel": self._kernel,
            "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)},
            "threads": self._threads,
            "rounds": self._rounds,
            "quick": self._quick,
        }


def threads_in_words(count: int) -> str:
    """1 thread, 2 threads."""
    return f"{count} thread" if count == 1 else f"{count} threads"


def installed(name: str) -> str | None:
    """A package's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Its name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*entries.SPEED_GROUPS, "limit", "accuracy", "memory"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="which of the groups, default all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender, default %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of each contender, default %(default)s")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works: few examples, two rounds")
    return parser.parse_args()


def main() -> None:
    """Measures what was asked for, prints tables, writes JSON and a chart."""
    wanted = options()
    data_dir = os.environ.get("WEIGHTCAST_DATA_DIR")
    if not data_dir or not (Path(data_dir) / "mnist").is_dir():
        say("skipped: WEIGHTCAST_DATA_DIR names no folder with mnist/ in it, and nothing is measured on made-up data")
        return
    if dropped := os.environ.pop(CORETYPE, None):
        say(f"{CORETYPE}={dropped} is dropped: every library is measured with the kernel that it comes to by itself")
    # Once for all that are to have it; the others are started without. No NumPy is loaded in this process before.
    benchmark = Benchmark(wanted, choose_kernel())
    others: dict[str, Callable[[], None]] = {
        "limit": benchmark.shares, "accuracy": benchmark.accuracy, "memory": benchmark.memory,
    }  # fmt: skip
    for name in wanted.only:
        if name in others:
            others[name]()
        else:
            benchmark.speed(name)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**benchmark.about(), "groups": benchmark.groups}, indent=2) + "\n")
    say(f"written to {RESULTS.relative_to(ROOT)}")
    charted = {
        entries.SPEED_GROUPS[name].title: rows
        for name, rows in benchmark.groups.items()
        if name in entries.SPEED_GROUPS
    }
    if charted:
        chart = RESULTS.with_suffix(".png")
        drawn = report.draw(charted, chart)
        say(f"written to {chart.relative_to(ROOT)}" if drawn else "no chart: matplotlib is not installed")


if __name__ == "__main__":
    main()
