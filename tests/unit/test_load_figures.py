"""What a load test makes of its latencies, and how a plan falls into parts."""

import numpy as np
import pytest

from client.load.figures import Figures, corrected, gathered, percentiles
from client.load.plan import Plan


def plan(**changed: object) -> Plan:
    """An open loop of 100 requests a second, with what is changed."""
    given = {"rate": 100.0, "seconds": 1.0, "requests": None, **changed}
    return Plan("127.0.0.1:1", "classify", rows=1, connections=3, in_flight=2, timeout=1.0, **given)  # type: ignore[arg-type]


def test_percentiles_are_latencies_that_happened() -> None:
    """Of a hundred, the one that stalled is p99.9 and max as it was, and neither p99 nor a mean of two."""
    latencies = np.full(100, 0.001, np.float32)
    latencies[37] = 5.0
    found = percentiles(latencies)
    assert (found["p50"], found["p99"]) == pytest.approx((0.001, 0.001))
    assert (found["p99.9"], found["max"]) == (5.0, 5.0)
    assert percentiles(np.empty(0, np.float32)) == {}


def test_the_correction_adds_the_requests_that_were_not_sent() -> None:
    """A stall of ten intervals stands for nine more requests, each waiting an interval less; short ones for none."""
    latencies = np.array([0.5, 10.0, 1.0], np.float32)
    assert sorted(corrected(latencies, 1.0)) == pytest.approx([0.5, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    with pytest.raises(ValueError, match="expected one that the service can keep up with"):
        corrected(np.full(1000, 1.0, np.float32), 1e-6)
    with pytest.raises(ValueError, match="more than 0"):
        corrected(latencies, 0)


def test_the_parts_of_a_plan_are_the_whole() -> None:
    """Together the processes open every connection, send every request, and keep to every due time once."""
    whole = plan(requests=11)
    parts = whole.parts(3)
    assert sum(part.connections for part in parts) == whole.connections
    assert sum(part.requests or 0 for part in parts) == 11
    due = sorted(part.due(number) for part in parts for number in range(part.requests or 0))
    assert due == pytest.approx([number / 100 for number in range(11)])
    assert Plan.from_json(parts[1].to_json()) == parts[1]


def test_figures_of_several_processes_add_up() -> None:
    """Counts are summed, latencies stand beside each other, and the first message stays."""
    first, second = Figures(np.array([1, 2], np.float32)), Figures(np.array([3], np.float32))
    first.versions["1"], second.versions["1"], second.failures["UNAVAILABLE"] = 2, 1, 4
    first.messages, second.messages = {"INTERNAL": "a"}, {"INTERNAL": "b", "UNAVAILABLE": "c"}
    total = gathered([first, second])
    assert total.latencies.tolist() == [1, 2, 3]
    assert (total.answered, total.failed) == (3, 4)
    assert total.messages == {"INTERNAL": "a", "UNAVAILABLE": "c"}
