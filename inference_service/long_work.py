"""Requests that would keep others waiting, answered by a pool of threads.

Nothing is begun for a caller who has gone or whose deadline has passed.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from inference_service.callers import Caller
from inference_service.classification import Classification
from inference_service.questions import Request
from inference_service.replying import Replying, send, stopped_waiting
from shared.errors import UnavailableError

OVERHEAD_BYTES = 2**12  # what a waiting request takes beside its message
Make = Callable[[], Request]


class LongWork:
    """Hands requests over to `pool`; `count` and `waiting_bytes` are what it has not answered yet.

    `on_change` is called after each change of these.
    """

    def __init__(self, classification: Classification, replying: Replying, pool: Executor) -> None:
        self._classification = classification
        self._replying = replying
        self._pool = pool
        self._lock = threading.Lock()
        self._has_given_up = threading.Event()
        self._cores = threading.Semaphore(len(os.sched_getaffinity(0)))  # more products at a time only take turns
        self.count = self.waiting_bytes = 0
        self.on_change: Callable[[], None] = lambda: None

    def hand_over(self, make: Make, size: int, caller: Caller) -> None:
        """Has a request answered whose message has `size` bytes; `make` gives it.

        Raises:
            UnavailableError: SHUTTING_DOWN, if the pool takes nothing any more.
        """
        is_refused = False

        def work() -> None:
            if is_refused:
                return
            try:
                request, reply = self.answer(make, caller)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's answer
                self.leave(size)
                send(caller, error)
            else:
                self.leave(size)
                if send(caller, reply):
                    self._replying.count([request])

        self.enter(size)
        caller.watch()
        try:
            self._pool.submit(work)
        except RuntimeError:  # it was shut down, or can start no thread, and may have the work all the same
            is_refused = True
            self.leave(size)
            raise shutting_down() from None

    def enter(self, size: int) -> None:
        """Counts a request in whose message has `size` bytes."""
        self._change(1, size + OVERHEAD_BYTES)

    def leave(self, size: int) -> None:
        """Counts it out."""
        self._change(-1, -size - OVERHEAD_BYTES)

    def answer(self, make: Make, caller: Caller) -> tuple[Request, bytes]:
        """A request and its answer, in the caller's own thread.

        Raises:
            WeightcastError: what is wrong with it.
        """
        if self._has_given_up.is_set():
            raise shutting_down()
        if not caller.waits():
            raise stopped_waiting(caller)
        request = make()
        with self._cores:
            if not caller.waits():  # another one had the core
                raise stopped_waiting(caller)
            (answer,), products = self._classification.answers([request])
        self._classification.count(products)
        if isinstance(answer, Exception):
            raise answer
        return request, request.reading.reply(answer)

    def give_up(self) -> None:
        """Refuses what was not begun, and what comes: the process has no more time."""
        self._has_given_up.set()

    def _change(self, count: int, size: int) -> None:
        with self._lock:
            self.count += count
            self.waiting_bytes += size
        self.on_change()


def shutting_down() -> UnavailableError:
    """What is said to whoever comes too late."""
    return UnavailableError("the service is shutting down; ask another", reason="SHUTTING_DOWN")
