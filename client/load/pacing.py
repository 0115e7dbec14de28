"""When a request goes out: at its due time in an open loop, after an answer in a closed one.

In an open loop a request that is due while every place is taken waits for one, and its latency counts from when it was
due: a service that stalls is charged with all the requests that it kept waiting, not only with those it held.
"""

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError

from client.load.figures import Figures
from client.load.lanes import Lane, Outcome
from client.load.methods import Method, WrongAnswerError
from client.load.plan import Plan

REST_SECONDS = 0.01  # a closed loop asks a service that refuses no oftener than that, for each place
LONGEST_SLEEP = 0.005
WRONG_ANSWER = "WRONG_ANSWER"
LATE = "DEADLINE_EXCEEDED"


class Recorder:
    """What has been seen since the last look. Any thread may record."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._latencies: list[float] = []
        self._lags: list[float] = []
        self._versions: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._messages: dict[str, str] = {}

    def answered(self, latency: float, version: str) -> None:
        """A request was answered."""
        with self._lock:
            self._latencies.append(latency)
            self._versions[version] += 1

    def failed(self, latency: float, code: str, message: str) -> None:
        """A request failed. Only where no answer came in time does its latency count, for it is at least that."""
        with self._lock:
            self._failures[code] += 1
            self._messages.setdefault(code, message)
            if code == LATE:
                self._latencies.append(latency)

    def lagged(self, seconds: float) -> None:
        """A request had a place to go and went that much later."""
        with self._lock:
            self._lags.append(seconds)

    def take(self) -> Figures:
        """What was seen since the last call."""
        with self._lock:
            latencies, lags = self._latencies, self._lags
            counts = self._versions, self._failures, self._messages
            self._clear()
        return Figures(np.array(latencies, np.float32), np.array(lags, np.float32), *counts)


class Pacer:
    """One process's part of a load test, from `run`'s call to its return."""

    def __init__(
        self, plan: Plan, method: Method, requests: Sequence[bytes], lanes: Sequence[Lane], recorder: Recorder
    ) -> None:
        self._plan = plan
        self._method = method
        self._requests = itertools.cycle(requests)
        self._recorder = recorder
        # Place by place and not lane by lane, so that a few requests under way are on all connections.
        self._free = deque(lane for _ in range(plan.in_flight) for lane in lanes)
        self._places = len(self._free)
        self._waiting: deque[float] = deque()  # due times that found no place
        self._resting: deque[tuple[float, Lane]] = deque()
        self._left = plan.requests if plan.rate is None else None
        self._ends = float("inf")
        self._lock = threading.Lock()

    def run(self, start: float) -> None:
        """Begins at `time.monotonic()` `start`; returns when every request has ended."""
        if self._plan.seconds is not None:
            self._ends = start + self._plan.seconds
        time.sleep(max(0.0, start - time.monotonic()))
        if self._plan.rate is None:
            self._fill_places()
        else:
            self._keep_to_schedule(start)
        # Whatever is under way or waits ends by its own deadline at the latest, and then gives its place back.
        while not self._all_ended():
            time.sleep(LONGEST_SLEEP)
            while self._resting and (self._over() or self._resting[0][0] <= time.monotonic()):
                self._go_on(self._resting.popleft()[1])

    def _keep_to_schedule(self, start: float) -> None:
        for number in itertools.count():
            due = start + self._plan.due(number)
            if due >= self._ends or number == self._plan.requests:
                return
            while (early := due - time.monotonic()) > 0:
                time.sleep(min(early, LONGEST_SLEEP))
            with self._lock:
                if not self._free:
                    self._waiting.append(due)
                    continue
                lane = self._free.popleft()
            self._recorder.lagged(time.monotonic() - due)
            self._send(lane, due)

    def _fill_places(self) -> None:
        with self._lock:
            lanes = list(self._free)
            self._free.clear()
        for lane in lanes:
            self._go_on(lane)

    def _all_ended(self) -> bool:
        with self._lock:
            return len(self._free) == self._places and not self._waiting

    def _over(self) -> bool:
        return self._left == 0 or time.monotonic() >= self._ends

    def _send(self, lane: Lane, due: float) -> None:
        def done(outcome: Outcome) -> None:
            self._record(due, outcome)
            if outcome.code and self._plan.rate is None:
                self._resting.append((outcome.ended + REST_SECONDS, lane))
            else:
                self._go_on(lane)

        lane.send(next(self._requests), due + self._plan.timeout - time.monotonic(), done)

    def _record(self, due: float, outcome: Outcome) -> None:
        latency = outcome.ended - due
        if outcome.code:
            self._recorder.failed(latency, outcome.code, outcome.message)
            return
        try:
            version = self._method.version_of(outcome.answer, self._plan.rows)
        except (WrongAnswerError, DecodeError) as error:
            self._recorder.failed(latency, WRONG_ANSWER, str(error))
        else:
            self._recorder.answered(latency, version)

    def _go_on(self, lane: Lane) -> None:
        """The place's next request, or nothing more to do for it now."""
        due = self._next_due(lane)
        if due is not None:
            self._send(lane, due)

    def _next_due(self, lane: Lane) -> float | None:
        with self._lock:
            now = time.monotonic()
            if self._plan.rate is None and not self._over():
                if self._left is not None:
                    self._left -= 1
                return now
            while self._waiting:
                due = self._waiting.popleft()
                if due + self._plan.timeout > now:
                    return due
                self._recorder.failed(now - due, LATE, "no place on any connection came free in time")
            self._free.append(lane)
            return None
