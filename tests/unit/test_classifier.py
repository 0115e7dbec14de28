"""The classifier: the same answers as a plain float64 computation, for any number of rows and threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.classifier import CHUNK_ROWS, Classifier, top_classes
from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPool2D
from shared.network import Architecture, Network
from shared.preprocessing import Preprocessing, Standardisation

ARCHITECTURE = Architecture.dense(64, (32, 16), 10)
PREPROCESSING = Preprocessing(input_shape=(8, 8), uint8_scale=1 / 16)


@pytest.fixture(scope="module")
def network(make_network: Callable[[Architecture, int], Network]) -> Network:
    """A random network of the shape of digits."""
    return make_network(ARCHITECTURE, 1).frozen()


def bytes_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 17, (rows, 64), dtype=np.uint8)


@pytest.mark.parametrize("rows", [1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 1000])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_it_computes_what_the_definitions_say(
    network: Network, plain_forward: Callable[..., np.ndarray], kind: str, rows: int
) -> None:
    """For bytes and for feature values, at every number of rows around the size of a chunk."""
    examples = bytes_of(rows)
    given_rows = examples if kind == "uint8" else (examples / 16).astype(np.float32)
    probabilities = Classifier(network, PREPROCESSING).probabilities(given_rows)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, plain_forward(network, examples / 16), atol=2e-6)


@pytest.mark.parametrize("rows", [1, 20, 300])
def test_convolutions_and_standardised_features_are_classified_too(
    plain_forward: Callable[..., np.ndarray], make_network: Callable[[Architecture, int], Network], rows: int
) -> None:
    """With the forward code of the trainer, dropout being off."""
    layers = (Conv2D(6, 3, 1, Activation.RELU), MaxPool2D(2), Flatten(), Dropout(0.5), Dense(4, Activation.IDENTITY))
    pictures = make_network(Architecture((8, 8), layers), 2)
    examples = bytes_of(rows)
    probabilities = Classifier(pictures, PREPROCESSING).probabilities(examples)
    np.testing.assert_allclose(probabilities, plain_forward(pictures, examples / 16), atol=2e-6)

    rng = np.random.default_rng(0)
    means, deviations = rng.normal(0, 9, 7).astype(np.float32), rng.uniform(1, 5, 7).astype(np.float32)
    columns = make_network(Architecture.dense(7, (5,), 3), 2)
    table = Preprocessing((7,), 1.0, -1e9, 1e9, standardisation=Standardisation(means, deviations))
    numbers = rng.normal(0, 9, (rows, 7)).astype(np.float32)
    probabilities = Classifier(columns, table).probabilities(numbers)
    np.testing.assert_allclose(probabilities, plain_forward(columns, (numbers - means) / deviations), atol=2e-6)


def test_a_request_leaves_no_trace_in_the_next(network: Network) -> None:
    """Buffers are reused; the answer to a row depends on the row alone."""
    classifier = Classifier(network, PREPROCESSING)
    before = classifier.probabilities(bytes_of(3))
    classifier.probabilities(bytes_of(1000, seed=1))
    np.testing.assert_array_equal(classifier.probabilities(bytes_of(3)), before)


def test_an_answer_stays_as_it_was_given(network: Network) -> None:
    """The next request does not write into it."""
    classifier = Classifier(network, PREPROCESSING)
    first = classifier.probabilities(bytes_of(5))
    kept = first.copy()
    classifier.probabilities(bytes_of(5, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_the_request_is_not_written_to(network: Network) -> None:
    """Rows may lie in the request's own, read-only bytes."""
    rows = (bytes_of(300) / 16).astype(np.float32)
    rows.flags.writeable = False
    Classifier(network, PREPROCESSING).probabilities(rows)


def test_many_threads_at_once_get_what_one_gets(network: Network) -> None:
    """200 different batches on 16 threads over one classifier: no thread sees another's buffers."""
    classifier = Classifier(network, PREPROCESSING)
    batches = [bytes_of(1 + seed * 7 % 600, seed) for seed in range(200)]
    alone = [classifier.probabilities(batch) for batch in batches]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(classifier.probabilities, batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_the_best_classes_come_first_with_their_probabilities() -> None:
    """Two of four classes, best first, row by row."""
    probabilities = np.array([[0.1, 0.5, 0.25, 0.15], [0.4, 0.05, 0.05, 0.5]], np.float32)
    top = top_classes(probabilities, 2)
    assert top.class_ids.tolist() == [[1, 2], [3, 0]]
    np.testing.assert_array_equal(top.scores, np.array([[0.5, 0.25], [0.5, 0.4]], np.float32))


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_equally_probable_classes_stand_in_the_order_of_their_ids(top_k: int) -> None:
    """So that the same probabilities always give the same answer."""
    probabilities = np.array([[0.25, 0.25, 0.25, 0.25], [0.1, 0.4, 0.1, 0.4]], np.float32)
    assert top_classes(probabilities, top_k).class_ids.tolist() == [[0, 1, 2, 3][:top_k], [1, 3, 0, 2][:top_k]]


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=5).map(
        lambda rows: np.array(rows, np.float32) / 30
    ),
    st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_fewer_classes_are_the_beginning_of_more(probabilities: np.ndarray, top_k: int) -> None:
    """However many are asked for, the order is that of the full ranking, ties and all."""
    ranking, top = top_classes(probabilities, 6), top_classes(probabilities, top_k)
    np.testing.assert_array_equal(top.class_ids, ranking.class_ids[:, :top_k])
    np.testing.assert_array_equal(top.scores, ranking.scores[:, :top_k])
    assert (np.diff(ranking.scores, axis=1) <= 0).all()
