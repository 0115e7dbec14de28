"""Numbers that other processes read: whole or not at all, to the last one when a process is killed, and never twice."""

import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inference_service.metrics import counters
from inference_service.metrics import totals as totals_module
from inference_service.metrics.counters import (
    FIRST_BYTES,
    OTHER,
    WORD,
    Counters,
    Family,
    Key,
    Kind,
    Labels,
    encoded,
    series_in,
)
from inference_service.metrics.totals import Totals, read, read_folder

ASKED = Family(Kind.SUM, "asked", 2)
USED = Family(Kind.RECENT, "used", 2)
WAITING = Family(Kind.GAUGE, "waiting", 1)
COUNTS_UNTIL_KILLED = """
import sys
from pathlib import Path
from inference_service.metrics.counters import Counters, Family, Kind
counters = Counters(Path(sys.argv[1]), 7)
counters.series(Family(Kind.GAUGE, "waiting", 1))[()][0] = 3
asked = counters.series(Family(Kind.SUM, "asked", 2))
for number in range(1, 10**9):
    with counters.lock:
        asked["tiny",][0] += 1
    print(number, flush=True)
"""


def count(counters: Counters, family: Family, labels: Labels, *cells: int) -> None:
    """Adds to a series's cells."""
    series = counters.series(family)
    with counters.lock:
        for place, number in enumerate(cells):
            series[labels][place] += number


@contextmanager
def no_room() -> Iterator[None]:
    """No file can be made any larger meanwhile, as if nothing was left of the disk and the memory."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with capture_logs():  # which would go to a file
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_processes_count_adds_up(tmp_path: Path) -> None:
    """For who reads the folder as for each of them; a gauge stays each one's own, and of a moment the last counts."""
    one, other = Counters(tmp_path, 1), Counters(tmp_path, 2)
    count(one, ASKED, ("tiny", 4), 1, 10)
    count(other, ASKED, ("tiny", 4), 2, 20)
    count(other, ASKED, ('ünï"\n\\', 4), 5)
    count(one, USED, (), 1000, 1)
    count(other, USED, (), 900, 1)
    count(one, WAITING, (), 3)
    count(other, WAITING, (), 4)
    for reading in (read(one), read(other), read_folder(tmp_path)):
        assert reading.sums(ASKED) == {("tiny", 4): [3, 30], ('ünï"\n\\', 4): [5, 0]}
        assert reading.sums(USED) == {(): [1000, 2]}
        assert sorted(map(list, reading.gauges(WAITING)[()])) == [[3], [4]]
        assert reading.pids == [(1, os.getpid()), (2, os.getpid())]


def test_who_is_alone_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And reads what it counted as others would."""
    monkeypatch.chdir(tmp_path)
    alone = Counters()
    count(alone, ASKED, ("tiny",), 1, 2)
    count(alone, WAITING, (), 3)
    assert read(alone).sums(ASKED) == {("tiny",): [1, 2]}
    assert read(alone).gauges(WAITING) == {(): [[3]]}
    assert read(alone).pids == [(1, os.getpid())]
    assert list(tmp_path.iterdir()) == []


def test_more_series_make_the_file_larger(tmp_path: Path) -> None:
    """Who holds the cells of an earlier one goes on counting in the same."""
    growing = Counters(tmp_path)
    first = growing.series(ASKED)["first",]
    series = growing.series(Family(Kind.SUM, "large", 1000))
    for number in range(50):
        series[number,][999] = number
    first[0] += 1
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size > 4 * FIRST_BYTES
    assert read_folder(tmp_path).sums(ASKED) == {("first",): [1, 0]}
    found = read_folder(tmp_path).sums(Family(Kind.SUM, "large", 1000))
    assert [found[number,][999] for number in range(50)] == list(range(50))


def test_a_series_is_found_whole_or_not_at_all() -> None:
    """However much of a file is there, and whatever is half written: what is found is right."""
    names = ("tiny", "small", "large")
    series: dict[Key, tuple[int, int]] = {
        ("sum", "asked", name): (number, -number) for number, name in enumerate(names)
    }
    whole = encoded(series)
    found = [series_in(memoryview(whole[:size])) for size in range(0, len(whole) + 1, WORD)]
    assert [len(each) for each in found] == sorted(len(each) for each in found)
    assert found[-1] == {key: list(cells) for key, cells in series.items()}
    assert all(cells == list(series[key]) for each in found for key, cells in each.items())
    record = len(whole) // 3
    for word in (1, 2):  # what says that the key is whole, and the key
        torn = bytearray(whole)
        torn[record + word * WORD : record + (word + 1) * WORD] = bytes(WORD)
        assert series_in(memoryview(torn)).keys() == series.keys() - {("sum", "asked", "small")}


def test_a_reader_meets_no_half_series_while_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that is just given to another name."""
    monkeypatch.setattr(counters, "MOST_SERIES", 50)
    writer, done = Counters(tmp_path), threading.Event()

    def write() -> None:
        series = writer.series(USED)
        for number in range(1000):
            with writer.lock:
                series[number,][1] = number
                series[number,][0] = number
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        for (number,), cells in read_folder(tmp_path).sums(USED).items():
            assert cells in ([number, number], [0, number], [0, 0])
    thread.join()
    assert read_folder(tmp_path).sums(USED) == {(number,): [number, number] for number in range(950, 1000)}


def test_too_many_series_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one warning; of what may be forgotten the least recent goes, and a gauge too many is not told."""
    monkeypatch.setattr(counters, "MOST_SERIES", 2)
    alone = Counters()
    asked, used, waiting = (alone.series(family) for family in (ASKED, USED, WAITING))
    with capture_logs() as logged:
        for number in range(4):
            asked["model", number][0] += 1
            waiting[number,][0] += 1
    assert [entry["series"] for entry in logged] == ['["sum","asked","model",2]', '["gauge","waiting",2]']
    assert read(alone).sums(ASKED) == {("model", 0): [1, 0], ("model", 1): [1, 0], (OTHER, OTHER): [2, 0]}
    assert read(alone).gauges(WAITING) == {(0,): [[1]], (1,): [[1]]}
    for number, moment in enumerate((30, 20, 40)):
        used[number,][0] = moment
        used[number,][1] += 1
    assert read(alone).sums(USED) == {(0,): [30, 1], (2,): [40, 1]}


def test_a_name_that_is_too_long_is_another_one() -> None:
    """And breaks nothing."""
    alone = Counters()
    for name in ("x" * 1000, "y" * 1000, "tiny"):
        for family in (ASKED, USED, WAITING):
            alone.series(family)[name,][0] += 1
    assert read(alone).sums(ASKED) == {(OTHER,): [2, 0], ("tiny",): [1, 0]}
    assert read(alone).sums(USED) == {("tiny",): [1, 0]}
    assert read(alone).gauges(WAITING) == {("tiny",): [[1]]}


def test_without_room_counting_goes_on_unseen(tmp_path: Path) -> None:
    """A request is answered whether it can be counted or not; with room again, it is."""
    full, large = Counters(tmp_path), Family(Kind.SUM, "large", FIRST_BYTES // WORD)
    with no_room():
        full.series(large)["tiny",][0] += 1
        full.series(ASKED)["tiny",][0] += 1
    assert read(full).sums(large) == {}
    assert read(full).sums(ASKED) == {("tiny",): [1, 0]}
    full.series(large)["tiny",][0] += 1
    assert read(full).sums(large)["tiny",][0] == 1


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """Not one of those that were counted; when it is added to the totals, its gauges are gone and its file."""
    command = [sys.executable, "-c", COUNTS_UNTIL_KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            said = [process.stdout.readline() for _ in range(100)]
            gauges = read_folder(tmp_path).gauges(WAITING)
        finally:
            process.kill()
        said += process.stdout.readlines()
    assert gauges == {(): [[3]]}
    last, counted = int(said[-1]), read_folder(tmp_path).sums(ASKED)["tiny",][0]
    assert counted in (last, last + 1)
    Totals(tmp_path).add(process.pid)
    assert read_folder(tmp_path).sums(ASKED)["tiny",][0] == counted
    assert read_folder(tmp_path).gauges(WAITING) == {}
    assert read_folder(tmp_path).pids == []
    assert [path.name for path in tmp_path.iterdir()] == ["totals"]


def test_nothing_is_counted_twice_whenever_the_totals_were_interrupted(tmp_path: Path) -> None:
    """A file that is in the totals already does not count; another process with the same pid does."""
    count(Counters(tmp_path), ASKED, ("tiny",), 5)
    (file,) = tmp_path.iterdir()
    kept = shutil.copy(file, tmp_path.with_name("kept"))
    totals = Totals(tmp_path)
    totals.add(os.getpid())
    shutil.copy(kept, file)  # as if the process that removes it had not come to that
    assert read_folder(tmp_path).sums(ASKED) == {("tiny",): [5, 0]}
    assert read_folder(tmp_path).pids == []
    count(Counters(tmp_path), ASKED, ("tiny",), 2)
    assert read_folder(tmp_path).sums(ASKED) == {("tiny",): [7, 0]}
    totals.add(os.getpid())
    totals.add(os.getpid())
    assert read_folder(tmp_path).sums(ASKED) == {("tiny",): [7, 0]}


def test_a_sum_never_goes_down_for_who_looks_while_processes_end(tmp_path: Path) -> None:
    """Nor past what was counted."""
    totals, done, counted = Totals(tmp_path), threading.Event(), [0]

    def live_and_die() -> None:
        for _ in range(50):
            counted[0] += 1
            count(Counters(tmp_path), ASKED, ("tiny",), 1)
            totals.add(os.getpid())
        done.set()

    thread = threading.Thread(target=live_and_die)
    thread.start()
    seen = 0
    while not done.is_set():
        now = read_folder(tmp_path).sums(ASKED).get(("tiny",), [0])[0]
        assert seen <= now <= counted[0]
        seen = now
    thread.join()
    assert read_folder(tmp_path).sums(ASKED) == {("tiny",): [50, 0]}


def test_totals_that_cannot_be_written_take_nothing_away(tmp_path: Path) -> None:
    """And no process is left unstarted for that; they are written when the next one ends."""
    count(Counters(tmp_path), ASKED, ("tiny",), 5)
    totals = Totals(tmp_path)
    with no_room():
        totals.add(os.getpid())
    assert read_folder(tmp_path).sums(ASKED) == {("tiny",): [5, 0]}
    totals.add(1)
    assert read_folder(tmp_path).sums(ASKED) == {("tiny",): [5, 0]}
    assert [path.name for path in tmp_path.iterdir()] == ["totals"]


def test_what_a_process_left_unfinished_is_removed(tmp_path: Path) -> None:
    """Of the one that has ended, and of no other."""
    for pid in (12, 123):
        (tmp_path / f".counters-1-{pid}-ab.tmp").touch()
    Totals(tmp_path).add(12)
    assert [path.name for path in tmp_path.iterdir()] == [".counters-1-123-ab.tmp"]


def test_totals_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As each process's series are; the names of files, too."""
    for name in ("MOST_SERIES", "MOST_FOLDED"):
        monkeypatch.setattr(totals_module, name, 2)
    totals = Totals(tmp_path)
    for number in range(4):
        each = Counters(tmp_path)
        count(each, ASKED, (number,), 1)
        count(each, USED, (number,), (30, 10, 20, 40)[number], 1)
        totals.add(os.getpid())
    assert read_folder(tmp_path).sums(ASKED) == {(0,): [1, 0], (1,): [1, 0], (OTHER,): [2, 0]}
    assert read_folder(tmp_path).sums(USED) == {(0,): [30, 1], (3,): [40, 1]}
    assert len([key for key in totals_module.series_in_file(tmp_path / "totals") if key[0] == "folded"]) == 2
