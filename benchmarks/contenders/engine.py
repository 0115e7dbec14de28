"""This project's engine: `train` itself, whose observer waits for its turn between two epochs.

The clock runs from the end of that wait to the epoch's last step; what `train` measures after an epoch is outside.
"""

import time

from benchmarks.contenders.channel import Channel, task
from shared.training_spec import EpochMetrics
from trainer_service.training.loop import Progress, train


class NoMoreTurns(Exception):  # noqa: N818 - nothing went wrong
    """The way out of `train`."""


class TurnByTurn:
    """An observer that answers after each epoch, and goes on when it is asked to."""

    def __init__(self, channel: Channel, examples: int) -> None:
        self._channel, self._examples = channel, examples
        self._started = self._stopped = 0.0

    def wait(self) -> None:
        """Starts the clock at this contender's turn."""
        if not self._channel.wait():
            raise NoMoreTurns
        self._started = time.perf_counter()

    def on_step(self, progress: Progress, _take: object) -> None:
        """Stops the clock at an epoch's last step."""
        if progress.step == progress.steps_per_epoch:
            self._stopped = time.perf_counter()

    def on_epoch(self, _metrics: EpochMetrics, _take: object) -> None:
        """Answers, and waits."""
        self._channel.answer({"samples_per_second": self._examples / (self._stopped - self._started)})
        self.wait()


def main() -> None:
    """One epoch a turn."""
    mine = task()
    dataset = mine.dataset
    channel = Channel()
    channel.ready()
    observer = TurnByTurn(channel, len(dataset.train))
    try:
        observer.wait()
        train(mine.spec, dataset, observer, mine.threads)
    except NoMoreTurns:
        pass


if __name__ == "__main__":
    main()
