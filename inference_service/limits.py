"""How much one server takes, in one place: what requests are checked against, and what clients are told."""

from dataclasses import dataclass


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
