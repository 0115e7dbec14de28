"""The forward pass and the softmax, against the definitions computed plainly in float64."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.forward_pass import ForwardPass, softmax_in_place
from shared.network import Architecture, Network

ARCHITECTURES = st.builds(
    Architecture.dense,
    st.integers(1, 12),
    st.lists(st.integers(1, 9), max_size=3).map(tuple),
    st.integers(1, 7),
)


@given(architecture=ARCHITECTURES, rows=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_it_computes_what_the_definitions_say(
    plain_forward: Callable[[Network, np.ndarray], np.ndarray],
    make_network: Callable[[Architecture, int], Network],
    architecture: Architecture,
    rows: int,
    seed: int,
) -> None:
    """For any architecture with 0 to 3 hidden layers it equals a float64 computation."""
    network = make_network(architecture, seed)
    features = np.random.default_rng(seed).normal(0, 1, (rows, architecture.input_size)).astype(np.float32)
    logits = ForwardPass(architecture, capacity=8).logits(network, features)
    np.testing.assert_allclose(softmax_in_place(logits), plain_forward(network, features), atol=1e-5)


def test_fewer_rows_than_before_see_nothing_of_the_earlier_ones(
    make_network: Callable[[Architecture, int], Network],
) -> None:
    """Buffers are reused, answers are not."""
    architecture = Architecture.dense(3, (4,), 2)
    network, features = make_network(architecture, 0), np.random.default_rng(0).random((5, 3), np.float32)
    forward_pass = ForwardPass(architecture, capacity=5)
    forward_pass.logits(network, 100 * features)
    fresh = ForwardPass(architecture, capacity=2).logits(network, features[:2]).copy()
    np.testing.assert_array_equal(forward_pass.logits(network, features[:2]), fresh)


def test_hidden_layers_rectify_and_the_output_layer_does_not() -> None:
    """A negative weighted sum becomes 0 in a hidden layer and stays as a logit."""
    network = Network(Architecture.dense(1, (1,), 1), np.array([1, 0, 1, -5], np.float32))  # w0, b0, w1, b1
    hidden, logits = ForwardPass(network.architecture, 2).activations(network, np.array([[-3], [3]], np.float32))
    assert hidden.tolist() == [[0], [3]]
    assert logits.tolist() == [[-5], [-2]]


def test_softmax_of_known_logits() -> None:
    """The logits ln 1, ln 2 and ln 5 have the probabilities 1/8, 2/8 and 5/8."""
    np.testing.assert_allclose(
        softmax_in_place(np.log(np.array([[1, 2, 5]], np.float32))), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-6
    )


@given(
    st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4), min_size=1, max_size=6).map(
        lambda rows: np.array(rows, np.float32)
    )
)
@settings(max_examples=100, deadline=None)
def test_softmax_gives_probabilities_that_sum_to_one(logits: np.ndarray) -> None:
    """However large the logits are, no row overflows (warnings are errors here) and every row sums to 1."""
    probabilities = softmax_in_place(logits.copy())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_softmax_of_extreme_logits(sign: int) -> None:
    """Equal logits of ±10,000 share evenly, and a lead of 20,000 takes everything."""
    same = softmax_in_place(np.full((1, 4), sign * 1e4, np.float32))
    np.testing.assert_array_equal(same, [[0.25] * 4])
    ahead = softmax_in_place(np.array([[sign * 1e4, sign * -1e4]], np.float32))
    np.testing.assert_array_equal(ahead, [[1, 0]] if sign > 0 else [[0, 1]])
