"""A training schedule as a value, and what becomes of it when it is due. It never stacks jobs.

Several replicas of the service may find it due at once, and a client may pause it meanwhile: `reconciled` says what
of an outcome is stored then.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from trainer_service.schedules.timing import Timing


@dataclass(frozen=True)
class Schedule:
    """What to train again and again. `spec` is what a client asked for, serialized as it was given.

    `next_time` is None exactly while it is paused. Field meanings are those of `weightcast.v1.TrainingSchedule`.
    """

    name: str
    spec: bytes
    timing: Timing
    create_time: datetime
    next_time: datetime | None
    last_time: datetime | None = None
    last_job_id: str = ""
    skipped_count: int = 0
    error_message: str = ""

    @property
    def paused(self) -> bool:
        """Whether it creates no jobs for now."""
        return self.next_time is None

    def asks_the_same_as(self, other: "Schedule") -> bool:
        """Whether both train the same at the same times, paused or not."""
        return (self.name, self.spec, self.timing) == (other.name, other.spec, other.timing)

    def is_due(self, now: datetime) -> bool:
        """Whether its time has come."""
        return self.next_time is not None and self.next_time <= now

    def turned(self, now: datetime, *, paused: bool) -> "Schedule":
        """The same paused, or going on; then its next time is counted from `now`."""
        if paused == self.paused:
            return self
        return replace(self, next_time=None if paused else self.timing.next_time(now))

    def passed(self, now: datetime) -> "Schedule":
        """The same after its time has come; all those that passed unnoticed meanwhile are one."""
        if self.next_time is None:
            return self
        following = self.timing.following(self.next_time, now)
        return replace(self, last_time=self.next_time, next_time=following, error_message="")


def reconciled(stored: Schedule, read: Schedule, outcome: Schedule) -> Schedule | None:
    """What to store of an outcome, given what is stored by now; None if nothing.

    Args:
        stored: the schedule as it stands.
        read: the schedule as it was when it was found due.
        outcome: what became of that: `read` after its time has passed, with a job, without, or with an error.
    """
    if stored.create_time != read.create_time:
        return None  # it was removed, and another one has its name
    if stored.next_time == read.next_time:
        return outcome
    # Another replica noted an outcome of this time, or a client paused the schedule or let it go on.
    if stored.last_time is not None and stored.last_time != read.last_time:
        created_one = outcome.last_job_id not in (read.last_job_id, stored.last_job_id)
        if stored.last_time != outcome.last_time or not created_one:
            return None
        # The other one saw the job before this one still running, or could not create one; this one could.
    return replace(outcome, next_time=stored.next_time)
