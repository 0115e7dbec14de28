"""What is counted of requests, models and rollouts, by this process and by those beside it, ended ones included.

Safe to use from many threads, and cheap: requests that are answered together are counted together.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime
from time import time_ns

from inference_service.metrics.counted import (
    CODES,
    DURATIONS,
    LOAD,
    LOAD_FAILURES,
    LONG_DURATIONS,
    MODEL_FAILURES,
    MODEL_SWAPS,
    MODELS,
    OK,
    PRODUCT_ROWS,
    PUBLISHED,
    REQUEST_ROWS,
    REQUESTS,
    ROLES,
    ROLLOUT_AGREED,
    ROLLOUT_COMPARED,
    ROLLOUT_DROPPED,
    ROLLOUTS,
    ROW_COUNTS,
    SERVED,
    STORE,
    UNKNOWN,
    VERSIONS,
    Counts,
    RolloutTotals,
    rollouts_in,
    versions_in,
)
from inference_service.metrics.counters import Cells, Counters, Series
from inference_service.metrics.totals import read

SECOND_NS, MILLISECOND_NS = 1e9, 10**6
SECOND_MS = 1000
FEW = 8  # values that are placed sooner one by one than in order


class MethodCounts:
    """What became of the requests of one method."""

    def __init__(self, counters: Counters, requests: Series, rows: Series, method: str) -> None:
        self._lock = counters.lock
        self._requests = requests
        self._all_rows = rows
        self._method = method
        self._answered = requests[method, CODES[OK]]
        self._rows: Cells | None = None  # which only methods have that classify

    def answered(self, seconds: Sequence[float], rows: Sequence[int]) -> None:
        """Counts requests that were answered together: how long each took, and its rows."""
        with self._lock:
            if self._rows is None:
                self._rows = self._all_rows[self._method,]
            if len(seconds) == 1:  # alone, it waits for this
                self._answered[0] += int(seconds[0] * SECOND_NS)
                self._answered[1 + bisect_left(DURATIONS, seconds[0])] += 1
                self._rows[0] += rows[0]
                self._rows[1 + bisect_left(ROW_COUNTS, rows[0])] += 1
                return
            self._answered[0] += int(sum(seconds) * SECOND_NS)
            place(self._answered, DURATIONS, seconds)
            self._rows[0] += sum(rows)
            place(self._rows, ROW_COUNTS, rows)

    def failed(self, code: int, seconds: float) -> None:
        """Counts a request that was not answered, by its gRPC code."""
        self.ended(code, seconds)

    def ended(self, code: int, seconds: float) -> None:
        """Counts a call of which nothing but its gRPC code and its duration is counted."""
        name = CODES[code if 0 <= code < len(CODES) else UNKNOWN]
        with self._lock:
            observe(self._requests[self._method, name], DURATIONS, seconds)


class Statistics:
    """What this process counts, and what it knows of the others' counts; alone, unless its `counters` are shared."""

    def __init__(self, counters: Counters | None = None) -> None:
        self._counters = counters = counters or Counters()
        self._lock = counters.lock
        self._methods: dict[str, MethodCounts] = {}
        self._cells_of: dict[tuple[str, int], tuple[Cells, Cells]] = {}  # a version's, and its model's
        self._requests, self._request_rows = counters.series(REQUESTS), counters.series(REQUEST_ROWS)
        self._versions, self._models = counters.series(VERSIONS), counters.series(MODELS)
        self._published, self._load_failures = counters.series(PUBLISHED), counters.series(LOAD_FAILURES)
        self._rollouts, self._served = counters.series(ROLLOUTS), counters.series(SERVED)
        self._store = counters.series(STORE)
        with self._lock:
            self._product_rows = counters.series(PRODUCT_ROWS)[()]
            self._load = counters.series(LOAD)[()]

    def method(self, method: str) -> MethodCounts:
        """Where the requests of a method are counted, by its full name: "/package.Service/Method"."""
        with self._lock:
            counts = self._methods.get(method)
            if counts is None:
                name = method.removeprefix("/")
                counts = MethodCounts(self._counters, self._requests, self._request_rows, name)
                self._methods[method] = counts
        return counts

    def record(
        self, model: str, version: int, requests: int, rows: int, *, seconds_compute: float, seconds_queue: float
    ) -> None:
        """Counts one product of so many requests; `seconds_queue` is how long they waited, all together."""
        compute_ns = int(seconds_compute * SECOND_NS)
        with self._lock:
            cells, of_model = self._cells_of.get((model, version)) or self._find_cells(model, version)
            cells[0] = time_ns() // MILLISECOND_NS
            cells[1] += requests
            cells[2] += rows
            cells[3] += 1
            cells[4] += int(seconds_queue * SECOND_NS)
            cells[5] += compute_ns * requests
            of_model[0] += requests
            of_model[1] += rows
            of_model[2] += compute_ns
            self._product_rows[0] += rows
            self._product_rows[1 + bisect_left(ROW_COUNTS, rows)] += 1

    def record_failure(self, model: str, version: int, seconds: float) -> None:
        """Counts one request that this version did not answer."""
        with self._lock:
            cells, of_model = self._cells_of.get((model, version)) or self._find_cells(model, version)
            cells[6] += 1
            cells[7] += int(seconds * SECOND_NS)
            of_model[MODEL_FAILURES] += 1

    def set_load(self, queued: int, in_flight: int, waiting_bytes: int) -> None:
        """Says how many requests wait, how many are in work, and how many bytes the waiting ones hold."""
        self._load[0] = queued
        self._load[1] = in_flight
        self._load[2] = waiting_bytes

    def swapped(self, model: str, version: int, publish_time: datetime, *, seconds: float | None) -> None:
        """Says by which version a model answers from now on; `seconds` since it was published, None if long ago."""
        with self._lock:
            cells = self._served[model,]
            cells[0], cells[1] = version, int(publish_time.timestamp() * SECOND_MS)
            self._models[model,][MODEL_SWAPS] += 1
            if seconds is not None:
                observe(self._published[model,], LONG_DURATIONS, seconds)

    def load_failed(self, model: str, reason: str) -> None:
        """Counts an attempt to load a version that failed."""
        with self._lock:
            self._load_failures[model, reason][0] += 1

    def store_contact(self, reachable: bool) -> None:  # noqa: FBT001 - nothing else is said
        """Says whether the store answers."""
        with self._lock:
            self._store[()][0] = reachable

    def rollout_computed(  # noqa: PLR0917 - whose names say what they are
        self, model: str, version: int, mode: str, role: str, requests: int, rows: int, seconds: float
    ) -> None:
        """Counts a product of one side of a rollout; `role` is "live" or "candidate", `version` the candidate's."""
        begin = ROLES[role]
        with self._lock:
            cells = self._rollout(model, version, mode)
            cells[begin] += requests
            cells[begin + 1] += rows
            cells[begin + 2] += int(seconds * SECOND_NS) * requests

    def rollout_compared(self, model: str, version: int, mode: str, rows: int, agreed: int) -> None:
        """Counts rows that both sides have classified, and those for which both chose the same class."""
        with self._lock:
            cells = self._rollout(model, version, mode)
            cells[ROLLOUT_COMPARED] += rows
            cells[ROLLOUT_AGREED] += agreed

    def rollout_dropped(self, model: str, version: int, mode: str, requests: int) -> None:
        """Counts requests that were not compared, because that would have kept others waiting."""
        with self._lock:
            self._rollout(model, version, mode)[ROLLOUT_DROPPED] += requests

    def rollout_totals(self, model: str, version: int, mode: str) -> RolloutTotals:
        """What came of a rollout, in all processes together."""
        return rollouts_in(read(self._counters)).get((model, version, mode), RolloutTotals())

    def totals(self) -> dict[tuple[str, int], Counts]:
        """What was asked of each version, in all processes together: by model and version, sorted."""
        return versions_in(read(self._counters))

    def _find_cells(self, model: str, version: int) -> tuple[Cells, Cells]:
        self._cells_of.clear()  # for cells that are made may be those of a version that is forgotten
        found = self._cells_of[model, version] = self._versions[model, version], self._models[model,]
        return found

    def _rollout(self, model: str, version: int, mode: str) -> Cells:
        cells = self._rollouts[model, version, mode]
        cells[0] = time_ns() // MILLISECOND_NS
        return cells


def observe(cells: Cells, ends: Sequence[float], seconds: float) -> None:
    """Counts one duration in a histogram."""
    cells[0] += int(seconds * SECOND_NS)
    cells[1 + bisect_left(ends, seconds)] += 1


def place(cells: Cells, ends: Sequence[float], values: Sequence[float]) -> None:
    """Counts values in a histogram's buckets; many by no more additions than there are buckets that they fall into."""
    if len(values) < FEW:
        for value in values:
            cells[1 + bisect_left(ends, value)] += 1
        return
    ordered = sorted(values)
    begin = 0
    while begin < len(ordered):
        bucket = bisect_left(ends, ordered[begin])
        end = bisect_right(ordered, ends[bucket], begin)
        cells[1 + bucket] += end - begin
        begin = end
