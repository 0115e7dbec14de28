"""Optimizers, against their formulas written plainly."""

import numpy as np
import pytest

from shared.training_spec import Optimizer, TrainingSpec
from trainer_service.training.optimizers import Adam, Sgd, optimizer_for


def test_sgd_goes_against_the_gradient_by_the_learning_rate() -> None:
    """(1, −2) − 0.5 · (4, 6) = (−1, −5)."""
    parameters = np.array([1, -2], np.float32)
    Sgd(0.5).update(parameters, np.array([4, 6], np.float32))
    assert parameters.tolist() == [-1, -5]


def test_the_first_adam_step_is_the_learning_rate_against_the_sign() -> None:
    """At step 1 both corrected moments are the gradient's own, so each parameter moves by the learning rate."""
    parameters = np.zeros(4, np.float32)
    Adam(0.01, 4).update(parameters, np.array([1e-3, -5, 200, -1e-4], np.float32))
    np.testing.assert_allclose(parameters, [-0.01, 0.01, -0.01, 0.01], rtol=1e-3)


def test_adam_follows_the_papers_algorithm_for_many_steps() -> None:
    """Kingma and Ba (2015), algorithm 1, line by line in float64."""
    rng = np.random.default_rng(0)
    parameters = rng.normal(0, 1, 6).astype(np.float32)
    expected = parameters.astype(np.float64)
    first_moment = second_moment = np.zeros(6)
    adam = Adam(0.002, 6)
    for step in range(1, 31):
        gradient = rng.normal(0, 10.0 ** rng.integers(-4, 3, 6)).astype(np.float32)
        plain = gradient.astype(np.float64)
        first_moment = 0.9 * first_moment + (1 - 0.9) * plain
        second_moment = 0.999 * second_moment + (1 - 0.999) * plain**2
        first_corrected = first_moment / (1 - 0.9**step)
        second_corrected = second_moment / (1 - 0.999**step)
        expected = expected - 0.002 * first_corrected / (np.sqrt(second_corrected) + 1e-8)
        adam.update(parameters, gradient)
        np.testing.assert_allclose(parameters, expected, rtol=1e-5, atol=1e-6, err_msg=f"step {step}")


def test_adam_stands_still_where_there_is_no_gradient() -> None:
    """A gradient of 0 from the beginning moves nothing and divides nothing by 0."""
    parameters = np.ones(2, np.float32)
    adam = Adam(0.1, 2)
    for _ in range(3):
        adam.update(parameters, np.zeros(2, np.float32))
    assert parameters.tolist() == [1, 1]


@pytest.mark.parametrize(("name", "kind"), [(Optimizer.SGD, Sgd), (Optimizer.ADAM, Adam)])
def test_a_spec_gets_the_optimizer_it_names(name: Optimizer, kind: type) -> None:
    """And no other."""
    assert type(optimizer_for(TrainingSpec("m", "digits", 0, optimizer=name), 3)) is kind
