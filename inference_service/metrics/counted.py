"""What is counted: the families of series, their labels, and what stands in which cell.

`statistics` writes it, `collector` reads it. Times are in nanoseconds unless their name says otherwise.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from inference_service.metrics.counters import Family, Kind
from inference_service.metrics.totals import Reading

# The upper ends of the histograms' buckets; the last is infinite. Round ones, so that it can be asked how many requests
# took 5 ms at most. Numbers of one type, which compare in half the time.
DURATIONS = (*(1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0), 1e99)
LONG_DURATIONS = (*(1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0), 1e99)
ROW_COUNTS = (*(2**power for power in range(17)), sys.maxsize)
# The name of each gRPC status code, by its number; not grpc's own, for who only adds up loads no grpc.
CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
OK, UNKNOWN = 0, 2

# A histogram's first cell is the sum of what was observed; one for each bucket follows.
REQUESTS = Family(Kind.SUM, "requests", 1 + len(DURATIONS))  # method, code
REQUEST_ROWS = Family(Kind.SUM, "request_rows", 1 + len(ROW_COUNTS))  # method
PRODUCT_ROWS = Family(Kind.SUM, "product_rows", 1 + len(ROW_COUNTS))
VERSIONS = Family(Kind.RECENT, "versions", 8)  # model, version: Counts
MODELS = Family(Kind.SUM, "models", 5)  # model: the next five
MODEL_REQUESTS, MODEL_ROWS, MODEL_PRODUCT_NS, MODEL_FAILURES, MODEL_SWAPS = range(5)
PUBLISHED = Family(Kind.SUM, "published", 1 + len(LONG_DURATIONS))  # model
LOAD_FAILURES = Family(Kind.SUM, "load_failures", 1)  # model, reason
ROLLOUTS = Family(
    Kind.RECENT, "rollouts", 10
)  # model, version, mode: when last, RoleTotals of each role, and three more
ROLES = {"live": 1, "candidate": 4}  # by the cell where their totals begin
ROLLOUT_COMPARED, ROLLOUT_AGREED, ROLLOUT_DROPPED = 7, 8, 9
LOAD = Family(Kind.GAUGE, "load", 3)  # the requests that wait, those in flight, and the bytes of those that wait
STORE = Family(Kind.GAUGE, "store", 1)  # whether it answers
SERVED = Family(Kind.GAUGE, "served", 2)  # model: the version, and when it was published, in milliseconds since 1970


class Counts(NamedTuple):
    """What was asked of one version.

    Attributes:
        last_ms: when a request was last answered, in milliseconds since 1970.
        requests: answered.
        rows: in those.
        executions: products; requests that arrived together share one.
        queue_ns: how long the answered requests waited, each one's time added.
        compute_ns: how long their products took, each counted for every request that was in it.
        failures: requests that were not answered.
        failure_ns: how long those took.
    """

    last_ms: int = 0
    requests: int = 0
    rows: int = 0
    executions: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    failures: int = 0
    failure_ns: int = 0


class RoleTotals(NamedTuple):
    """What one side of a rollout computed; a product's time is counted for every request that was in it."""

    requests: int = 0
    rows: int = 0
    compute_ns: int = 0


class RolloutTotals(NamedTuple):
    """What came of a rollout: what both sides computed, how often they agreed, and what was not compared."""

    live: RoleTotals = RoleTotals()
    candidate: RoleTotals = RoleTotals()
    compared_rows: int = 0
    agreed_rows: int = 0
    dropped_requests: int = 0


def versions_in(reading: Reading) -> dict[tuple[str, int], Counts]:
    """What was asked of each version: by model and version, sorted."""
    found = {(str(model), int(version)): Counts(*cells) for (model, version), cells in reading.sums(VERSIONS).items()}
    return dict(sorted(found.items()))


def rollouts_in(reading: Reading) -> dict[tuple[str, int, str], RolloutTotals]:
    """What came of each rollout: by model, version and mode, sorted."""
    found = {
        (str(model), int(version), str(mode)): rollout_of(cells)
        for (model, version, mode), cells in reading.sums(ROLLOUTS).items()
    }
    return dict(sorted(found.items()))


def rollout_of(cells: Sequence[int]) -> RolloutTotals:
    """What stands in the cells of one rollout."""
    live, candidate = (RoleTotals(*cells[begin : begin + 3]) for begin in ROLES.values())
    return RolloutTotals(live, candidate, *cells[ROLLOUT_COMPARED:])
