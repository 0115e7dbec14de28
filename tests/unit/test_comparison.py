"""Rollouts under requests: who answers, what is compared and counted, and that nobody suffers from a candidate."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from inference_service import comparison
from inference_service.callers import ROUTING_KEY, Caller
from inference_service.classification import Classification
from inference_service.classifier import Classifier
from inference_service.comparison import Comparisons
from inference_service.metrics.statistics import Statistics
from inference_service.questions import Answer, Question, Reading, Request, TensorForm
from inference_service.versions.model_manager import ModelManager
from shared import snapshot_codec
from shared.model_version import LIVE, SelfTest, StoredSnapshot
from shared.network import Network
from shared.preprocessing import Preprocessing
from shared.rollout import Rollout, RolloutMode, place_of
from tests.unit.shelf import Shelf, rollout_of

Make = Callable[..., StoredSnapshot]
LIVE_VERSION, CANDIDATE = 1, 2
SECONDS = 20.0


class Tried:
    """A live version and a candidate that is tried, and everything that answers by them."""

    def __init__(self, live: StoredSnapshot, candidate: StoredSnapshot, rollout: Rollout) -> None:
        self.shelf = Shelf()
        self.shelf.put(LIVE_VERSION, live)
        self.shelf.put(CANDIDATE, candidate, live=False)
        self.shelf.rollouts["tiny"] = rollout
        self.statistics = Statistics()
        self.comparisons = Comparisons(self.statistics)
        self.manager = ModelManager(self.shelf, 0, lambda _model, _state: None, self.statistics)
        self.manager.reconcile(["tiny"])
        self.classification = Classification(self.manager, 10, self.statistics, self.comparisons)
        self.label = (CANDIDATE, rollout.mode.value)

    def request(
        self, key: str | None = None, selector: int | str = LIVE, rows: int = 2, data_type: str = "UINT8"
    ) -> Request:
        """A request for rows of 2 × 3."""
        contents = bytes(range(6 * rows)) if data_type == "UINT8" else np.full(6 * rows, 0.5, "<f4").tobytes()
        question = Question("tiny", selector, TensorForm(data_type, (rows, 2, 3)))
        reading = Reading(question, contents, None, lambda _answer: b"")
        metadata = () if key is None else ((ROUTING_KEY, key),)
        caller = Caller("/tests/Classify", self.statistics.method("/tests/Classify"), metadata, float("inf"))
        caller.arrived = time.perf_counter()
        request = self.classification.quick_request(reading, contents, caller)
        assert request is not None
        return request

    def answer(self, *requests: Request) -> list[int]:
        """The versions that answer requests together."""
        answers, products = self.classification.answers(requests)
        self.classification.count(products)
        assert all(isinstance(answer, Answer) for answer in answers), answers
        return [answer.served_by.ref.version for answer in answers if isinstance(answer, Answer)]

    def wait_for(self, compared_rows: int = 0, dropped: int = 0) -> None:
        """Returns when so many were compared or dropped, in the thread that does."""
        deadline = time.monotonic() + SECONDS
        while True:
            totals = self.statistics.rollout_totals("tiny", *self.label)
            if (totals.compared_rows, totals.dropped_requests) == (compared_rows, dropped):
                return
            assert time.monotonic() < deadline, totals
            time.sleep(0.002)


@pytest.fixture
def tried(make_snapshot: Make) -> Callable[..., Tried]:
    """Sets a rollout up; the candidate is another network unless it is given."""

    def start(mode: RolloutMode, percent: float = 100, candidate: StoredSnapshot | None = None) -> Tried:
        rollout = rollout_of(CANDIDATE, percent, mode)
        return Tried(make_snapshot(), candidate or make_snapshot(seed=1), rollout)

    return start


def test_a_canary_answers_its_share_and_a_key_stays_where_it_is(tried: Callable[..., Tried]) -> None:
    """By the place that the key has; the answers say which version gave them."""
    running = tried(RolloutMode.CANARY, 30)
    keys = [f"user-{number}" for number in range(40)]
    expected = [CANDIDATE if place_of("tiny", key) < 0.3 else LIVE_VERSION for key in keys]
    assert set(expected) == {LIVE_VERSION, CANDIDATE}
    for _ in range(2):
        assert running.answer(*(running.request(key) for key in keys)) == expected


def test_who_names_a_version_is_in_no_rollout(tried: Callable[..., Tried]) -> None:
    """Nor is it counted under it."""
    running = tried(RolloutMode.CANARY)
    assert running.answer(running.request(selector=LIVE_VERSION), running.request(selector="latest")) == [1, 2]
    totals = running.statistics.rollout_totals("tiny", *running.label)
    assert totals.live.requests == totals.candidate.requests == 0


def test_a_shadow_answers_nobody(tried: Callable[..., Tried]) -> None:
    """Both have computed each request, and the figures of both are counted."""
    running = tried(RolloutMode.SHADOW)
    assert running.answer(*(running.request() for _ in range(5))) == [LIVE_VERSION] * 5
    running.wait_for(compared_rows=10)
    totals = running.statistics.rollout_totals("tiny", *running.label)
    for figures in (totals.live, totals.candidate):
        assert (figures.requests, figures.rows) == (5, 10)
        assert figures.compute_ns > 0


def test_agreement_is_counted_row_by_row(tried: Callable[..., Tried], make_snapshot: Make) -> None:
    """As the two networks say, each asked by itself; a copy of the live one agrees in everything."""
    running = tried(RolloutMode.CANARY)
    request = running.request(rows=10)
    running.answer(request)
    running.wait_for(compared_rows=10)
    requests = [running.request(selector=version, rows=10) for version in (LIVE_VERSION, CANDIDATE)]
    (ours,), (theirs,) = (running.classification.answers([request])[1] for request in requests)
    expected = int((ours.chosen == theirs.chosen).sum())
    assert running.statistics.rollout_totals("tiny", *running.label).agreed_rows == expected

    same = tried(RolloutMode.CANARY, candidate=make_snapshot())
    same.answer(same.request(rows=10))
    same.wait_for(compared_rows=10)
    assert same.statistics.rollout_totals("tiny", *same.label).agreed_rows == 10


def other_form(snapshot: StoredSnapshot, preprocessing: Preprocessing) -> StoredSnapshot:
    """The same network behind another preprocessing."""
    decoded = snapshot_codec.decode(snapshot)
    manifest = replace(decoded.manifest, preprocessing=preprocessing)
    inputs = manifest.self_test.inputs
    answers = Classifier(decoded.network, preprocessing).probabilities(inputs)
    manifest = replace(manifest, self_test=SelfTest(inputs, answers))
    return snapshot_codec.encode(manifest, Network(decoded.network.architecture, decoded.network.parameters))


@pytest.mark.parametrize("mode", RolloutMode)
def test_a_request_that_the_candidate_does_not_take_is_answered_by_the_live_version(
    tried: Callable[..., Tried], make_snapshot: Make, mode: RolloutMode
) -> None:
    """Whether its form is wrong for it or its values are: the client notices nothing, and it is counted."""
    shaped = other_form(make_snapshot(), Preprocessing(input_shape=(3, 2), uint8_scale=1.0))
    running = tried(mode, candidate=shaped)
    assert running.answer(running.request()) == [LIVE_VERSION]
    running.wait_for(dropped=1)

    narrow = other_form(make_snapshot(), Preprocessing(input_shape=(2, 3), uint8_scale=1 / 255, feature_max=0.1))
    running = tried(mode, candidate=narrow)
    assert running.answer(running.request(data_type="FLOAT32"), running.request(data_type="FLOAT32")) == [1, 1]
    running.wait_for(dropped=2)
    totals = running.statistics.totals()
    assert totals["tiny", LIVE_VERSION].failures == 0


def test_comparing_holds_nobody_up(tried: Callable[..., Tried], monkeypatch: pytest.MonkeyPatch) -> None:
    """While one takes long, answers go out; what does not fit any more is dropped and counted."""
    monkeypatch.setattr(comparison, "MOST_WAITING", 3)
    running = tried(RolloutMode.SHADOW)
    may_go_on = threading.Event()
    rollout = running.manager.rollout("tiny")
    assert rollout is not None
    candidate = rollout.candidate.classifier
    compute = candidate.probabilities

    def slowly(rows: np.ndarray) -> np.ndarray:
        may_go_on.wait(SECONDS)
        return compute(rows)

    monkeypatch.setattr(candidate, "probabilities", slowly)
    running.answer(running.request())
    deadline = time.monotonic() + SECONDS
    while running.comparisons._waiting:  # until the thread has taken it up
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert running.answer(*(running.request() for _ in range(5))) == [LIVE_VERSION] * 5
    running.wait_for(dropped=2)
    may_go_on.set()
    running.wait_for(compared_rows=8, dropped=2)


def test_the_end_of_a_rollout_ends_it(tried: Callable[..., Tried]) -> None:
    """The next request is the live version's alone; one that was taken before is answered as it was."""
    running = tried(RolloutMode.CANARY)
    before = running.request()
    del running.shelf.rollouts["tiny"]
    running.manager.reconcile(["tiny"])
    assert running.answer(before, running.request()) == [CANDIDATE, LIVE_VERSION]
