"""The gradient: against finite differences for every kind of layer, and against one step worked out by hand."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.convolution import Conv2DForward, MaxPool2DForward
from shared.forward_pass import DropoutForward
from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, Shape
from shared.network import NO_PARAMETERS, Architecture, Network
from shared.recipe import Loss
from trainer_service.training import convolution_gradients
from trainer_service.training.backpropagation import Backpropagation
from trainer_service.training.convolution_gradients import MaxPool2DBack
from trainer_service.training.losses import fill_targets
from trainer_service.training.optimizers import Sgd

ROWS, CLASSES = 5, 3
RELU, TANH, SIGMOID, IDENTITY = Activation.RELU, Activation.TANH, Activation.SIGMOID, Activation.IDENTITY
OUTPUT = Dense(CLASSES, IDENTITY)
CASES: dict[str, tuple[Shape, tuple[Layer, ...]]] = {
    "no hidden layer": ((5,), ()),
    **{f"dense, {each.value}": ((5,), (Dense(6, each), Dense(4, each))) for each in Activation},
    "dense on a picture": ((2, 3), (Dense(4, RELU),)),
    **{
        f"convolution, {each.value}": ((5, 6), (Conv2D(2, 3, 1, each), Conv2D(3, 2, 0, each), Flatten()))
        for each in Activation
    },
    "colours": ((5, 4, 3), (Conv2D(2, 3, 1, TANH), Flatten(), Dense(4, RELU))),
    "pooling with edges left over": ((7, 8), (Conv2D(2, 3, 1, TANH), MaxPool2D(3), Conv2D(2, 2, 1, TANH), Flatten())),
    "pooling first": ((7, 8, 3), (MaxPool2D(2), Conv2D(2, 3, 2, RELU), Flatten(), Dense(5, RELU))),
    "pooling twice": ((9, 9), (Conv2D(2, 5, 2, RELU), MaxPool2D(2), MaxPool2D(2), Flatten())),
    "only flattened": ((3, 4, 3), (Flatten(),)),
    "dropout between dense layers": ((5,), (Dense(8, TANH), Dropout(0.5), Dense(6, RELU), Dropout(0.25))),
    "dropout first": ((9,), (Dropout(0.3), Dense(8, TANH))),
    "dropout of pictures": (
        (6, 5, 3),
        (
            *(Dropout(0.2), Conv2D(3, 3, 1, TANH), Dropout(0.4), MaxPool2D(2)),
            *(Dropout(0.2), Conv2D(2, 2, 0, TANH), Flatten(), Dropout(0.3)),
        ),
    ),
}
# Pairs of convolutions that leave at least 3 × 2 of 7 × 6 pixels, or more than came in.
WINDOWS = [(size, padding) for size in (1, 2, 3, 5) for padding in range(size) if size - 1 - 2 * padding <= 2]
TARGETS = [(Loss.CROSS_ENTROPY, 0.0), (Loss.CROSS_ENTROPY, 0.1), (Loss.MEAN_SQUARED_ERROR, 0.0)]


def batch(architecture: Architecture, seed: int, label_smoothing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """ROWS rows of features and their targets."""
    rng = np.random.default_rng(seed)
    classes = architecture.class_count
    targets = np.empty((ROWS, classes), np.float32)
    fill_targets(targets, rng.integers(0, classes, ROWS), label_smoothing)
    features = rng.normal(0, 1, (ROWS, architecture.input_size)).astype(np.float32)
    return features, targets


def drawn_factors(backpropagation: Backpropagation) -> dict[int, np.ndarray]:
    """What the dropout layers multiplied by in the last computation, with the rows first."""
    return {
        index: layer.factors.transpose(3, 0, 1, 2) if layer.factors.ndim == 4 else layer.factors
        for index, layer in enumerate(backpropagation._forward_pass.layers)
        if isinstance(layer, DropoutForward)
    }


@pytest.mark.parametrize(("loss", "label_smoothing"), TARGETS, ids=["cross-entropy", "smoothed", "squared error"])
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_equals_finite_differences(
    *,
    make_network: Callable[[Architecture, int], Network],
    loss_at: Callable[..., float],
    slopes_of: Callable[..., np.ndarray],
    case: str,
    loss: Loss,
    label_smoothing: float,
) -> None:
    """Every parameter has the slope of the loss as its gradient, for a full batch and then for a smaller one.

    The slopes come from central differences of an independent float64 loss at the same parameters, with the same
    values dropped: their own error is about 1e-10. What remains is the float32 of the product: 24 bits, about 1e-7 a
    sum of products, a few of which stand behind each number. 2e-4 relative (2e-6 where a slope is nearly 0) leaves
    room for that, and is far below what a wrong factor, sign, transposition or mask would cause.
    """
    input_shape, hidden = CASES[case]
    check_gradient(
        make_network=make_network,
        loss_at=loss_at,
        slopes_of=slopes_of,
        architecture=Architecture(input_shape, (*hidden, OUTPUT)),
        loss=loss,
        label_smoothing=label_smoothing,
    )


@pytest.mark.parametrize(("size", "padding"), WINDOWS)
def test_windows_of_any_size_and_padding_have_their_slopes(
    make_network: Callable[[Architecture, int], Network],
    loss_at: Callable[..., float],
    slopes_of: Callable[..., np.ndarray],
    size: int,
    padding: int,
) -> None:
    """From no padding to so much that a window sees one pixel in the corner, on a picture that is no square."""
    layers = (Conv2D(2, size, padding, TANH), Conv2D(1, size, padding, SIGMOID), MaxPool2D(2), Flatten(), OUTPUT)
    check_gradient(
        make_network=make_network,
        loss_at=loss_at,
        slopes_of=slopes_of,
        architecture=Architecture((7, 6), layers),
        loss=Loss.CROSS_ENTROPY,
        label_smoothing=0.0,
    )


def check_gradient(
    *,
    make_network: Callable[[Architecture, int], Network],
    loss_at: Callable[..., float],
    slopes_of: Callable[..., np.ndarray],
    architecture: Architecture,
    loss: Loss,
    label_smoothing: float,
) -> None:
    """Compares every number of the gradient with its slope, for a full batch and then for a smaller one."""
    network = make_network(architecture, 3)
    network.parameters[:] *= 0.5  # far from where a softmax or a tanh is flat
    features, targets = batch(architecture, 3, label_smoothing)
    backpropagation = Backpropagation(architecture, ROWS, loss, np.random.default_rng(3))
    for rows in (ROWS, ROWS - 2):
        few, their = features[:rows], targets[:rows]
        value = backpropagation.compute(network, few, their)
        at = partial(loss_at, loss, architecture, features=few, targets=their, factors=drawn_factors(backpropagation))
        assert value == pytest.approx(at(network.parameters), rel=1e-5)
        slopes = slopes_of(at, network.parameters, np.eye(architecture.parameter_count))
        assert np.isfinite(slopes).all(), "a kink near these parameters: take another seed"
        for name, view in Network(architecture, slopes.astype(np.float32)).views.items():
            assert np.abs(view).max() > 1e-4, f"nothing depends on {name}, so it checks nothing"
        np.testing.assert_allclose(backpropagation.gradient, slopes, rtol=2e-4, atol=2e-6)


@given(data=st.data(), loss=st.sampled_from(Loss), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_any_network_has_the_slope_of_its_loss(
    *,
    make_network: Callable[[Architecture, int], Network],
    architectures: st.SearchStrategy[Architecture],
    loss_at: Callable[..., float],
    slopes_of: Callable[..., np.ndarray],
    data: st.DataObject,
    loss: Loss,
    seed: int,
) -> None:
    """Along a random direction, for whatever layers fit each other."""
    architecture = data.draw(architectures)
    network = make_network(architecture, seed)
    features, targets = batch(architecture, seed)
    backpropagation = Backpropagation(architecture, ROWS, loss, np.random.default_rng(seed))
    backpropagation.compute(network, features, targets)
    factors = drawn_factors(backpropagation)
    direction = np.random.default_rng(seed).normal(0, 1, architecture.parameter_count)
    direction /= np.linalg.norm(direction)
    (slope,) = slopes_of(
        lambda vector: loss_at(loss, architecture, vector, features, targets, factors=factors),
        network.parameters,
        direction[np.newaxis],
    )
    assume(np.isfinite(slope))
    length = float(np.linalg.norm(backpropagation.gradient))
    assert backpropagation.gradient.astype(np.float64) @ direction == pytest.approx(slope, abs=3e-6 * (1 + 10 * length))


@pytest.mark.parametrize("case", ["pooling with edges left over", "pooling twice", "dropout of pictures", "colours"])
def test_deltas_cut_into_strips_are_the_same(
    monkeypatch: pytest.MonkeyPatch, make_network: Callable[[Architecture, int], Network], case: str
) -> None:
    """One line of windows at a time, or several, give the gradient that all at once give."""
    input_shape, hidden = CASES[case]
    architecture = Architecture(input_shape, (*hidden, OUTPUT))
    network, (features, targets) = make_network(architecture, 1), batch(architecture, 1)

    def gradient() -> np.ndarray:
        backpropagation = Backpropagation(architecture, ROWS, Loss.CROSS_ENTROPY, np.random.default_rng(3))
        backpropagation.compute(network, features, targets)
        return backpropagation.gradient

    whole = gradient()
    for values in (1, 2000):
        monkeypatch.setattr(convolution_gradients, "WINDOW_VALUES", values)
        np.testing.assert_allclose(gradient(), whole, rtol=1e-4, atol=1e-6)


def test_a_layer_cut_into_strips_has_the_slopes_of_the_whole(
    make_network: Callable[[Architecture, int], Network],
    loss_at: Callable[..., float],
    slopes_of: Callable[..., np.ndarray],
) -> None:
    """A convolution too large to be computed at once adds up the gradients of its strips, the last one shorter."""
    layers = (Conv2D(8, 5, 2, TANH), Conv2D(16, 5, 2, TANH), MaxPool2D(4), Flatten(), OUTPUT)
    architecture = Architecture((23, 22, 3), layers)
    network, (features, targets) = make_network(architecture, 2), batch(architecture, 2)
    features *= np.float32(0.1)
    backpropagation = Backpropagation(architecture, 100, Loss.CROSS_ENTROPY, np.random.default_rng(0))
    many, their = np.tile(features, (19, 1)), np.tile(targets, (19, 1))  # 95 rows, whose mean is that of 5
    second = backpropagation._forward_pass.layers[1]
    assert isinstance(second, Conv2DForward)
    assert 1 <= second.strip_lines(len(many)) < second.output_shape[1]
    backpropagation.compute(network, many, their)
    directions = np.random.default_rng(2).normal(0, 1, (6, architecture.parameter_count))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    slopes = slopes_of(
        lambda vector: loss_at(Loss.CROSS_ENTROPY, architecture, vector, features, targets),
        network.parameters,
        directions,
    )
    np.testing.assert_allclose(directions @ backpropagation.gradient, slopes, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3])
def test_of_equal_values_in_a_window_one_gets_the_whole_delta(size: int) -> None:
    """A picture of one grey: each window passes its delta on once, to its first pixel."""
    architecture = Architecture((7, 7), (MaxPool2D(size), Flatten(), Dense(1, IDENTITY)))
    forward_pass = Backpropagation(architecture, 2, Loss.CROSS_ENTROPY, np.random.default_rng(0))._forward_pass
    pooling = forward_pass.layers[0]
    assert isinstance(pooling, MaxPool2DForward)
    images = np.full((1, 7, 7, 2), 0.5, np.float32)
    outputs = pooling.run(NO_PARAMETERS, images)
    windows = 7 // size
    deltas = np.arange(1, 1 + 2 * windows**2, dtype=np.float32).reshape(1, windows, windows, 2)
    below = MaxPool2DBack(pooling, 2).back(NO_PARAMETERS, images, outputs, deltas.copy())
    expected = np.zeros_like(images)
    expected[:, : windows * size : size, : windows * size : size] = deltas
    np.testing.assert_array_equal(below, expected)


def test_one_step_worked_out_by_hand() -> None:
    """Forward pass, loss, gradient and one SGD update of a 2-2-2 network, with the numbers beside."""
    # x = (1, 2); W0 = (1 −1; ½ ¼), b0 = (0, 0.1); W1 = (½ −½; 1 −2), b1 = (0, 0); the right class is 1.
    parameters = np.array([1, -1, 0.5, 0.25, 0, 0.1, 0.5, -0.5, 1, -2, 0, 0], np.float32)
    network = Network(Architecture.dense(2, (2,), 2), parameters)
    # hidden: x·W0 + b0 = (1 + 2·½, −1 + 2·¼ + 0.1) = (2, −0.4), rectified (2, 0)
    # logits: (2·½ + 0·1, 2·(−½) + 0·(−2)) = (1, −1)
    # softmax: p0 = 1/(1 + e^−2) = 0.880797, p1 = 0.119203; loss = −ln p1 = ln(1 + e²) = 2.126928
    backpropagation = Backpropagation(network.architecture, 1, Loss.CROSS_ENTROPY, np.random.default_rng(0))
    loss = backpropagation.compute(network, np.array([[1, 2]], np.float32), np.array([[0, 1]], np.float32))
    assert loss == pytest.approx(2.126928, abs=1e-6)
    # deltas of the output: p − target = (p, −p) with p = 0.880797
    # dW1 = hiddenᵀ·deltas = (2p −2p; 0 0), db1 = (p, −p)
    # deltas of the hidden layer: deltas·W1ᵀ = (p·½ + p·½, p·1 + p·2) = (p, 3p); rectified off for the second: (p, 0)
    # dW0 = xᵀ·deltas = (p 0; 2p 0), db0 = (p, 0)
    p = 0.880797
    gradient = [p, 0, 2 * p, 0, p, 0, 2 * p, -2 * p, 0, 0, p, -p]
    np.testing.assert_allclose(backpropagation.gradient, gradient, atol=1e-6)
    # With learning rate 0.1: parameter − 0.1 · gradient.
    Sgd(len(parameters)).update(network.parameters, backpropagation.gradient, 0.1)
    updated = [0.9119203, -1, 0.3238406, 0.25, -0.0880797, 0.1, 0.3238406, -0.3238406, 1, -2, -0.0880797, 0.0880797]
    np.testing.assert_allclose(network.parameters, updated, atol=1e-6)
