"""Says whether the trainer can do its work: whether the store answers, asked every second."""

import threading
from collections.abc import Callable

import structlog

from shared.errors import StoreUnavailableError

INTERVAL_SECONDS = 1.0
JOIN_SECONDS = 1.0
log = structlog.get_logger()


class Readiness:
    """A thread that asks `ping` and tells `announce` whether it answered."""

    def __init__(self, ping: Callable[[], None], announce: Callable[[bool], None]) -> None:
        self._ping = ping
        self._announce = announce
        self._stopping = threading.Event()
        self._was_ready: bool | None = None
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the current question; nothing is announced once this has returned."""
        self._stopping.set()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while True:
            self._announce(self._is_ready())
            if self._stopping.wait(INTERVAL_SECONDS):
                return

    def _is_ready(self) -> bool:
        try:
            self._ping()
        except StoreUnavailableError as error:
            if self._was_ready is not False:
                log.warning("the store is away; jobs cannot be created or read", error=error.message)
            self._was_ready = False
        else:
            self._was_ready = True
        return self._was_ready
