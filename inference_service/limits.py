"""How much one server takes, in one place: what requests are checked against, and what clients are told."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Limits:
    """The limits of one process.

    Attributes:
        max_rows: rows of one request.
        max_message_bytes: of one request.
        max_in_flight: requests in work at a time.
        max_waiting_bytes: of the messages of all that wait, together.
    """

    max_rows: int
    max_message_bytes: int
    max_in_flight: int
    max_waiting_bytes: int


class Load(Protocol):
    """Where it is told how much of that is taken: `inference_service.metrics.statistics.Statistics`."""

    def set_load(self, queued: int, in_flight: int, waiting_bytes: int) -> None:
        """Requests that wait for their product; those and all others in work; the bytes of the others' messages."""
