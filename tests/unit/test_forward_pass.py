"""The forward pass and the softmax, against the definitions computed plainly in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.activations import activate
from shared.convolution import Conv2DForward
from shared.forward_pass import ForwardPass, rows_at_once, softmax_in_place
from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPool2D
from shared.network import Architecture, Network

LARGE_FIRST_LAYER = Conv2D(32, 5, 2, Activation.TANH)


@given(data=st.data(), rows=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_it_computes_what_the_definitions_say(
    *,
    plain_layers: Callable[..., list[np.ndarray]],
    make_network: Callable[[Architecture, int], Network],
    architectures: st.SearchStrategy[Architecture],
    data: st.DataObject,
    rows: int,
    seed: int,
) -> None:
    """For any layers that fit each other, each layer's output equals a float64 computation, in shape and in value."""
    architecture = data.draw(architectures)
    network = make_network(architecture, seed)
    features = np.random.default_rng(seed).normal(0, 1, (rows, architecture.input_size)).astype(np.float32)
    _, *activations = ForwardPass(architecture, capacity=8).activations(network, features)
    expected = plain_layers(architecture, network.parameters, features)
    for actual, plain, shape in zip(activations, expected, architecture.shapes[1:], strict=True):
        by_row = actual.transpose(3, 0, 1, 2) if actual.ndim == 4 else actual
        assert by_row.shape == (rows, *shape)
        np.testing.assert_allclose(by_row, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 40, 64])
@pytest.mark.parametrize("layer", [LARGE_FIRST_LAYER, Conv2D(2, 3, 0, Activation.RELU)])
def test_a_large_layer_is_cut_into_strips_that_cannot_be_seen(
    plain_layers: Callable[..., list[np.ndarray]],
    make_network: Callable[[Architecture, int], Network],
    layer: Conv2D,
    rows: int,
) -> None:
    """Strips of several lines, with a shorter one at the end, give what all lines at once would."""
    architecture = Architecture((23, 30, 3), (layer, Flatten(), Dense(1, Activation.IDENTITY)))
    forward_pass = ForwardPass(architecture, 64)
    convolution = forward_pass.layers[0]
    assert isinstance(convolution, Conv2DForward)
    lines = convolution.strip_lines(64)
    assert 1 <= lines < convolution.output_shape[1]
    network = make_network(architecture, 3)
    features = np.random.default_rng(3).random((rows, architecture.input_size), np.float32)
    outputs = forward_pass.activations(network, features)[1].transpose(3, 0, 1, 2)
    expected = plain_layers(architecture, network.parameters, features)[0]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_a_window_of_known_weights_over_a_known_picture() -> None:
    """The window (1 2; 3 4) over (1 2 3; 4 5 6) is not turned round: 1·1 + 2·2 + 3·4 + 4·5 = 37, then 47."""
    architecture = Architecture(
        (2, 3), (Conv2D(1, 2, 0, Activation.IDENTITY), Flatten(), Dense(1, Activation.IDENTITY))
    )
    network = Network(architecture, np.array([1, 2, 3, 4, 0.5, 1, 0, 0], np.float32))  # filter, its bias, dense
    _, windows, flat, logits = ForwardPass(architecture, 1).activations(
        network, np.array([[1, 2, 3, 4, 5, 6]], np.float32)
    )
    assert windows.reshape(-1).tolist() == [37.5, 47.5]
    assert (flat.tolist(), logits.tolist()) == ([[37.5, 47.5]], [[37.5]])


def test_colours_are_the_last_axis_of_an_example_and_the_first_of_an_image() -> None:
    """A pixel's three values become three channels, and flattening goes channel by channel."""
    architecture = Architecture((1, 2, 3), (Flatten(), Dense(1, Activation.IDENTITY)))
    network = Network(architecture, np.zeros(7, np.float32))
    images, flat, _ = ForwardPass(architecture, 1).activations(network, np.array([[1, 2, 3, 4, 5, 6]], np.float32))
    assert images[..., 0].tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]
    assert flat.tolist() == [[1, 4, 2, 5, 3, 6]]


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (Activation.RELU, [0, 0, 0, 1, 100]),
        (Activation.IDENTITY, [-100, -1, 0, 1, 100]),
        (Activation.TANH, [-1, -math.tanh(1), 0, math.tanh(1), 1]),
        (Activation.SIGMOID, [0, 1 / (1 + math.e), 0.5, 1 / (1 + math.exp(-1)), 1]),
    ],
)
def test_activations_of_known_sums(activation: Activation, expected: list[float]) -> None:
    """In place, and without overflow far from 0."""
    sums = np.array([-100, -1, 0, 1, 100], np.float32)
    activate(activation, sums)
    np.testing.assert_allclose(sums, expected, rtol=1e-6, atol=1e-7)


def test_dropout_drops_while_training_only() -> None:
    """With a generator the rate's share becomes 0 and the others grow by 1 / (1 − rate); without one, nothing does."""
    architecture = Architecture((1000,), (Dropout(0.2), Dense(1, Activation.IDENTITY)))
    network = Network(architecture, np.zeros(architecture.parameter_count, np.float32))
    features = np.full((20, 1000), 2, np.float32)
    answering = ForwardPass(architecture, 20).activations(network, features)[1]
    np.testing.assert_array_equal(answering, features)
    training = ForwardPass(architecture, 20, np.random.default_rng(0))
    dropped = training.activations(network, features)[1]
    assert set(np.unique(dropped).tolist()) == {0, 2.5}
    assert (dropped == 0).mean() == pytest.approx(0.2, abs=0.01)
    before = dropped.copy()
    assert not np.array_equal(training.activations(network, features)[1], before)
    np.testing.assert_array_equal(features, 2)


@pytest.mark.parametrize(
    ("architecture", "most", "rows"),
    [
        (Architecture.dense(784, (256,), 10), 256, 256),
        (Architecture.dense(784, (256,), 10), 1000, 2**19 // (784 + 256 + 10)),
        (Architecture.dense(10, (8192 * 8,), 10), 256, 7),
        (Architecture.dense(10, (8192 * 8,), 10), 4, 4),
        (Architecture.dense(10, (2**20,), 10), 4, 1),
    ],
)
def test_as_many_rows_at_once_as_stay_in_the_cache(architecture: Architecture, most: int, rows: int) -> None:
    """Few for a wide network, but at least one."""
    assert rows_at_once(architecture, most) == rows


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture.dense(36, (4,), 2),
        Architecture(
            (6, 6),
            (
                Conv2D(2, 3, 2, Activation.RELU),
                MaxPool2D(3),
                Conv2D(2, 2, 1, Activation.TANH),
                Flatten(),
                Dense(2, Activation.IDENTITY),
            ),
        ),
    ],
    ids=["dense", "convolutional"],
)
def test_fewer_rows_than_before_see_nothing_of_the_earlier_ones(
    make_network: Callable[[Architecture, int], Network], architecture: Architecture
) -> None:
    """Buffers are reused, edges of padding too; answers are not."""
    network, features = make_network(architecture, 0), np.random.default_rng(0).random((5, 36), np.float32)
    forward_pass = ForwardPass(architecture, capacity=5)
    for rows in (5, 2, 4, 5, 1):
        forward_pass.logits(network, 100 * features)
        fresh = ForwardPass(architecture, rows).logits(network, features[:rows]).copy()
        np.testing.assert_allclose(forward_pass.logits(network, features[:rows]), fresh, rtol=1e-5)


def test_hidden_layers_rectify_and_the_output_layer_does_not() -> None:
    """A negative weighted sum becomes 0 in a hidden layer and stays as a logit."""
    network = Network(Architecture.dense(1, (1,), 1), np.array([1, 0, 1, -5], np.float32))  # w0, b0, w1, b1
    _, hidden, logits = ForwardPass(network.architecture, 2).activations(network, np.array([[-3], [3]], np.float32))
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
