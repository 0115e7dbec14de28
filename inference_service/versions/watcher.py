"""The threads that keep what is served equal to what the store says: woken by events, and every few seconds anyway.

One makes versions live and does nothing else. What may wait, versions that are only tried and the disk, is the other's.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from inference_service.versions.model_manager import ModelManager
from shared.errors import StoreUnavailableError

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
log = structlog.get_logger()


class Events(Protocol):
    """What wakes the watcher: `shared.store.model_events.ModelEvents`."""

    def follow(self, models: Sequence[str]) -> None:
        """Makes `wait` wake for these models, and for new ones, from now on."""

    def wait(self, seconds: float) -> bool:
        """Blocks until something was published, or the time has passed."""


class Watcher:
    """Compares with the store, waits, and begins again, until it is stopped. No error ends it."""

    def __init__(
        self, model_names: Callable[[], Sequence[str]], events: Events, manager: ModelManager, seconds: float
    ) -> None:
        self._model_names = model_names
        self._events = events
        self._manager = manager
        self._seconds = seconds
        self._pause = FIRST_PAUSE_SECONDS
        self._stopping = threading.Event()
        self._compared = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name="watcher", daemon=True),
            threading.Thread(target=self._settle, name="settler", daemon=True),
        ]

    def start(self) -> None:
        """Begins to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends with the current wait, or when the connection is closed under it; nothing is lost by either."""
        self._stopping.set()
        self._compared.set()

    def catch_up(self) -> bool:
        """Compares with the store once, in the caller's thread and before `start`; False if that did not succeed.

        What the disk has kept is served then, if the store was never read.
        """
        try:
            self._manager.reconcile(self._followed())
        except StoreUnavailableError as error:
            self._lost(error)
            return False
        except Exception:
            log.exception("reading the store failed")
            self._manager.restore()
            return False
        self._compared.set()
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._manager.follow_live(self._followed())
                self._compared.set()
                self._pause = FIRST_PAUSE_SECONDS
                self._events.wait(self._seconds)
            except StoreUnavailableError as error:
                self._lost(error)
                self._rest()
            except Exception:
                if self._stopping.is_set():
                    return  # the connection was closed under a blocked read, which is how it is meant to end
                log.exception("watching failed; trying again")
                self._manager.restore()
                self._rest()

    def _settle(self) -> None:
        while not self._stopping.is_set():
            self._compared.wait()
            self._compared.clear()
            if self._stopping.is_set():
                return
            try:
                self._manager.settle()
            except StoreUnavailableError:
                pass  # the other thread finds that out too, and comes back
            except Exception:
                if not self._stopping.is_set():
                    log.exception("what may wait could not be done; trying again after the next comparison")

    def _followed(self) -> Sequence[str]:
        models = self._model_names()
        self._events.follow(models)  # before reading, so that no publication falls between reading and waiting
        return models

    def _lost(self, error: StoreUnavailableError) -> None:
        if self._manager.store_contact.reachable:
            log.warning("the store is away; serving what is loaded", error=error.message)
        self._manager.store_lost()
        self._manager.restore()

    def _rest(self) -> None:
        self._stopping.wait(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
