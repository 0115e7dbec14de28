"""Random initial weights, small enough to keep activations in range and different enough to break symmetry."""

import math

import numpy as np

from shared.network import Architecture, FloatArray, Network
from shared.recipe import Initialization

SMALL = 0.01


def initial_network(
    architecture: Architecture, rng: np.random.Generator, initialization: Initialization = Initialization.HE
) -> Network:
    """A network with weights drawn as `initialization` says, and zero biases.

    He keeps the variance of activations from layer to layer under ReLU, Glorot under tanh and sigmoid. Equal weights
    receive equal gradients for ever, so zeros are never a default.
    """
    network = Network(architecture, np.zeros(architecture.parameter_count, np.float32))
    if initialization is Initialization.ZEROS:
        return network
    for parameters in network.layers:
        if parameters.weight.size:
            deviation = standard_deviation(parameters.weight, initialization)
            parameters.weight[:] = rng.standard_normal(parameters.weight.shape, np.float32) * np.float32(deviation)
    return network


def standard_deviation(weight: FloatArray, initialization: Initialization) -> float:
    """How far the initial values of a weight, (inputs, units) or (filters, channels, kernel, kernel), lie apart."""
    if initialization is Initialization.SMALL_NORMAL:
        return SMALL
    inputs, outputs = weight.shape[:2]
    if weight.ndim > 2:  # noqa: PLR2004 - a filter's inputs are a whole window, its outputs one in each place of it
        inputs, outputs = math.prod(weight.shape[1:]), weight.shape[0] * math.prod(weight.shape[2:])
    if initialization is Initialization.GLOROT:  # Glorot and Bengio, 2010, equation 12
        return math.sqrt(2 / (inputs + outputs))
    return math.sqrt(2 / inputs)  # He et al., 2015, equation 10
