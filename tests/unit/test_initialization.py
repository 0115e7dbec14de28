"""Initial weights and the moving average: how far they spread, and what they follow."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shared.layers import Activation, Conv2D, Dense, Flatten
from shared.network import Architecture, Network
from shared.recipe import Initialization, Optimizer
from shared.training_spec import TrainingSpec
from trainer_service.datasets.dataset import Dataset
from trainer_service.presets import PRESETS
from trainer_service.training.averaging import MovingAverage
from trainer_service.training.initialization import initial_network
from trainer_service.training.loop import TrainedNetwork

DENSE = Architecture.dense(800, (400,), 100)
# Inputs and outputs of a filter of 3 × 3: 9 × 40 and 9 × 60.
CONVOLUTIONAL = Architecture(
    (3, 3, 40), (Conv2D(60, 3, 0, Activation.RELU), Flatten(), Dense(400, Activation.IDENTITY))
)
RANDOM = [each for each in Initialization if each is not Initialization.ZEROS]


@pytest.mark.parametrize(
    ("initialization", "architecture", "deviations"),
    [
        (Initialization.HE, DENSE, [math.sqrt(2 / 800), math.sqrt(2 / 400)]),
        (Initialization.GLOROT, DENSE, [math.sqrt(2 / 1200), math.sqrt(2 / 500)]),
        (Initialization.SMALL_NORMAL, DENSE, [0.01, 0.01]),
        (Initialization.HE, CONVOLUTIONAL, [math.sqrt(2 / 360), math.sqrt(2 / 60)]),
        (Initialization.GLOROT, CONVOLUTIONAL, [math.sqrt(2 / 900), math.sqrt(2 / 460)]),
        (Initialization.SMALL_NORMAL, CONVOLUTIONAL, [0.01, 0.01]),
    ],
)
def test_initial_weights_have_the_spread_they_are_named_after(
    initialization: Initialization, architecture: Architecture, deviations: list[float]
) -> None:
    """Normal, with mean 0 and the standard deviation of the paper; biases are 0."""
    network = initial_network(architecture, np.random.default_rng(0), initialization)
    layers = [parameters for parameters in network.layers if parameters.weight.size]
    for parameters, expected in zip(layers, deviations, strict=True):
        weight = parameters.weight
        assert weight.std() == pytest.approx(expected, rel=0.02)
        assert abs(weight.mean()) < 0.02 * expected
        assert np.mean(np.abs(weight) < expected) == pytest.approx(0.6827, abs=0.01)  # as a normal distribution has
        assert not parameters.bias.any()


@pytest.mark.parametrize("initialization", RANDOM)
def test_initial_weights_differ_between_units(initialization: Initialization) -> None:
    """Equal units would get equal gradients for ever; random ones break the symmetry."""
    network = initial_network(Architecture.dense(20, (30, 30), 10), np.random.default_rng(0), initialization)
    for parameters in network.layers:
        assert len(np.unique(parameters.weight, axis=1).T) == parameters.weight.shape[1]


@pytest.mark.parametrize("activation", [Activation.SIGMOID, Activation.TANH, Activation.RELU])
def test_zeros_never_break_symmetry(
    digits: Dataset, trained: Callable[..., TrainedNetwork], activation: Activation
) -> None:
    """After training from zeros all units of a hidden layer are still one and the same unit.

    Up to rounding: a matrix product may add up its columns in different orders.
    """
    spec = TrainingSpec("m", "digits", 3, layers=(Dense(12, activation),), epochs=2, batch_size=32)
    spec = replace(spec, initialization=Initialization.ZEROS, optimizer=Optimizer.SGD, learning_rate=0.5)
    network = trained(spec, digits).network
    hidden, output = network.layers
    for across_units in (hidden.weight.T, hidden.bias, output.weight):
        np.testing.assert_allclose(across_units, np.broadcast_to(across_units[0], across_units.shape), atol=1e-5)
    assert network.parameters.any()  # it did learn: how often each class comes
    other = trained(replace(spec, initialization=Initialization.HE), digits).network
    assert other.layers[0].weight.std(axis=1).min() > 0.01


def test_no_default_means_zeros() -> None:
    """Neither a preset nor a spec that says nothing."""
    assert TrainingSpec("m", "digits", 0).initialization is Initialization.HE
    assert [name for name, fields in PRESETS.items() if fields.get("initialization") is Initialization.ZEROS] == []


def test_the_average_follows_the_network_slower_and_slower(
    make_network: Callable[[Architecture, int], Network],
) -> None:
    """It keeps (1 + n) / (10 + n) of itself at update n, and never more than the decay."""
    architecture = Architecture.dense(3, (), 2)
    start, rng = make_network(architecture, 0), np.random.default_rng(0)
    average, expected = MovingAverage(start, 0.5), start.parameters.astype(np.float64)
    for update in range(1, 21):
        network = Network(architecture, rng.normal(0, 1, architecture.parameter_count).astype(np.float32))
        kept = min(0.5, (1 + update) / (10 + update))
        expected = kept * expected + (1 - kept) * network.parameters
        average.update(network)
        np.testing.assert_allclose(average.network.parameters, expected, rtol=1e-5, atol=1e-6)


def test_the_average_is_a_network_of_its_own(make_network: Callable[[Architecture, int], Network]) -> None:
    """Following does not change what it follows, nor does that change it."""
    network = make_network(Architecture.dense(3, (), 2), 0)
    before, average = network.parameters.copy(), MovingAverage(network, 0.9)
    network.parameters[:] += 1
    np.testing.assert_array_equal(average.network.parameters, before)
    average.update(network)
    np.testing.assert_array_equal(network.parameters, before + 1)
