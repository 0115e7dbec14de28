"""The processes of a load test from outside: starts them, gathers what they see, and says whether they were the limit.

The figures come from processes of their own, so that showing them disturbs nothing that is measured.
"""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from client.load.figures import Figures, gathered, in_milliseconds, percentiles
from client.load.plan import Plan
from client.load.worker import unpacked

START_SECONDS = 60.0
LEAD_SECONDS = 0.05  # all processes have read when to begin before it is then
BUSY_SHARE = 0.9  # of a core: Python sends on one
LATE_SECONDS = 0.005
TICK_SECONDS = 0.25


Moment = dict[str, object]


class LoadError(Exception):
    """The load could not be made: a process ended before its time, or found no connection."""


@dataclass
class Progress:
    """How far a load test is.

    Attributes:
        seconds: since the start.
        recent: what was seen since the progress before.
        answered, failed: requests so far.
        longest: the longest latency so far, in seconds.
    """

    seconds: float
    recent: Figures
    answered: int
    failed: int
    longest: float

    @property
    def moment(self) -> Moment:
        """What was seen since the progress before, for a JSON document."""
        return {
            "seconds": round(self.seconds, 3),
            "answered": self.recent.answered,
            "failed": self.recent.failed,
            "latency_ms": in_milliseconds(percentiles(self.recent.latencies)),
            "versions": dict(self.recent.versions),
        }


@dataclass
class Result:
    """A whole load test.

    Attributes:
        plan: what was to be done.
        figures: all that was seen.
        seconds: from the start to the last answer.
        busy: the share of a core that the busiest process used.
        stopped: whether it was ended before its end.
        timeline: what was seen a quarter of a second at a time.
    """

    plan: Plan
    figures: Figures
    seconds: float
    busy: float
    stopped: bool = False
    timeline: list[Moment] = field(default_factory=list)

    @property
    def lag(self) -> dict[str, float]:
        """By how many seconds the generator itself was late, as percentiles; empty in a closed loop."""
        return percentiles(self.figures.lags)

    @property
    def waited(self) -> int:
        """Requests of an open loop that were due when every place was taken; their wait is in their latencies."""
        seen = self.figures.answered + self.figures.failed
        return 0 if self.plan.rate is None else max(0, seen - len(self.figures.lags))

    @property
    def generator_was_the_limit(self) -> str:
        """Why these figures say more about the generator than about the service; empty where they do not."""
        reasons = []
        if (late := self.lag.get("p99", 0.0)) > LATE_SECONDS:
            reasons.append(f"1 % of the requests went out more than {late * 1000:.1f} ms after they were due")
        if self.busy >= BUSY_SHARE:
            reasons.append(f"a generating process used {self.busy:.0%} of a core")
        return " and ".join(reasons)


class Process:
    """One generating process, connected and ready when this is made.

    Raises:
        LoadError: if it is not.
    """

    def __init__(self, plan: Plan, requests: Sequence[bytes]) -> None:
        # start_new_session: Ctrl-C reaches the one who started this, who ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "client.load.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        lengths = json.dumps([len(request) for request in requests])
        self._process.stdin.write(f"{plan.to_json()}\n{lengths}\n".encode() + b"".join(requests))
        self._process.stdin.flush()
        self.cpu_seconds = self.seconds = 0.0

    def wait_until_ready(self) -> None:
        """Returns when it is connected.

        Raises:
            LoadError: if it will not be.
        """
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        line = self._process.stdout.readline()
        if not line:
            raise LoadError(f"a generating process ended with exit code {self._process.wait()}; it says above why")
        message = json.loads(line)
        if "error" in message:
            raise LoadError(message["error"])

    def start(self, when: float) -> None:
        """Has it begin at a time of `time.monotonic()`, which is the same for all processes of a machine."""
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        self._process.stdin.write(f"{when}\n".encode())
        self._process.stdin.flush()

    def figures(self) -> Iterator[Figures]:
        """What it sees, as it tells it, to its end.

        Raises:
            LoadError: if it ends before its work does.
        """
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        for line in self._process.stdout:
            message = json.loads(line)
            if "cpu_seconds" in message:
                self.cpu_seconds, self.seconds = message["cpu_seconds"], message["seconds"]
                return
            yield unpacked(message)
        raise LoadError(f"a generating process ended with exit code {self._process.wait()} before its work was done")

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self._process.kill()
        self._process.communicate()


class LoadTest:
    """A plan in work: iterate to follow it, then ask for its result. Use it in a `with`."""

    def __init__(self, plan: Plan, requests: Sequence[bytes], processes: int) -> None:
        self._plan = plan
        self._stack = ExitStack()
        self._parts: list[Figures] = []
        self._timeline: list[Moment] = []
        self._arrived: queue.SimpleQueue[Figures | Exception | None] = queue.SimpleQueue()
        self._started = 0.0
        self._finished = False
        with self._stack:
            self._processes = [Process(part, requests) for part in plan.parts(processes)]
            for process in self._processes:
                self._stack.callback(process.close)
            for process in self._processes:
                process.wait_until_ready()
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Progress]:
        """Begins, and gives a progress every so often, the last one at the end.

        Raises:
            LoadError: if a process fails.
        """
        self._started = time.monotonic() + LEAD_SECONDS
        for process in self._processes:
            process.start(self._started)
            threading.Thread(target=self._read, args=(process,), daemon=True).start()
        working, answered, failed, longest = len(self._processes), 0, 0, 0.0
        while working:
            time.sleep(TICK_SECONDS)
            recent = []
            while not self._arrived.empty():
                arrived = self._arrived.get()
                if isinstance(arrived, Exception):
                    raise arrived
                working -= arrived is None
                recent += [] if arrived is None else [arrived]
            self._parts += recent
            seen = gathered(recent)
            answered, failed = answered + seen.answered, failed + seen.failed
            longest = max(longest, *percentiles(seen.latencies).values(), 0.0)
            progress = Progress(time.monotonic() - self._started, seen, answered, failed, longest)
            self._timeline.append(progress.moment)
            yield progress
        self._finished = True

    def result(self) -> Result:
        """What was seen, up to now where it did not come to its end."""
        so_far = time.monotonic() - self._started
        return Result(
            plan=self._plan,
            figures=gathered(self._parts),
            seconds=max((process.seconds for process in self._processes if process.seconds), default=so_far),
            busy=max((p.cpu_seconds / p.seconds for p in self._processes if p.seconds), default=0.0),
            stopped=not self._finished,
            timeline=self._timeline,
        )

    def _read(self, process: Process) -> None:
        try:
            for figures in process.figures():
                self._arrived.put(figures)
            self._arrived.put(None)
        except (LoadError, ValueError) as error:
            self._arrived.put(error)
