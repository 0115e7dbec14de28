"""A run's sign of life: a thread that says twice a second that the run goes on, and keeps what it is told in return.

The run asks `check` after every minibatch, which costs nothing; so it stops within half a second and a minibatch.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from shared.errors import CancelledError, StoreUnavailableError, WeightcastError
from trainer_service.jobs.job_store import Beat

BEAT_SECONDS = 0.4
JOIN_SECONDS = 5.0
log = structlog.get_logger()


class RunLostError(WeightcastError):
    """The job is no longer this run's: it was closed, or given to another worker. Raised inside the worker only."""

    reason = "RUN_LOST"


class RunStoppedError(WeightcastError):
    """The worker shall end, so the job must go on elsewhere. Raised inside the worker only."""

    reason = "RUN_STOPPED"


class RunOrphanedError(RunStoppedError):
    """The worker that started this run has died, so nobody would notice if the run did too."""

    reason = "RUN_ORPHANED"


class Pulse:
    """Beats from entering to leaving; `beat` says so to the store, `is_orphan` whether the worker has died."""

    def __init__(self, beat: Callable[[], Beat], is_orphan: Callable[[], bool]) -> None:
        self._beat, self._is_orphan = beat, is_orphan
        self._told = Beat.GO_ON
        self._orphaned = self._stop_requested = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def request_stop(self) -> None:
        """Makes `check` end the run; may be called from a signal handler."""
        self._stop_requested = True

    def check(self) -> None:
        """Returns if the run may go on.

        Raises:
            CancelledError: if somebody asked for the job to stop.
            RunLostError: if the job is no longer this run's.
            RunStoppedError: if the worker shall end or has ended.
        """
        if self._told is Beat.LOST:
            raise RunLostError("the job was closed or given to another worker while it ran")
        if self._told is Beat.CANCEL:
            raise CancelledError("cancelled")
        if self._orphaned:
            raise RunOrphanedError("the worker that ran it was killed")
        if self._stop_requested:
            raise RunStoppedError("its worker was told to stop")

    def beat(self) -> None:
        """Says once that the run is alive; a store that is away is no reason to stop.

        Raises:
            StoreUnavailableError: if Redis is away.
        """
        self._told = self._beat()

    def _run(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self._orphaned = self._orphaned or self._is_orphan()
            try:
                self.beat()
            except StoreUnavailableError:
                log.debug("no heartbeat; the store is away")
            except Exception:
                log.exception("no heartbeat")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(JOIN_SECONDS)
