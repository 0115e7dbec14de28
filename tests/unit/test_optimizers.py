"""Optimizers, against their formulas written plainly in float64."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from shared.recipe import Optimizer
from shared.training_spec import TrainingSpec
from trainer_service.training.optimizers import Adam, RmsProp, Sgd, clip_norm, optimizer_for

COUNT, STEPS = 6, 30
SPEC = TrainingSpec("m", "digits", 0)
Formula = Callable[[np.ndarray, np.ndarray, float, dict[str, Any]], np.ndarray]


def sgd(parameters: np.ndarray, gradient: np.ndarray, rate: float, _: dict[str, Any]) -> np.ndarray:
    """θ − λ·g."""
    return parameters - rate * gradient


def momentum(parameters: np.ndarray, gradient: np.ndarray, rate: float, state: dict[str, Any]) -> np.ndarray:
    """Goes along v = 0.9·v + g: θ − λ·v."""
    state["v"] = 0.9 * state.get("v", 0) + gradient
    return np.asarray(parameters - rate * state["v"])


def nesterov(parameters: np.ndarray, gradient: np.ndarray, rate: float, state: dict[str, Any]) -> np.ndarray:
    """Looks ahead along v = 0.9·v + g: θ − λ·(g + 0.9·v)."""
    state["v"] = 0.9 * state.get("v", 0) + gradient
    return np.asarray(parameters - rate * (gradient + 0.9 * state["v"]))


def rmsprop(parameters: np.ndarray, gradient: np.ndarray, rate: float, state: dict[str, Any]) -> np.ndarray:
    """Divides by the root of s = 0.99·s + 0.01·g²: θ − λ·g / (√s + ε)."""
    state["s"] = 0.99 * state.get("s", 0) + 0.01 * gradient**2
    return np.asarray(parameters - rate * gradient / (np.sqrt(state["s"]) + 1e-8))


def adam(parameters: np.ndarray, gradient: np.ndarray, rate: float, state: dict[str, Any]) -> np.ndarray:
    """Kingma and Ba (2015), algorithm 1, line by line."""
    state["t"] = state.get("t", 0) + 1
    state["m"] = 0.9 * state.get("m", 0) + (1 - 0.9) * gradient
    state["v"] = 0.999 * state.get("v", 0) + (1 - 0.999) * gradient**2
    first_corrected = state["m"] / (1 - 0.9 ** state["t"])
    second_corrected = state["v"] / (1 - 0.999 ** state["t"])
    return np.asarray(parameters - rate * first_corrected / (np.sqrt(second_corrected) + 1e-8))


def decayed(formula: Formula) -> Formula:
    """The gradient of the loss plus 0.05·θ, the derivative of 0.025·θ²."""
    return lambda parameters, gradient, rate, state: formula(parameters, gradient + 0.05 * parameters, rate, state)


def adamw(parameters: np.ndarray, gradient: np.ndarray, rate: float, state: dict[str, Any]) -> np.ndarray:
    """θ − λ·0.05·θ, then Adam with moments of the gradient alone (Loshchilov and Hutter, 2019, algorithm 2)."""
    return adam(parameters - rate * 0.05 * parameters, gradient, rate, state)


FORMULAS: list[tuple[dict[str, Any], Formula]] = [
    ({"optimizer": Optimizer.SGD}, sgd),
    ({"optimizer": Optimizer.SGD, "momentum": 0.9}, momentum),
    ({"optimizer": Optimizer.SGD, "momentum": 0.9, "nesterov": True}, nesterov),
    ({"optimizer": Optimizer.RMSPROP}, rmsprop),
    ({"optimizer": Optimizer.ADAM}, adam),
    ({"optimizer": Optimizer.ADAMW}, adam),
    ({"optimizer": Optimizer.SGD, "weight_decay": 0.05}, decayed(sgd)),
    ({"optimizer": Optimizer.SGD, "momentum": 0.9, "weight_decay": 0.05}, decayed(momentum)),
    ({"optimizer": Optimizer.SGD, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}, decayed(nesterov)),
    ({"optimizer": Optimizer.RMSPROP, "weight_decay": 0.05}, decayed(rmsprop)),
    ({"optimizer": Optimizer.ADAM, "weight_decay": 0.05}, decayed(adam)),
    ({"optimizer": Optimizer.ADAMW, "weight_decay": 0.05}, adamw),
]


def steps() -> Iterator[tuple[int, np.ndarray, float]]:
    """Gradients of very different lengths, each with a learning rate of its own, as a schedule would give."""
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        gradient = rng.normal(0, 10.0 ** rng.integers(-4, 2, COUNT)).astype(np.float32)
        yield step, gradient, float(rng.uniform(0.001, 0.02))


@pytest.mark.parametrize(("fields", "formula"), FORMULAS, ids=[str(fields) for fields, _ in FORMULAS])
def test_it_follows_its_formula_for_many_steps(fields: dict[str, Any], formula: Formula) -> None:
    """Step for step, in float64 from the paper, with a learning rate that changes."""
    optimizer = optimizer_for(TrainingSpec("m", "digits", 0, **fields), COUNT)
    parameters = np.random.default_rng(1).normal(0, 1, COUNT).astype(np.float32)
    expected, state = parameters.astype(np.float64), dict[str, Any]()
    for step, gradient, rate in steps():
        expected = formula(expected, gradient.astype(np.float64), rate, state)
        optimizer.update(parameters, gradient, rate)
        np.testing.assert_allclose(parameters, expected, rtol=2e-5, atol=2e-6, err_msg=f"step {step}")


def test_sgd_goes_against_the_gradient_by_the_learning_rate() -> None:
    """(1, −2) − 0.5 · (4, 6) = (−1, −5)."""
    parameters = np.array([1, -2], np.float32)
    Sgd(2).update(parameters, np.array([4, 6], np.float32), 0.5)
    assert parameters.tolist() == [-1, -5]


def test_momentum_by_hand() -> None:
    """Gradient 1 twice with momentum ½ and learning rate 1: 1, then 1½; looking ahead 1½, then 1¾."""
    for looks_ahead, places in ((False, [-1, -2.5]), (True, [-1.5, -3.25])):
        parameters, optimizer = np.zeros(1, np.float32), Sgd(1, momentum=0.5, nesterov=looks_ahead)
        for place in places:
            optimizer.update(parameters, np.ones(1, np.float32), 1.0)
            assert parameters.tolist() == [place]


def test_the_first_adam_step_is_the_learning_rate_against_the_sign() -> None:
    """At step 1 both corrected moments are the gradient's own, so each parameter moves by the learning rate."""
    parameters = np.zeros(4, np.float32)
    Adam(4).update(parameters, np.array([1e-3, -5, 200, -1e-4], np.float32), 0.01)
    np.testing.assert_allclose(parameters, [-0.01, 0.01, -0.01, 0.01], rtol=1e-3)


@pytest.mark.parametrize(("kind", "step"), [(Adam, 1e-8 / (1e-8 + 1e-8)), (RmsProp, 1e-8 / (0.1 * 1e-8 + 1e-8))])
def test_a_gradient_as_small_as_epsilon_is_held_back_by_it(kind: type[Adam | RmsProp], step: float) -> None:
    """The first step for a gradient of 1e-8: m̂ / (√v̂ + ε) is a half, g / (√(0.01·g²) + ε) is 1 / 1.1."""
    parameters = np.zeros(1, np.float32)
    kind(1).update(parameters, np.array([1e-8], np.float32), 1.0)
    np.testing.assert_allclose(parameters, [-step], rtol=1e-4)


@pytest.mark.parametrize("kind", [Adam, RmsProp])
def test_it_stands_still_where_there_is_no_gradient(kind: type[Adam | RmsProp]) -> None:
    """A gradient of 0 from the beginning moves nothing and divides nothing by 0."""
    parameters, optimizer = np.ones(2, np.float32), kind(2)
    for _ in range(3):
        optimizer.update(parameters, np.zeros(2, np.float32), 0.1)
    assert parameters.tolist() == [1, 1]


@pytest.mark.parametrize("fields", [fields for fields, _ in FORMULAS], ids=str)
def test_a_learning_rate_of_zero_moves_nothing(fields: dict[str, Any]) -> None:
    """As at the end of a cosine."""
    optimizer, parameters = optimizer_for(TrainingSpec("m", "digits", 0, **fields), COUNT), np.ones(COUNT, np.float32)
    for _, gradient, _ in steps():
        optimizer.update(parameters, gradient, 0.0)
    np.testing.assert_array_equal(parameters, 1)


@pytest.mark.parametrize(
    ("gradient", "longest", "expected"),
    [
        ([3, 4], 10, [3, 4]),
        ([3, 4], 5, [3, 4]),
        ([3, 4], 2.5, [1.5, 2]),
        ([-30, 40], 0.5, [-0.3, 0.4]),
        ([0, 0], 1, [0, 0]),
    ],
)
def test_a_long_gradient_is_shortened_and_keeps_its_direction(
    gradient: list[float], longest: float, expected: list[float]
) -> None:
    """A short one stays as it is."""
    vector = np.array(gradient, np.float32)
    clip_norm(vector, longest)
    np.testing.assert_allclose(vector, expected, rtol=1e-5)


def test_a_gradient_too_long_to_measure_is_not_made_to_look_small() -> None:
    """Where the length is no number, neither is what comes out: divergence is told, not hidden."""
    with np.errstate(all="ignore"):
        vector = np.array([np.nan, 1], np.float32)
        clip_norm(vector, 1.0)
    assert np.isnan(vector).any()
