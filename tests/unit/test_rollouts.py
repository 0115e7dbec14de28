"""Which requests a rollout takes: the share that was asked for, always the same for the same key, everywhere."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.versions.rollouts import ActiveRollout
from shared.rollout import Rollout, RolloutMode, place_of

MODEL = "tiny"
CANDIDATE: Any = SimpleNamespace()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 30_000


def rollout(percent: float, mode: RolloutMode = RolloutMode.CANARY) -> ActiveRollout:
    """A rollout of so many percent."""
    return ActiveRollout(Rollout(2, mode, percent, "1", "", "", NOW, NOW), CANDIDATE)


@pytest.mark.parametrize("percent", [0.01, 1, 10, 33.3, 50, 99.9, 100])
def test_requests_without_a_key_are_spread_evenly(percent: float) -> None:
    """The share is exact to a few, in any stretch of requests."""
    tried = rollout(percent)
    taken = [tried.takes(MODEL, None) for _ in range(MANY)]
    assert abs(sum(taken) - MANY * percent / 100) <= 5
    stretch = taken[5000:6000]
    assert abs(sum(stretch) - 10 * percent) <= 5


@pytest.mark.parametrize("percent", [1, 10, 50, 100])
def test_keys_are_spread_as_chance_would(percent: float) -> None:
    """Of many keys, the share is within a percent of all."""
    tried = rollout(percent)
    taken = sum(tried.takes(MODEL, f"user-{number}") for number in range(MANY))
    assert taken == pytest.approx(MANY * percent / 100, abs=MANY * 0.01)


@given(st.text(max_size=40), st.floats(0.001, 100), st.floats(0.001, 100))
def test_a_key_in_a_share_is_in_every_larger_one(key: str, one: float, other: float) -> None:
    """Who was tried once stays so as the share grows, whichever process he reaches."""
    smaller, larger = sorted((one, other))
    if rollout(smaller).takes(MODEL, key):
        assert rollout(larger).takes(MODEL, key)
        assert rollout(smaller).takes(MODEL, key)


def test_places_are_what_they_always_were() -> None:
    """Another process, another version of this product: the same key has the same place, another for another model."""
    assert place_of("mnist", "user-1") == 0.9869684779312062
    assert place_of("mnist", "user-1") != place_of("digits", "user-1")


def test_only_a_canary_answers() -> None:
    """A shadow computes beside the live version; both are counted under their own names."""
    assert rollout(1).answers
    assert not rollout(1, RolloutMode.SHADOW).answers
    assert rollout(1).label == (2, "canary")
    assert rollout(1, RolloutMode.SHADOW).label == (2, "shadow")
