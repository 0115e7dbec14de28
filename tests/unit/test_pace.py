"""When everything that has come is taken in: after a stretch of work without a rest, soon again where too many wait."""

import pytest

from inference_service.pace import (
    GROWTH,
    LONGEST_STRETCH_SECONDS,
    LONGEST_TAKING_SECONDS,
    LOOKS,
    PRESSED_SHARE,
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
    assert (pace.is_taking, pace.until) == (False, 102.0 + SHORTEST_STRETCH_SECONDS)


def test_where_too_many_were_found_the_time_to_take_in_is_short_and_a_share() -> None:
    """Until there is room; too many are those turned away, and those of whom there was no end."""
    pace = Pace()
    pace.on_time(100.0)
    pace.on_time(101.0)
    pace.on_too_many()
    pace.on_taken(101.5)
    for begin in (110.0, 120.0):
        assert not pace.is_taking
        assert not pace.on_time(begin)
        assert (pace.is_taking, pace.until) == (True, begin + PRESSED_TAKING_SECONDS)
        assert pace.on_time(begin + 1)
        pace.on_taken(begin + 1)
        assert pace.until == begin + 1 + PRESSED_SHARE
    pace.rest()
    pace.on_time(130.0)
    assert (pace.is_taking, pace.until) == (False, 130.0 + SHORTEST_STRETCH_SECONDS)
    pace.on_time(131.0)
    assert pace.until == 131.0 + LONGEST_TAKING_SECONDS


def test_stretches_grow_while_nobody_is_turned_away() -> None:
    """Up to a limit; after one who was they are short again."""
    pace, stretches = Pace(), []
    for turned_away in (*[False] * 20, True, False, False):
        if turned_away:
            pace.on_too_many()
        pace.on_taken(0.0)
        stretches.append(pace.until / SHORTEST_STRETCH_SECONDS)
    most = LONGEST_STRETCH_SECONDS / SHORTEST_STRETCH_SECONDS
    assert stretches[:12] == pytest.approx([GROWTH**step for step in range(12)])
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
