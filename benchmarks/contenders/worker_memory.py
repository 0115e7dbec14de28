"""The memory of a worker's job: everything a worker loads, MNIST, a training of a preset, and the snapshot of it."""

import resource
from pathlib import Path

import rq

from benchmarks.contenders.channel import Channel, task
from benchmarks.contenders.engine_accuracy import Stopwatch
from shared.training_spec import EpochMetrics
from trainer_service.jobs import run_job
from trainer_service.publishing import library_versions, snapshot_of
from trainer_service.training.loop import train

WORKER_LOADS = (rq, run_job)  # besides what is used here
JOB = "benchmark"
EPOCHS = 2  # everything is made in the first


class Watcher(Stopwatch):
    """An observer that never ends training."""

    def on_epoch(self, metrics: EpochMetrics, _take: object) -> None:
        """Takes down the accuracy."""
        self.curve.append((0.0, metrics.test_accuracy))


def peak_bytes() -> int:
    """The most this process had in memory at a time: Linux' own mark, which starts anew with a program."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """One job a turn."""
    mine = task()
    channel = Channel()
    channel.ready()
    while channel.wait():
        dataset = mine.dataset
        spec = mine.preset({"epochs": EPOCHS})
        watcher = Watcher()
        trained = train(spec, dataset, watcher, mine.threads)
        snapshot = snapshot_of(trained, spec, dataset, JOB, library_versions(mine.threads))
        channel.answer({
            "peak_bytes": peak_bytes(), "accuracy": watcher.curve[-1][1], "snapshot_bytes": len(snapshot.weights),
        })  # fmt: skip


if __name__ == "__main__":
    main()
