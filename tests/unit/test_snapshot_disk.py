"""What a disk keeps for a start without the store: the live versions and nothing else, whole, proven when read."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inference_service.versions import kept_snapshots, model_state, snapshot_file
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.model_state import ModelState
from inference_service.versions.snapshot_disk import ABANDONED_SECONDS, SnapshotDisk
from inference_service.versions.snapshot_file import parts_of
from shared.errors import NotFoundError, StoreUnavailableError, UnavailableError, WeightcastError
from shared.model_version import LIVE, PublishedVersion, StoredSnapshot, VersionRef
from tests.unit.shelf import NEW_YEAR, Shelf, Tally, cut, rollout_of

Make = Callable[..., StoredSnapshot]


def published(snapshot: StoredSnapshot, version: int = 1, model: str = "tiny") -> PublishedVersion:
    """A snapshot as the store would give it."""
    ref = VersionRef(version, snapshot.digest)
    return PublishedVersion(model, ref, NEW_YEAR, len(snapshot.weights), snapshot, (LIVE,))


def reason_of(call: Callable[[], object]) -> str:
    """Why a file is refused."""
    with pytest.raises(WeightcastError) as raised:
        call()
    return raised.value.reason


@pytest.fixture
def disk(tmp_path: Path) -> SnapshotDisk:
    """A folder that is not there yet."""
    return SnapshotDisk(tmp_path / "kept")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the model's file is."""
    return tmp_path / "kept" / "tiny.snapshot"


# Files


def test_what_was_kept_comes_back_to_the_last_byte(disk: SnapshotDisk, make_snapshot: Make) -> None:
    """With its number, its digest and when it was published; as `live` and by number, and not as another."""
    version = published(make_snapshot(), 7)
    disk.keep(version)
    assert disk.models() == ["tiny"]
    assert disk.version("tiny", LIVE) == disk.version("tiny", 7) == version
    assert disk.ref("tiny") == version.ref
    assert reason_of(lambda: disk.version("tiny", 8)) == "VERSION_NOT_FOUND"


def test_where_nothing_is_kept_nothing_is_found(disk: SnapshotDisk) -> None:
    """Nor is a folder made by looking for it."""
    assert disk.models() == []
    assert (disk.ref("tiny"), disk.confirm_time("tiny")) == (None, None)
    with pytest.raises(NotFoundError):
        disk.version("tiny", LIVE)
    disk.retain([])
    assert not disk._folder.exists()


def test_a_later_version_takes_the_place_of_the_earlier(disk: SnapshotDisk, make_snapshot: Make, file: Path) -> None:
    """One file for each model, and nothing beside it."""
    for version in (1, 2, 3):
        disk.keep(published(make_snapshot(seed=version), version))
    assert disk.version("tiny", LIVE).ref.version == 3
    assert list(file.parent.iterdir()) == [file]


def test_what_is_there_already_is_not_written_again(disk: SnapshotDisk, make_snapshot: Make, file: Path) -> None:
    """Several processes load the same version; the first one writes. But what was altered is written anew."""
    disk.keep(published(make_snapshot()))
    before = file.stat().st_ino
    disk.keep(published(make_snapshot()))
    assert file.stat().st_ino == before
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    disk.keep(published(make_snapshot()))
    assert disk.version("tiny", LIVE) == published(make_snapshot())


def test_many_may_write_at_the_same_time(disk: SnapshotDisk, make_snapshot: Make, file: Path) -> None:
    """Whoever reads meanwhile finds one of them, whole."""
    versions = [published(make_snapshot(seed=seed), seed) for seed in range(1, 5)]
    disk.keep(versions[0])

    def write(version: PublishedVersion) -> None:
        for _ in range(20):
            disk.keep(version)

    writing = [threading.Thread(target=write, args=[version]) for version in versions]
    for thread in writing:
        thread.start()
    while any(thread.is_alive() for thread in writing):
        assert disk.version("tiny", LIVE) in versions
    assert list(file.parent.iterdir()) == [file]


WRITE_FOREVER = """
import sys
from pathlib import Path
from shared.whole_files import write_durably
path = Path(sys.argv[1])
while True:
    for word in (b"a", b"b"):
        write_durably(path, [word * 100_000, word * 100_000])
        print(flush=True)
"""


def test_who_is_killed_while_writing_leaves_the_old_contents_or_the_new(tmp_path: Path) -> None:
    """At any moment; what it leaves unfinished has another name."""
    path = tmp_path / "file"
    for pause in (0.0, 0.0007, 0.0013, 0.0021):
        with subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(pause)
            writer.send_signal(signal.SIGKILL)
        assert path.read_bytes() in (b"a" * 200_000, b"b" * 200_000)
    assert [each for each in tmp_path.iterdir() if each != path and not each.name.startswith(".file-")] == []


@pytest.mark.parametrize("part", ["line", "manifest", "weights"])
def test_one_flipped_bit_anywhere_is_seen(disk: SnapshotDisk, make_snapshot: Make, file: Path, part: str) -> None:
    """In the line by its own checksum, behind it by the snapshot's digest."""
    version = published(make_snapshot())
    disk.keep(version)
    content = file.read_bytes()
    line, manifest, _ = parts_of(version)
    starts = {"line": 0, "manifest": len(line), "weights": len(line) + len(manifest)}
    ends = {"line": len(line), "manifest": len(line) + len(manifest), "weights": len(content)}
    for place in range(starts[part], ends[part], 7):
        altered = bytearray(content)
        altered[place] ^= 4
        file.write_bytes(altered)
        house = House(disk)
        house.start_alone()
        assert house.state().live is None
        assert house.reason() == ("DAMAGED_FILE" if part == "line" else "DIGEST_MISMATCH")


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (lambda content: content[:0], "DAMAGED_FILE"),
        (lambda content: content[:-1], "DAMAGED_FILE"),
        (lambda content: content + b"x", "DAMAGED_FILE"),
        (lambda content: content[:50], "DAMAGED_FILE"),
        (lambda content: b"x" * len(content), "DAMAGED_FILE"),
        (lambda content: content.replace(b'"version": 1', b'"version": 2'), "DAMAGED_FILE"),
        (lambda content: with_line(content, '{"format": 2}'), "UNSUPPORTED_FORMAT"),
        (lambda content: with_line(content, "[1]"), "UNSUPPORTED_FORMAT"),
        (lambda content: with_line(content, '{"format": 1}'), "DAMAGED_FILE"),
        (lambda content: with_line(content, "no JSON"), "DAMAGED_FILE"),
        (lambda content: with_field(content, '"version": 1', '"version": true'), "DAMAGED_FILE"),
        (lambda content: with_field(content, '"model": "tiny"', '"model": "other"'), "DAMAGED_FILE"),
        (lambda content: with_field(content, "2026-01-01", "2026-13-01"), "DAMAGED_FILE"),
        (lambda content: with_field(content, '"weights_bytes": ', '"weights_bytes": -'), "DAMAGED_FILE"),
        (lambda content: with_field(content, '"weights_bytes": ', '"weights_bytes": 99999999'), "DAMAGED_FILE"),
    ],
    ids=[
        "empty", "cut", "longer", "half a line", "something else", "altered number", "later format", "no object",
        "no fields", "no JSON", "a word for a number", "another model's", "no time", "negative length", "huge length",
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_name(
    disk: SnapshotDisk, make_snapshot: Make, file: Path, alter: Callable[[bytes], bytes], reason: str
) -> None:
    """And takes nothing down: the state says why, another model's file is served."""
    disk.keep(published(make_snapshot()))
    disk.keep(published(make_snapshot(model="good"), model="good"))
    file.write_bytes(alter(file.read_bytes()))
    house = House(disk)
    house.start_alone()
    assert (house.reason(), house.reason("good")) == (reason, "")
    assert house.live("good") == 1
    assert house.tally.failures == [("tiny", reason)]


def with_line(content: bytes, text: str) -> bytes:
    """A file with another first line, whose checksum is right."""
    line = b" ".join((snapshot_file.MAGIC, snapshot_file.checksum(text.encode()), text.encode()))
    return line + b"\n" + content.partition(b"\n")[2]


def with_field(content: bytes, old: str, new: str) -> bytes:
    """A file whose first line says something else, under a right checksum."""
    text = content.partition(b"\n")[0].split(b" ", 2)[2].decode()
    assert old in text
    return with_line(content, text.replace(old, new))


def test_what_is_no_file_is_refused_and_not_waited_for(disk: SnapshotDisk, file: Path, make_snapshot: Make) -> None:
    """A pipe would never end, a link may lead anywhere, a folder has no bytes."""
    elsewhere = SnapshotDisk(file.parent.parent / "elsewhere")
    elsewhere.keep(published(make_snapshot()))
    file.parent.mkdir()
    reasons = {}
    os.mkfifo(file)
    reasons["pipe"] = reason_of(lambda: disk.version("tiny", LIVE))
    file.unlink()
    file.mkdir()
    reasons["folder"] = reason_of(lambda: disk.version("tiny", LIVE))
    file.rmdir()
    file.symlink_to(elsewhere._folder / file.name)
    reasons["link"] = reason_of(lambda: disk.version("tiny", LIVE))
    assert reasons == {"pipe": "DAMAGED_FILE", "folder": "UNREADABLE_FILE", "link": "UNREADABLE_FILE"}
    assert disk.ref("tiny") is None


@pytest.mark.parametrize("name", ["", ".", "..", "../tiny", "a/b", "/etc/passwd", "tiny\0", "Tiny", "a" * 64, ".tiny"])
def test_no_name_leads_out_of_the_folder(disk: SnapshotDisk, make_snapshot: Make, tmp_path: Path, name: str) -> None:
    """Whatever a store says that its models are called."""
    version = replace(published(make_snapshot()), model=name)
    for call in (
        lambda: disk.keep(version),
        lambda: disk.version(name, LIVE),
        lambda: disk.confirm(name),
        lambda: disk.confirm_time(name),
    ):
        assert reason_of(call) == "MALFORMED_NAME"
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_not_ours_are_left_alone(disk: SnapshotDisk, make_snapshot: Make, file: Path) -> None:
    """They are named in the log once; whatever a folder holds, it is no model."""
    disk.keep(published(make_snapshot()))
    others = [file.with_name(name) for name in ("notes.txt", "UPPER.snapshot", ".snapshot", "tiny.snapshot.bak")]
    for other in others:
        other.write_text("mine")
    with capture_logs() as logs:
        assert disk.models() == ["tiny"]
    assert sorted(logs[0]["files"]) == sorted(other.name for other in others)
    disk.retain([])
    assert sorted(file.parent.iterdir()) == sorted(others)


def test_what_was_left_unfinished_is_removed_when_it_is_old(
    disk: SnapshotDisk, make_snapshot: Make, file: Path
) -> None:
    """Not while somebody may still be writing it."""
    disk.keep(published(make_snapshot()))
    recent, old = (file.with_name(f".tiny.snapshot-{word}.tmp") for word in ("recent", "old"))
    for path in (recent, old):
        path.write_text("half")
    os.utime(old, (0, time.time() - ABANDONED_SECONDS - 1))
    disk.retain(["tiny"])
    assert sorted(file.parent.iterdir()) == sorted([file, recent])


# What follows what is served


class House:
    """A manager over a shelf with a disk, and what it announced."""

    def __init__(self, disk: SnapshotDisk | None, shelf: Shelf | None = None) -> None:
        self.shelf = shelf or Shelf()
        self.tally = Tally()
        self.announced: list[tuple[str, ModelState]] = []
        self.manager = ModelManager(
            self.shelf, 2**20, lambda model, state: self.announced.append((model, state)), self.tally, disk
        )

    def start_alone(self) -> None:
        """Starts while the store is away."""
        self.shelf.away = True
        with pytest.raises(StoreUnavailableError):
            self.manager.reconcile(["tiny"])
        self.manager.store_lost()
        self.manager.restore()
        self.shelf.away = False

    def follow(self, *models: str) -> None:
        """Compares with the shelf, and does what may wait."""
        self.manager.follow_live(models or ("tiny",))
        self.manager.settle()

    def state(self, model: str = "tiny") -> ModelState:
        """What is known."""
        return self.manager.state(model)

    def live(self, model: str = "tiny") -> int:
        """The number of the version that answers."""
        return self.manager.serve(model, LIVE).ref.version

    def reason(self, model: str = "tiny") -> str:
        """Why the wanted version does not answer, empty if it does."""
        failure = self.state(model).failure
        return failure.reason if failure else ""


@pytest.fixture
def kept(disk: SnapshotDisk, make_snapshot: Make) -> House:
    """A manager that serves version 1, which the disk has kept."""
    house = House(disk)
    house.shelf.put(1, make_snapshot(seed=1))
    house.follow()
    assert disk.ref("tiny") == VersionRef(1, make_snapshot(seed=1).digest)
    return house


@contextmanager
def no_writing() -> Iterator[None]:
    """No file may become longer than nothing, as on a full disk; a captured log is one too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due now and then is due at once."""
    monkeypatch.setattr(kept_snapshots, "CONFIRM_SECONDS", 0.0)
    monkeypatch.setattr(model_state, "FIRST_RETRY_SECONDS", 0.0)


def test_the_disk_follows_what_is_live(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """Without another fetch, for the bytes are at hand."""
    kept.shelf.put(2, make_snapshot(seed=2))
    kept.follow()
    assert disk.version("tiny", LIVE).snapshot == make_snapshot(seed=2)
    assert kept.shelf.fetches == {("tiny", 1): 1, ("tiny", 2): 1}


def test_a_swap_does_not_wait_for_the_disk(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """It is written to only when that may be done."""
    kept.shelf.put(2, make_snapshot(seed=2))
    kept.manager.follow_live(["tiny"])
    assert kept.live() == 2
    assert disk.version("tiny", LIVE).ref.version == 1


def test_what_is_refused_is_not_kept(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """Only what was loaded and proven; the last good version stays."""
    kept.shelf.put(2, make_snapshot(seed=2, wrong_answers=True))
    kept.follow()
    assert disk.version("tiny", LIVE).ref.version == 1


def test_what_is_tried_or_pinned_is_not_kept(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """Only what is live."""
    for version in (2, 3):
        kept.shelf.put(version, make_snapshot(seed=version), live=False)
    kept.shelf.rollouts["tiny"] = rollout_of(2)
    kept.follow()
    kept.manager.serve("tiny", 3)
    kept.follow()
    assert disk.version("tiny", LIVE).ref.version == 1


@pytest.mark.usefixtures("no_patience")
def test_a_promoted_candidate_is_kept(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """Its bytes are not at hand any more: they are fetched again, and are the same by their digest."""
    kept.shelf.put(2, make_snapshot(seed=2), live=False)
    kept.shelf.rollouts["tiny"] = rollout_of(2)
    kept.follow()
    kept.shelf.point(LIVE, 2)
    kept.follow()
    assert disk.version("tiny", LIVE).snapshot == make_snapshot(seed=2)
    assert kept.shelf.fetches["tiny", 2] == 2


@pytest.mark.usefixtures("no_patience")
def test_bytes_that_were_altered_since_are_not_kept(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """What is fetched again is compared with what was proven."""
    kept.shelf.put(2, make_snapshot(seed=2), live=False)
    kept.shelf.rollouts["tiny"] = rollout_of(2)
    kept.follow()
    kept.shelf.put(2, cut(make_snapshot(seed=2)))
    kept.follow()
    assert kept.live() == 2
    assert disk.version("tiny", LIVE).ref.version == 1
    kept.shelf.put(2, make_snapshot(seed=2))
    kept.follow()
    assert disk.version("tiny", LIVE).ref.version == 2


@pytest.mark.usefixtures("no_patience")
def test_a_file_that_was_removed_is_written_again(kept: House, disk: SnapshotDisk, file: Path) -> None:
    """At one of the next comparisons."""
    file.unlink()
    kept.follow()
    assert disk.version("tiny", LIVE).ref.version == 1


@pytest.mark.parametrize("gone", ["model", "alias"])
@pytest.mark.usefixtures("no_patience")
def test_nothing_is_kept_of_what_the_store_does_not_have(
    kept: House, disk: SnapshotDisk, make_snapshot: Make, gone: str
) -> None:
    """Neither of a model that is gone nor of one of which nothing is live; what is loaded goes on answering."""
    kept.shelf.put(1, make_snapshot(model="other"), model="other")
    kept.follow("tiny", "other")
    if gone == "alias":
        kept.shelf.point(LIVE, 0)
    kept.follow(*(["tiny", "other"] if gone == "alias" else ["other"]))
    assert disk.models() == ["other"]
    assert kept.live() == 1


@pytest.mark.usefixtures("no_patience")
def test_a_record_that_cannot_be_read_removes_nothing(
    disk: SnapshotDisk, make_snapshot: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who starts now does not know whether there is a live version; what is kept answers, and stays."""
    disk.keep(published(make_snapshot()))
    house = House(disk)

    def unreadable(_model: str) -> dict[str, int]:
        raise ValueError("no number")

    monkeypatch.setattr(house.shelf, "aliases", unreadable)
    house.follow()
    assert (house.live(), house.reason(), house.state().restored) == (1, "MALFORMED_RECORD", True)
    assert disk.models() == ["tiny"]


def test_a_model_of_a_strange_name_is_served_and_not_kept(disk: SnapshotDisk, make_snapshot: Make) -> None:
    """And is not fetched again and again for that."""
    house = House(disk)
    house.shelf.put(1, make_snapshot(model="../Tiny"), model="../Tiny")
    for _ in range(3):
        house.follow("../Tiny")
    assert house.live("../Tiny") == 1
    assert house.shelf.fetches["../Tiny", 1] == 1
    assert disk.models() == []


@pytest.mark.usefixtures("no_patience")
def test_a_full_disk_is_said_once_and_tried_again(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """Serving goes on; the old file stays until the new one can be written, and nothing is left beside it."""
    kept.shelf.put(2, make_snapshot(seed=2))
    with no_writing(), capture_logs() as logs:
        for _ in range(3):
            kept.follow()
    assert kept.live() == 2
    assert disk.version("tiny", LIVE).ref.version == 1
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
        "what is served cannot be kept on disk; trying again"
    ]
    assert len(list(disk._folder.iterdir())) == 1
    with capture_logs() as logs:
        kept.follow()
    assert disk.version("tiny", LIVE).ref.version == 2
    assert [entry["event"] for entry in logs] == ["what is served is kept on disk again"]


def test_what_failed_waits_before_it_is_tried_again(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """A second at first: comparisons may come often, and so may versions."""
    with no_writing(), capture_logs():
        for version in (2, 3):
            kept.shelf.put(version, make_snapshot(seed=version))
            kept.follow()
    kept.follow()
    assert kept.live() == 3
    assert kept.shelf.fetches["tiny", 3] == 1
    assert disk.version("tiny", LIVE).ref.version == 1
    assert kept.manager._kept._failures == {"tiny": 1}


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path, make_snapshot: Make) -> None:
    """Something else has its name."""
    (tmp_path / "file").write_text("")
    house = House(SnapshotDisk(tmp_path / "file" / "kept"))
    house.shelf.put(1, make_snapshot())
    house.follow()
    assert house.live() == 1
    other = House(SnapshotDisk(tmp_path / "file" / "kept"))
    other.start_alone()
    with pytest.raises(UnavailableError):
        other.live()


# Starts without the store


def test_a_start_without_the_store_serves_what_was_kept(
    kept: House, disk: SnapshotDisk, file: Path, make_snapshot: Make
) -> None:
    """With all that is checked of the store's versions, and says since when it was not compared."""
    confirmed = datetime.now(UTC) - timedelta(minutes=5)
    os.utime(file, (0, confirmed.timestamp()))
    house = House(disk, kept.shelf)
    house.start_alone()
    served = house.manager.serve("tiny", LIVE)
    assert served.ref == VersionRef(1, make_snapshot(seed=1).digest)
    assert served.publish_time == NEW_YEAR
    assert house.state().restored
    contact = house.manager.store_contact
    assert contact.lost_time is not None
    assert abs(contact.lost_time - confirmed) < timedelta(seconds=1)
    assert (contact.reachable, contact.reconcile_time) == (False, None)
    assert [(model, state.restored, state.live is served) for model, state in house.announced] == [("tiny", True, True)]
    assert house.tally.swaps == [("tiny", 1, False)]


def test_what_is_served_is_confirmed_again_and_again(kept: House, disk: SnapshotDisk, file: Path) -> None:
    """Now and then at a comparison, not at each; a comparison that fails confirms nothing."""
    os.utime(file, (0, 0))
    kept.follow()
    assert file.stat().st_mtime == 0
    kept.manager._kept._due.clear()
    begin = time.time()
    kept.follow()
    assert file.stat().st_mtime >= begin - 1
    os.utime(file, (0, 0))
    kept.manager._kept._due.clear()
    kept.shelf.away = True
    with pytest.raises(StoreUnavailableError):
        kept.follow()
    assert file.stat().st_mtime == 0
    assert disk.confirm_time("tiny") == datetime.fromtimestamp(0, UTC)


@pytest.mark.usefixtures("no_patience")
def test_a_version_that_the_store_says_is_another_confirms_nothing(
    kept: House, make_snapshot: Make, file: Path
) -> None:
    """Under the same number, in a store that was filled anew, and which cannot be loaded."""
    os.utime(file, (0, 0))
    kept.shelf.put(1, cut(make_snapshot(seed=2)))
    kept.follow()
    assert (kept.live(), kept.reason()) == (1, "DIGEST_MISMATCH")
    assert file.stat().st_mtime == 0


def test_a_time_that_lies_ahead_is_not_said(kept: House, disk: SnapshotDisk, file: Path) -> None:
    """A clock may have been wrong."""
    os.utime(file, (0, time.time() + 1000))
    confirmed = disk.confirm_time("tiny")
    assert confirmed is not None
    assert confirmed <= datetime.now(UTC)


def test_what_is_not_kept_is_not_known_without_the_store(kept: House, disk: SnapshotDisk) -> None:
    """Neither other models, nor other versions, nor where other aliases point."""
    house = House(disk, kept.shelf)
    house.start_alone()
    kept.shelf.away = True
    for call in (
        lambda: house.manager.serve("other", LIVE),
        lambda: house.manager.serve("tiny", 2),
        lambda: house.manager.serve("tiny", "best"),
        lambda: house.manager.state("other"),
    ):
        assert reason_of(call) == "STORE_UNAVAILABLE"
    assert house.manager.serve("tiny", 1).ref.version == 1


def test_when_the_store_is_back_and_says_the_same_nothing_is_loaded(kept: House, disk: SnapshotDisk) -> None:
    """It is the very same version, and no longer said to be from the disk."""
    house = House(disk, kept.shelf)
    house.start_alone()
    served = house.manager.serve("tiny", LIVE)
    fetches = house.shelf.fetches["tiny", 1]
    house.follow()
    assert house.manager.serve("tiny", LIVE) is served
    assert (house.state().restored, house.manager.store_contact.lost_time) == (False, None)
    assert house.shelf.fetches["tiny", 1] == fetches
    assert house.announced[-1][1].restored is False


def test_when_the_store_is_back_with_another_version_that_is_served(
    kept: House, disk: SnapshotDisk, make_snapshot: Make
) -> None:
    """And kept."""
    house = House(disk, kept.shelf)
    house.start_alone()
    house.shelf.put(2, make_snapshot(seed=2), published=datetime.now(UTC))
    house.follow()
    assert (house.live(), house.state().restored) == (2, False)
    assert disk.version("tiny", LIVE).ref.version == 2
    assert house.tally.swaps == [("tiny", 1, False), ("tiny", 2, True)]


@pytest.mark.parametrize("gone", ["model", "alias"])
def test_when_the_store_is_back_and_does_not_have_it_it_is_not_served(
    kept: House, disk: SnapshotDisk, gone: str
) -> None:
    """Nobody shall get answers from what was removed meanwhile."""
    house = House(disk, kept.shelf)
    house.start_alone()
    house.shelf.point(LIVE, 0)
    house.follow(*(["tiny"] if gone == "alias" else ["other"]))
    assert reason_of(house.live) == ("NO_MODEL_YET" if gone == "alias" else "MODEL_NOT_FOUND")
    announced = [state for model, state in house.announced if model == "tiny"]
    assert announced[-1].live is None
    assert disk.models() == []


@pytest.mark.parametrize("known", ["nothing", "no live alias"])
def test_what_the_store_does_not_have_is_never_served_from_the_disk(
    disk: SnapshotDisk, make_snapshot: Make, known: str
) -> None:
    """A start with the store asks the store; and afterwards nothing is restored any more."""
    disk.keep(published(make_snapshot()))
    house = House(disk)
    models = []
    if known == "no live alias":
        house.shelf.put(1, make_snapshot(), live=False)
        models = ["tiny"]
    house.follow(*models) if models else house.manager.reconcile([])
    house.manager.store_lost()
    house.manager.restore()
    assert reason_of(house.live) == "NO_MODEL_YET"


def test_a_store_that_goes_away_during_the_first_comparison(disk: SnapshotDisk, make_snapshot: Make) -> None:
    """What it has said by then counts: of which it said that nothing is live, that is not restored."""
    for model in ("first", "second"):
        disk.keep(published(make_snapshot(model=model), model=model))
    house = House(disk)
    house.shelf.put(1, make_snapshot(model="first"), model="first", live=False)

    class GoesAway(dict[str, dict[str, int]]):
        def get(self, model: str, default: object = None) -> object:  # type: ignore[override]
            if model == "second":
                raise StoreUnavailableError("away")
            return super().get(model, default)

    house.shelf._aliases = GoesAway(house.shelf._aliases)
    with pytest.raises(StoreUnavailableError):
        house.manager.reconcile(["first", "second"])
    house.manager.store_lost()
    house.manager.restore()
    assert house.state("first").live is None
    assert house.live("second") == 1


def test_where_the_live_version_is_corrupt_at_the_start_the_last_good_one_answers(
    kept: House, disk: SnapshotDisk, make_snapshot: Make
) -> None:
    """The reason stands beside it, and what is kept stays what it was."""
    shelf = kept.shelf
    shelf.put(2, cut(make_snapshot(seed=2)))
    house = House(disk, shelf)
    for _ in range(3):
        house.follow()
    assert (house.live(), house.state().restored, house.reason()) == (1, True, "DIGEST_MISMATCH")
    assert house.manager.store_contact.reachable
    assert disk.version("tiny", LIVE).ref.version == 1
    assert house.tally.swaps == [("tiny", 1, False)]


@pytest.mark.usefixtures("no_patience")
def test_where_the_kept_version_itself_is_corrupt_in_the_store(kept: House, disk: SnapshotDisk, file: Path) -> None:
    """The disk's bytes are good and answer; that the store's are not stands in the state until they are mended."""
    shelf = kept.shelf
    good = shelf._snapshots["tiny", 1]
    shelf.put(1, cut(good))
    house = House(disk, shelf)
    for _ in range(3):
        house.follow()
    served = house.manager.serve("tiny", LIVE)
    assert (served.ref.version, house.state().restored, house.reason()) == (1, True, "DIGEST_MISMATCH")
    assert disk.version("tiny", LIVE).snapshot == good
    os.utime(file, (0, 0))
    house.follow()
    assert file.stat().st_mtime == 0  # the store did not confirm it
    shelf.put(1, good)
    house.follow()
    assert (house.state().restored, house.reason()) == (False, "")
    assert house.manager.serve("tiny", LIVE) is served


def test_what_is_loaded_already_is_not_replaced_by_what_is_kept(
    kept: House, disk: SnapshotDisk, make_snapshot: Make
) -> None:
    """A good version that answers goes on, whatever the disk has."""
    disk.keep(published(make_snapshot(seed=9), 9))
    kept.shelf.put(2, cut(make_snapshot(seed=2)))
    kept.follow()
    assert (kept.live(), kept.state().restored) == (1, False)


def test_the_disk_is_read_at_the_start_only(kept: House, disk: SnapshotDisk, make_snapshot: Make) -> None:
    """A store that goes away later takes nothing, and brings nothing back."""
    disk.keep(published(make_snapshot(model="other"), model="other"))
    kept.manager.store_lost()
    kept.manager.restore()
    assert kept.manager.models() == ["tiny"]
    assert not kept.state().restored


def test_without_a_disk_nothing_is_kept(make_snapshot: Make, tmp_path: Path) -> None:
    """Nor restored."""
    house = House(None)
    house.shelf.put(1, make_snapshot())
    house.start_alone()
    assert house.manager.models() == []
    house.follow()
    assert house.live() == 1
    assert list(tmp_path.iterdir()) == []
