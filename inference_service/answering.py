"""From a request's bytes to its answer's bytes: what arrived together is answered together, and long work elsewhere.

Nobody waits for company: the caller says when nothing more has arrived, and then what was collected is answered by one
product. What would keep the others waiting, a version or an image to read or a large batch, goes to a pool of
threads, and what waits for that is bounded.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

import structlog

from inference_service.classification import QUICK_MULTIPLY_ADDS, Classification, Request
from inference_service.questions import Answer, Contents, Protocol, Reading
from inference_service.recognition import Recognition
from shared.errors import CapacityError, UnavailableError

# Collected at most: more rows in one product are no faster, and whoever came first waits for all of them.
MOST_REQUESTS = 64
MOST_ROWS = 256
LONGEST_WAIT_SECONDS = 1e-3
QUICKLY_READ_BYTES = 2**16  # a longer message that is not recognised is read by the pool too
OVERHEAD_BYTES = 2**12  # what a waiting request takes beside its message
# Called once, from any thread, with the answer's bytes or with what is wrong.
Respond = Callable[[bytes | Exception], None]
# Gives what a request asks, and its numbers.
Read = Callable[[], tuple[Reading, Contents]]
log = structlog.get_logger()


class Answering:
    """Answers requests; `take` and `flush` belong to one thread, `answer` may be called from any.

    Args:
        classification: what answers.
        pool: where long work is done.
        max_waiting_bytes: how much the requests that wait for the pool may hold together.
    """

    def __init__(self, classification: Classification, pool: Executor, max_waiting_bytes: int) -> None:
        self._classification = classification
        self._pool = pool
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._waiting_lock = threading.Lock()
        self._cores = threading.Semaphore(len(os.sched_getaffinity(0)))  # more products at a time only take turns
        self._collected: list[tuple[Request, Respond]] = []
        self._rows = self._multiply_adds = 0
        self._oldest = 0.0  # when the first of those arrived, of time.perf_counter
        self._has_given_up = threading.Event()

    @property
    def has_collected(self) -> bool:
        """Whether something waits for `flush`."""
        return bool(self._collected)

    def take(self, recognition: Recognition, message: bytes, respond: Respond) -> None:
        """Takes a request in, and answers what was collected if it is enough or has waited."""
        arrived = time.perf_counter()
        if self._collected and arrived - self._oldest > LONGEST_WAIT_SECONDS:
            self.flush()  # however many go on arriving that are not collected
        try:
            known = recognition.recognised(message)
            if known is None and len(message) > QUICKLY_READ_BYTES:
                self._hand_over(lambda: recognition.read(message), len(message), arrived, respond)
                return
            reading, contents = known or recognition.read(message)
            request = self._classification.quick_request(reading, contents, arrived)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's answer
            send(respond, error)
            return
        if request is None:
            self._hand_over(lambda: (reading, contents), len(message), arrived, respond)
            return
        if not self._collected:
            self._oldest = arrived
        self._collected.append((request, respond))
        self._rows += request.rows
        self._multiply_adds += request.rows * request.served.multiply_adds
        is_enough = self._rows >= MOST_ROWS or self._multiply_adds >= QUICK_MULTIPLY_ADDS
        if is_enough or len(self._collected) >= MOST_REQUESTS:
            self.flush()

    def flush(self) -> None:
        """Answers what was collected."""
        collected, self._collected, self._rows, self._multiply_adds = self._collected, [], 0, 0
        answers = self._classification.answers([request for request, _ in collected])
        for (request, respond), answer in zip(collected, answers, strict=True):
            send(respond, encoded(request.reading, answer))

    def give_up(self) -> None:
        """Refuses what still waits for the pool, and what comes: the process has no more time."""
        self._has_given_up.set()

    def answer(self, protocol: Protocol, message: bytes) -> bytes:
        """The answer to one request, in the caller's own thread.

        Raises:
            WeightcastError: what is wrong with it.
        """
        arrived = time.perf_counter()
        reading = protocol.read(message)
        reply = self._answer_long(lambda: (reading, reading.contents), arrived)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _hand_over(self, read: Read, size: int, arrived: float, respond: Respond) -> None:
        """Has a request answered by the pool, if there is room for it; `read` gives what it asks."""
        size += OVERHEAD_BYTES
        with self._waiting_lock:
            waiting = self._waiting_bytes
            if has_room := waiting == 0 or waiting + size <= self._max_waiting_bytes:
                self._waiting_bytes += size
        if not has_room:
            message = f"requests of {waiting} bytes wait already, {self._max_waiting_bytes} may; try again later"
            send(respond, CapacityError(message, reason="SERVER_BUSY"))
            return

        def work() -> None:
            try:
                reply = self._answer_long(read, arrived)
            finally:
                with self._waiting_lock:
                    self._waiting_bytes -= size
            send(respond, reply)

        try:
            self._pool.submit(work)
        except RuntimeError:  # the pool was shut down
            send(respond, shutting_down())

    def _answer_long(self, read: Read, arrived: float) -> bytes | Exception:
        try:
            if self._has_given_up.is_set():
                return shutting_down()
            reading, contents = read()
            request = self._classification.request(reading, contents, arrived)
            with self._cores:
                (answer,) = self._classification.answers([request])
        except Exception as error:  # noqa: BLE001 - as above
            return error
        return encoded(reading, answer)


def shutting_down() -> UnavailableError:
    """What is said to whoever comes too late."""
    return UnavailableError("the service is shutting down; ask another", reason="SHUTTING_DOWN")


def send(respond: Respond, reply: bytes | Exception) -> None:
    """Sends a reply; what cannot be sent must not cost the others theirs, nor leave its asker without a word."""
    try:
        respond(reply)
    except Exception as error:
        log.exception("an answer could not be sent")
        with suppress(Exception):
            respond(error)


def encoded(reading: Reading, answer: Answer | Exception) -> bytes | Exception:
    """An answer as its asker's protocol writes it; an error as it is."""
    if isinstance(answer, Exception):
        return answer
    try:
        return reading.reply(answer)
    except Exception as error:  # noqa: BLE001 - one answer that cannot be written must not cost the others theirs
        return error
