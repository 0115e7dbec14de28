"""Waiting for a store that is away: what has to be done is tried again until it is done, or a time is over."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from shared.errors import StoreUnavailableError

RETRY_SECONDS = 1.0
Result = TypeVar("Result")
log = structlog.get_logger()


def insisting(action: Callable[[], Result], seconds: float, check: Callable[[], None] = lambda: None) -> Result:
    """What `action` returns, tried again while the store is away; `check` may end that by raising.

    Raises:
        StoreUnavailableError: if the store stays away so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except StoreUnavailableError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("waiting for the store", error=error.message)
            check()
            time.sleep(RETRY_SECONDS)
