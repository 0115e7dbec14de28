"""Sees to it that no job is forgotten: what a worker died over goes to another one, what the queue lost goes into it.

Whether a run is alive is judged by its heartbeat as this process saw it, by its own clock: clocks that differ, and a
store that was away, kill nobody. Any number of keepers may run; each change is a compare-and-set.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from shared.errors import NotFoundError, StoreUnavailableError, WrongStateError
from trainer_service.jobs.job import JobState
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_store import Head, JobStore
from trainer_service.jobs.lifecycle import JobLifecycle

DEAD_SECONDS = 8.0  # without a heartbeat, of which there are more than two a second
LOST_SECONDS = 4.0  # neither in the queue nor begun: taken by a worker that died before it could begin
REMOVED_AT_ONCE = 500
log = structlog.get_logger()


@dataclass(frozen=True)
class Sighting:
    """A head as it was first seen, in the queue or not, and when, in seconds of the monotonic clock."""

    head: Head
    is_waiting: bool
    since: float

    def is_same(self, other: "Sighting") -> bool:
        """Whether nothing has happened in between."""
        return (self.head, self.is_waiting) == (other.head, other.is_waiting)


class JobKeeper:
    """Looks after the jobs whose turn it is, each time `sweep` is called."""

    def __init__(self, jobs: JobStore, queue: JobQueue, lifecycle: JobLifecycle) -> None:
        self._jobs, self._queue, self._lifecycle = jobs, queue, lifecycle
        self._seen: dict[str, Sighting] = {}

    def sweep(self) -> None:
        """Takes back what nobody runs any more, and queues what is in no queue.

        Raises:
            StoreUnavailableError: if Redis is away; then everybody has as much time again from when it is back.
        """
        try:
            heads = self._jobs.heads()
            waiting = self._queue.waiting()
        except StoreUnavailableError:
            self._seen.clear()
            raise
        now = time.monotonic()
        before, self._seen = self._seen, {}
        for head in heads:
            sighting, last = Sighting(head, head.turn in waiting, now), before.get(head.turn.job_id)
            self._seen[head.turn.job_id] = last if last is not None and last.is_same(sighting) else sighting
        for sighting in self._seen.values():
            try:
                self._look_after(sighting, now - sighting.since)
            except StoreUnavailableError:
                raise
            except Exception:  # one that cannot be helped must not keep the others from being helped
                log.exception("a job could not be looked after", job_id=sighting.head.turn.job_id)

    def _look_after(self, sighting: Sighting, silent: float) -> None:
        head = sighting.head
        if head.state is JobState.RUNNING and silent >= DEAD_SECONDS:
            if head.is_cancelled:
                self._lifecycle.cancel_idle(head.turn, JobState.RUNNING)
            else:
                self._lifecycle.take_back(head.turn, f"its worker gave no sign of life for {DEAD_SECONDS:g} s")
        elif head.state is JobState.QUEUED and head.is_cancelled:
            self._lifecycle.cancel_idle(head.turn, JobState.QUEUED)
        elif head.state is JobState.QUEUED and not sighting.is_waiting and silent >= LOST_SECONDS:
            self._queue_again(head)

    def _queue_again(self, head: Head) -> None:
        if turn := self._jobs.pass_turn(head.turn):
            log.warning("queued a job again that was in no queue", job_id=turn.job_id, turn=turn.number)
            self._queue.put(turn, at_front=True)


class JobRetention:
    """Removes jobs that ended long ago, each time `sweep` is called."""

    def __init__(self, jobs: JobStore, lifecycle: JobLifecycle, *, days: float, count: int) -> None:
        self._jobs, self._lifecycle = jobs, lifecycle
        self._age, self._count = timedelta(days=days), count

    def sweep(self) -> None:
        """Removes ended jobs that are too old, or too many; a bounded number at once.

        Raises:
            StoreUnavailableError: if Redis is away.
        """
        old = self._jobs.ended_before(datetime.now(UTC) - self._age, REMOVED_AT_ONCE)
        superfluous = self._jobs.ended_beyond(self._count, REMOVED_AT_ONCE)
        removed = 0
        for job_id in dict.fromkeys((*old, *superfluous)):
            try:
                self._lifecycle.remove(job_id)
            except (NotFoundError, WrongStateError):
                continue  # somebody else has removed it
            removed += 1
        if removed:
            log.info("removed old jobs", count=removed)
