"""Training schedules in Redis: each a serialized message, changed by compare-and-set, and found by the time it is due.

Several replicas of the service may change one at once: no change is lost, and none brings back what was removed.
"""

from collections.abc import Callable
from datetime import datetime

from shared.errors import CapacityError, NotFoundError
from shared.pb.weightcast.v1 import trainer_service_pb2
from shared.store.connection import StoreConnection
from shared.store.keys import ScheduleKeys
from trainer_service.schedules.schedule import Schedule
from trainer_service.schedules.schedule_codec import schedule_from_proto, schedule_to_proto

MAX_SCHEDULES = 1000
KEYS = (ScheduleKeys.SCHEDULES, ScheduleKeys.DUE)


class ScheduleStore:
    """Where schedules are kept. Every method raises StoreUnavailableError while Redis is away."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._create, self._change, self._remove = (
            connection.script("trainer_service.schedules", f"{name}_schedule.lua")
            for name in ("create", "change", "remove")
        )

    def create(self, schedule: Schedule) -> Schedule:
        """Stores a schedule if there is none of its name; the one that the name has then.

        Raises:
            CapacityError: TOO_MANY_SCHEDULES.
        """
        stored = self._create(KEYS, (schedule.name, encoded(schedule), due_ms(schedule), MAX_SCHEDULES))
        if not stored:
            raise CapacityError(
                f"{MAX_SCHEDULES} schedules are stored, and no more are kept: remove one first",
                reason="TOO_MANY_SCHEDULES",
            )
        return decoded(stored)

    def find(self, name: str) -> Schedule | None:
        """One schedule; None if there is no such."""
        stored = self._redis.command("HGET", ScheduleKeys.SCHEDULES, name)
        return None if stored is None else decoded(stored)

    def get(self, name: str) -> Schedule:
        """One schedule.

        Raises:
            NotFoundError: SCHEDULE_NOT_FOUND.
        """
        if (schedule := self.find(name)) is None:
            raise no_schedule(name)
        return schedule

    def by_name(self, offset: int, count: int) -> list[Schedule]:
        """Up to `count` schedules by name, after leaving out the first `offset`."""
        names = sorted(self._redis.command("HKEYS", ScheduleKeys.SCHEDULES))
        return self._all_of(names[offset : offset + count])

    def due(self, now: datetime) -> list[Schedule]:
        """Those whose time has come, the longest ago first."""
        names = self._redis.command("ZRANGEBYSCORE", ScheduleKeys.DUE, "-inf", milliseconds(now))
        return [schedule for schedule in self._all_of(names) if schedule.is_due(now)]

    def change(self, name: str, change: Callable[[Schedule], Schedule | None]) -> Schedule | None:
        """Changes a schedule; `change` is asked again where another change came first.

        Returns:
            The schedule as changed, None where `change` gave None.

        Raises:
            NotFoundError: SCHEDULE_NOT_FOUND.
        """
        while (stored := self._redis.command("HGET", ScheduleKeys.SCHEDULES, name)) is not None:
            changed = change(decoded(stored))
            if changed is None or self._change(KEYS, (name, stored, encoded(changed), due_ms(changed))):
                return changed
        raise no_schedule(name)

    def remove(self, name: str) -> None:
        """Removes a schedule.

        Raises:
            NotFoundError: SCHEDULE_NOT_FOUND.
        """
        if not self._remove(KEYS, (name,)):
            raise no_schedule(name)

    def _all_of(self, names: list[bytes]) -> list[Schedule]:
        """Those of these names that are there, in order."""
        found = self._redis.command("HMGET", ScheduleKeys.SCHEDULES, *names) if names else []
        return [decoded(stored) for stored in found if stored is not None]


def encoded(schedule: Schedule) -> bytes:
    """A schedule as it is stored."""
    return schedule_to_proto(schedule).SerializeToString()


def decoded(stored: bytes) -> Schedule:
    """A schedule from how it is stored."""
    return schedule_from_proto(trainer_service_pb2.TrainingSchedule.FromString(stored))


def due_ms(schedule: Schedule) -> int | str:
    """When a schedule is due as Redis sorts it; empty while it is paused."""
    return "" if schedule.next_time is None else milliseconds(schedule.next_time)


def milliseconds(moment: datetime) -> int:
    """A moment as Redis sorts it, rounded down: one that is due is among those found, and `is_due` is exact."""
    return int(moment.timestamp() * 1000)


def no_schedule(name: str) -> NotFoundError:
    """The answer for a name that no schedule has."""
    return NotFoundError(
        f"name: there is no training schedule {name[:80]!r}; see ListTrainingSchedules", reason="SCHEDULE_NOT_FOUND"
    )
