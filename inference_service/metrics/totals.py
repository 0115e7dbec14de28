"""What all processes counted together, those included that have ended: a process's death takes nothing away from a sum.

The supervisor adds a dead process's numbers to a file of totals and then removes the dead one's file. Whoever reads
meanwhile counts them once: totals name the files that are in them, and are read last.
"""

import mmap
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path

import structlog

from inference_service.metrics.counters import (
    MOST_SERIES,
    OTHER,
    Counters,
    Family,
    Key,
    Kind,
    Labels,
    encoded,
    file_name,
    series_in,
    unfinished_name,
)

TOTALS = "totals"
FOLDED = "folded"  # the kind of what names a file that is in the totals
MOST_FOLDED = 1000  # names that are kept: more processes do not end while somebody reads
Table = Mapping[Key, Sequence[int]]
log = structlog.get_logger()


class Reading:
    """What was read at one look.

    Attributes:
        pids: the number and the pid of each process whose numbers were read.
    """

    def __init__(self, living: Mapping[str, Table], ended: Table | None = None) -> None:
        self.pids = sorted(numbers_in(name) for name in living)
        self._sums: dict[Key, dict[Labels, Sequence[int]]] = {}
        self._gauges: dict[Key, dict[Labels, list[Sequence[int]]]] = {}
        for key, cells in reduce(together, living.values(), together({}, ended or {})).items():
            self._sums.setdefault(key[:2], {})[key[2:]] = cells
        for table in living.values():
            for key, cells in table.items():
                if key[0] == Kind.GAUGE:
                    self._gauges.setdefault(key[:2], {}).setdefault(key[2:], []).append(cells)

    def sums(self, family: Family) -> Mapping[Labels, Sequence[int]]:
        """What all processes counted together, by labels."""
        return self._sums.get((family.kind, family.name), {})

    def gauges(self, family: Family) -> Mapping[Labels, Sequence[Sequence[int]]]:
        """What each living process says, by labels."""
        return self._gauges.get((family.kind, family.name), {})


def read(counters: Counters) -> Reading:
    """What this process and those beside it counted."""
    if counters.folder is not None:
        return read_folder(counters.folder)
    return Reading({counters.name: counters.read()})


def read_folder(folder: Path) -> Reading:
    """What the processes counted whose files are in a folder."""
    living: dict[str, Table] = {}
    for path in folder.glob(file_name("*", "*", "*")):
        with suppress(FileNotFoundError):  # it was added to the totals in between
            living[path.name] = series_in_file(path)
    totals: Table = {}
    with suppress(FileNotFoundError):  # nobody has ended yet
        totals = series_in_file(folder / TOTALS)
    ended = folded_in(totals)
    return Reading({name: table for name, table in living.items() if name not in ended}, totals)


class Totals:
    """What ended processes counted, in a folder that is the supervisor's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._totals: Table = {}
        self._ended: set[int] = set()
        self._lock = threading.Lock()  # several may end at a time

    def add(self, pid: int) -> None:
        """Adds what a process counted that has ended.

        What cannot be written is written when the next one ends; until then, its file is read as a living one's is.
        """
        with self._lock:
            self._ended.add(pid)
            try:
                for ended in list(self._ended):
                    self._add(ended)
                    self._ended.discard(ended)
            except OSError:  # no room left; the one who calls has another process to start
                log.exception("what a process counted that has ended cannot be added up; trying again", pid=pid)

    def _add(self, pid: int) -> None:
        for path in self._folder.glob(file_name("*", pid, "*")):
            if path.name not in folded_in(self._totals):
                self._write(bounded({**together(self._totals, series_in_file(path)), (FOLDED, path.name): ()}))
            path.unlink()
        for path in self._folder.glob(unfinished_name(file_name("*", pid, "*"))):
            path.unlink()

    def _write(self, totals: Table) -> None:
        unfinished = self._folder / unfinished_name(TOTALS)
        unfinished.write_bytes(encoded(totals))
        unfinished.replace(self._folder / TOTALS)
        self._totals = totals


def together(first: Table, second: Table) -> Table:
    """Two tables' sums; a gauge is in neither."""
    total = {key: cells for key, cells in first.items() if key[0] != Kind.GAUGE}
    for key, cells in second.items():
        if key[0] != Kind.GAUGE:
            total[key] = added(key, total[key], cells) if key in total else cells
    return total


def added(key: Key, first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Two processes' cells of one series."""
    total = [one + other for one, other in zip(first, second, strict=True)]
    if key[0] == Kind.RECENT:
        total[0] = max(first[0], second[0])
    return total


def bounded(totals: Table) -> Table:
    """The totals with no more series of a family than a process keeps."""
    families: dict[Key, list[Key]] = {}
    for key in totals:
        families.setdefault(key[:1] if key[0] == FOLDED else key[:2], []).append(key)
    kept = dict(totals)
    for (kind, *_), keys in families.items():
        if kind == FOLDED:
            too_many = keys[:-MOST_FOLDED]
        elif kind == Kind.RECENT:
            too_many = sorted(keys, key=lambda key: totals[key][0], reverse=True)[MOST_SERIES:]
        else:
            too_many = keys[MOST_SERIES:]
        for key in too_many:
            cells = kept.pop(key)
            if kind == Kind.SUM:
                others = (*key[:2], *(OTHER for _ in key[2:]))
                kept[others] = added(others, kept[others], cells) if others in kept else cells
    return kept


def folded_in(totals: Table) -> set[str | int]:
    """The names of the files that are in the totals."""
    return {key[1] for key in totals if key[0] == FOLDED}


def numbers_in(name: str) -> tuple[int, int]:
    """The number and the pid in the name of a process's file."""
    _, number, pid, _ = name.split("-")
    return int(number), int(pid)


def series_in_file(path: Path) -> Table:
    """The series in a file."""
    with path.open("rb") as file:
        return series_in(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
