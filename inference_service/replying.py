"""Sends answers and refusals to those who wait for them, and counts and logs the answers that went out.

What is wrong with one reply costs nobody else theirs. Refusals are counted by the transport, which knows their code.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import structlog

from inference_service.callers import Caller, Counts
from inference_service.questions import Answer, Request
from inference_service.request_log import RequestLog
from shared.errors import CallerGoneError, DeadlineExceededError, WeightcastError

log = structlog.get_logger()


class Replying:
    """Answers the callers of requests. Safe to call from any thread."""

    def __init__(self, request_log: RequestLog) -> None:
        self._log = request_log

    def send(self, requests: Sequence[Request], answers: Iterable[Answer | Exception]) -> None:
        """Sends each request its answer."""
        replies = [encoded(*each) for each in zip(requests, answers, strict=True)]
        # All are written before the first goes out: what each step runs is in the processor's cache then.
        answered = [request for request, reply in zip(requests, replies, strict=True) if send(request.caller, reply)]
        self.count(answered)

    def count(self, answered: Sequence[Request]) -> None:
        """Counts requests that were answered together just now."""
        now = time.perf_counter()
        by_method: dict[Counts, list[Request]] = {}
        for request in answered:
            by_method.setdefault(request.caller.counts, []).append(request)
        for counts, requests in by_method.items():
            counts.answered([now - each.caller.arrived for each in requests], [each.rows for each in requests])
        if self._log.tells_all:
            for request in answered:
                self._log.answered(request.caller, request.served, request.rows)


def encoded(request: Request, answer: Answer | Exception) -> bytes | Exception:
    """An answer as its protocol writes it, or why there is none."""
    if isinstance(answer, Exception):
        return answer
    try:
        return request.reading.reply(answer)
    except Exception as error:  # noqa: BLE001 - one that cannot be written must not cost the others theirs
        return error


def send(caller: Caller, reply: bytes | Exception) -> bool:
    """Sends a reply; whether an answer went out."""
    try:
        caller.respond(reply)
    except Exception as error:
        log.exception("a reply could not be sent")
        with suppress(Exception):
            caller.respond(error)
        return False
    return isinstance(reply, bytes)


def stopped_waiting(caller: Caller) -> WeightcastError:
    """Why nothing is computed for a caller."""
    if caller.has_gone:
        return CallerGoneError("the caller has hung up")
    return DeadlineExceededError("the deadline passed before this could be begun; allow more time, or send less")
