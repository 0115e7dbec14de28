"""What is served follows what the store says: good versions replace, bad ones change nothing, and the reason shows."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from inference_service.versions import model_state
from inference_service.versions.loading import MOST_REFUSALS, Loading
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.model_state import LoadFailure
from shared.errors import NotFoundError, SnapshotRejectedError, StoreUnavailableError, UnavailableError, WeightcastError
from shared.model_version import LATEST, LIVE, StoredSnapshot, VersionRef
from shared.rollout import RolloutMode
from tests.unit.shelf import Shelf, Tally, cut, rollout_of

Make = Callable[..., StoredSnapshot]
ROOM = 2**20


class House:
    """A manager over a shelf, what it announced, and what it counted."""

    def __init__(self, pinned_bytes: int = ROOM) -> None:
        self.shelf = Shelf()
        self.tally = Tally()
        self.announced: list[tuple[str, bool]] = []
        self.manager = ModelManager(
            self.shelf,
            pinned_bytes,
            lambda model, state: self.announced.append((model, state.live is not None)),
            self.tally,
        )

    def reconcile(self, *models: str) -> None:
        """Compares with the shelf once."""
        self.manager.reconcile(models or ("tiny",))

    def live(self) -> int:
        """The number of the version that answers."""
        return self.manager.serve("tiny", LIVE).ref.version

    def candidate(self) -> int:
        """The number of the version that is tried, 0 if none is."""
        rollout = self.manager.rollout("tiny")
        return rollout.candidate.ref.version if rollout else 0

    def failure(self) -> LoadFailure:
        """The failure that stands."""
        failure = self.manager.state("tiny").failure
        assert failure is not None
        return failure

    def rollout_failure(self) -> LoadFailure:
        """Why the candidate is not tried."""
        failure = self.manager.state("tiny").rollout_failure
        assert failure is not None
        return failure


@pytest.fixture
def house() -> House:
    """An empty one."""
    return House()


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused is tried again at once."""
    monkeypatch.setattr(model_state, "FIRST_RETRY_SECONDS", 0.0)


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


def test_a_bad_version_is_tried_again_and_served_when_it_is_good(
    house: House, make_snapshot: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait is twice as long as the one before; and what was mended meanwhile is served."""
    monkeypatch.setattr(model_state, "FIRST_RETRY_SECONDS", 0.02)
    good = make_snapshot()
    house.shelf.put(1, cut(good))
    house.reconcile()
    first = house.failure()
    time.sleep(max(0, (first.retry_time - datetime.now(UTC)).total_seconds()))
    house.reconcile()
    second = house.failure()
    assert (second.attempts, house.shelf.fetches["tiny", 1]) == (2, 2)
    assert (second.retry_time - second.attempt_time) == 2 * (first.retry_time - first.attempt_time)
    house.shelf.put(1, good)
    time.sleep(max(0, (second.retry_time - datetime.now(UTC)).total_seconds()))
    house.reconcile()
    assert house.live() == 1
    assert house.tally.failures == [("tiny", "DIGEST_MISMATCH")] * 2


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
    gate = house.shelf.gates[2] = threading.Event()
    loading = threading.Thread(target=house.reconcile)
    loading.start()
    while not house.shelf.fetches["tiny", 2]:
        time.sleep(0.001)
    assert house.live() == 1
    gate.set()
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
    begin = datetime.now(UTC)
    house.manager.store_lost()
    lost = house.manager.store_contact.lost_time
    house.manager.store_lost()
    assert house.live() == 1
    assert not house.manager.store_contact.reachable
    assert house.manager.store_contact.reconcile_time is not None
    assert lost is not None
    assert begin <= lost <= datetime.now(UTC)
    assert house.manager.store_contact.lost_time == lost
    house.shelf.away = False
    house.reconcile()
    assert house.manager.store_contact.lost_time is None
    assert house.tally.contacts == [True, False, False, True]


def test_a_store_that_goes_away_during_a_load_leaves_no_failure(house: House, make_snapshot: Make) -> None:
    """The version is not at fault, so it is tried at once when the store is back."""
    house.shelf.put(1, make_snapshot())
    gate = house.shelf.gates[1] = threading.Event()
    loading = threading.Thread(target=lambda: refusal(StoreUnavailableError, house.reconcile))
    loading.start()
    while not house.shelf.fetches["tiny", 1]:
        time.sleep(0.001)
    house.shelf.away = True
    gate.set()
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


def test_many_requests_for_one_version_load_it_once(house: House, make_snapshot: Make) -> None:
    """Who comes while it is being loaded waits for it."""
    house.shelf.put(1, make_snapshot(seed=1))
    house.shelf.put(2, make_snapshot(seed=2))
    house.reconcile()
    gate = house.shelf.gates[1] = threading.Event()
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(house.manager.serve, "tiny", 1) for _ in range(8)]
        time.sleep(0.05)
        gate.set()
        assert len({id(answer.result()) for answer in answers}) == 1
    assert house.shelf.fetches["tiny", 1] == 1


def test_a_bad_version_asked_for_by_number_is_refused_with_its_reason(house: House, make_snapshot: Make) -> None:
    """It exists and cannot be served; nothing of it is kept."""
    house.shelf.put(1, make_snapshot(seed=1, wrong_answers=True))
    house.shelf.put(2, make_snapshot())
    house.reconcile()
    assert refusal(SnapshotRejectedError, lambda: house.manager.serve("tiny", 1)) == "SELF_TEST_FAILED"
    assert house.manager.pinned("tiny") == []


def test_a_bad_version_that_is_asked_for_is_not_read_for_every_request(house: House, make_snapshot: Make) -> None:
    """The first refusal stands for a while, and is counted once."""
    house.shelf.put(1, cut(make_snapshot(seed=1)))
    house.shelf.put(2, make_snapshot())
    house.reconcile()
    reasons = {refusal(SnapshotRejectedError, lambda: house.manager.serve("tiny", 1)) for _ in range(5)}
    assert reasons == {"DIGEST_MISMATCH"}
    assert house.shelf.fetches["tiny", 1] == 1
    assert house.tally.failures == [("tiny", "DIGEST_MISMATCH")]


@pytest.mark.usefixtures("no_patience")
def test_a_bad_version_that_is_asked_for_is_tried_again(house: House, make_snapshot: Make) -> None:
    """And answers when it was mended."""
    good = make_snapshot(seed=1)
    house.shelf.put(1, cut(good))
    house.shelf.put(2, make_snapshot())
    house.reconcile()
    refusal(SnapshotRejectedError, lambda: house.manager.serve("tiny", 1))
    house.shelf.put(1, good, live=False)
    assert house.manager.serve("tiny", 1).ref.digest == good.digest


def test_another_version_of_the_same_number_does_not_wait(house: House, make_snapshot: Make) -> None:
    """What was refused was the one with that digest."""
    house.shelf.put(1, cut(make_snapshot(seed=1)))
    house.reconcile()
    house.shelf.put(1, make_snapshot(seed=2))
    house.reconcile()
    assert house.live() == 1
    assert house.manager.state("tiny").failure is None


@pytest.mark.usefixtures("no_patience")
def test_a_failure_after_a_success_is_the_first_again(house: House, make_snapshot: Make) -> None:
    """What was mended owes nothing for what it was."""
    good = make_snapshot(seed=2)
    house.shelf.put(1, make_snapshot(seed=1))
    for snapshot in (cut(good), cut(good), good):
        house.shelf.put(2, snapshot)
        house.reconcile()
    house.shelf.point(LIVE, 1)
    house.reconcile()
    house.shelf.put(2, cut(good))
    house.reconcile()
    assert house.failure().attempts == 1


def test_what_was_refused_as_live_is_not_read_when_it_is_asked_for(house: House, make_snapshot: Make) -> None:
    """One memory of what is bad, whoever found it out."""
    house.shelf.put(1, make_snapshot())
    house.shelf.put(2, cut(make_snapshot(seed=2)))
    house.reconcile()
    assert refusal(SnapshotRejectedError, lambda: house.manager.serve("tiny", 2)) == "DIGEST_MISMATCH"
    assert house.shelf.fetches["tiny", 2] == 1


def test_refusals_are_bounded(make_snapshot: Make) -> None:
    """Whoever asks for thousands of bad versions does not fill the memory; the oldest is forgotten."""
    loading = Loading(Shelf(), Tally())
    for version in range(1, MOST_REFUSALS + 2):
        loading.refused("tiny", VersionRef(version, ""), SnapshotRejectedError("x" * 1000))
    assert loading.standing("tiny", VersionRef(1, "")) is None
    last = loading.standing("tiny", VersionRef(MOST_REFUSALS + 1, ""))
    assert last is not None
    assert len(last.message) <= 500
    assert len(loading._refused) == MOST_REFUSALS


def test_what_nobody_foresaw_is_a_refusal_too(
    house: House, make_snapshot: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a live version and of one that is asked for: it takes nothing along, and is not tried for each request."""

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    house.shelf.put(1, make_snapshot())
    house.shelf.put(2, make_snapshot(seed=2), live=False)
    house.reconcile()
    monkeypatch.setattr("inference_service.versions.loading.prove", fail)
    for _ in range(2):
        assert refusal(SnapshotRejectedError, lambda: house.manager.serve("tiny", 2)) == "LOAD_FAILED"
    assert house.shelf.fetches["tiny", 2] == 1
    house.shelf.put(3, make_snapshot(seed=3))
    house.reconcile()
    assert (house.failure().reason, house.live()) == ("LOAD_FAILED", 1)


def test_a_version_that_is_too_large_is_refused_before_it_is_decoded(make_snapshot: Make) -> None:
    """By its stored size: what is wrong with its bytes is never found out. As live it has all the room it needs."""
    house = House(pinned_bytes=100)
    house.shelf.put(1, cut(make_snapshot(seed=1)))
    house.shelf.put(2, make_snapshot())
    house.reconcile()
    assert house.live() == 2
    with pytest.raises(SnapshotRejectedError, match=r"WEIGHTCAST_INFERENCE_PINNED_BYTES") as raised:
        house.manager.serve("tiny", 1)
    assert raised.value.reason == "VERSION_TOO_LARGE"
    assert f"{len(cut(make_snapshot(seed=1)).weights)} bytes" in raised.value.message
    assert "100 together" in raised.value.message


def test_a_version_that_is_too_large_in_memory_is_refused(make_snapshot: Make) -> None:
    """What is stored may be smaller than what it takes: the copy for bytes, the self-test, the objects."""
    house = House(pinned_bytes=1000)
    assert len(make_snapshot(seed=1).weights) < 1000
    house.shelf.put(1, make_snapshot(seed=1))
    house.shelf.put(2, make_snapshot())
    house.reconcile()
    for _ in range(2):
        assert refusal(SnapshotRejectedError, lambda: house.manager.serve("tiny", 1)) == "VERSION_TOO_LARGE"
    assert house.manager.pinned("tiny") == []
    assert house.shelf.fetches["tiny", 1] == 1


def test_a_pinned_version_that_goes_live_is_not_loaded_again(house: House, make_snapshot: Make) -> None:
    """It is the very same object, and no longer takes room among those that requests named."""
    for version in (2, 1):
        house.shelf.put(version, make_snapshot(seed=version))
    house.reconcile()
    pinned = house.manager.serve("tiny", 2)
    house.shelf.point(LIVE, 2)
    house.reconcile()
    assert house.manager.serve("tiny", LIVE) is pinned
    assert house.shelf.fetches["tiny", 2] == 1
    assert house.manager.pinned("tiny") == []


def test_a_pinned_version_of_another_digest_is_loaded_when_it_goes_live(house: House, make_snapshot: Make) -> None:
    """Only what is equal is reused."""
    for version in (2, 1):
        house.shelf.put(version, make_snapshot(seed=version))
    house.reconcile()
    house.manager.serve("tiny", 2)
    house.shelf.put(2, make_snapshot(seed=3))
    house.reconcile()
    assert house.manager.serve("tiny", LIVE).ref.digest == make_snapshot(seed=3).digest


# Rollouts


@pytest.fixture
def trying(house: House, make_snapshot: Make) -> House:
    """Version 1 is live and version 2 is tried."""
    house.shelf.put(1, make_snapshot(seed=1))
    house.shelf.put(2, make_snapshot(seed=2), live=False)
    house.shelf.rollouts["tiny"] = rollout_of(2)
    house.reconcile()
    return house


def test_a_candidate_is_loaded_and_changes_nothing_else(trying: House) -> None:
    """It stands beside what is live; whoever names its number gets it without another load."""
    rollout = trying.manager.rollout("tiny")
    assert rollout is not None
    assert rollout.rollout == trying.manager.state("tiny").wanted_rollout == rollout_of(2)
    assert (trying.live(), trying.candidate()) == (1, 2)
    assert trying.manager.serve("tiny", 2) is trying.manager.loaded("tiny", 2) is rollout.candidate
    assert trying.manager.pinned("tiny") == []
    assert trying.shelf.fetches["tiny", 2] == 1
    assert trying.tally.swaps == [("tiny", 1, False)]


def test_a_model_that_is_not_known_has_no_rollout(house: House) -> None:
    """Nor is asking for it an error."""
    assert house.manager.rollout("nobody") is None


def test_another_share_or_mode_needs_no_load(trying: House) -> None:
    """The same candidate, under what the store says now."""
    before = trying.manager.rollout("tiny")
    trying.reconcile()
    assert trying.manager.rollout("tiny") is before
    trying.shelf.rollouts["tiny"] = rollout_of(2, 50.0, RolloutMode.SHADOW)
    trying.reconcile()
    rollout = trying.manager.rollout("tiny")
    assert rollout is not None
    assert before is not None
    assert rollout.rollout == rollout_of(2, 50.0, RolloutMode.SHADOW)
    assert rollout.candidate is before.candidate
    assert trying.shelf.fetches["tiny", 2] == 1


def test_a_rollout_that_was_ended_is_over(trying: House) -> None:
    """Nothing of it is left."""
    trying.shelf.rollouts.clear()
    trying.reconcile()
    state = trying.manager.state("tiny")
    assert (state.rollout, state.wanted_rollout, state.rollout_failure) == (None, None, None)
    assert trying.live() == 1


def test_a_promoted_candidate_is_not_loaded_again_and_its_rollout_is_over(trying: House) -> None:
    """At once, even if the rollout still stands in the store; that somebody took his time to promote it is no delay."""
    rollout = trying.manager.rollout("tiny")
    assert rollout is not None
    trying.shelf.point(LIVE, 2)
    trying.manager.follow_live(["tiny"])
    assert trying.manager.serve("tiny", LIVE) is rollout.candidate
    assert trying.candidate() == 0
    trying.reconcile()
    state = trying.manager.state("tiny")
    assert (state.rollout, state.wanted_rollout, state.rollout_failure) == (None, None, None)
    assert trying.shelf.fetches["tiny", 2] == 1
    assert trying.tally.swaps[-1] == ("tiny", 2, False)


def test_the_version_that_was_live_can_be_tried(trying: House) -> None:
    """Back and forth: each is loaded again only where it was let go."""
    trying.shelf.point(LIVE, 2)
    trying.shelf.rollouts["tiny"] = rollout_of(1)
    trying.reconcile()
    assert (trying.live(), trying.candidate()) == (2, 1)


def test_a_pinned_version_that_is_tried_is_not_loaded_again(house: House, make_snapshot: Make) -> None:
    """It moves from those that requests named to the rollout."""
    for version in (2, 1):
        house.shelf.put(version, make_snapshot(seed=version))
    house.reconcile()
    pinned = house.manager.serve("tiny", 2)
    house.shelf.rollouts["tiny"] = rollout_of(2)
    house.reconcile()
    rollout = house.manager.rollout("tiny")
    assert rollout is not None
    assert rollout.candidate is pinned
    assert house.manager.pinned("tiny") == []
    assert house.shelf.fetches["tiny", 2] == 1


def test_a_candidate_that_cannot_be_loaded_changes_nothing(house: House, make_snapshot: Make) -> None:
    """The live version answers everything, the reason stands apart from the live one's, other models do not notice."""
    for model in ("tiny", "other"):
        house.shelf.put(1, make_snapshot(seed=1, model=model), model=model)
        house.shelf.put(2, make_snapshot(seed=2, model=model), model=model, live=False)
        house.shelf.rollouts[model] = rollout_of(2)
    house.shelf.put(2, make_snapshot(seed=2, wrong_answers=True), live=False)
    for _ in range(3):
        house.reconcile("tiny", "other")
    assert (house.live(), house.candidate()) == (1, 0)
    assert (house.rollout_failure().ref.version, house.rollout_failure().reason) == (2, "SELF_TEST_FAILED")
    assert house.manager.state("tiny").wanted_rollout == rollout_of(2)
    assert house.manager.state("tiny").failure is None
    assert house.manager.rollout("other") is not None
    assert house.shelf.fetches["tiny", 2] == 1
    assert house.tally.failures == [("tiny", "SELF_TEST_FAILED")]


@pytest.mark.usefixtures("no_patience")
def test_a_candidate_that_was_mended_is_tried(house: House, make_snapshot: Make) -> None:
    """Without anybody setting the rollout again."""
    house.shelf.put(1, make_snapshot(seed=1))
    house.shelf.put(2, cut(make_snapshot(seed=2)), live=False)
    house.shelf.rollouts["tiny"] = rollout_of(2)
    house.reconcile()
    assert house.rollout_failure().reason == "DIGEST_MISMATCH"
    house.shelf.put(2, make_snapshot(seed=2), live=False)
    house.reconcile()
    assert house.candidate() == 2
    assert house.manager.state("tiny").rollout_failure is None


def test_another_candidate_takes_the_place_of_the_first(trying: House, make_snapshot: Make) -> None:
    """Unless it cannot be loaded: then none is tried, for the first is not wanted any more."""
    trying.shelf.put(3, make_snapshot(seed=3), live=False)
    trying.shelf.rollouts["tiny"] = rollout_of(3)
    trying.reconcile()
    assert trying.candidate() == 3
    trying.shelf.put(4, cut(make_snapshot(seed=4)), live=False)
    trying.shelf.rollouts["tiny"] = rollout_of(4)
    trying.reconcile()
    assert trying.candidate() == 0
    assert trying.rollout_failure().ref.version == 4


@pytest.mark.parametrize("version", [7, 8])
def test_a_candidate_that_is_not_there_says_so(trying: House, version: int) -> None:
    """No such version, or a record that cannot be read."""
    trying.shelf.unreadable.add(("tiny", 8))
    trying.shelf.rollouts["tiny"] = rollout_of(version)
    trying.reconcile()
    assert trying.rollout_failure().reason == {7: "VERSION_NOT_FOUND", 8: "MALFORMED_RECORD"}[version]
    assert (trying.live(), trying.candidate()) == (1, 0)


def test_a_rollout_that_cannot_be_read_is_none(trying: House) -> None:
    """It says so, once in a while, and live goes on following."""
    trying.shelf.rollouts["tiny"] = ValueError("no such mode")
    for _ in range(3):
        trying.reconcile()
    assert trying.rollout_failure().reason == "MALFORMED_RECORD"
    assert trying.manager.state("tiny").wanted_rollout is None
    assert (trying.live(), trying.candidate()) == (1, 0)
    assert trying.tally.failures == [("tiny", "MALFORMED_RECORD")]


def test_what_is_live_is_loaded_before_what_is_tried(house: House, make_snapshot: Make) -> None:
    """Of all models."""
    for model in ("first", "second"):
        house.shelf.put(1, make_snapshot(seed=1, model=model), model=model)
        house.shelf.put(2, make_snapshot(seed=2, model=model), model=model, live=False)
        house.shelf.rollouts[model] = rollout_of(2)
    house.reconcile("first", "second")
    assert house.shelf.order == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]


def test_a_slow_candidate_delays_no_swap(trying: House, make_snapshot: Make) -> None:
    """While one is still being fetched, another version goes live."""
    trying.shelf.put(3, make_snapshot(seed=3), live=False)
    trying.shelf.rollouts["tiny"] = rollout_of(3)
    gate = trying.shelf.gates[3] = threading.Event()
    settling = threading.Thread(target=trying.manager.settle)
    settling.start()
    while not trying.shelf.fetches["tiny", 3]:
        time.sleep(0.001)
    trying.shelf.put(4, make_snapshot(seed=4))
    trying.manager.follow_live(["tiny"])
    assert (trying.live(), trying.candidate()) == (4, 2)
    gate.set()
    settling.join()
    assert (trying.live(), trying.candidate()) == (4, 3)


def test_a_candidate_that_went_live_while_it_was_loaded_is_not_tried(trying: House, make_snapshot: Make) -> None:
    """Whoever comes second finds out."""
    trying.shelf.put(3, make_snapshot(seed=3), live=False)
    trying.shelf.rollouts["tiny"] = rollout_of(3)
    gate = trying.shelf.gates[3] = threading.Event()
    settling = threading.Thread(target=trying.manager.settle)
    settling.start()
    while not trying.shelf.fetches["tiny", 3]:
        time.sleep(0.001)
    trying.shelf.point(LIVE, 3)
    following = threading.Thread(target=trying.manager.follow_live, args=(["tiny"],))
    following.start()
    gate.set()
    following.join()
    settling.join()
    assert (trying.live(), trying.candidate()) == (3, 0)


def test_without_the_store_what_is_tried_stays(trying: House) -> None:
    """As what is live does."""
    trying.shelf.away = True
    refusal(StoreUnavailableError, trying.reconcile)
    refusal(StoreUnavailableError, trying.manager.settle)
    trying.manager.store_lost()
    assert (trying.live(), trying.candidate()) == (1, 2)


# What is counted


def test_swaps_are_counted_with_the_time_from_publication(house: House, make_snapshot: Make) -> None:
    """Where it says how long publishing takes: not at the start, not when somebody promotes later, not backwards."""
    now = datetime.now(UTC)
    house.shelf.put(1, make_snapshot(seed=1), published=now - timedelta(days=1))
    house.reconcile()
    house.shelf.put(2, make_snapshot(seed=2), published=datetime.now(UTC))
    house.reconcile()
    house.shelf.put(3, make_snapshot(seed=3), published=datetime.now(UTC), live=False)
    house.reconcile()
    house.shelf.point(LIVE, 3)
    house.reconcile()
    house.shelf.point(LIVE, 1)
    house.reconcile()
    assert house.tally.swaps == [("tiny", 1, False), ("tiny", 2, True), ("tiny", 3, False), ("tiny", 1, False)]
    assert 0 <= house.tally.seconds[0] < 60


@pytest.mark.usefixtures("no_patience")
def test_what_was_refused_at_first_counts_from_its_publication(house: House, make_snapshot: Make) -> None:
    """It came late because of what was wrong with it, and that is part of the time; the clocks may differ."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    later = datetime.now(UTC) + timedelta(minutes=1)
    house.shelf.put(2, cut(make_snapshot(seed=2)), published=later)
    house.reconcile()
    house.shelf.put(2, make_snapshot(seed=2), published=later)
    house.reconcile()
    assert house.tally.swaps[-1] == ("tiny", 2, True)
    assert house.tally.seconds == [0.0]


# What the store says that cannot be read


def test_a_record_that_cannot_be_read_is_a_named_failure(house: House, make_snapshot: Make) -> None:
    """The last good version goes on, and the failure is not counted for every comparison."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    house.shelf.put(2, make_snapshot(seed=2))
    house.shelf.unreadable.add(("tiny", 2))
    for _ in range(3):
        house.reconcile()
    assert (house.live(), house.failure().ref.version, house.failure().reason) == (1, 2, "MALFORMED_RECORD")
    assert house.tally.failures == [("tiny", "MALFORMED_RECORD")]
    house.shelf.unreadable.clear()
    house.shelf.point(LIVE, 1)
    house.reconcile()
    assert house.manager.state("tiny").failure is None


def test_a_live_alias_that_leads_nowhere_is_a_named_failure(house: House, make_snapshot: Make) -> None:
    """Somebody removed the version by hand."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()
    house.shelf.point(LIVE, 9)
    house.reconcile()
    assert (house.live(), house.failure().ref.version, house.failure().reason) == (1, 9, "VERSION_NOT_FOUND")


def test_aliases_that_cannot_be_read_are_a_named_failure(
    house: House, make_snapshot: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What answered goes on, by its aliases too."""
    house.shelf.put(1, make_snapshot())
    house.reconcile()

    def unreadable(_model: str) -> dict[str, int]:
        raise ValueError("no number")

    monkeypatch.setattr(house.shelf, "aliases", unreadable)
    for _ in range(3):
        house.reconcile()
    assert (house.live(), house.failure().reason) == (1, "MALFORMED_RECORD")
    assert house.manager.serve("tiny", LATEST).ref.version == 1
    assert house.tally.failures == [("tiny", "MALFORMED_RECORD")]
