"""When everything that has come is taken in: after a stretch of work without a rest, soon again where too many wait."""

import pytest

from inference_service.pace import (
    GROWTH,
    LONGEST_STRETCH_SECONDS,
    LONGEST_TAKING_SECONDS,
    LOOKS,
    PRESSED_TAKING_SECONDS,
    RESTING,
    SHORTEST_STRETCH_SECONDS,
    Pace,
)


def test_a_stretch_of_work_ends_with_taking_in_and_that_with_work() -> None:
    """Each time for as long as it may last."""
    pace = Pace()
    assert not pace.on_time(100.0)  # the first one after a rest
    assert (pace.is_taking, pace.until) == (False, 100.0 + SHORTEST_STRETCH_SECONDS)
    assert not pace.on_time(101.0)
    assert (pace.is_taking, pace.until) == (True, 101.0 + LONGEST_TAKING_SECONDS)
    pace.on_taken(102.0)
    assert (pace.is_taking, pace.until) == (False, 102.0 + GROWTH * SHORTEST_STRETCH_SECONDS)


def test_where_too_many_were_found_everything_is_taken_in_before_each_product() -> None:
    """For a short time, until there is room; too many are those turned away, and those of whom there is no end."""
    pace = Pace()
    pace.on_time(100.0)
    pace.on_time(101.0)
    pace.on_too_many()
    for second in (102.0, 103.0):
        pace.on_taken(second)
        assert (pace.is_taking, pace.until) == (False, second)
        assert not pace.on_time(second + 0.1)
        assert (pace.is_taking, pace.until) == (True, second + 0.1 + PRESSED_TAKING_SECONDS)
        assert pace.on_time(second + 0.2)
    pace.rest()
    pace.on_time(104.0)
    assert (pace.is_taking, pace.until) == (False, 104.0 + SHORTEST_STRETCH_SECONDS)


def test_stretches_grow_while_nobody_is_turned_away() -> None:
    """Up to a limit; after one who was they are short again."""
    pace, stretches = Pace(), []
    for turned_away in (*[False] * 20, True, False, False):
        if turned_away:
            pace.on_too_many()
        pace.on_taken(0.0)
        stretches.append(pace.until / SHORTEST_STRETCH_SECONDS)
    most = LONGEST_STRETCH_SECONDS / SHORTEST_STRETCH_SECONDS
    assert stretches[:12] == pytest.approx([GROWTH**step for step in range(1, 13)])
    assert stretches[13:] == pytest.approx([most] * 7 + [0, 1, GROWTH])


def test_nothing_more_is_there_after_so_many_looks_in_vain() -> None:
    """Counted anew each time."""
    pace = Pace()
    for _ in range(2):
        pace.on_time(1.0)
        pace.on_time(2.0)
        assert [pace.on_nothing_more() for _ in range(LOOKS)] == [False] * (LOOKS - 1) + [True]
        pace.rest()
        assert (pace.is_taking, pace.until) == (False, RESTING)
