"""From a request's bytes to its answer's bytes: what arrived together is answered together, and long work elsewhere.

Nobody waits for company: a product's worth is answered as soon as it is there, and less when nothing more has arrived.
Only so many requests are in work, and one more is turned away, so that they keep their time. Who is too busy to see how
many wait takes everything in, now and then, before he goes on.
"""

import time
from collections import deque

from inference_service.callers import Caller
from inference_service.classification import QUICK_MULTIPLY_ADDS, Classification
from inference_service.limits import Limits, Load
from inference_service.long_work import LongWork, Make, shutting_down
from inference_service.pace import Pace
from inference_service.questions import Protocol, Request
from inference_service.recognition import Recognition
from inference_service.replying import Replying, send, stopped_waiting
from shared.errors import CapacityError, InvalidInputError, UnavailableError, WeightcastError

# One product at most: more rows are no faster, and whoever came first waits for all of them.
MOST_REQUESTS = 64
MOST_ROWS = 256
LONGEST_WAIT_SECONDS = 1e-3
WATCHED_FROM = 2 * MOST_REQUESTS  # places in the line whose callers are worth an event when they hang up
QUICKLY_READ_BYTES = 2**16  # a longer message that is not recognised is read by the pool too
QUIET_SECONDS, PAUSE_SECONDS, FAREWELL_SECONDS = 0.1, 0.01, 0.5


class Answering:
    """Answers requests: one thread collects, anybody may `answer`. It `turns_away` who comes when there are enough."""

    def __init__(
        self, classification: Classification, long_work: LongWork, replying: Replying, limits: Limits, load: Load
    ) -> None:
        self._classification = classification
        self._request = classification.request
        self._long_work = long_work
        self._replying = replying
        self._limits = limits
        self._most = limits.max_in_flight
        self._load = load
        self._collected: deque[Request] = deque()
        self._rows = self._multiply_adds = 0  # of all those
        self._pace = Pace()
        # Messages of no more than this need no check of their bytes where there is one of their number.
        self._small = min(limits.max_message_bytes, limits.max_waiting_bytes // limits.max_in_flight)
        self._oldest = self._last_arrival = 0.0  # when the first of those arrived, and the last: of time.perf_counter
        self._busy = CapacityError(
            f"{self._most} requests are in work, as many as may be; send it again later", reason="SERVER_BUSY"
        )
        self._closed: UnavailableError | None = None
        self.turns_away = False
        long_work.on_change = self._tell_load

    @property
    def has_collected(self) -> bool:
        """Whether something waits for `flush`."""
        return bool(self._collected)

    def why_not(self) -> WeightcastError:
        """What to say to who is turned away; the same object each time."""
        return self._closed or self._busy

    def take(self, recognition: Recognition, message: bytes, caller: Caller) -> None:
        """Takes a request in; answers what was collected if it is enough or has waited, or when its time has come."""
        caller.arrived = self._last_arrival = now = time.perf_counter()
        if now > self._pace.until:
            self._on_time()
        if self._collected and now - self._oldest > LONGEST_WAIT_SECONDS and not self._pace.is_taking:
            self.flush()  # however many go on arriving that are not collected
        size = len(message)
        try:
            if self.turns_away or size > self._small:
                self._check_room(size, caller)
            known = recognition.recognised(message)
            if known is None and size > QUICKLY_READ_BYTES:
                self._hand_over(lambda: self._request(*recognition.read(message), caller), size, caller)
                return
            reading, contents = known or recognition.read(message)
            request = self._classification.quick_request(reading, contents, caller)
            if request is None or (work := request.rows * request.served.multiply_adds) > QUICK_MULTIPLY_ADDS:
                made = request  # by which version it is answered is decided once
                self._hand_over(lambda: made or self._request(reading, contents, caller), size, caller)
                return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's answer
            send(caller, error)
            return
        self._collect(request, work)

    def _hand_over(self, make: Make, size: int, caller: Caller) -> None:
        self._long_work.hand_over(make, size, caller)
        self._look_whether_full()

    def _collect(self, request: Request, work: int) -> None:
        collected = self._collected
        if not collected:
            self._oldest = request.caller.arrived
        collected.append(request)
        self._rows += request.rows
        self._multiply_adds += work
        if not self._pace.is_taking:
            if self._is_enough:
                self.flush()
        elif len(collected) >= MOST_REQUESTS:
            self._look_whether_full()
            if len(collected) > WATCHED_FROM:
                request.caller.watch()

    def on_turned_away(self) -> None:
        """Goes on with what was collected, if it is time."""
        self._last_arrival = time.perf_counter()
        self._pace.on_too_many()
        self._on_time()

    def on_nothing_more(self) -> None:
        """Answers what was collected, unless it was one of the looks that may be in vain."""
        if not self._pace.is_taking:
            self.flush()
            self._on_time()
        elif self._pace.on_nothing_more():
            self._on_taken()

    def rest(self) -> None:
        """Nothing has come, and nothing is collected."""
        self._pace.rest()

    def flush(self) -> None:
        """Answers a product's worth of what was collected, the oldest first."""
        if requests := self._next():
            answers, products = self._classification.answers(requests)
            self._replying.send(requests, answers)
            self._classification.count(products)
        self._look_whether_full()
        self._tell_load()

    def answer(self, protocol: Protocol, message: bytes, caller: Caller) -> bytes:
        """The answer to one request, in the caller's own thread.

        Raises:
            WeightcastError: what is wrong with it.
        """
        caller.arrived = self._last_arrival = time.perf_counter()
        if self._closed:
            raise self._closed
        self._check_room(len(message), caller)

        def make() -> Request:
            reading = protocol.read(message)
            return self._request(reading, reading.contents, caller)

        self._long_work.enter(len(message))
        try:
            request, reply = self._long_work.answer(make, caller)
        finally:
            self._long_work.leave(len(message))
        self._replying.count([request])
        return reply

    def drain(self, seconds: float) -> None:
        """Returns when nobody asks any more. Who still does after so many seconds is told to ask elsewhere."""
        self._wait_for_quiet(seconds)
        self._closed = shutting_down()
        self._most = 0
        self.turns_away = True
        self._wait_for_quiet(FAREWELL_SECONDS)

    def give_up(self) -> None:
        """Refuses what was not begun: the process has no more time."""
        self._long_work.give_up()

    def _on_time(self) -> None:
        """Changes from answering to taking in, or back, if it is time."""
        now = time.perf_counter()
        if now > self._pace.until and self._pace.on_time(now):
            self._on_taken()

    def _on_taken(self) -> None:
        """Everything that has come was taken in: answers some of it."""
        self._pace.on_taken(time.perf_counter())
        self.flush()
        while self._is_enough and time.perf_counter() < self._pace.until:
            self.flush()
        self._on_time()

    @property
    def _is_enough(self) -> bool:
        """Whether a product's worth was collected."""
        return (
            self._rows >= MOST_ROWS
            or len(self._collected) >= MOST_REQUESTS
            or self._multiply_adds >= QUICK_MULTIPLY_ADDS
        )

    def _next(self) -> list[Request]:
        """What one product shall answer; who has stopped waiting is let go."""
        requests, now = self._taken_out(), time.time()
        waiting = [request for request in requests if request.caller.deadline > now and not request.caller.has_gone]
        if len(waiting) < len(requests):
            still = set(map(id, waiting))
            for caller in (request.caller for request in requests if id(request) not in still):
                send(caller, stopped_waiting(caller))
        return waiting

    def _taken_out(self) -> list[Request]:
        """Takes a product's worth out of what was collected."""
        collected, taken, rows, work = self._collected, [], 0, 0
        if len(collected) == 1 or not self._is_enough:
            taken = list(collected)
            collected.clear()
            self._rows = self._multiply_adds = 0
            return taken
        while collected and len(taken) < MOST_REQUESTS:
            request = collected[0]
            its_work = request.rows * request.served.multiply_adds
            if taken and (rows + request.rows > MOST_ROWS or work + its_work > QUICK_MULTIPLY_ADDS):
                break
            rows, work = rows + request.rows, work + its_work
            taken.append(collected.popleft())
        self._rows -= rows
        self._multiply_adds -= work
        return taken

    def _look_whether_full(self) -> None:
        self.turns_away = len(self._collected) + self._long_work.count >= self._most

    def _tell_load(self) -> None:
        queued, others = len(self._collected), self._long_work
        self.turns_away &= queued + others.count >= self._most  # who takes in says when there are enough again
        self._load.set_load(queued, queued + others.count, others.waiting_bytes)

    def _check_room(self, size: int, caller: Caller) -> None:
        """Whether a message of so many bytes may come in; who holds back by himself may where others may not."""
        most = self._limits.max_message_bytes
        if size > most:
            raise InvalidInputError.of("request", f"got {size} bytes, expected at most {most}; split the batch")
        in_flight = len(self._collected) + self._long_work.count
        if in_flight >= self._most and not (caller.holds_back and in_flight < 2 * self._most):
            raise self.why_not()
        waiting = sum(len(request.contents) for request in self._collected.copy()) + self._long_work.waiting_bytes
        most = self._limits.max_waiting_bytes * (1 + caller.holds_back)
        if waiting and waiting + size > most:  # one alone is taken however large it is
            raise CapacityError(
                f"requests of {waiting} bytes wait already, {most} may; send it again later", reason="SERVER_BUSY"
            )

    def _wait_for_quiet(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end and now - self._last_arrival < QUIET_SECONDS:
            time.sleep(PAUSE_SECONDS)
