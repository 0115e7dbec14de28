"""What a hot path reads and writes of protobuf's wire format itself, to copy no numbers and make no objects.

A message is its fields one after the other, each a tag (number and wire type) and a payload; so a message may be put
together from parts that were encoded before (protobuf.dev, "Encoding").
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

DELIMITED = 2  # the wire type of what says its length first
EIGHT_BYTES, FOUR_BYTES = 8, 4  # what wire types 1 and 5 take
LONGEST_VARINT = 10
MOST_FIELDS = 64  # at one level; a message with more is read as any other is, not followed field by field
CONTINUED = 0x80  # a byte of a number that another one follows


def varint(value: int) -> bytes:
    """A number of 0 or more, seven bits a byte, the lowest first."""
    if value < CONTINUED:
        return bytes((value,))
    parts = bytearray()
    while value >= CONTINUED:
        parts.append(value & 0x7F | CONTINUED)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def delimited(number: int, payload: bytes) -> bytes:
    """A field of bytes, a string, a message or packed numbers."""
    return delimited_head(number, len(payload)) + payload


@lru_cache(1024)
def delimited_head(number: int, size: int) -> bytes:
    """What comes before the payload of such a field."""
    return varint(number << 3 | DELIMITED) + varint(size)


def only_field(message: bytes, number: int, within: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Where the payload of the delimited field `number` begins and ends, if it occurs exactly once at this level.

    `within` is where the enclosing message begins and ends; without it, `message` is that. None if the field is not
    there, is there more than once or in another form, or if the bytes are more or other than this can follow.
    """
    try:
        every = list(islice(fields(message, *(within or (0, len(message)))), MOST_FIELDS + 1))
    except ValueError:
        return None
    if len(every) > MOST_FIELDS:
        return None
    found = [(kind, span) for field, kind, span in every if field == number]
    return found[0][1] if len(found) == 1 and found[0][0] == DELIMITED else None


def fields(message: bytes, place: int, end: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Number, wire type, and where the payload begins and ends, of each field that stands from `place` to `end`.

    Raises:
        ValueError: where the bytes are no fields, or groups, which proto3 does not have.
    """
    while place < end:
        tag, place = read_varint(message, place, end)
        kind, start = tag & 7, place
        match kind:
            case 0:
                _, place = read_varint(message, place, end)
            case 1 | 5:
                place += EIGHT_BYTES if kind == 1 else FOUR_BYTES
            case 2:
                size, start = read_varint(message, place, end)
                place = start + size
            case _:
                raise ValueError(f"wire type {kind}")
        if place > end:
            raise ValueError("a field goes past the end")
        yield tag >> 3, kind, (start, place)


def read_varint(message: bytes, place: int, end: int) -> tuple[int, int]:
    """The number at `place`, and where it ends.

    Raises:
        ValueError: if there is none before `end`.
    """
    value = 0
    for index in range(min(LONGEST_VARINT, end - place)):
        byte = message[place + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < CONTINUED:
            return value, place + index + 1
    raise ValueError("a number does not end")
