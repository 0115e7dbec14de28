"""What a process does every so often beside its main work, on one thread. A chore that fails is tried again later."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from shared.errors import StoreUnavailableError

JOIN_SECONDS = 5.0
TICK_SECONDS = 0.25
log = structlog.get_logger()


@dataclass
class Chore:
    """Something to do every `seconds`."""

    name: str
    do: Callable[[], object]
    seconds: float
    due: float = field(default=0.0, init=False)


class Chores:
    """Does each of its chores when it is due, from `start` to `stop`."""

    def __init__(self, *chores: Chore) -> None:
        self._chores = chores
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the current chore."""
        self._stopping.set()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for chore in self._chores:
                if time.monotonic() >= chore.due:
                    self._do(chore)
                    chore.due = time.monotonic() + chore.seconds
            self._stopping.wait(TICK_SECONDS)

    @staticmethod
    def _do(chore: Chore) -> None:
        try:
            chore.do()
        except StoreUnavailableError as error:
            log.debug("left for later; the store is away", chore=chore.name, error=error.message)
        except Exception:
            log.exception("a chore failed; trying again", chore=chore.name)
