"""What is counted of requests, models and rollouts, in one process and in several together."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference_service.metrics import counters
from inference_service.metrics.counted import (
    CODES,
    DURATIONS,
    LOAD,
    LOAD_FAILURES,
    MODELS,
    PRODUCT_ROWS,
    PUBLISHED,
    REQUEST_ROWS,
    REQUESTS,
    ROW_COUNTS,
    SERVED,
    STORE,
    RoleTotals,
    RolloutTotals,
)
from inference_service.metrics.counters import Counters
from inference_service.metrics.statistics import Statistics
from inference_service.metrics.totals import Totals, read
from inference_service.open_inference_codec import statistics_of

CLASSIFY = "/weightcast.v1.InferenceService/Classify"
NAME = CLASSIFY[1:]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def count(statistics: Statistics) -> Statistics:
    """One product of version 12 and two of version 1, and one failure."""
    statistics.record("tiny", 12, 1, 100, seconds_compute=0.002, seconds_queue=0.0)
    statistics.record("tiny", 1, 3, 7, seconds_compute=0.5, seconds_queue=0.25)
    statistics.record("tiny", 1, 1, 1, seconds_compute=0.001, seconds_queue=0.0)
    statistics.record_failure("tiny", 1, 0.125)
    return statistics


def test_nothing_asked_is_nothing_counted() -> None:
    """And nothing to send."""
    assert Statistics().totals() == {}
    assert Statistics().rollout_totals("tiny", 2, "canary") == RolloutTotals()
    assert not statistics_of({}).model_stats


def test_a_product_counts_for_each_request_in_it() -> None:
    """Requests, rows, products; the time of a product once for each request that waited for it."""
    counts = count(Statistics()).totals()["tiny", 1]
    assert (counts.requests, counts.rows, counts.executions, counts.failures) == (4, 8, 2, 1)
    assert (counts.queue_ns, counts.compute_ns, counts.failure_ns) == (250_000_000, 1_501_000_000, 125_000_000)
    assert counts.last_ms > 0


def test_a_product_counts_once_for_its_model() -> None:
    """With the time that it took, whoever waited for it; and once among all products, by its rows."""
    counters = Counters()
    count(Statistics(counters))
    assert read(counters).sums(MODELS) == {("tiny",): [5, 108, 503_000_000, 1, 0]}
    (total, *buckets) = read(counters).sums(PRODUCT_ROWS)[()]
    assert total == 108
    assert {ROW_COUNTS[place] for place, number in enumerate(buckets) if number == 1} == {1, 8, 128}
    assert sum(buckets) == 3


def test_what_processes_counted_adds_up(tmp_path: Path) -> None:
    """Also what one counted that has ended; the last of the moments is the last; versions in the order of numbers."""
    one, other = (count(Statistics(Counters(tmp_path, number))) for number in (1, 2))
    other.record("another", 5, 2, 2, seconds_compute=0.1, seconds_queue=0.0)
    total = one.totals()
    assert list(total) == [("another", 5), ("tiny", 1), ("tiny", 12)]
    assert (total["tiny", 1].requests, total["tiny", 1].rows, total["another", 5].requests) == (8, 16, 2)
    assert total["another", 5].last_ms >= total["tiny", 1].last_ms > 0
    Totals(tmp_path).add(os.getpid())
    assert Statistics(Counters(tmp_path)).totals() == total


def test_no_count_is_lost_between_threads() -> None:
    """Four that count at once, and take turns as often as can be."""
    counters = Counters()
    statistics = Statistics(counters)

    def work(_: int) -> None:
        for _ in range(2500):
            statistics.record("tiny", 1, 1, 2, seconds_compute=0.0, seconds_queue=0.5)
            statistics.method(CLASSIFY).answered([0.25, 0.5], [1, 1])
            statistics.method(CLASSIFY).failed(3, 0.5)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(before)
    counts, requests = statistics.totals()["tiny", 1], read(counters).sums(REQUESTS)
    assert (counts.rows, counts.queue_ns) == (20_000, 5000 * 10**9)
    for code, number, seconds in (("OK", 20_000, 7500), ("INVALID_ARGUMENT", 10_000, 5000)):
        total, *buckets = requests[NAME, code]
        assert (sum(buckets), total) == (number, seconds * 10**9)


def test_the_least_recent_versions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never their model's counts, and no other version gets theirs."""
    monkeypatch.setattr(counters, "MOST_SERIES", 2)
    own = Counters()
    statistics = Statistics(own)
    for version in (1, 2, 3, 4, 1):
        statistics.record("tiny", version, 1, version, seconds_compute=0.0, seconds_queue=0.0)
    assert {version: counts.rows for (_, version), counts in statistics.totals().items()} == {1: 1, 4: 4}
    assert read(own).sums(MODELS)["tiny",][:2] == [5, 11]


def buckets_of(ends: Sequence[float], values: Sequence[float]) -> list[int]:
    """How many values are in each bucket, the plain way: above the end before, and not above its own."""
    return [
        sum(low < value <= high for value in values) for low, high in zip((float("-inf"), *ends), ends, strict=False)
    ]


SECONDS = st.lists(st.one_of(st.sampled_from(DURATIONS[:-1]), st.floats(0, 1e6)), min_size=1, max_size=64)


@given(SECONDS, st.data())
@example([0.0001, 0.00010000001, 10.0, 10.5] * 3, None)
def test_requests_are_in_the_bucket_that_their_duration_does_not_pass(
    seconds: list[float], data: st.DataObject | None
) -> None:
    """However many are answered together; so are their rows."""
    some_rows = st.one_of(st.sampled_from(ROW_COUNTS[:-1]), st.integers(1, 2**20))
    rows = [data.draw(some_rows) if data else number + 1 for number in range(len(seconds))]
    counters = Counters()
    Statistics(counters).method(CLASSIFY).answered(seconds, rows)
    total, *buckets = read(counters).sums(REQUESTS)[NAME, "OK"]
    assert buckets == buckets_of(DURATIONS, seconds)
    assert total == pytest.approx(sum(seconds) * 1e9, abs=1)
    total, *buckets = read(counters).sums(REQUEST_ROWS)[NAME,]
    assert (total, buckets) == (sum(rows), buckets_of(ROW_COUNTS, rows))


def test_codes_have_the_names_that_grpc_gives_them() -> None:
    """All of them, by their numbers; a number that has none counts as UNKNOWN."""
    assert dict(enumerate(CODES)) == {code.value[0]: code.name for code in grpc.StatusCode}
    counters = Counters()
    counts = Statistics(counters).method(CLASSIFY)
    for code in (8, -1, 17):
        counts.failed(code, 0.001)
    assert {labels: sum(cells[1:]) for labels, cells in read(counters).sums(REQUESTS).items()} == {
        (NAME, "OK"): 0,
        (NAME, "RESOURCE_EXHAUSTED"): 1,
        (NAME, "UNKNOWN"): 2,
    }


def test_a_swap_says_what_is_served_and_how_long_it_took() -> None:
    """A version that was there before the process says nothing of how fast publishing is."""
    counters = Counters()
    statistics = Statistics(counters)
    statistics.swapped("tiny", 3, NOON, seconds=None)
    assert read(counters).sums(PUBLISHED) == {}
    statistics.swapped("tiny", 4, NOON, seconds=0.02)
    assert read(counters).gauges(SERVED) == {("tiny",): [[4, 1_767_268_800_000]]}
    assert read(counters).sums(MODELS)["tiny",] == [0, 0, 0, 0, 2]
    total, *buckets = read(counters).sums(PUBLISHED)["tiny",]
    assert (total, sum(buckets)) == (20_000_000, 1)


def test_failures_to_load_are_counted_by_their_reason() -> None:
    """For each model."""
    counters = Counters()
    statistics = Statistics(counters)
    for reason in ("DIGEST_MISMATCH", "NOT_FINITE", "DIGEST_MISMATCH"):
        statistics.load_failed("tiny", reason)
    assert read(counters).sums(LOAD_FAILURES) == {("tiny", "DIGEST_MISMATCH"): [2], ("tiny", "NOT_FINITE"): [1]}


def test_gauges_say_what_was_said_last() -> None:
    """Of the store nothing, before it was asked."""
    counters = Counters()
    statistics = Statistics(counters)
    assert read(counters).gauges(STORE) == {}
    for load in ((3, 5, 4096), (1, 2, 0)):
        statistics.set_load(*load)
    for reachable in (True, False):
        statistics.store_contact(reachable)
    assert read(counters).gauges(LOAD) == {(): [[1, 2, 0]]}
    assert read(counters).gauges(STORE) == {(): [[0]]}


def tried(statistics: Statistics) -> None:
    """Some requests of a rollout."""
    statistics.rollout_computed("tiny", 2, "shadow", "live", 3, 6, 0.5)
    statistics.rollout_computed("tiny", 2, "shadow", "candidate", 1, 2, 0.25)
    statistics.rollout_compared("tiny", 2, "shadow", 2, 1)
    statistics.rollout_dropped("tiny", 2, "shadow", 4)
    statistics.rollout_computed("tiny", 2, "canary", "candidate", 1, 1, 0.125)


@pytest.mark.parametrize("seen_by", [lambda one, _: one, lambda _, other: other])
def test_what_came_of_a_rollout_adds_up(tmp_path: Path, seen_by: Callable[..., Statistics]) -> None:
    """In all processes, and apart from another rollout of the same version."""
    one, other = (Statistics(Counters(tmp_path, number)) for number in (1, 2))
    tried(one)
    tried(other)
    asked = seen_by(one, other)
    assert asked.rollout_totals("tiny", 2, "shadow") == RolloutTotals(
        RoleTotals(6, 12, 3_000_000_000), RoleTotals(2, 4, 500_000_000), 4, 2, 8
    )
    assert asked.rollout_totals("tiny", 2, "canary").candidate == RoleTotals(2, 2, 250_000_000)
    assert asked.rollout_totals("tiny", 3, "shadow") == RolloutTotals()


def test_the_message_says_the_same() -> None:
    """Success is waiting and computing; what is not measured apart stays at zero."""
    one, twelve = statistics_of(count(Statistics()).totals()).model_stats
    assert [(one.name, one.version), (twelve.name, twelve.version)] == [("tiny", "1"), ("tiny", "12")]
    assert (one.inference_count, one.execution_count) == (8, 2)
    stats = one.inference_stats
    assert (stats.success.count, stats.success.ns) == (4, 1_751_000_000)
    assert (stats.queue.count, stats.queue.ns) == (4, 250_000_000)
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (4, 1_501_000_000)
    assert (stats.fail.count, stats.fail.ns) == (1, 125_000_000)
    assert not stats.compute_input.count
