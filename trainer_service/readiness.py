"""Says whether the trainer can do its work: whether the store answers, asked each time `look` is called."""

from collections.abc import Callable

import structlog

from shared.errors import StoreUnavailableError

log = structlog.get_logger()


class Readiness:
    """Asks `ping` and tells `announce` whether it answered."""

    def __init__(self, ping: Callable[[], None], announce: Callable[[bool], None]) -> None:
        self._ping = ping
        self._announce = announce
        self._was_ready: bool | None = None

    def look(self) -> None:
        """Asks and tells once."""
        self._announce(self._is_ready())

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
