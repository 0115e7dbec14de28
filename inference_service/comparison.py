"""Has the other version of a rollout compute what the first has answered, and counts how often they choose the same.

In a thread of its own, and only while there is room: no answer waits for a comparison, and no client ever sees one.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from typing import Protocol as Interface

import numpy as np
import structlog

from inference_service.classifier import Classes
from inference_service.questions import Request
from inference_service.rows import rows_of
from inference_service.versions.rollouts import ActiveRollout
from inference_service.versions.snapshot_loader import ServedVersion

MOST_WAITING, MOST_WAITING_BYTES = 256, 16 * 2**20
MOST_TOGETHER = 64
LIVE_ROLE, CANDIDATE_ROLE = "live", "candidate"
log = structlog.get_logger()


class RolloutRecord(Interface):
    """Where it is counted: `inference_service.metrics.statistics.Statistics`."""

    def rollout_computed(  # noqa: PLR0917 - as many labels and figures as there are
        self, model: str, version: int, mode: str, role: str, requests: int, rows: int, seconds: float
    ) -> None:
        """Counts what one version of a rollout computed together."""

    def rollout_compared(self, model: str, version: int, mode: str, rows: int, agreed: int) -> None:
        """Counts rows that both have classified, and those for which both chose the same."""

    def rollout_dropped(self, model: str, version: int, mode: str, requests: int) -> None:
        """Counts requests that were not compared."""


class Waiting(NamedTuple):
    """A request that was answered, by which classes, and by which version it shall be computed too."""

    request: Request
    rollout: ActiveRollout
    other: ServedVersion
    chosen: Classes


class Comparisons:
    """Compares; `offer` may be called from any thread and does not wait."""

    def __init__(self, record: RolloutRecord) -> None:
        self._record = record
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def offer(self, request: Request, chosen: Classes) -> None:
        """Takes a request up that the rollout's share holds; `chosen` are the classes (rows,) that were answered."""
        if request.rollout is None or request.other is None:
            return
        with self._changed:
            has_room = len(self._waiting) < MOST_WAITING and self._bytes + size_of(request) <= MOST_WAITING_BYTES
            if has_room:
                self._waiting.append(Waiting(request, request.rollout, request.other, chosen))
                self._bytes += size_of(request)
                if self._thread is None:  # most services never have a rollout
                    thread = threading.Thread(target=self._run, name="comparisons", daemon=True)
                    thread.start()
                    self._thread = thread
                self._changed.notify()
        if not has_room:
            self.drop(request, request.rollout)

    def drop(self, request: Request, rollout: ActiveRollout, requests: int = 1) -> None:
        """Counts a request of the share that is not compared."""
        self._record.rollout_dropped(request.served.model, *rollout.label, requests)

    def count(self, rollout: ActiveRollout, served: ServedVersion, requests: int, rows: int, seconds: float) -> None:
        """Counts what one of the two versions has computed."""
        role = CANDIDATE_ROLE if served is rollout.candidate else LIVE_ROLE
        self._record.rollout_computed(served.model, *rollout.label, role, requests, rows, seconds)

    def _run(self) -> None:
        while True:
            self._compare(self._next())

    def _next(self) -> list[Waiting]:
        """Requests that one product serves: those that came one after the other for one rollout and one form."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            together = [self._waiting.popleft()]
            first = together[0]
            while self._waiting and len(together) < MOST_TOGETHER and are_alike(first, self._waiting[0]):
                together.append(self._waiting.popleft())
            self._bytes -= sum(size_of(waiting.request) for waiting in together)
        return together

    def _compare(self, together: Sequence[Waiting]) -> None:
        rollout, other = together[0].rollout, together[0].other
        try:
            rows = rows_of([waiting.request for waiting in together], other.manifest.preprocessing)
            started = time.perf_counter()
            best = other.classifier.probabilities(rows).argmax(axis=1)
            self.count(rollout, other, len(together), len(rows), time.perf_counter() - started)
            agreed = int(np.count_nonzero(best == np.concatenate([waiting.chosen for waiting in together])))
            self._record.rollout_compared(other.model, *rollout.label, len(rows), agreed)
        except Exception as error:  # noqa: BLE001 - such as values that the other version does not take
            if len(together) > 1:
                for waiting in together:
                    self._compare([waiting])
            else:
                self.drop(together[0].request, rollout)
                log.debug(
                    "a request could not be compared", model=other.model, version=other.ref.version, why=str(error)
                )


def size_of(request: Request) -> int:
    """The bytes of its numbers or of its image files."""
    contents = request.contents
    return sum(map(len, contents)) if isinstance(contents, tuple) else len(contents)


def are_alike(first: Waiting, other: Waiting) -> bool:
    """Whether two requests can be computed by one product."""
    forms = (first.request.reading.question.form, other.request.reading.question.form)
    if forms[0] is None or forms[1] is None:
        return False
    return first.rollout is other.rollout and first.other is other.other and forms[0].data_type == forms[1].data_type
