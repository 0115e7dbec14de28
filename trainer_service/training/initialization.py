"""Random initial weights, small enough to keep activations in range and different enough to break symmetry."""

import numpy as np

from shared.network import Architecture, Network


def initial_network(architecture: Architecture, rng: np.random.Generator) -> Network:
    """A network with He-normal weights and zero biases.

    Weights are drawn with standard deviation sqrt(2 / inputs), which keeps the variance of activations from layer to
    layer under ReLU (He et al., 2015). Equal weights would receive equal gradients for ever; random ones do not.
    """
    network = Network(architecture, np.zeros(architecture.parameter_count, np.float32))
    for _, weight, _ in network.layers:
        inputs = weight.shape[0]
        weight[:] = rng.standard_normal(weight.shape, np.float32) * np.sqrt(2 / inputs, dtype=np.float32)
    return network
