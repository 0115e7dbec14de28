"""What a load test does, as a value: how many requests go where, how fast and for how long.

A plan is always bounded, by a time or by a number of requests, and splits into one part for each process.
"""

import json
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Plan:
    """One load test, or one process's part of it.

    Attributes:
        address: `host:port` of the inference service.
        method: a name in `methods.METHODS`.
        rows: rows in each request.
        connections: TCP connections, each with a channel of its own.
        in_flight: requests under way at once on each connection; more that are due wait for a place.
        rate: requests due in a second (open loop); None sends the next when an answer has come (closed loop).
        seconds: how long requests become due; None where `requests` alone ends it.
        requests: how many there are at most; None where `seconds` alone ends it.
        timeout: seconds that a request may take, counted from the moment it was due.
        offset: which request of the whole test is this part's first, counted from 0.
        stride: every how manieth of the whole test's due times is this part's.
    """

    address: str
    method: str
    rows: int
    connections: int
    in_flight: int
    rate: float | None
    seconds: float | None
    requests: int | None
    timeout: float
    offset: int = 0
    stride: int = 1

    def due(self, number: int) -> float:
        """Seconds from the start until this part's request `number` is due, in an open loop."""
        if self.rate is None:
            raise ValueError("got a plan without a rate, expected one with it: only an open loop has due times")
        return (self.offset + number * self.stride) / self.rate

    def parts(self, count: int) -> list["Plan"]:
        """The plan as `count` plans for processes that work side by side; together they do what this one says."""
        return [
            replace(
                self,
                connections=share(self.connections, count, index),
                requests=None if self.requests is None else share(self.requests, count, index),
                offset=index,
                stride=count,
            )
            for index in range(count)
        ]

    def to_json(self) -> str:
        """The plan for a process's standard input."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Plan":
        """The plan that `to_json` wrote."""
        return cls(**json.loads(text))


def share(total: int, count: int, index: int) -> int:
    """How much of a total the part `index` of `count` gets: as even as it goes, the first ones one more."""
    return total // count + (index < total % count)
