"""Requests that are answered together: each by one version, each with its own rows, and no answer to a wrong one."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_service.callers import Caller
from inference_service.classification import Classification
from inference_service.comparison import Comparisons
from inference_service.metrics.statistics import Statistics
from inference_service.questions import Answer, Question, Reading, TensorForm
from inference_service.rows import rows_of
from inference_service.versions.model_manager import ModelManager
from shared.errors import InvalidInputError
from shared.model_version import LIVE, StoredSnapshot
from tests.unit.shelf import Shelf

ROWS = bytes(range(0, 180, 10))
SOMEBODY = Caller("/tests/Classify", Statistics().method("/tests/Classify"), (), float("inf"))


def reading(contents: bytes = ROWS, top_k: int = 1, data_type: str = "UINT8", selector: int | str = LIVE) -> Reading:
    """What a protocol makes of a request for rows of 2 × 3."""
    rows = len(contents) // (6 if data_type == "UINT8" else 24)
    return Reading(Question("tiny", selector, TensorForm(data_type, (rows, 2, 3)), top_k), contents, None, repr_bytes)


def repr_bytes(answer: Answer) -> bytes:
    """An answer as bytes that nobody reads."""
    return repr(answer.top.class_ids).encode()


@pytest.fixture(scope="module")
def classification(make_snapshot: Callable[..., StoredSnapshot]) -> Classification:
    """Answers by one version of one model, batches of up to ten rows."""
    manager = ModelManager(shelf_of(make_snapshot()), 0, lambda _model, _live: None, Statistics())
    manager.reconcile(["tiny"])
    return classification_by(manager, 10)


def shelf_of(snapshot: StoredSnapshot) -> Shelf:
    """A store with one live version."""
    shelf = Shelf()
    shelf.put(1, snapshot)
    return shelf


def classification_by(manager: ModelManager, max_rows: int) -> Classification:
    """Answers by what a manager holds."""
    statistics = Statistics()
    return Classification(manager, max_rows, statistics, Comparisons(statistics))


@pytest.fixture(scope="module")
def ask(classification: Classification) -> Callable[[int], Answer]:
    """Asks for so many classes of three rows."""

    def answered(top_k: int) -> Answer:
        asked = reading(top_k=top_k)
        (answer,), _ = classification.answers([classification.request(asked, asked.contents, SOMEBODY)])
        assert isinstance(answer, Answer)
        return answer

    return answered


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_as_many_classes_come_as_were_asked_for(ask: Callable[[int], Answer], asked: int) -> None:
    """Best first."""
    answer = ask(asked)
    assert answer.top_k == asked
    assert answer.top.class_ids.shape == answer.top.scores.shape == (3, asked)


@pytest.mark.parametrize("asked", [-1, 4, 2**31 - 1])
def test_more_classes_than_there_are_is_refused(ask: Callable[[int], Answer], asked: int) -> None:
    """The field, what came, and how many classes there are."""
    with pytest.raises(InvalidInputError) as raised:
        ask(asked)
    assert raised.value.message == f"top_k: got {asked}, expected 1 to 3, the number of classes"


def test_scores_are_the_probabilities_of_their_classes(ask: Callable[[int], Answer]) -> None:
    """And all of them together are 1."""
    answer = ask(3)
    np.testing.assert_array_equal(
        answer.top.scores, np.take_along_axis(answer.probabilities, answer.top.class_ids, axis=1)
    )
    np.testing.assert_allclose(answer.top.scores.sum(axis=1), 1, rtol=1e-6)


def test_the_answer_says_which_version_gave_it(ask: Callable[[int], Answer]) -> None:
    """Number and digest."""
    assert ask(1).served_by.ref.version == 1
    assert len(ask(1).served_by.ref.digest) == 64


BATCH = st.tuples(
    st.integers(1, 10), st.integers(1, 3), st.sampled_from(["UINT8", "FLOAT32"]), st.integers(0, 2**32 - 1)
)


def numbers(rows: int, data_type: str, seed: int) -> bytes:
    """Random rows of 2 × 3 as a request carries them."""
    rng = np.random.default_rng(seed)
    if data_type == "UINT8":
        return rng.integers(0, 256, rows * 6, dtype=np.uint8).tobytes()
    return rng.random(rows * 6, dtype=np.float32).tobytes()


@given(st.lists(BATCH, min_size=1, max_size=8), st.lists(st.integers(0, 7), max_size=2))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_caller_gets_its_own_rows_whoever_asks_beside_it(
    classification: Classification, batches: list[tuple[int, int, str, int]], spoiled: list[int]
) -> None:
    """Together as alone, to a rounding; and what is wrong with one is that one's."""
    readings = []
    for place, (rows, top_k, data_type, seed) in enumerate(batches):
        contents = numbers(rows, data_type, seed)
        if place in spoiled and data_type == "FLOAT32":
            contents = np.full(rows * 6, np.nan, "<f4").tobytes()
        readings.append(reading(contents, top_k, data_type))
    requests = [classification.request(each, each.contents, SOMEBODY) for each in readings]
    for request, together in zip(requests, classification.answers(requests)[0], strict=True):
        (alone,), _ = classification.answers([request])
        if isinstance(alone, Exception):
            assert isinstance(together, InvalidInputError)
            assert str(together) == str(alone)
            assert "NaN" in str(alone)
            continue
        assert isinstance(together, Answer)
        assert together.top.class_ids.shape == alone.top.class_ids.shape == (request.rows, together.top_k)
        np.testing.assert_allclose(together.probabilities, alone.probabilities, atol=1e-6)
        np.testing.assert_allclose(together.top.scores, alone.top.scores, atol=1e-6)


def test_rows_are_the_messages_own_bytes(classification: Classification) -> None:
    """Nothing is copied on the way to the product."""
    request = classification.request(reading(), ROWS, SOMEBODY)
    assert np.shares_memory(rows_of([request], request.served.manifest.preprocessing), np.frombuffer(ROWS, np.uint8))


@pytest.mark.parametrize(("count", "remedy"), [(0, "send at least one row"), (11, "split the batch")])
def test_too_few_or_too_many_images_are_refused(classification: Classification, count: int, remedy: str) -> None:
    """Both numbers, and the remedy."""
    images = Reading(Question("tiny", LIVE, None), (b"",) * count, None, repr_bytes)
    with pytest.raises(InvalidInputError) as raised:
        classification.request(images, images.contents, SOMEBODY)
    assert raised.value.message == f"images.files: got a batch of {count} rows, expected 1 to 10; {remedy}"


def test_only_what_takes_a_moment_is_quick(make_snapshot: Callable[..., StoredSnapshot]) -> None:
    """No image, no version that has to be loaded or is unknown."""
    manager = ModelManager(shelf_of(make_snapshot()), 0, lambda _model, _live: None, Statistics())
    classification = classification_by(manager, 10)
    assert classification.quick_request(reading(), ROWS, SOMEBODY) is None  # nothing is loaded
    manager.reconcile(["tiny"])
    assert classification.quick_request(reading(), ROWS, SOMEBODY) is not None
    assert classification.quick_request(reading(selector=1), ROWS, SOMEBODY) is not None
    assert classification.quick_request(reading(selector=2), ROWS, SOMEBODY) is None
    assert classification.quick_request(reading(selector="no-such-alias"), ROWS, SOMEBODY) is None
    images = Reading(Question("tiny", LIVE, None), (b"",), None, repr_bytes)
    assert classification.quick_request(images, images.contents, SOMEBODY) is None


def test_a_form_is_checked_again_for_another_version(classification: Classification) -> None:
    """What was right for one may be wrong for the next."""
    asked = reading()
    classification.request(asked, asked.contents, SOMEBODY)
    other = object()
    asked.checked_for = other  # type: ignore[assignment]  # of a version that is no longer served
    classification.request(asked, asked.contents, SOMEBODY)
    assert asked.checked_for is not other
