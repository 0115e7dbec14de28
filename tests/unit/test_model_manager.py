"""What is served follows what the store says: good versions replace, bad ones change nothing, and the reason shows."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from inference_service.model_manager import LoadFailure, ModelManager
from shared.errors import NotFoundError, SnapshotRejectedError, StoreUnavailableError, UnavailableError, WeightcastError
from shared.model_version import LATEST, LIVE, PublishedVersion, StoredSnapshot, VersionRef

Make = Callable[..., StoredSnapshot]


class Shelf:
    """Versions in memory, given out as a store would; it counts the fetches and can be away or slow."""

    def __init__(self) -> None:
        self._snapshots: dict[tuple[str, int], StoredSnapshot] = {}
        self._aliases: dict[str, dict[str, int]] = {}
        self.fetches: Counter[tuple[str, int]] = Counter()
        self.away = False
        self.gate = threading.Event()
        self.gate.set()

    def put(self, version: int, snapshot: StoredSnapshot, *, model: str = "tiny", live: bool = True) -> None:
        """Publishes a version."""
        self._snapshots[model, version] = snapshot
        self.point(LATEST, version, model=model)
        if live:
            self.point(LIVE, version, model=model)

    def point(self, alias: str, version: int, *, model: str = "tiny") -> None:
        """Moves an alias."""
        self._aliases.setdefault(model, {})[alias] = version

    def aliases(self, model: str) -> dict[str, int]:
        """Every alias of a model with its version."""
        if self.away:
            raise StoreUnavailableError("the shelf is away")
        return dict(self._aliases.get(model, {}))

    def ref(self, model: str, version: int) -> VersionRef | None:
        """The number with its digest."""
        snapshot = self._snapshots.get((model, version))
        return VersionRef(version, snapshot.digest) if snapshot else None

    def version(self, model: str, selector: int | str) -> PublishedVersion:
        """One version with its bytes, unchecked."""
        number = selector if isinstance(selector, int) else self._aliases[model][selector]
        self.fetches[model, number] += 1
        assert self.gate.wait(10)
        if self.away:
            raise StoreUnavailableError("the shelf is away")
        if (model, number) not in self._snapshots:
            raise NotFoundError(f"model {model!r} has no version {number}", reason="VERSION_NOT_FOUND")
        snapshot = self._snapshots[model, number]
        ref = VersionRef(number, snapshot.digest)
        return PublishedVersion(model, ref, datetime(2026, 1, 1, tzinfo=UTC), len(snapshot.weights), snapshot)


class House:
    """A manager over a shelf, and what it announced."""

    def __init__(self, pinned_capacity: int = 2) -> None:
        self.shelf = Shelf()
        self.announced: list[tuple[str, bool]] = []
        self.manager = ModelManager(
            self.shelf, pinned_capacity, lambda model, live: self.announced.append((model, live is not None))
        )

    def reconcile(self, *models: str) -> None:
        """Compares with the shelf once."""
        self.manager.reconcile(models or ("tiny",))

    def live(self) -> int:
        """The number of the version that answers."""
        return self.manager.serve("tiny", LIVE).ref.version

    def failure(self) -> LoadFailure:
        """The failure that stands."""
        failure = self.manager.state("tiny").failure
        assert failure is not None
        return failure


@pytest.fixture
def house() -> House:
    """An empty one."""
    return House()


def cut(snapshot: StoredSnapshot) -> StoredSnapshot:
    """A snapshot whose weights lost a byte after they were published."""
    return StoredSnapshot(snapshot.manifest, snapshot.weights[:-1], snapshot.digest)


def refusal(kind: type[WeightcastError], call: Callable[[], object]) -> str:
    """Why a call was refused."""
    with pytest.raises(kind) as raised:
        call()
    return raised.value.reason


def test_what_is_live_answers(house: House, make_snapshot: Make) -> None:
    """With its own number, digest and weights."""
    snapshot = make_snapshot(seed=1)
    house.shelf.put(1, snapshot)
    house.reconcile()
    served = house.manager.serve("tiny", LIVE)
    assert served.ref == VersionRef(1, snapshot.digest)
    test = served.manifest.self_test
    np.testing.assert_allclose(served.classifier.probabilities(test.inputs), test.probabilities, atol=1e-5)


def test_what_is_served_follows_the_alias(house: House, make_snapshot: Make) -> None:
    """Forward to a new version, not to one that is published only, and back again."""
    for version in (1, 2):
        house.shelf.put(version, make_snapshot(seed=version), live=version == 1)
    house.reconcile()
    assert house.live() == 1
    for version in (2, 1):
        house.shelf.point(LIVE, version)
        house.reconcile()
        assert house.live() == version


def test_an_unchanged_version_is_not_loaded_again(house: House, make_snapshot: Make) -> None:
    """Comparing costs a look at the digest."""
    house.shelf.put(1, make_snapshot())
    for _ in range(3):
        house.reconcile()
    assert house.shelf.fetches["tiny", 1] == 1


def test_a_number_that_holds_another_digest_is_loaded_again(house: House, make_snapshot: Make) -> None:
    """A store that was emptied and filled anew may use a number for something else."""
    for seed in (1, 2):
        house.shelf.put(1, make_snapshot(seed=seed))
        house.reconcile()
    assert house.manager.serve("tiny", LIVE).ref.digest == make_snapshot(seed=2).digest


def test_a_bad_version_never_replaces_a_good_one(house: House, make_snapshot: Make) -> None:
    """The good one goes on answering, and the status says what is wrong with the other."""
    house.shelf.put(1, make_snapshot(seed=1))
    house.reconcile()
    house.shelf.put(2, cut(make_snapshot(seed=2)))
    house.reconcile()
    assert house.live() == 1
    assert (house.failure().ref.version, house.failure().reason) == (2, "DIGEST_MISMATCH")
    assert "SHA-256" in house.failure().message


def test_a_good_version_after_a_bad_one_replaces_at_once(house: House, make_snapshot: Make) -> None:
    """It does not wait for the bad one's next attempt, and the failure is gone."""
    house.shelf.put(1, cut(make_snapshot()))
    house.reconcile()
    house.shelf.put(2, make_snapshot())
    house.reconcile()
    assert house.live() == 2
    assert house.manager.state("tiny").failure is None


def test_going_back_to_the_served_version_ends_the_failure(house: House, make_snapshot: Make) -> None:
    """What the store wants is what is served, so nothing is wrong any more."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    house.shelf.put(2, cut(make_snapshot(seed=2)))
    house.reconcile()
    house.shelf.point(LIVE, 1)
    house.reconcile()
    assert house.manager.state("tiny").failure is None


def test_a_bad_version_is_not_tried_before_its_time(house: House, make_snapshot: Make) -> None:
    """Events and comparisons may come often; the load is not repeated for each."""
    house.shelf.put(1, cut(make_snapshot()))
    for _ in range(5):
        house.reconcile()
    assert house.shelf.fetches["tiny", 1] == 1


def test_a_bad_version_is_tried_again_and_served_when_it_is_good(house: House, make_snapshot: Make) -> None:
    """The first wait is a second; the second is twice as long; and what was repaired meanwhile is served."""
    good = make_snapshot()
    house.shelf.put(1, cut(good))
    house.reconcile()
    first = house.failure()
    time.sleep(max(0, (first.retry_time - datetime.now(UTC)).total_seconds()) + 0.01)
    house.reconcile()
    second = house.failure()
    assert (second.attempts, house.shelf.fetches["tiny", 1]) == (2, 2)
    assert (second.retry_time - second.attempt_time) == 2 * (first.retry_time - first.attempt_time)
    house.shelf.put(1, good)
    time.sleep(max(0, (second.retry_time - datetime.now(UTC)).total_seconds()) + 0.01)
    house.reconcile()
    assert house.live() == 1


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (30, 60), (100_000, 60)])
def test_the_wait_doubles_up_to_a_minute(attempts: int, seconds: int) -> None:
    """However long a bad version stays: after days of attempts too."""
    failure = LoadFailure(VersionRef(1, ""), "X", "x", attempts, datetime(2026, 1, 1, tzinfo=UTC))
    assert failure.retry_time - failure.attempt_time == timedelta(seconds=seconds)


def test_a_version_that_fails_its_self_test_is_never_served(house: House, make_snapshot: Make) -> None:
    """Not for an instant: who asks all the time while it is loaded and tested sees the good version only.

    The bad one's self-test is long, so that there is time in which it would be seen.
    """
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    house.shelf.put(2, make_snapshot(seed=2, wrong_answers=True, self_test_rows=20_000))
    seen: Counter[int] = Counter()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen[house.live()] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    house.reconcile()
    done.set()
    asking.join()
    assert house.failure().reason == "SELF_TEST_FAILED"
    assert set(seen) == {1}


def test_the_old_version_answers_while_the_new_one_is_loaded(house: House, make_snapshot: Make) -> None:
    """Loading before unloading: a fetch that takes long is no gap."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    house.shelf.put(2, make_snapshot(seed=2))
    house.shelf.gate.clear()
    loading = threading.Thread(target=house.reconcile)
    loading.start()
    while not house.shelf.fetches["tiny", 2]:
        time.sleep(0.001)
    assert house.live() == 1
    house.shelf.gate.set()
    loading.join()
    assert house.live() == 2


def test_a_snapshot_of_another_model_is_refused(house: House, make_snapshot: Make) -> None:
    """Under the wrong name it would answer wrong questions."""
    house.shelf.put(1, make_snapshot(model="other"))
    house.reconcile()
    assert house.failure().reason == "WRONG_MODEL"


def test_a_failing_model_does_not_stop_the_others(house: House, make_snapshot: Make) -> None:
    """Each model stands alone, and each is announced with whether it can answer."""
    house.shelf.put(1, cut(make_snapshot(model="bad")), model="bad")
    house.shelf.put(1, make_snapshot())
    house.reconcile("bad", "tiny")
    assert house.live() == 1
    assert house.announced == [("bad", False), ("tiny", True)]
    assert house.manager.models() == ["bad", "tiny"]


def test_a_model_whose_only_version_is_bad_says_why(house: House, make_snapshot: Make) -> None:
    """Nobody has to look into a log."""
    house.shelf.put(1, cut(make_snapshot()))
    house.reconcile()
    with pytest.raises(UnavailableError, match=r"version 1: the stored bytes have SHA-256") as raised:
        house.live()
    assert raised.value.reason == "NO_MODEL_YET"


def test_without_the_store_what_is_served_stays(house: House, make_snapshot: Make) -> None:
    """The error goes up to the watcher, which waits; requests do not notice."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    house.shelf.away = True
    assert refusal(StoreUnavailableError, house.reconcile) == "STORE_UNAVAILABLE"
    house.manager.store_lost()
    assert house.live() == 1
    assert not house.manager.store_contact.reachable
    assert house.manager.store_contact.reconcile_time is not None


def test_a_store_that_goes_away_during_a_load_leaves_no_failure(house: House, make_snapshot: Make) -> None:
    """The version is not at fault, so it is tried at once when the store is back."""
    house.shelf.put(1, make_snapshot())
    house.shelf.gate.clear()
    loading = threading.Thread(target=lambda: refusal(StoreUnavailableError, house.reconcile))
    loading.start()
    while not house.shelf.fetches["tiny", 1]:
        time.sleep(0.001)
    house.shelf.away = True
    house.shelf.gate.set()
    loading.join()
    house.shelf.away = False
    house.reconcile()
    assert house.live() == 1


def test_before_the_store_was_read_nobody_can_know(house: House) -> None:
    """UNAVAILABLE, for it may be there."""
    assert refusal(UnavailableError, house.live) == "STORE_UNAVAILABLE"
    assert refusal(UnavailableError, lambda: house.manager.state("tiny")) == "STORE_UNAVAILABLE"


def test_before_anything_was_published_there_is_no_model_yet(house: House) -> None:
    """UNAVAILABLE, for the first training may be under way."""
    house.manager.reconcile([])
    assert refusal(UnavailableError, house.live) == "NO_MODEL_YET"


def test_a_model_that_was_never_promoted_is_not_ready(house: House, make_snapshot: Make) -> None:
    """It has versions, and none of them is live; by number it answers."""
    house.shelf.put(1, make_snapshot(), live=False)
    house.reconcile()
    assert refusal(UnavailableError, house.live) == "NO_MODEL_YET"
    assert house.announced == [("tiny", False)]
    assert house.manager.serve("tiny", 1).ref.version == 1


@pytest.mark.parametrize(
    ("model", "selector", "reason"),
    [
        ("tinny", LIVE, "MODEL_NOT_FOUND"),
        ("tinny", 1, "MODEL_NOT_FOUND"),
        ("tiny", "canary", "ALIAS_NOT_FOUND"),
        ("tiny", 7, "VERSION_NOT_FOUND"),
        ("tiny", 0, "VERSION_NOT_FOUND"),
    ],
)
def test_what_is_unknown_is_not_found(
    house: House, make_snapshot: Make, model: str, selector: int | str, reason: str
) -> None:
    """Each with its own reason."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    assert refusal(NotFoundError, lambda: house.manager.serve(model, selector)) == reason


def test_an_unknown_model_or_alias_is_told_what_there_is(house: House, make_snapshot: Make) -> None:
    """A typing error is seen at once."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    with pytest.raises(NotFoundError, match="no model 'tinny'; served here: tiny"):
        house.manager.serve("tinny", LIVE)
    with pytest.raises(NotFoundError, match="no alias 'canary'; it has latest, live"):
        house.manager.serve("tiny", "canary")


@pytest.mark.parametrize("selector", [1, "old"])
def test_a_version_can_be_asked_for_by_number_or_alias(house: House, make_snapshot: Make, selector: int | str) -> None:
    """It is loaded when first asked for, kept, and shown as pinned; what is live does not change."""
    house.shelf.put(1, make_snapshot(seed=1))
    house.shelf.put(2, make_snapshot(seed=2))
    house.shelf.point("old", 1)
    house.reconcile()
    for _ in range(3):
        assert house.manager.serve("tiny", selector).ref == VersionRef(1, make_snapshot(seed=1).digest)
    assert house.shelf.fetches["tiny", 1] == 1
    assert [served.ref.version for served in house.manager.pinned("tiny")] == [1]
    assert house.live() == 2


def test_the_live_version_asked_for_by_number_is_not_loaded_twice(house: House, make_snapshot: Make) -> None:
    """It is the very same object."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    live = house.manager.serve("tiny", LIVE)
    assert house.manager.serve("tiny", 1) is house.manager.serve("tiny", LATEST) is live
    assert house.shelf.fetches["tiny", 1] == 1


def test_only_so_many_versions_are_kept_and_the_longest_unused_goes(house: House, make_snapshot: Make) -> None:
    """Two fit; 1 was used after 2, so 3 takes the place of 2."""
    for version in (1, 2, 3, 4):
        house.shelf.put(version, make_snapshot(seed=version))
    house.reconcile()
    for version in (1, 2, 1, 3):
        house.manager.serve("tiny", version)
    assert [served.ref.version for served in house.manager.pinned("tiny")] == [1, 3]
    house.manager.serve("tiny", 2)
    assert house.shelf.fetches == {("tiny", 4): 1, ("tiny", 1): 1, ("tiny", 2): 2, ("tiny", 3): 1}


def test_many_requests_for_one_version_load_it_once(house: House, make_snapshot: Make) -> None:
    """Who comes while it is being loaded waits for it."""
    house.shelf.put(1, make_snapshot(seed=1))
    house.shelf.put(2, make_snapshot(seed=2))
    house.reconcile()
    house.shelf.gate.clear()
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(house.manager.serve, "tiny", 1) for _ in range(8)]
        time.sleep(0.05)
        house.shelf.gate.set()
        assert len({id(answer.result()) for answer in answers}) == 1
    assert house.shelf.fetches["tiny", 1] == 1


def test_a_bad_version_asked_for_by_number_is_refused_with_its_reason(house: House, make_snapshot: Make) -> None:
    """It exists and cannot be served; nothing of it is kept."""
    house.shelf.put(1, make_snapshot(seed=1, wrong_answers=True))
    house.shelf.put(2, make_snapshot())
    house.reconcile()
    assert refusal(SnapshotRejectedError, lambda: house.manager.serve("tiny", 1)) == "SELF_TEST_FAILED"
    assert house.manager.pinned("tiny") == []
