"""When a schedule is due: every so often, or at the times of a cron line, in UTC.

What `violations` finds nothing wrong with has a next time after every moment, and the same one whoever asks.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from croniter import croniter  # it ships no types

from shared.errors import FieldViolation

SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=366)
CRON_FIELDS = 5
MAX_CRON = 100
LONGEST_WAIT = timedelta(days=8 * 366)  # around 2100 that is how long the 29th of February takes to come again
CHANGING = ("h", "r")  # fields that croniter would draw from a hash or at random: "R * * * *"
EXPECTED_CRON = (
    'expected minute, hour, day of month, month and day of week, in UTC, such as "0 3 * * *" for every day at three'
)


@dataclass(frozen=True)
class Timing:
    """Exactly one of them: a distance between two times, or a cron line."""

    every: timedelta | None = None
    cron: str = ""

    def violations(self, now: datetime) -> Iterator[FieldViolation]:
        """What is wrong with it, if anything; a cron line has to have a time within eight years from `now`."""
        if (self.every is None) == (not self.cron):
            yield FieldViolation("schedule.timing", "required: exactly one of schedule.every and schedule.cron")
        elif self.every is None:
            if wrong := self._wrong_cron(now):
                shown = self.cron if len(self.cron) <= MAX_CRON else f"{self.cron[:MAX_CRON]} …"
                yield FieldViolation("schedule.cron", f'got "{shown}", {wrong}{EXPECTED_CRON}')
        elif not SHORTEST <= self.every <= LONGEST:
            yield FieldViolation(
                "schedule.every",
                f"got {self.every.total_seconds():.15g} s, expected {SHORTEST.total_seconds():.0f} to "
                f"{LONGEST.total_seconds():.0f} s, which is {LONGEST.days} days",
            )

    def next_time(self, after: datetime) -> datetime:
        """The first time after a moment, which for a distance is so long after it; ValueError if there is none.

        There is one after any moment if there was one once: croniter looks 50 years ahead, and the calendar's rarest
        day, a 29th of February on some day of the week, comes again after 40 at the latest.
        """
        if self.every is not None:
            return after + self.every
        found: datetime = croniter(self.cron, after).get_next(datetime)
        return found

    def following(self, due: datetime, now: datetime) -> datetime:
        """The time that follows the one that was due; where that has passed too, the first one counted from `now`.

        Counted from the time that was due, a distance does not grow by what it takes to notice it.
        """
        following = self.next_time(due)
        return following if following > now else self.next_time(now)

    def _wrong_cron(self, now: datetime) -> str:
        """What is wrong with the cron line beyond its not being as expected; nothing is wrong where this is empty."""
        fields = self.cron.lower().split()
        if len(self.cron) > MAX_CRON:
            return f"of {len(self.cron)} characters, expected at most {MAX_CRON}; "
        if len(fields) != CRON_FIELDS:
            return f"of {len(fields)} fields, expected {CRON_FIELDS}; "
        if any(field.startswith(CHANGING) for field in fields):
            return "whose times would be drawn at random; "
        try:
            croniter(self.cron, now)
        except ValueError:
            return "which is no cron line; "
        with suppress(ValueError):
            if self.next_time(now) - now <= LONGEST_WAIT:
                return ""
        return "which does not come within eight years; "
