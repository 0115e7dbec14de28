"""When a run's checkpoints are written: after each epoch, every few seconds within one, and when the run has to stop.

A large network's, which take long to write, are written so seldom that they take a tenth of the time at most.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from shared.errors import StoreUnavailableError
from trainer_service.jobs.checkpoint_store import CheckpointStore
from trainer_service.jobs.job_store import Turn
from trainer_service.jobs.pulse import RunLostError
from trainer_service.training.checkpoint import Checkpoint

PAUSE_SECONDS = 3.0
QUICK_SECONDS = 0.1  # what is written as fast as this need not be saved on
LARGEST_SHARE = 0.1

Take = Callable[[], Checkpoint]


class CheckpointWriter:
    """Writes the checkpoints of one run; `take` gives one, and is called only where one is due."""

    def __init__(self, store: CheckpointStore, turn: Turn) -> None:
        self._store, self._turn = store, turn
        self._written = time.monotonic()
        self._cost = 0.0

    def after_step(self, take: Take) -> None:
        """Writes one if the last one is a few seconds old."""
        if time.monotonic() - self._written >= PAUSE_SECONDS and self._is_affordable():
            self.write(take)

    def after_epoch(self, take: Take) -> None:
        """Writes one."""
        if self._is_affordable():
            self.write(take)

    def write(self, take: Take) -> None:
        """Writes one now. A store that is away keeps the last one.

        Raises:
            RunLostError: if the job is no longer this run's.
        """
        started = time.monotonic()
        with suppress(StoreUnavailableError):
            if not self._store.save(self._turn, take()):
                raise RunLostError("the job was closed or given to another worker while it ran")
        self._written = time.monotonic()
        self._cost = self._written - started

    def _is_affordable(self) -> bool:
        return self._cost <= QUICK_SECONDS or self._cost <= LARGEST_SHARE * (time.monotonic() - self._written)
