"""Recognises messages that differ from an earlier one in nothing but their numbers, and need not be read again.

A caller sends the same model, shape and options time after time. What was read once holds for each message that has the
same length and the same bytes before and after the numbers: two comparisons instead of a parse and its objects, and
no copy of the numbers.
"""

from typing import NamedTuple

from inference_service.questions import Contents, Protocol, Reading

MAX_FRAME_BYTES = 4096  # before and after the numbers together; what is longer is read each time
MAX_LENGTHS = 256
MAX_FRAMES = 4  # of one length


class Frame(NamedTuple):
    """What stands around the numbers, and what the whole was read as."""

    before: bytes
    after: bytes
    start: int
    end: int
    reading: Reading


class Recognition:
    """Reads the messages of one protocol. Safe to use from many threads: what is kept is replaced, never changed."""

    def __init__(self, protocol: Protocol) -> None:
        self._read = protocol.read
        self._frames: dict[int, tuple[Frame, ...]] = {}

    def recognised(self, message: bytes) -> tuple[Reading, Contents] | None:
        """What the message asks, and its numbers; None if it must be read."""
        for before, after, start, end, reading in self._frames.get(len(message), ()):
            if message.startswith(before) and message.endswith(after):
                return reading, memoryview(message)[start:end]
        return None

    def read(self, message: bytes) -> tuple[Reading, Contents]:
        """What the message asks, and its numbers.

        Raises:
            InvalidInputError: as the protocol's `read`.
        """
        if recognised := self.recognised(message):
            return recognised
        reading = self._read(message)
        contents = reading.contents
        if reading.span is not None:
            self._remember(message, *reading.span, reading)
        return reading, contents

    def _remember(self, message: bytes, start: int, end: int, reading: Reading) -> None:
        if len(message) - (end - start) > MAX_FRAME_BYTES:
            return
        reading.contents = b""  # or the first message's numbers would be kept with it
        frame = Frame(message[:start], message[end:], start, end, reading)
        self._frames[len(message)] = (frame, *self._frames.get(len(message), ()))[:MAX_FRAMES]
        if len(self._frames) > MAX_LENGTHS:
            self._frames.pop(next(iter(list(self._frames))), None)
