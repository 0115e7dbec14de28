"""ClassifyStream: the answers that Classify gives, in order, batch after batch on one stream."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from client.errors import RpcError
from client.inference_client import InferenceClient
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1.training_pb2 import TrainingJob

BATCHES = [np.random.default_rng(rows).integers(0, 17, (rows, 8, 8), dtype=np.uint8) for rows in (1, 3, 1, 200, 7)]


def test_a_stream_answers_as_classify_does(trained: TrainingJob, inference: InferenceClient) -> None:
    """Every batch, in order, with the same options."""
    options: dict[str, Any] = {"top_k": 3, "include_probabilities": True, "version": 1}
    answers = list(inference.classify_stream(trained.spec.model, BATCHES * 20, **options))
    assert len(answers) == 100
    for batch, answer in zip(BATCHES * 20, answers, strict=True):
        alone = inference.classify(trained.spec.model, batch, **options)
        assert (answer.version, answer.digest, answer.class_labels) == (1, alone.digest, alone.class_labels)
        assert answer.probabilities is not None
        assert alone.probabilities is not None
        np.testing.assert_allclose(answer.probabilities, alone.probabilities, atol=1e-6)
        np.testing.assert_allclose(answer.scores, alone.scores, atol=1e-6)
        assert answer.class_ids.shape == (len(batch), 3)


def test_a_wrong_batch_ends_the_stream_after_the_answers_before_it(
    trained: TrainingJob, inference: InferenceClient
) -> None:
    """With the reason, by field."""
    answers = inference.classify_stream(trained.spec.model, [*BATCHES, np.zeros((2, 9), np.uint8), *BATCHES])
    for batch in BATCHES:
        assert len(next(answers).class_ids) == len(batch)
    with pytest.raises(RpcError, match=r"tensor.shape: got \[2, 9\]"):
        next(answers)


def test_an_array_of_another_type_is_the_callers_own_error(trained: TrainingJob, inference: InferenceClient) -> None:
    """And is not lost in a thread."""
    answers = inference.classify_stream(trained.spec.model, [BATCHES[0], np.zeros((1, 64))])  # type: ignore[list-item]  # that is the point
    next(answers)
    with pytest.raises(TypeError, match="float64"):
        next(answers)


def test_a_message_without_a_request_is_refused(
    trained: TrainingJob, inference: InferenceClient, refusal_of: Callable[[Any], Any]
) -> None:
    """As an empty request is."""
    with pytest.raises(Exception) as raised:
        list(inference.stub.ClassifyStream(iter([pb.ClassifyStreamRequest()]), timeout=20))
    assert set(refusal_of(raised.value).violations) == {"input"}
