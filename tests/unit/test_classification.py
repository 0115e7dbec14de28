"""One request from question to answer: one version from beginning to end, and no answer to a wrong question."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from inference_service.classification import Answer, Question, classify
from inference_service.inputs import TensorInput
from inference_service.model_manager import ModelManager
from shared.errors import InvalidInputError
from shared.model_version import LIVE, PublishedVersion, StoredSnapshot, VersionRef

ROWS = TensorInput("UINT8", (3, 2, 3), bytes(range(0, 180, 10)))


class OneVersion:
    """A source of one live version of one model."""

    def __init__(self, snapshot: StoredSnapshot) -> None:
        ref = VersionRef(1, snapshot.digest)
        time = datetime(2026, 1, 1, tzinfo=UTC)
        self._published = {("tiny", 1): PublishedVersion("tiny", ref, time, len(snapshot.weights), snapshot)}

    def aliases(self, model: str) -> dict[str, int]:
        """Every alias of a model with its version."""
        return {LIVE: 1} if model == "tiny" else {}

    def ref(self, model: str, version: int) -> VersionRef | None:
        """The number with its digest."""
        return self._published[model, version].ref

    def version(self, model: str, selector: int | str) -> PublishedVersion:
        """One version with its bytes, unchecked."""
        assert isinstance(selector, int)
        return self._published[model, selector]


@pytest.fixture
def ask(make_snapshot: Callable[..., StoredSnapshot]) -> Callable[[int], Answer]:
    """Asks for so many classes of three rows."""
    manager = ModelManager(OneVersion(make_snapshot()), 1, lambda _model, _ready: None)
    manager.reconcile(["tiny"])
    return lambda top_k: classify(manager, 10, Question("tiny", LIVE, ROWS, top_k))


@pytest.mark.parametrize(("asked", "given"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_as_many_classes_come_as_were_asked_for(ask: Callable[[int], Answer], asked: int, given: int) -> None:
    """None asked for means one."""
    answer = ask(asked)
    assert answer.top_k == given
    assert answer.top.class_ids.shape == answer.top.scores.shape == (3, given)


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
