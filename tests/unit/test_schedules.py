"""Schedules: the learning rate at the first update, the last, and where the shape turns."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.recipe import Schedule, ScheduleKind
from shared.training_spec import TrainingSpec
from trainer_service.training.schedules import LearningRates

SPEC = TrainingSpec("m", "digits", 0, epochs=10, learning_rate=0.5)
STEPS = 10


def rates(schedule: Schedule, epochs: int = 10, steps: int = STEPS) -> list[float]:
    """The learning rate of every update."""
    found = LearningRates(replace(SPEC, schedule=schedule, epochs=epochs), steps)
    return [found.at(update) for update in range(epochs * steps)]


def test_a_constant_stays() -> None:
    """From the first update to the last."""
    assert set(rates(Schedule())) == {0.5}


def test_steps_fall_after_so_many_epochs() -> None:
    """Every four of ten epochs by a half: ½ for 40 updates, ¼ for 40, ⅛ for the rest."""
    found = rates(Schedule(ScheduleKind.STEP, step_epochs=4, step_factor=0.5))
    assert found == [0.5] * 40 + [0.25] * 40 + [0.125] * 20


def test_a_cosine_falls_from_the_whole_rate_towards_zero() -> None:
    """½·(1 + cos(π·share)) of it: all at the first update, half in the middle, nearly nothing at the last."""
    found = rates(Schedule(ScheduleKind.COSINE))
    assert found[0] == 0.5
    assert found[50] == pytest.approx(0.25)
    assert found[25] == pytest.approx(0.25 * (1 + math.sqrt(0.5)))
    assert found[99] == pytest.approx(0.25 * (1 + math.cos(0.99 * math.pi)))
    assert found == sorted(found, reverse=True)


def test_one_cycle_warms_up_and_then_falls() -> None:
    """From 1/25 to the whole rate over 30 of 100 updates, then to 1/250,000 of it at the last."""
    found = rates(Schedule(ScheduleKind.ONE_CYCLE, warmup_fraction=0.3))
    assert found[0] == pytest.approx(0.5 / 25)
    assert found[29] == pytest.approx(0.5)  # the thirtieth
    assert found[99] == pytest.approx(0.5 / 250_000)
    assert found[:30] == sorted(found[:30])
    assert found[29:] == sorted(found[29:], reverse=True)
    halfway_up = (0.5 / 25 + 0.5) / 2
    assert found[14] < halfway_up < found[15]
    assert found[64] == pytest.approx((0.5 + 0.5 / 250_000) / 2)  # halfway from update 29 to update 99


@pytest.mark.parametrize("kind", [ScheduleKind.CONSTANT, ScheduleKind.STEP, ScheduleKind.COSINE])
def test_a_single_update_has_the_whole_rate(kind: ScheduleKind) -> None:
    """One epoch of one minibatch."""
    assert rates(Schedule(kind), epochs=1, steps=1) == [0.5]


def test_a_cycle_of_a_single_update_has_a_rate() -> None:
    """There is nothing to warm up to; nothing is divided by 0 either."""
    (rate,) = rates(Schedule(ScheduleKind.ONE_CYCLE), epochs=1, steps=1)
    assert 0 < rate <= 0.5


@given(
    kind=st.sampled_from(ScheduleKind),
    epochs=st.integers(1, 40),
    steps=st.integers(1, 12),
    step_epochs=st.integers(1, 50),
    step_factor=st.floats(0.01, 1),
    warmup_fraction=st.floats(0.01, 0.99),
)
def test_every_rate_lies_between_zero_and_the_whole(  # noqa: PLR0917 - hypothesis names them
    kind: ScheduleKind, epochs: int, steps: int, step_epochs: int, step_factor: float, warmup_fraction: float
) -> None:
    """Whatever the numbers, no update is made with a rate that is negative, too large or no number."""
    schedule = Schedule(kind, step_epochs, step_factor, warmup_fraction)
    for rate in rates(schedule, epochs, steps):
        assert 0 <= rate <= 0.5 * (1 + 1e-12)
