"""Who asked and waits for an answer: how long, whether he is still there, and what his call says beside its message.

Each transport has its own; what answers knows only this.
"""

import time
from collections.abc import Sequence
from typing import Protocol as Interface

ROUTING_KEY, REQUEST_ID = "weightcast-routing-key", "x-request-id"  # metadata


class Counts(Interface):
    """Where the requests of one method are counted: `inference_service.metrics.statistics.MethodCounts`."""

    def answered(self, seconds: Sequence[float], rows: Sequence[int]) -> None:
        """Counts requests that were answered together."""

    def failed(self, code: int, seconds: float) -> None:
        """Counts one that was not, by its gRPC status code."""


class Caller:
    """Waits for one answer.

    Attributes:
        method: what he called, in full.
        counts: where that is counted.
        metadata: what his call says beside its message, as names and values.
        deadline: when he stops waiting, a time of `time.time`.
        arrived: when his message had come, a time of `time.perf_counter`.
        has_gone: whether he has hung up, as far as is known.
    """

    __slots__ = ("arrived", "counts", "deadline", "has_gone", "metadata", "method")

    # Whether his transport sends little more while he waits, so that he may be taken where others are turned away.
    holds_back = False

    def __init__(
        self, method: str, counts: Counts, metadata: Sequence[tuple[str, str | bytes]], deadline: float
    ) -> None:
        self.method = method
        self.counts = counts
        self.metadata = metadata
        self.deadline = deadline
        self.arrived = 0.0
        self.has_gone = False

    def respond(self, reply: bytes | Exception) -> None:
        """Sends the answer, or what is wrong; called once, from any thread."""
        raise NotImplementedError

    def watch(self) -> None:
        """Makes `has_gone` be set when he hangs up, where that is not known by itself."""

    def waits(self) -> bool:
        """Whether an answer would still reach him."""
        return not self.has_gone and self.deadline > time.time()

    def header(self, name: str) -> str | None:
        """A piece of metadata, the first of that name."""
        for key, value in self.metadata:
            if key == name:
                return value if isinstance(value, str) else None
        return None
