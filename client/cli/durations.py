"""How long, as people type and read it: 90m, 6h, 1d; seconds and their sums too, 1h30m."""

import re
from datetime import timedelta

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
PART = re.compile(r"([0-9]+)([a-z]+)")
WHOLE = re.compile(r"([0-9]+[a-z]+)+")
MOST_DIGITS = 9  # what has more is no duration that anything lasts


class DurationError(Exception):
    """A text that is no duration; says what is expected."""


def duration_of(text: str) -> timedelta:
    """A duration from its text.

    Raises:
        DurationError: if it is none.
    """
    spelled = text.strip().lower()
    parts = PART.findall(spelled) if WHOLE.fullmatch(spelled) else []
    units = [unit for _, unit in parts]
    if not parts or len(set(units)) < len(units) or any(unit not in UNITS for unit in units):
        raise DurationError(f"got {text!r}, expected a number and its unit, such as 90m, 6h or 1d; units: d, h, m, s")
    if any(len(number) > MOST_DIGITS for number, _ in parts):
        raise DurationError(f"got {text!r}, which is too long")
    return timedelta(seconds=sum(int(number) * UNITS[unit] for number, unit in parts))


def duration_text(duration: timedelta) -> str:
    """A duration as `duration_of` reads it; fractions of a second are left out."""
    left, parts = int(duration.total_seconds()), []
    for unit, seconds in UNITS.items():
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
