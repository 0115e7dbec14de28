"""The log of single requests: each that was refused, by its id and with the reason; at DEBUG those answered too.

Never what was in a request. A flood of refusals costs ten lines a second, which say how many were left out.
"""

import itertools
import logging
import os
import threading
import time

import structlog

from inference_service.callers import REQUEST_ID, Caller
from inference_service.versions.snapshot_loader import ServedVersion

MOST_A_SECOND = 10
SHOWN = 128  # characters of an id that a client chose
log = structlog.get_logger()


class RequestLog:
    """Writes the lines. Safe to call from any thread."""

    def __init__(self, level: str) -> None:
        self.tells_all = logging.getLevelNamesMapping()[level] <= logging.DEBUG
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._second, self._written, self._left_out = 0, 0, 0

    def answered(self, caller: Caller, served: ServedVersion, rows: int) -> None:
        """One line, where every request has one."""
        if self.tells_all:
            log.debug(
                "answered",
                method=caller.method,
                request_id=self._id_of(caller),
                model=served.model,
                version=served.ref.version,
                rows=rows,
                seconds=seconds_since(caller),
            )

    def has_room(self) -> bool:
        """Whether one more refusal is told of; one that is not counts as left out."""
        with self._lock:
            now = int(time.monotonic())
            if now != self._second:
                self._second, self._written = now, 0
            if self._written >= MOST_A_SECOND and not self.tells_all:
                self._left_out += 1
                return False
            self._written += 1
            return True

    def refused(self, caller: Caller, code: str, reason: str) -> None:
        """One line, for which there is room."""
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        said = {"left_out": left_out} if left_out else {}
        log.info(
            "refused",
            method=caller.method,
            request_id=self._id_of(caller),
            code=code,
            reason=reason,
            seconds=seconds_since(caller),
            **said,
        )

    def _id_of(self, caller: Caller) -> str:
        """What the client called the request; a number of our own where he did not."""
        given = caller.header(REQUEST_ID)
        return given[:SHOWN] if given else f"{os.getpid()}-{next(self._numbers)}"


def seconds_since(caller: Caller) -> float:
    """How long ago the request came; 0 where it was turned away before its message had."""
    return round(time.perf_counter() - caller.arrived, 6) if caller.arrived else 0.0
