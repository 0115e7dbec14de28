"""When a thread that answers takes in everything that has come, so that it knows how many wait.

While it answers what has come so far, more may come than it sees. To look often costs: what was taken in long before
it is answered is no longer in the processor's cache. So it looks after a stretch of work without a rest, which grows
while nobody has to be turned away; where somebody had to, it looks as often as that takes no more than its share.
"""

# How long everything is taken in at most, while nothing is answered: the first time, and where too many were found.
LONGEST_TAKING_SECONDS, PRESSED_TAKING_SECONDS = 20e-3, 2e-3
# So many times as long is answered then. Where to refuse is cheap beside to answer, everybody is refused who has to be;
# where it is not, most wait in the sockets, and their clients hold back.
PRESSED_SHARE = 4
# How often one looks in vain before nothing more is there: a look reads from one connection, of which a whole message
# need not have come.
LOOKS = 16
# Slowly longer: where the service is offered too much, too many are not found each time.
SHORTEST_STRETCH_SECONDS, LONGEST_STRETCH_SECONDS, GROWTH = 10e-3, 160e-3, 1.25
RESTING = 0.0


class Pace:
    """Whether to answer or to take in; `until` is when that changes, of time.perf_counter, if it does not before."""

    __slots__ = ("_found_too_many", "_is_pressed", "_looks", "_stretch", "_taking_since", "is_taking", "until")

    def __init__(self) -> None:
        self.is_taking = False
        self.until = RESTING
        self._stretch = SHORTEST_STRETCH_SECONDS
        self._is_pressed = False
        self._taking_since = 0.0
        self._looks = 0
        self._found_too_many = False

    def rest(self) -> None:
        """Nothing is left to do: whatever comes is seen as it comes."""
        self.is_taking, self.until = False, RESTING

    def on_too_many(self) -> None:
        """Somebody had to be turned away."""
        self._found_too_many = True

    def on_nothing_more(self) -> bool:
        """One look in vain; whether that was enough of them."""
        self._looks += 1
        return self._looks >= LOOKS

    def on_time(self, now: float) -> bool:
        """`until` has come; whether it ends a time of taking in, after which there may well be more."""
        if self.is_taking:
            self._found_too_many = True
            return True
        if self.until == RESTING:
            self._is_pressed = False
            self.until = now + self._stretch
        else:
            longest = PRESSED_TAKING_SECONDS if self._is_pressed else LONGEST_TAKING_SECONDS
            self.is_taking, self.until, self._looks, self._taking_since = True, now + longest, 0, now
        return False

    def on_taken(self, now: float) -> None:
        """Everything that has come was taken in, or as much as there was time for: a stretch of answering begins."""
        self.is_taking, self._is_pressed = False, self._found_too_many
        if self._found_too_many:
            self._stretch = SHORTEST_STRETCH_SECONDS
            self.until = now + PRESSED_SHARE * (now - self._taking_since)
        else:
            self.until = now + self._stretch
            self._stretch = min(GROWTH * self._stretch, LONGEST_STRETCH_SECONDS)
        self._found_too_many = False
