"""Losses: known values, and what smoothing makes of targets."""

import math

import numpy as np
import pytest

from shared.recipe import Loss
from trainer_service.training.losses import OutputLoss, cross_entropy_sum, fill_targets

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.5, 0.25, 0.25]], np.float32)
TARGETS = np.array([[1, 0, 0], [0, 0, 1]], np.float32)


def derive(loss: Loss, probabilities: np.ndarray, targets: np.ndarray, rows: int) -> float:
    """The loss; `probabilities` becomes its derivative. The buffers have room for more rows."""
    return OutputLoss(loss, 4, targets.shape[1]).compute(probabilities, targets, rows)


def test_cross_entropy_of_known_probabilities() -> None:
    """½ and ¼ for the right classes cost (ln 2 + ln 4) / 2 nats; the derivative is (p − t) / 2."""
    deltas = PROBABILITIES.copy()
    loss = derive(Loss.CROSS_ENTROPY, deltas, TARGETS, 2)
    assert loss == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-6)
    np.testing.assert_allclose(deltas, [[-0.25, 0.15, 0.1], [0.25, 0.125, -0.375]], rtol=1e-6)


def test_squared_error_of_known_probabilities() -> None:
    """Over six values: (0.25 + 0.09 + 0.04 + 0.25 + 0.0625 + 0.5625) / 6."""
    loss = derive(Loss.MEAN_SQUARED_ERROR, PROBABILITIES.copy(), TARGETS, 2)
    assert loss == pytest.approx(1.255 / 6, rel=1e-6)


@pytest.mark.parametrize("loss", list(Loss))
def test_the_parts_of_a_minibatch_add_up_to_the_whole(loss: Loss) -> None:
    """Each part's mean is over the rows of the whole, in loss and derivative alike."""
    whole, first, second = PROBABILITIES.copy(), PROBABILITIES[:1].copy(), PROBABILITIES[1:].copy()
    together = derive(loss, whole, TARGETS, 2)
    apart = derive(loss, first, TARGETS[:1], 2) + derive(loss, second, TARGETS[1:], 2)
    assert apart == pytest.approx(together, rel=1e-6)
    np.testing.assert_allclose(np.concatenate((first, second)), whole, rtol=1e-6)


@pytest.mark.parametrize("loss", list(Loss))
def test_moving_all_logits_alike_changes_no_loss(loss: Loss) -> None:
    """A softmax does not see it, so each row's derivatives sum to 0."""
    deltas = PROBABILITIES.copy()
    derive(loss, deltas, TARGETS, 2)
    np.testing.assert_allclose(deltas.sum(axis=1), 0, atol=1e-7)


def test_a_probability_of_zero_costs_much_but_not_infinity() -> None:
    """A right class that was given no chance costs −ln of the smallest normal float32, about 87.3 nats."""
    loss = cross_entropy_sum(np.array([[1, 0]], np.float32), np.array([1]))
    assert loss == pytest.approx(87.3365, abs=1e-3)


@pytest.mark.parametrize("loss", list(Loss))
def test_a_probability_that_is_no_number_is_not_hidden(loss: Loss) -> None:
    """The loss is none either, which is how divergence is found."""
    assert math.isnan(derive(loss, np.array([[math.nan, math.nan]], np.float32), TARGETS[:1, :2].copy(), 1))


def test_the_loss_of_answers_is_that_of_training_without_smoothing() -> None:
    """Ln 2 + ln 4, summed over rows."""
    assert cross_entropy_sum(PROBABILITIES, np.array([0, 2])) == pytest.approx(3 * math.log(2), rel=1e-6)


def test_targets_mark_each_rows_class() -> None:
    """1 where the class is, 0 elsewhere, whatever the buffer held."""
    targets = np.full((3, 3), 7, np.float32)
    fill_targets(targets, np.array([2, 0, 2]), 0.0)
    assert targets.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]


def test_smoothing_spreads_a_share_of_the_target_evenly() -> None:
    """A fifth of 1 over four classes: 0.85 for the right one, 0.05 for the others."""
    targets = np.empty((1, 4), np.float32)
    fill_targets(targets, np.array([1]), 0.2)
    np.testing.assert_allclose(targets, [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)
