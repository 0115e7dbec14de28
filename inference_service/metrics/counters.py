"""Numbers in memory that other processes can read at any moment, and still can when the process that counts was killed.

Counting costs what adding costs. A reader finds each series whole or not at all, and each of its numbers as it was at
some moment; what was counted before a process died is there, to the last request.
"""

import json
import mmap
import os
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import structlog

# What is written: records, one after the other, in words of 8 bytes. A record is its number of words; then, in one
# word, the number of its cells, the length of its key and the key's CRC; the key, as JSON; and the cells. The first
# word is written last, and what follows the last record is 0. A record whose second word does not fit its key is just
# being given to another series.
WORD = 8
KEY_BYTES = 160
FIRST_CELL = 2 + KEY_BYTES // WORD
KEY_LENGTH_BIT, CELLS_BIT, CRC_MASK = 32, 48, 2**32 - 1
FIRST_BYTES = 2**16  # of a file, which is made twice as large when it is full
MOST_SERIES = 1000  # of one family: labels such as models' names come from outside
OTHER = "_other"  # the labels of what is one too many; no model can have this name
FILE = "counters"

Labels: TypeAlias = tuple[str | int, ...]
Key: TypeAlias = tuple[str | int, ...]  # kind, family, labels
Cells: TypeAlias = "memoryview[int]"
log = structlog.get_logger()


class Kind(StrEnum):
    """What becomes of a family's numbers over several processes, and when one of them ends."""

    SUM = "sum"  # they add up, and stay
    RECENT = "recent"  # so, too, but the first says when it was used last: the least recent series may be forgotten
    GAUGE = "gauge"  # they are a living process's


@dataclass(frozen=True)
class Family:
    """Series that differ in their labels; `cells` is how many numbers each has."""

    kind: Kind
    name: str
    cells: int


class Series(dict[Labels, Cells]):
    """One process's series of a family, by their labels; one that is asked for is made. For who holds the lock."""

    def __init__(self, counters: "Counters", family: Family) -> None:
        super().__init__()
        self._counters = counters
        self._family = family
        self._places: dict[Labels, int] = {}
        self._has_warned = False

    def __missing__(self, labels: Labels) -> Cells:
        key = encoded_key((self._family.kind, self._family.name, *labels))
        others = (OTHER,) * len(labels)
        is_full = len(self) >= MOST_SERIES and labels != others
        if is_full and self._family.kind is Kind.RECENT and len(key) <= KEY_BYTES:
            place = self._forget()
        elif is_full or len(key) > KEY_BYTES:
            self._warn("more series than are kept; what is one too many is not told apart", key)
            return self[others] if self._family.kind is Kind.SUM else self._unseen()
        else:
            try:
                place = self._counters.take(FIRST_CELL + self._family.cells)
            except OSError as error:  # no memory left; requests must be answered all the same
                self._warn(f"no room to count in: {error.strerror}", key)
                return self._unseen()
        self._places[labels] = place
        self[labels] = cells = self._counters.give(place, key, self._family.cells)
        return cells

    def _forget(self) -> int:
        least_recent = min(self, key=lambda labels: self[labels][0])
        del self[least_recent]
        return self._places.pop(least_recent)

    def _unseen(self) -> Cells:
        return memoryview(bytearray(self._family.cells * WORD)).cast("q")

    def _warn(self, what: str, key: bytes) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(what, series=key[:KEY_BYTES].decode(), most=MOST_SERIES)


class Counters:
    """One process's numbers, in a file in `folder` that others read; in its own memory if there is no folder.

    Attributes:
        lock: who counts holds it, once for all that belongs together.
        folder: where the files of all processes are.
        name: this process's file's; it says its number among the processes and its pid.

    Raises:
        OSError: if there is no room for the file.
    """

    def __init__(self, folder: Path | None = None, number: int = 1) -> None:
        self.lock = threading.Lock()
        self.folder = folder
        self._series: dict[Family, Series] = {}
        self._end = 0  # in words; there the next record goes
        self.name = name = file_name(number, os.getpid(), f"{time.time_ns():x}")
        if folder is None:
            self._file = os.memfd_create(name)
        else:
            unfinished = folder / unfinished_name(name)
            self._file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        weakref.finalize(self, os.close, self._file)
        self._grow(FIRST_BYTES)
        if folder is not None:
            unfinished.rename(folder / name)

    def series(self, family: Family) -> Series:
        """The series of a family."""
        return self._series.setdefault(family, Series(self, family))

    def read(self) -> dict[Key, list[int]]:
        """This process's series as they are now."""
        return series_in(self._memory)

    def take(self, words: int) -> int:
        """Room for a record, and where it is.

        Raises:
            OSError: if there is none.
        """
        if (needed := (self._end + words) * WORD) > (held := len(self._memory)):
            self._grow(max(needed, 2 * held))
        place = self._end
        self._end += words
        self._words[place] = words  # from now on it is a record, but of no series yet
        return place

    def give(self, place: int, key: bytes, count: int) -> Cells:
        """Makes a record that of another series, and returns its cells, all 0."""
        cells = self._words[place + FIRST_CELL : place + FIRST_CELL + count]
        self._words[place + 1] = 0
        for cell in range(count):
            cells[cell] = 0
        self._memory[(place + 2) * WORD : (place + 2) * WORD + len(key)] = key
        self._words[place + 1] = seal_of(key, count)
        return cells

    def _grow(self, size: int) -> None:
        """Makes the file larger; who holds a part of the smaller one goes on counting in the same memory."""
        held = os.fstat(self._file).st_size
        if held < size:  # not by ftruncate: without memory, it is this that shall fail, and not who writes there later
            os.posix_fallocate(self._file, held, size - held)
        self._memory = memoryview(mmap.mmap(self._file, size))
        self._words = self._memory.cast("q")


def encoded_key(key: Key) -> bytes:
    """A key as a record has it."""
    return json.dumps(key, separators=(",", ":")).encode()


@lru_cache(16 * MOST_SERIES)
def decoded_key(key: bytes) -> Key:
    """A key that a record has; whoever looks again and again finds the same ones."""
    return tuple(json.loads(key))


def seal_of(key: bytes, cells: int) -> int:
    """What says that a key is whole, and how many cells are its."""
    return cells << CELLS_BIT | len(key) << KEY_LENGTH_BIT | zlib.crc32(key)


def encoded(series: Mapping[Key, Sequence[int]]) -> bytes:
    """Records of these series, as a file that is written once and not counted in."""
    records = []
    for key, cells in series.items():
        text, count = encoded_key(key), len(cells)
        records.append(struct.pack(f"=qq{KEY_BYTES}s{count}q", FIRST_CELL + count, seal_of(text, count), text, *cells))
    return b"".join([*records, bytes(WORD)])


def series_in(memory: "memoryview[int]") -> dict[Key, list[int]]:
    """The series in the bytes of a file, which may be written at the same time."""
    words = memory.cast("q")
    found: dict[Key, list[int]] = {}
    place = 0
    while place < len(words) and FIRST_CELL <= (size := words[place]) <= len(words) - place:
        seal = words[place + 1]
        count, length = seal >> CELLS_BIT, (seal >> KEY_LENGTH_BIT) % 2 ** (CELLS_BIT - KEY_LENGTH_BIT)
        key = bytes(memory[(place + 2) * WORD : (place + 2) * WORD + length])
        cells = words[place + FIRST_CELL : place + FIRST_CELL + count].tolist()
        # The second look is for a record that was given to another series while it was read.
        if seal and zlib.crc32(key) == seal & CRC_MASK and words[place + 1] == seal:
            found[decoded_key(key)] = cells
        place += size
    return found


def file_name(number: int | Literal["*"], pid: int | Literal["*"], start: str) -> str:
    """The name of a process's file; `start` tells it from an earlier process with the same pid."""
    return f"{FILE}-{number}-{pid}-{start}"


def unfinished_name(name: str) -> str:
    """The name of a file that is not whole yet."""
    return f".{name}.tmp"
