"""Optimizers: how a gradient changes the parameters, in place, over the whole flat vector at once."""

from typing import Protocol

import numpy as np

from shared.network import FloatArray
from shared.training_spec import Optimizer as OptimizerName
from shared.training_spec import TrainingSpec


class Optimizer(Protocol):
    """One update after another of one parameter vector."""

    def update(self, parameters: FloatArray, gradient: FloatArray) -> None:
        """Changes `parameters` (parameter_count,) in place; `gradient` may be overwritten."""


class Sgd:
    """Stochastic gradient descent: parameters −= learning_rate · gradient."""

    def __init__(self, learning_rate: float) -> None:
        self._learning_rate = np.float32(learning_rate)

    def update(self, parameters: FloatArray, gradient: FloatArray) -> None:
        """One step."""
        gradient *= self._learning_rate
        parameters -= gradient


class Adam:
    """Adam (Kingma and Ba, 2015, algorithm 1, with its section 2 order of computation)."""

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, learning_rate: float, parameter_count: int) -> None:
        self._learning_rate = learning_rate
        self._step = 0
        self._first_moment = np.zeros(parameter_count, np.float32)
        self._second_moment = np.zeros(parameter_count, np.float32)
        self._scratch = np.empty(parameter_count, np.float32)

    def update(self, parameters: FloatArray, gradient: FloatArray) -> None:
        """One step."""
        self._step += 1
        first, second, scratch = self._first_moment, self._second_moment, self._scratch
        first_correction = 1 - self.BETA1**self._step
        second_correction = np.sqrt(1 - self.BETA2**self._step)

        np.multiply(gradient, np.float32(1 - self.BETA1), out=scratch)
        first *= np.float32(self.BETA1)
        first += scratch

        np.square(gradient, out=gradient)
        gradient *= np.float32(1 - self.BETA2)
        second *= np.float32(self.BETA2)
        second += gradient

        # learning_rate · m̂ / (√v̂ + ε), with the corrections drawn out of the vectors
        np.sqrt(second, out=scratch)
        scratch += np.float32(self.EPSILON * second_correction)
        np.divide(first, scratch, out=scratch)
        scratch *= np.float32(self._learning_rate * second_correction / first_correction)
        parameters -= scratch


def optimizer_for(spec: TrainingSpec, parameter_count: int) -> Optimizer:
    """The optimizer a spec asks for."""
    if spec.optimizer is OptimizerName.SGD:
        return Sgd(spec.learning_rate)
    return Adam(spec.learning_rate, parameter_count)
