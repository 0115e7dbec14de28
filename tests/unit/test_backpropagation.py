"""The gradient: against finite differences for every kind of parameter, and against one step worked out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from shared.network import Activation, Architecture, Network
from trainer_service.training.backpropagation import Backpropagation, mean_cross_entropy
from trainer_service.training.initialization import initial_network
from trainer_service.training.optimizers import Sgd

ROWS, FEATURES, CLASSES = 7, 5, 4
# How far a hidden weighted sum must be from 0, where ReLU has no derivative. A parameter is moved by STEP, so a
# weighted sum moves by at most a few STEPs, and none can cross the kink.
KINK_DISTANCE = 1e-3
STEP = 1e-5


def hidden_sums(network: Network, features: np.ndarray) -> list[np.ndarray]:
    """The weighted sums of every hidden layer, in float64."""
    sums, inputs = [], features.astype(np.float64)
    for layer, weight, bias in network.layers:
        weighted = inputs @ weight.astype(np.float64) + bias
        if layer.activation is Activation.RELU:
            sums.append(weighted)
        inputs = np.maximum(weighted, 0)
    return sums


def plain_loss(architecture: Architecture, vector: np.ndarray, features: np.ndarray, class_ids: np.ndarray) -> float:
    """The mean cross-entropy in float64, written without any of the product's arithmetic."""
    outputs, start = features.astype(np.float64), 0
    for layer in architecture.layers:
        inputs = outputs.shape[1]
        weight = vector[start : start + inputs * layer.units].reshape(inputs, layer.units)
        start += weight.size
        outputs = outputs @ weight + vector[start : start + layer.units]
        start += layer.units
        if layer.activation is Activation.RELU:
            outputs = np.maximum(outputs, 0)
    log_sums = np.log(np.exp(outputs).sum(axis=1))
    return float((log_sums - outputs[np.arange(len(class_ids)), class_ids]).mean())


def batch_away_from_kinks(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """The first random batch whose hidden weighted sums all keep their distance from 0."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        features = rng.normal(0, 1, (ROWS, FEATURES)).astype(np.float32)
        if all(np.abs(sums).min() > KINK_DISTANCE for sums in hidden_sums(network, features)):
            return features, rng.integers(0, CLASSES, ROWS)
    raise AssertionError("no such batch")


CASES = [
    pytest.param(hidden, name, id=f"{len(hidden)} hidden, {name}")
    for hidden in ((), (6,), (6, 3))
    for name in Architecture.dense(FEATURES, hidden, CLASSES).parameter_shapes()
]


@pytest.mark.parametrize(("hidden", "name"), CASES)
def test_the_gradient_equals_finite_differences(
    make_network: Callable[[Architecture, int], Network], hidden: tuple[int, ...], name: str
) -> None:
    """Every number of this parameter has the slope of the loss as its gradient.

    The slope comes from central differences of an independent float64 loss at the same parameters: their own error is
    of the order STEP² and 1e-16/STEP, about 1e-10. What remains is the float32 of the product: 24 bits, about 1e-7 a
    sum of products, a few of which stand behind each number. 1e-3 relative (1e-5 where a slope is nearly 0) leaves
    room for that, and is far below what a wrong factor, sign, transposition or mask would cause.
    """
    architecture = Architecture.dense(FEATURES, hidden, CLASSES)
    network = make_network(architecture, 3)
    features, class_ids = batch_away_from_kinks(network)
    backpropagation = Backpropagation(architecture, ROWS)
    loss = backpropagation.compute(network, features, np.eye(CLASSES, dtype=np.float32)[class_ids])
    vector = network.parameters.astype(np.float64)
    assert loss == pytest.approx(plain_loss(architecture, vector, features, class_ids), rel=1e-5)

    indices = Network(architecture, np.arange(len(vector), dtype=np.float32)).views[name].ravel().astype(int)
    numerical = np.empty(len(indices))
    for position, index in enumerate(indices):
        up, down = vector.copy(), vector.copy()
        up[index] += STEP
        down[index] -= STEP
        difference = plain_loss(architecture, up, features, class_ids) - plain_loss(
            architecture, down, features, class_ids
        )
        numerical[position] = difference / (2 * STEP)
    assert np.abs(numerical).max() > 1e-3, "a parameter that nothing depends on checks nothing"
    np.testing.assert_allclose(backpropagation.gradient[indices], numerical, rtol=1e-3, atol=1e-5)


def test_one_step_worked_out_by_hand() -> None:
    """Forward pass, loss, gradient and one SGD update of a 2-2-2 network, with the numbers beside."""
    # x = (1, 2); W0 = (1 −1; ½ ¼), b0 = (0, 0.1); W1 = (½ −½; 1 −2), b1 = (0, 0); the right class is 1.
    parameters = np.array([1, -1, 0.5, 0.25, 0, 0.1, 0.5, -0.5, 1, -2, 0, 0], np.float32)
    network = Network(Architecture.dense(2, (2,), 2), parameters)
    # hidden: x·W0 + b0 = (1 + 2·½, −1 + 2·¼ + 0.1) = (2, −0.4), rectified (2, 0)
    # logits: (2·½ + 0·1, 2·(−½) + 0·(−2)) = (1, −1)
    # softmax: p0 = 1/(1 + e^−2) = 0.880797, p1 = 0.119203; loss = −ln p1 = ln(1 + e²) = 2.126928
    backpropagation = Backpropagation(network.architecture, 1)
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
    Sgd(0.1).update(network.parameters, backpropagation.gradient)
    updated = [0.9119203, -1, 0.3238406, 0.25, -0.0880797, 0.1, 0.3238406, -0.3238406, 1, -2, -0.0880797, 0.0880797]
    np.testing.assert_allclose(network.parameters, updated, atol=1e-6)


def test_a_short_batch_in_large_buffers_has_its_own_gradient(
    make_network: Callable[[Architecture, int], Network],
) -> None:
    """Rows of an earlier, larger batch count for nothing."""
    architecture = Architecture.dense(FEATURES, (6,), CLASSES)
    network = make_network(architecture, 3)
    features, class_ids = batch_away_from_kinks(network)
    targets = np.eye(CLASSES, dtype=np.float32)[class_ids]
    used, fresh = Backpropagation(architecture, ROWS), Backpropagation(architecture, 2)
    used.compute(network, features, targets)
    assert used.compute(network, features[:2], targets[:2]) == fresh.compute(network, features[:2], targets[:2])
    np.testing.assert_allclose(used.gradient, fresh.gradient, rtol=1e-5, atol=1e-7)


def test_cross_entropy_of_known_probabilities() -> None:
    """½ and ¼ for the right classes cost (ln 2 + ln 4) / 2 nats."""
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.25, 0.25]], np.float32)
    targets = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    assert mean_cross_entropy(probabilities, targets) == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-6)


def test_a_probability_of_zero_costs_much_but_not_infinity() -> None:
    """A right class that was given no chance costs −ln of the smallest normal float32, about 87.3 nats."""
    loss = mean_cross_entropy(np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32))
    assert loss == pytest.approx(87.3365, abs=1e-3)


def test_initial_weights_differ_between_units() -> None:
    """Equal units would get equal gradients for ever; random ones break the symmetry."""
    network = initial_network(Architecture.dense(20, (30, 30), 10), np.random.default_rng(0))
    for _, weight, _ in network.layers:
        assert len(np.unique(weight, axis=1).T) == weight.shape[1]


def test_initial_weights_have_the_spread_of_he() -> None:
    """Standard deviation sqrt(2 / inputs), mean 0; biases are 0."""
    network = initial_network(Architecture.dense(800, (400,), 100), np.random.default_rng(0))
    for _, weight, bias in network.layers:
        expected = math.sqrt(2 / weight.shape[0])
        assert weight.std() == pytest.approx(expected, rel=0.02)
        assert abs(weight.mean()) < 0.02 * expected
        assert not bias.any()
