"""When a schedule is due, and what becomes of it then: by the clock alone, without a store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_service.schedules.schedule import Schedule, reconciled
from trainer_service.schedules.timing import Timing

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)  # a Friday
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
HOURLY = Timing(cron="0 * * * *")


def violations(timing: Timing) -> list[str]:
    """What is wrong with a timing."""
    return [f"{violation.field}: {violation.description}" for violation in timing.violations(NOW)]


def at(month: int, day: int, hour: int = 0, minute: int = 0, year: int = 2026) -> datetime:
    """A whole minute in UTC."""
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("* * * * *", at(1, 2, 3, 5)),
        ("0 3 * * *", at(1, 3, 3)),
        ("30 4 * * *", at(1, 2, 4, 30)),
        ("*/15 * * * *", at(1, 2, 3, 15)),
        ("0 9-17/4 * * mon-fri", at(1, 2, 9)),
        ("0 0 * * sun", at(1, 4)),
        ("0 0 * * 7", at(1, 4)),
        ("0 0 1 * *", at(2, 1)),
        ("0 0 31 * *", at(1, 31)),
        ("59 23 31 12 *", at(12, 31, 23, 59)),
        ("0 0 13 * fri", at(1, 9)),  # either, as in every cron
        ("0 0 29 2 *", at(2, 29, year=2028)),
        ("  0\t3 * * *  ", at(1, 3, 3)),
    ],
)
def test_the_next_time_of_a_cron_line(cron: str, expected: datetime) -> None:
    """The first minute after now that the line names, in UTC."""
    assert violations(Timing(cron=cron)) == []
    found = Timing(cron=cron).next_time(NOW)
    assert found == expected
    assert found.utcoffset() == timedelta()


def test_a_cron_line_is_never_due_twice_at_one_time() -> None:
    """The time after a time that it names is the next one, not the same."""
    assert HOURLY.next_time(at(1, 2, 4)) == at(1, 2, 5)
    assert HOURLY.next_time(at(1, 2, 4) - timedelta(microseconds=1)) == at(1, 2, 4)


@pytest.mark.parametrize(
    "cron",
    [
        "61 * * * *", "* 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 8", "-1 * * * *", "*/0 * * * *",
        "1-2-3 * * * *", "a b c d e", "0 3 * * someday", "٣ * * * *", "0 0 * * mon#6", "9" * 90 + " * * * *",
    ],
)  # fmt: skip
def test_what_is_no_cron_line_is_refused(cron: str) -> None:
    """With what came, and what one looks like."""
    (violation,) = violations(Timing(cron=cron))
    assert violation == (
        f'schedule.cron: got "{cron}", which is no cron line; expected minute, hour, day of month, month and day of '
        'week, in UTC, such as "0 3 * * *" for every day at three'
    )


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("* * * *", "of 4 fields, expected 5"),
        ("0 0 3 * * *", "of 6 fields, expected 5"),
        ("0 3 * * * * 2030", "of 7 fields, expected 5"),
        ("@daily", "of 1 fields, expected 5"),
        (" ", "of 0 fields, expected 5"),
        ("0,1 " * 40, "of 160 characters, expected at most 100"),
        ("R 3 * * *", "at random"),
        ("0 r(0-5) * * *", "at random"),
        ("H 3 * * *", "at random"),
        ("0 0 30 2 *", "does not come within eight years"),
        ("0 0 31 4,6,9,11 *", "does not come within eight years"),
        ("0 0 29 2 mon#5", "does not come within eight years"),  # it comes in 2044
    ],
)
def test_what_is_a_cron_line_elsewhere_is_refused_with_the_reason(cron: str, why: str) -> None:
    """Seconds and years, names of whole lines, random times, and times that do not come."""
    (violation,) = violations(Timing(cron=cron))
    assert violation.startswith("schedule.cron: got ")
    assert why in violation
    assert len(violation) < 400


def test_the_29th_of_february_is_not_too_rare() -> None:
    """Even around 2100, which is no leap year."""
    assert list(Timing(cron="0 0 29 2 *").violations(at(3, 1, year=2096))) == []


def test_a_rare_time_comes_again() -> None:
    """What once was accepted always has a next time: a Monday that is the 29th of February, after 40 years."""
    assert Timing(cron="0 0 29 2 mon#5").next_time(at(3, 1, year=2072)) == at(2, 29, year=2112)


@pytest.mark.parametrize("every", [MINUTE, 366 * DAY, timedelta(seconds=90.5)])
def test_a_distance_of_a_minute_to_a_leap_year_is_taken(every: timedelta) -> None:
    """Both ends included; the next time is so long after."""
    assert violations(Timing(every)) == []
    assert Timing(every).next_time(NOW) == NOW + every


@pytest.mark.parametrize(
    ("every", "shown"),
    [
        (timedelta(seconds=59.999999), "59.999999"),
        (timedelta(), "0"),
        (-DAY, "-86400"),
        (366 * DAY + timedelta(microseconds=1), "31622400.000001"),
    ],
)
def test_another_distance_is_refused(every: timedelta, shown: str) -> None:
    """With what came, and the limits."""
    assert violations(Timing(every)) == [f"schedule.every: got {shown} s, expected 60 to 31622400 s, which is 366 days"]


@pytest.mark.parametrize("timing", [Timing(), Timing(DAY, "0 3 * * *")])
def test_neither_and_both_are_refused(timing: Timing) -> None:
    """A schedule has one timing."""
    assert violations(timing) == ["schedule.timing: required: exactly one of schedule.every and schedule.cron"]


@given(late=st.timedeltas(timedelta(), timedelta(seconds=59)))
def test_a_distance_does_not_grow_by_what_it_takes_to_notice_it(late: timedelta) -> None:
    """It is counted from the time that was due."""
    assert Timing(MINUTE).following(NOW, NOW + late) == NOW + MINUTE


@given(late=st.timedeltas(timedelta(), 30 * DAY), timing=st.sampled_from([Timing(MINUTE), Timing(DAY), HOURLY]))
def test_what_follows_lies_ahead_and_not_too_far(late: timedelta, timing: Timing) -> None:
    """However long nobody looked, the next time has not passed, and none is left out after that."""
    now = NOW + late
    following = timing.following(NOW, now)
    assert now < following <= timing.next_time(now)


READ = Schedule("nightly", b"spec", Timing(MINUTE), NOW - DAY, NOW, NOW - MINUTE, "before", skipped_count=4)
PASSED = READ.passed(NOW)
WITH_JOB = replace(PASSED, last_job_id="new")
SKIPPED = replace(PASSED, skipped_count=5)
FAILED = replace(PASSED, error_message="no such data set")
PAUSED = replace(READ, next_time=None)
OUTCOMES = [WITH_JOB, SKIPPED, FAILED]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_is_noted_once(outcome: Schedule) -> None:
    """As long as the schedule is as it was read; where another replica noted the same, or a later time, nothing is."""
    assert reconciled(READ, READ, outcome) == outcome
    assert reconciled(outcome, READ, outcome) is None
    assert reconciled(replace(outcome, next_time=None), READ, outcome) is None
    later = replace(outcome.passed(NOW + MINUTE), last_job_id="later")
    assert reconciled(later, READ, outcome) is None


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_does_not_undo_a_pause(outcome: Schedule) -> None:
    """What happened is noted, and the schedule stays paused, or goes on when the client said it should."""
    assert reconciled(PAUSED, READ, outcome) == replace(outcome, next_time=None)
    resumed = PAUSED.turned(NOW + timedelta(seconds=5), paused=False)
    assert reconciled(resumed, READ, outcome) == replace(outcome, next_time=NOW + timedelta(seconds=65))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_is_not_noted_on_another_schedule_of_the_name(outcome: Schedule) -> None:
    """One that was created after the first was removed, even if it is due at the same time."""
    assert reconciled(replace(READ, create_time=NOW), READ, outcome) is None


@pytest.mark.parametrize("noted", [SKIPPED, FAILED])
def test_a_job_is_noted_where_another_replica_saw_no_way_to_create_one(noted: Schedule) -> None:
    """Otherwise the next one would be stacked on it. That it was skipped, or failed, is no longer true."""
    assert reconciled(noted, READ, WITH_JOB) == WITH_JOB
    for other in (SKIPPED, FAILED):
        assert reconciled(WITH_JOB, READ, other) is None


def test_pausing_leaves_out_the_times_that_pass() -> None:
    """It goes on from the moment it is let, and to pause what is paused changes nothing."""
    paused = READ.turned(NOW, paused=True)
    assert (paused.paused, paused.next_time, paused.is_due(NOW + DAY)) == (True, None, False)
    assert paused.turned(NOW + DAY, paused=True) == paused
    assert paused.turned(NOW + DAY, paused=False).next_time == NOW + DAY + MINUTE
    assert READ.turned(NOW + DAY, paused=False) == READ


def test_a_schedule_is_due_from_its_time_on() -> None:
    """To the microsecond."""
    assert READ.is_due(NOW)
    assert not READ.is_due(NOW - timedelta(microseconds=1))


def test_a_time_that_passed_clears_the_error_of_the_one_before() -> None:
    """An error is that of the last time."""
    assert replace(READ, error_message="gone").passed(NOW).error_message == ""
