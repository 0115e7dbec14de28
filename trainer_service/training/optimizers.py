"""Optimizers: how a gradient changes the parameters, in place, over the whole flat vector at once.

Formulas and defaults are PyTorch's, whose first steps they are tested against. Moments are kept without their constant
factors, which are drawn together into one number a step: that spares two passes over the vector.
"""

import math
from typing import Protocol

import numpy as np

from shared.network import FloatArray
from shared.recipe import Optimizer as OptimizerName
from shared.training_spec import TrainingSpec
from trainer_service.training.checkpoint import StateArray

EPSILON = 1e-8


class Optimizer(Protocol):
    """One update after another of one parameter vector."""

    def update(self, parameters: FloatArray, gradient: FloatArray, learning_rate: float) -> None:
        """Changes `parameters` (parameter_count,) in place; `gradient` is overwritten."""

    def state(self) -> dict[str, StateArray]:
        """What it keeps from update to update: live arrays by name."""


class Sgd:
    """Stochastic gradient descent: v = momentum · v + gradient; parameters −= learning_rate · v.

    Nesterov's variant goes along gradient + momentum · v instead (Sutskever et al., 2013).
    """

    def __init__(self, parameter_count: int, *, momentum: float = 0.0, nesterov: bool = False) -> None:
        self._momentum = np.float32(momentum)
        self._nesterov = nesterov
        self._velocity = np.zeros(parameter_count if momentum else 0, np.float32)
        self._scratch = np.empty(parameter_count if momentum else 0, np.float32)

    def update(self, parameters: FloatArray, gradient: FloatArray, learning_rate: float) -> None:
        """One step."""
        direction = gradient
        if self._momentum:
            velocity, scratch = self._velocity, self._scratch
            np.multiply(velocity, self._momentum, out=velocity)
            np.add(velocity, gradient, out=velocity)
            if self._nesterov:
                np.multiply(velocity, self._momentum, out=scratch)
                np.add(gradient, scratch, out=gradient)
            else:
                direction = velocity
        np.multiply(direction, np.float32(learning_rate), out=gradient)
        np.subtract(parameters, gradient, out=parameters)

    def state(self) -> dict[str, StateArray]:
        """The velocity, where there is momentum."""
        return {"velocity": self._velocity} if self._momentum else {}


class RmsProp:
    """RMSprop (Tieleman and Hinton, 2012): the gradient over the root of a moving average of its square."""

    DECAY = 0.99

    def __init__(self, parameter_count: int) -> None:
        self._squares = np.zeros(parameter_count, np.float32)  # the moving average, divided by 1 − DECAY
        self._scratch = np.empty(parameter_count, np.float32)

    def update(self, parameters: FloatArray, gradient: FloatArray, learning_rate: float) -> None:
        """One step."""
        squares, scratch = self._squares, self._scratch
        factor = (1 - self.DECAY) ** 0.5
        np.square(gradient, out=scratch)
        np.multiply(squares, np.float32(self.DECAY), out=squares)
        np.add(squares, scratch, out=squares)
        np.sqrt(squares, out=scratch)
        np.add(scratch, np.float32(EPSILON / factor), out=scratch)
        np.divide(gradient, scratch, out=gradient)
        np.multiply(gradient, np.float32(learning_rate / factor), out=gradient)
        np.subtract(parameters, gradient, out=parameters)

    def state(self) -> dict[str, StateArray]:
        """The moving average of squares."""
        return {"squares": self._squares}


class Adam:
    """Adam (Kingma and Ba, 2015, algorithm 1): RMSprop with momentum, both corrected for their start at 0."""

    BETA1, BETA2 = 0.9, 0.999

    def __init__(self, parameter_count: int) -> None:
        self._step = np.zeros(1, np.int64)
        self._first_moment = np.zeros(parameter_count, np.float32)  # m / (1 − β1)
        self._second_moment = np.zeros(parameter_count, np.float32)  # v / (1 − β2)

    def update(self, parameters: FloatArray, gradient: FloatArray, learning_rate: float) -> None:
        """One step."""
        self._step += 1
        step, first, second = int(self._step[0]), self._first_moment, self._second_moment
        # m̂ / (√v̂ + ε) = (first · a) / (√second · b + ε) = (a / b) · first / (√second + ε / b)
        a = (1 - self.BETA1) / (1 - self.BETA1**step)
        b = ((1 - self.BETA2) / (1 - self.BETA2**step)) ** 0.5

        np.multiply(first, np.float32(self.BETA1), out=first)
        np.add(first, gradient, out=first)
        np.square(gradient, out=gradient)
        np.multiply(second, np.float32(self.BETA2), out=second)
        np.add(second, gradient, out=second)

        np.sqrt(second, out=gradient)
        np.add(gradient, np.float32(EPSILON / b), out=gradient)
        np.divide(first, gradient, out=gradient)
        np.multiply(gradient, np.float32(learning_rate * a / b), out=gradient)
        np.subtract(parameters, gradient, out=parameters)

    def state(self) -> dict[str, StateArray]:
        """Both moments, and the number of steps."""
        return {"step": self._step, "first_moment": self._first_moment, "second_moment": self._second_moment}


class WeightDecay:
    """Pulls every parameter towards 0 before another optimizer's step.

    Added to the gradient as weight_decay · parameters, it passes through the moments; decoupled (AdamW, Loshchilov and
    Hutter, 2019), the parameters shrink by learning_rate · weight_decay instead.
    """

    def __init__(self, optimizer: Optimizer, weight_decay: float, parameter_count: int, *, decoupled: bool) -> None:
        self._optimizer, self._weight_decay, self._decoupled = optimizer, weight_decay, decoupled
        self._scratch = np.empty(0 if decoupled else parameter_count, np.float32)

    def update(self, parameters: FloatArray, gradient: FloatArray, learning_rate: float) -> None:
        """One step."""
        if self._decoupled:
            np.multiply(parameters, np.float32(1 - learning_rate * self._weight_decay), out=parameters)
        else:
            np.multiply(parameters, np.float32(self._weight_decay), out=self._scratch)
            np.add(gradient, self._scratch, out=gradient)
        self._optimizer.update(parameters, gradient, learning_rate)

    def state(self) -> dict[str, StateArray]:
        """The other optimizer's: there is nothing else to keep."""
        return self._optimizer.state()


def optimizer_for(spec: TrainingSpec, parameter_count: int) -> Optimizer:
    """The optimizer a spec asks for."""
    optimizer: Optimizer
    match spec.optimizer:
        case OptimizerName.SGD:
            optimizer = Sgd(parameter_count, momentum=spec.momentum, nesterov=spec.nesterov)
        case OptimizerName.RMSPROP:
            optimizer = RmsProp(parameter_count)
        case OptimizerName.ADAM | OptimizerName.ADAMW:
            optimizer = Adam(parameter_count)
    if spec.weight_decay:
        decoupled = spec.optimizer is OptimizerName.ADAMW
        optimizer = WeightDecay(optimizer, spec.weight_decay, parameter_count, decoupled=decoupled)
    return optimizer


def clip_norm(gradient: FloatArray, longest: float) -> None:
    """Shortens `gradient` to a length of `longest` if it is longer (L2 norm; Pascanu et al., 2013)."""
    length = float(np.dot(gradient, gradient)) ** 0.5
    if not math.isfinite(length):  # the squares were too large for float32, which the gradient itself need not be
        length = float(np.linalg.norm(gradient.astype(np.float64)))
    if length > longest:
        np.multiply(gradient, np.float32(longest / (length + 1e-6)), out=gradient)
