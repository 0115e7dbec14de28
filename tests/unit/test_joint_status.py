"""What is said for all processes on one port: nothing that is not true of every one of them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inference_service.board import Board, HeldVersion
from inference_service.joint_status import JointStatus
from inference_service.versions.model_state import ModelState
from inference_service.versions.snapshot_loader import load_version
from shared.model_version import PublishedVersion, StoredSnapshot, VersionRef

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def held(version: int, seconds: float = 0, *, restored: bool = False) -> HeldVersion:
    """A version that was loaded so many seconds after noon."""
    return HeldVersion(version, f"{version:064x}", NOON, NOON + timedelta(seconds=seconds), restored)


class OneVersion:
    """A source of one version."""

    def __init__(self, snapshot: StoredSnapshot) -> None:
        self._snapshot = snapshot

    def version(self, model: str, selector: int | str) -> PublishedVersion:
        """The one."""
        assert selector == 1
        return PublishedVersion(model, VersionRef(1, self._snapshot.digest), NOON, 1, self._snapshot)


class Member:
    """A process's board and joint status, and what health checks were told."""

    def __init__(self, folder: Path | None, pid: int, *, joined: bool = True) -> None:
        self.health: dict[str, bool] = {}
        self.board = Board(folder, pid=pid)
        self.joint = JointStatus(self.board, self._set)
        if joined:
            self.board.join()

    def _set(self, name: str, serving: bool) -> None:  # noqa: FBT001 - a callback's argument
        self.health[name] = serving

    def live(self) -> int | None:
        """The version that is said to be live."""
        live = self.joint.live("digits")
        return live.version if live else None

    def serve(self, version: HeldVersion | None) -> None:
        """Answers by this version from now on."""
        self.board.post("digits", version)

    def checks(self) -> dict[str, bool]:
        """What health checks answer after a look."""
        self.joint.look()
        return self.health


@pytest.fixture
def join(tmp_path: Path) -> Callable[..., Member]:
    """Makes processes on one board."""
    pids = iter(range(1, 100))
    return lambda *, joined=True: Member(tmp_path, next(pids), joined=joined)


def test_a_process_alone_speaks_for_itself() -> None:
    """What it answers by is live at once."""
    alone = Member(None, 1)
    assert alone.live() is None
    assert alone.checks() == {"": False}
    for version in (2, 1):
        alone.serve(held(version))
        assert alone.live() == version
    assert alone.checks() == {"": True, "models/digits": True}


def test_a_version_is_live_when_everybody_answers_by_it(join: Callable[..., Member]) -> None:
    """Until then the one that is being replaced is, whoever is asked; forwards, and back at a rollback."""
    one, other = join(), join()
    for member in (one, other):
        member.serve(held(1))
    for step, version in enumerate((2, 3, 1), start=1):
        before = (one.live(), other.live())
        assert before[0] == before[1] != version
        one.serve(held(version, seconds=step))
        assert (one.live(), other.live()) == before
        other.serve(held(version, seconds=step + 0.5))
        assert (one.live(), other.live()) == (version, version)


def test_a_slow_process_is_waited_for(join: Callable[..., Member]) -> None:
    """Also where it loaded the old version later than the others the new one."""
    one, slow = join(), join()
    one.serve(held(1, seconds=1))
    slow.serve(held(1, seconds=5))
    assert one.live() == slow.live() == 1
    one.serve(held(2, seconds=2))
    assert one.live() == slow.live() == 1


def test_who_has_seen_no_agreement_goes_by_the_time(join: Callable[..., Member]) -> None:
    """What was loaded first is what is being replaced."""
    one, other = join(), join()
    one.serve(held(2, seconds=1))
    other.serve(held(1, seconds=0))
    assert one.live() == other.live() == 1


def test_the_load_time_is_when_the_last_one_had_it(join: Callable[..., Member]) -> None:
    """Whoever is asked."""
    one, other = join(), join()
    one.serve(held(1, seconds=3))
    other.serve(held(1, seconds=4))
    assert one.joint.live("digits") == other.joint.live("digits") == held(1, seconds=4)


def test_one_number_with_two_digests_is_no_agreement(join: Callable[..., Member]) -> None:
    """A store that was emptied and filled anew may use a number twice."""
    one, other = join(), join()
    one.serve(held(1))
    other.serve(HeldVersion(1, "f" * 64, NOON, NOON + timedelta(seconds=1)))
    live = one.joint.live("digits")
    assert live == held(1)
    other.serve(held(1, seconds=2))
    assert one.joint.live("digits") == held(1, seconds=2)


def test_health_says_serving_when_every_process_can_answer(join: Callable[..., Member]) -> None:
    """Not before, and not while one that is reached cannot; one that is gone does not count."""
    one, other = join(), join()
    one.serve(held(1))
    assert one.checks() == {"": False, "models/digits": False}
    other.serve(None)
    assert one.checks() == {"": False, "models/digits": False}
    other.serve(held(1))
    assert one.checks() == other.checks() == {"": True, "models/digits": True}
    newcomer = join()
    assert one.checks() == {"": False, "models/digits": False}
    newcomer.board.leave()
    assert one.checks() == {"": True, "models/digits": True}


def test_ready_for_one_model_is_ready(join: Callable[..., Member]) -> None:
    """A second model that not everybody has yet is not, and takes nothing from the first."""
    one, other = join(), join()
    for member in (one, other):
        member.serve(held(1))
    one.board.post("letters", held(1))
    assert one.checks() == {"": True, "models/digits": True, "models/letters": False}


def test_what_a_process_announces_is_known_at_once(
    join: Callable[..., Member], make_snapshot: Callable[..., StoredSnapshot]
) -> None:
    """To its own health checks and to the others; a model that cannot be served is not ready, and is known."""
    one, other = join(), join()
    snapshot = make_snapshot(model="digits")
    served = load_version(OneVersion(snapshot), "digits", 1)
    one.joint.announce("letters", ModelState())
    one.joint.announce("digits", ModelState(served))
    assert one.health == {"": False, "models/digits": False, "models/letters": False}
    other.joint.announce("digits", ModelState(served))
    assert other.health == {"": True, "models/digits": True}
    assert one.checks() == {"": True, "models/digits": True, "models/letters": False}
    live = other.joint.live("digits")
    assert live == HeldVersion(1, snapshot.digest, served.publish_time, served.load_time)
    one.joint.announce("digits", ModelState(served, restored=True))
    live = other.joint.live("digits")
    assert live == HeldVersion(1, snapshot.digest, served.publish_time, served.load_time, restored=True)
    one.joint.announce("digits", ModelState(served))
    assert other.joint.live("digits") == one.joint.live("digits") == replace(live, restored=False)


def test_who_starts_again_can_answer_before_it_is_reached(join: Callable[..., Member]) -> None:
    """It reads the store until it has what others have, and once more when they count on it."""
    one, newcomer = join(), join(joined=False)
    one.serve(held(1))
    counted: list[bool] = []

    def read_store() -> bool:
        counted.append(bool(one.board.others()))
        if len(counted) == 2:
            newcomer.serve(held(1))
        return len(counted) > 1

    newcomer.joint.join(read_store)
    assert counted == [False, False, True]
    assert one.live() == 1


def test_who_is_first_does_not_wait_for_a_store_that_is_away(join: Callable[..., Member]) -> None:
    """It listens and says that it is not ready."""
    first = join(joined=False)
    reads: list[int] = []

    def read_store() -> bool:
        reads.append(1)
        return False

    first.joint.join(read_store)
    assert len(reads) == 1
    assert first.checks() == {"": False}


def test_who_has_a_version_from_its_disk_joins_those_who_answer_by_it(join: Callable[..., Member]) -> None:
    """A process that is started again while the store is away."""
    one, newcomer = join(), join(joined=False)
    one.serve(held(1))
    newcomer.serve(held(1, restored=True))
    newcomer.joint.join(lambda: False)
    assert one.live() == newcomer.live() == 1
    live = one.joint.live("digits")
    assert live is not None
    assert live.restored


def test_who_has_another_version_from_its_disk_waits_for_the_store(join: Callable[..., Member]) -> None:
    """Whoever was answered by a later one shall not go back to it; when the store says what is live, that counts."""
    one, newcomer = join(), join(joined=False)
    one.serve(held(2))
    newcomer.serve(held(1, restored=True))
    counted: list[bool] = []

    def read_store() -> bool:
        counted.append(bool(one.board.others()))
        return len(counted) > 1

    newcomer.joint.join(read_store)
    assert counted == [False, False, True]


def test_who_knows_what_the_store_says_is_not_waited_for_by_itself(join: Callable[..., Member]) -> None:
    """Such as a process that is the first to see a new version, or whose disk has the last good one."""
    one, newcomer = join(), join(joined=False)
    one.serve(held(2))
    newcomer.serve(held(3))
    newcomer.joint.join(lambda: True)
    assert one.board.others()
