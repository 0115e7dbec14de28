"""Ends a stream on which nothing has come for too long: a connection that is dead without anybody having said so."""

import math
import threading
import time
from types import TracebackType
from typing import Protocol, Self

CHECK_SECONDS = 0.5


class Cancellable(Protocol):
    """A call under way."""

    def cancel(self) -> object:
        """Ends it."""


class SilenceGuard:
    """Cancels a call when one wait for its next message takes longer than `seconds`; `was_silent` then says so.

    `waiting` begins a wait and `heard` ends it, so that what the receiver does in between is not taken for silence.
    """

    def __init__(self, call: Cancellable, seconds: float) -> None:
        self.was_silent = False
        self._call = call
        self._seconds = seconds
        self._deadline = math.inf
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._guard, daemon=True)

    def waiting(self) -> None:
        """The next message is being waited for."""
        self._deadline = time.monotonic() + self._seconds

    def heard(self) -> None:
        """A message has come."""
        self._deadline = math.inf

    def _guard(self) -> None:
        while not self._over.wait(min(CHECK_SECONDS, self._seconds)):
            if time.monotonic() > self._deadline:
                self.was_silent = True
                self._call.cancel()
                return

    def __enter__(self) -> Self:
        self.waiting()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
