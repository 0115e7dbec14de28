"""What processes on one port know of each other: what was said by who has joined and is not taken off, whole."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from inference_service.board import Board, HeldVersion, Standing, remove_files_of, standings_in
from inference_service.metrics.counters import Counters

NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
FIRST = HeldVersion(1, "0" * 64, NOON, NOON)
SECOND = HeldVersion(2, "1" * 64, NOON, NOON)


def test_what_one_says_the_others_read(tmp_path: Path) -> None:
    """To the microsecond, models that cannot answer included, and nobody reads himself."""
    one, other = Board(tmp_path, pid=1), Board(tmp_path, pid=2)
    one.join()
    one.post("digits", FIRST)
    one.post("letters", None)
    assert other.others() == [Standing({"digits": FIRST, "letters": None})]
    assert one.others() == []
    one.post("digits", SECOND)
    one.say_listening()
    assert other.others() == [Standing({"digits": SECOND, "letters": None}, listening=True)]
    assert standings_in(tmp_path) == other.others()


def test_who_has_not_joined_is_not_counted(tmp_path: Path) -> None:
    """What it said before stands as soon as it joins."""
    one, other = Board(tmp_path, pid=1), Board(tmp_path, pid=2)
    one.post("digits", FIRST)
    assert other.others() == []
    one.join()
    assert other.others() == [Standing({"digits": FIRST})]


def test_who_is_taken_off_is_forgotten(tmp_path: Path) -> None:
    """With what was left unfinished; the others stay."""
    boards = [Board(tmp_path, pid=pid) for pid in (1, 11, 2)]
    for board in boards:
        board.join()
    (tmp_path / ".standing-1.json.tmp").write_text("{")
    remove_files_of(tmp_path, 1)
    assert len(boards[2].others()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"standing-11.json", "standing-2.json"}


def test_who_leaves_says_nothing_more(tmp_path: Path) -> None:
    """A swap that comes in late does not bring its standing back."""
    one = Board(tmp_path, pid=1)
    one.join()
    one.leave()
    one.post("digits", FIRST)
    assert list(tmp_path.iterdir()) == []


def test_the_last_orphan_removes_the_folder(tmp_path: Path) -> None:
    """Not before, and nobody does whose supervisor will; with what was counted, which nobody reads any more."""
    folder = tmp_path / "board"
    folder.mkdir()
    Counters(folder)
    child, *orphans = (Board(folder, pid=pid) for pid in (1, 2, 3))
    for board in (child, *orphans):
        board.join()
    child.leave()
    for board in orphans:
        assert folder.exists()
        board.orphan()
        board.leave()
    assert not folder.exists()


def test_what_is_being_written_is_not_read(tmp_path: Path) -> None:
    """Half a file has another name."""
    (tmp_path / ".standing-1.json.tmp").write_text('{"listening": fal')
    assert Board(tmp_path, pid=2).others() == []


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    """And it is known whether there was anything new to say."""
    one, other = Board(tmp_path / "not yet", pid=1), Board(tmp_path / "not yet", pid=2)
    with pytest.raises(OSError, match="not yet"):
        one.join()
    with pytest.raises(OSError, match="not yet"):
        one.post("digits", FIRST)
    (tmp_path / "not yet").mkdir()
    assert not one.post("digits", FIRST)
    assert other.others() == []
    one.repeat()
    assert other.others() == [Standing({"digits": FIRST})]
    assert one.post("digits", SECOND)


def test_who_is_alone_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And knows only himself."""
    monkeypatch.chdir(tmp_path)
    board = Board()
    board.join()
    board.post("digits", FIRST)
    board.leave()
    assert (board.is_shared, board.others()) == (False, [])
    assert board.own.live == {"digits": FIRST}
    assert list(tmp_path.iterdir()) == []
