"""How long, as people type it and as it is shown to them."""

from datetime import timedelta

import pytest

from client.cli.durations import DurationError, duration_of, duration_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("6h", 21_600), ("1d", 86_400), ("45s", 45), ("1d2h3m4s", 93_784), (" 1H30M ", 5400), ("0h", 0)],
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    """Numbers with units, also several of them."""
    assert duration_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "6", "h", "6 h", "-6h", "1.5h", "6w", "6h6h", "6hours", "٣h", "9999999999d"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    """What came is in the message."""
    with pytest.raises(DurationError, match=r"too long|90m, 6h or 1d") as caught:
        duration_of(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["1h30m", "6h", "1d", "1d2h3m4s", "0s"])
def test_a_duration_is_shown_as_it_is_read(text: str) -> None:
    """In the largest units, without those that are 0."""
    assert duration_text(duration_of(text)) == text


def test_equal_durations_are_shown_alike() -> None:
    """However they were typed; fractions of a second are nothing."""
    assert duration_text(duration_of("90m")) == "1h30m"
    assert duration_text(timedelta(seconds=60.9)) == "1m"
