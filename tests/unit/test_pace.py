"""When everything that has come is taken in: after a stretch of work without a rest, soon again where too many wait."""

import pytest

from inference_service.pace import (
    GROWTH,
    LONGEST_STRETCH_SECONDS,
    LONGEST_TAKING_SECONDS,
    LOOKS,
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
    assert pace.on_time(102.0)
    pace.on_taken(103.0)  # it lasted so long that there may be more: soon again
    assert (pace.is_taking, pace.until) == (False, 103.0 + SHORTEST_STRETCH_SECONDS)


def test_stretches_grow_while_nobody_is_turned_away() -> None:
    """Up to a limit; one who was makes the next one short again, and that after it a little longer."""
    pace, stretches = Pace(), []
    for turned_away in (*[False] * 20, True, False):
        if turned_away:
            pace.on_too_many()
        pace.on_taken(0.0)
        stretches.append(pace.until / SHORTEST_STRETCH_SECONDS)
    most = LONGEST_STRETCH_SECONDS / SHORTEST_STRETCH_SECONDS
    assert stretches[:12] == pytest.approx([GROWTH**step for step in range(1, 13)])
    assert stretches[13:] == pytest.approx([most] * 7 + [1, GROWTH])


def test_nothing_more_is_there_after_so_many_looks_in_vain() -> None:
    """Counted anew each time."""
    pace = Pace()
    for _ in range(2):
        pace.on_time(1.0)
        pace.on_time(2.0)
        assert [pace.on_nothing_more() for _ in range(LOOKS)] == [False] * (LOOKS - 1) + [True]
        pace.rest()
        assert (pace.is_taking, pace.until) == (False, RESTING)
