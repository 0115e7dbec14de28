"""The serving benchmark takes no turn for a figure in which a server failed or answered something else."""

from pathlib import Path

import pytest

from benchmarks.contenders import h2load
from benchmarks.contenders.serving_groups import Goal
from benchmarks.contenders.serving_report import markdown, row_of
from benchmarks.contenders.serving_task import Body
from benchmarks.contenders.serving_turns import Run, alternate

OUTPUT = """finished in 1.92s, 2083.78 req/s, 138.75KB/s
requests: 4000 total, 4000 started, 4000 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {succeeded} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 266.34KB (272728) total, 12.01KB (12300) headers (space savings 96.20%), 74.22KB ({data}) data
"""
TARGET = h2load.Target("127.0.0.1:1", Body(), Path("request"), answer_bytes=19)


def output(succeeded: int = 4000, data: int = 76000) -> str:
    """What h2load prints."""
    return OUTPUT.format(succeeded=succeeded, failed=4000 - succeeded, data=data)


def test_a_turn_is_read(tmp_path: Path) -> None:
    """The rate, and the percentiles of the logged microseconds."""
    assert h2load.read(output(), TARGET, 4000, None).rate == pytest.approx(2083.78)
    log = tmp_path / "log"
    log.write_text("".join(f"1795636239536358\t200\t{number}\n" for number in range(1, 102)))
    turn = h2load.read(output(), TARGET, 4000, log)
    assert (turn.median_us, turn.p99_us) == pytest.approx((51, 100))


@pytest.mark.parametrize("text", [output(succeeded=3999), output(data=75981), "h2load: nothing", output(data=0)])
def test_a_turn_with_a_failure_is_no_figure(text: str) -> None:
    """A failed request, one whose answer is shorter, such as a gRPC error's, or no report at all."""
    with pytest.raises(h2load.LoadError):
        h2load.read(text, TARGET, 4000, None)


def test_everybody_has_a_turn_a_round_and_leads_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A B, B A, A B: what changes over time changes for all."""
    monkeypatch.setattr("benchmarks.contenders.serving_turns.SETTLE_SECONDS", 0)
    order: list[str] = []
    alternate([lambda: order.append("A"), lambda: order.append("B")], rounds=3)
    assert "".join(order) == "ABBAAB"


def test_a_goal_stands_beside_what_was_reached() -> None:
    """More is better, but where it says otherwise; medians are compared."""
    base, fast = Run("base", "Haswell", [10, 30, 20]), Run("fast", "SkylakeX", [70, 50, 60])
    row = row_of("fast", fast, base, Goal(3.3, 4.4))
    assert (row["ratio"], row["reached"]) == (3.0, False)
    assert "| fast | 60 | 50 – 70 | 3.00× | ≥ 3.3×, then 4.4× | **no** | SkylakeX |" in markdown("t", "u", [row])
    assert Goal(0.75, less=True).reached(0.7)
    assert not Goal(0.75, less=True).reached(0.8)
