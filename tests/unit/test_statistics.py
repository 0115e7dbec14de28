"""What is counted of requests, in one process and in several together."""

import json
from concurrent.futures import ThreadPoolExecutor

from inference_service.open_inference_codec import statistics_of
from inference_service.statistics import Statistics, merged


def counted() -> Statistics:
    """Two products of version 1 and one of version 12, and one failure."""
    statistics = Statistics()
    statistics.record("tiny", 12, 1, 100, seconds_compute=0.002, seconds_queue=0.0)
    statistics.record("tiny", 1, 3, 7, seconds_compute=0.5, seconds_queue=0.25)
    statistics.record("tiny", 1, 1, 1, seconds_compute=0.001, seconds_queue=0.0)
    statistics.record_failure("tiny", 1, 0.125)
    return statistics


def test_nothing_asked_is_nothing_counted() -> None:
    """And nothing to send."""
    assert merged([Statistics().snapshot()]) == {}
    assert not statistics_of({}).model_stats


def test_a_product_counts_for_each_request_in_it() -> None:
    """Requests, rows, products; the time of a product once for each request that waited for it."""
    counts = merged([counted().snapshot()])["tiny", 1]
    assert (counts.requests, counts.rows, counts.executions, counts.failures) == (4, 8, 2, 1)
    assert (counts.queue_ns, counts.compute_ns, counts.failure_ns) == (250_000_000, 1_501_000_000, 125_000_000)
    assert counts.last_ms > 0


def test_what_processes_counted_adds_up() -> None:
    """After it went through JSON; the last of the moments is the last; versions in the order of their numbers."""
    first, second = counted(), counted()
    second.record("another", 5, 2, 2, seconds_compute=0.1, seconds_queue=0.0)
    snapshots = [json.loads(json.dumps(each.snapshot())) for each in (first, second)]
    total = merged(snapshots)
    assert list(total) == [("another", 5), ("tiny", 1), ("tiny", 12)]
    assert (total["tiny", 1].requests, total["tiny", 1].rows, total["another", 5].requests) == (8, 16, 2)
    assert total["tiny", 1].last_ms == max(each["tiny"]["1"]["last_ms"] for each in snapshots)
    assert first.snapshot() == snapshots[0]  # which adding has not changed


def test_no_count_is_lost_between_threads() -> None:
    """Four that count at once."""
    statistics = Statistics()

    def count(_: int) -> None:
        for _ in range(500):
            statistics.record("tiny", 1, 1, 2, seconds_compute=0.0, seconds_queue=0.0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert merged([statistics.snapshot()])["tiny", 1].rows == 4000


def test_the_message_says_the_same() -> None:
    """Success is waiting and computing; what is not measured apart stays at zero."""
    one, twelve = statistics_of(merged([counted().snapshot()])).model_stats
    assert [(one.name, one.version), (twelve.name, twelve.version)] == [("tiny", "1"), ("tiny", "12")]
    assert (one.inference_count, one.execution_count) == (8, 2)
    stats = one.inference_stats
    assert (stats.success.count, stats.success.ns) == (4, 1_751_000_000)
    assert (stats.queue.count, stats.queue.ns) == (4, 250_000_000)
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (4, 1_501_000_000)
    assert (stats.fail.count, stats.fail.ns) == (1, 125_000_000)
    assert not stats.compute_input.count
