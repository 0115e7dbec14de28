"""How `weightcast bench` shows a load test: a table that follows it, the table at its end, and the same as JSON."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from client.cli.options import console, errors
from client.load.figures import Figures, Latencies, in_milliseconds, percentiles
from client.load.generator import Progress, Result
from client.load.plan import Plan

NOTE_CLOSED = (
    "closed loop: each of the {places} places waits for its answer before it asks again, so these are the latencies "
    "of {places} callers who do; while the service stalls they ask less. --rate measures what others would see."
)
NOTE_CORRECTED = (
    "corrected: with the requests added that callers asking every expected interval would have sent while they waited"
)


class Show:
    """Shows one load test; on a terminal it follows it. Use it in a `with` for that."""

    def __init__(self, plan: Plan, model: str, *, quiet: bool) -> None:
        self._plan = plan
        self._title = f"{escape(model)}: {described(plan)}"
        followed = not quiet and errors.is_terminal
        self._live = Live(console=errors, transient=True, auto_refresh=False) if followed else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def follow(self, progress: Progress) -> None:
        """Shows how far it is: what was seen since the progress before, and counts of all."""
        if self._live is None:
            return
        recent = progress.recent
        seconds = max(progress.seconds, 1e-9)
        table = plain_table()
        table.add_row("time", f"{progress.seconds:.1f} s")
        add_rates(table, progress.answered / seconds, self._plan.rows)
        add_latencies(table, percentiles(recent.latencies), "just now, ")
        table.add_row("longest so far", f"{progress.longest * 1000:,.2f} ms")
        table.add_row("answered, failed", f"{progress.answered:,}, {progress.failed:,}")
        add_counts(table, recent)
        self._live.update(Group(self._title, table), refresh=True)

    def result(self, result: Result, adjusted: Latencies | None) -> None:
        """The table at the end, and what must be known to read it."""
        figures = result.figures
        table = plain_table()
        table.add_row("time", f"{result.seconds:.2f} s{', stopped before its end' if result.stopped else ''}")
        table.add_row("answered, failed", f"{figures.answered:,}, {figures.failed:,}")
        add_rates(table, figures.answered / result.seconds, self._plan.rows)
        add_latencies(table, percentiles(figures.latencies))
        if adjusted is not None:
            add_latencies(table, percentiles(adjusted), "corrected ")
        if result.plan.rate is not None:
            table.add_row("waited for a place", f"{result.waited:,}")
        if result.lag:
            table.add_row("generator late, p99", f"{result.lag['p99'] * 1000:,.2f} ms")
        add_counts(table, figures)
        console.print(self._title, highlight=False)
        console.print(table)
        self._notes(result, corrected=adjusted is not None)

    def _notes(self, result: Result, *, corrected: bool) -> None:
        if result.plan.rate is None:
            places = result.plan.connections * result.plan.in_flight
            console.print(NOTE_CORRECTED if corrected else NOTE_CLOSED.format(places=places), highlight=False)
        if limit := result.generator_was_the_limit:
            console.print(
                f"[bold yellow]the generator was the limit:[/] {limit}; the service may be faster. More "
                "--processes, or a machine of its own, help.",
                highlight=False,
            )


def described(plan: Plan) -> str:
    """What the plan does, in words."""
    loop = "closed loop" if plan.rate is None else f"open loop, {plan.rate:g} requests/s"
    return (
        f"{loop}, {plan.method}, {plan.connections} × {plan.in_flight} in flight, "
        f"{plan.rows} {'row' if plan.rows == 1 else 'rows'} a request"
    )


def plain_table() -> Table:
    """Names on the left, figures on the right."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    return table


def add_rates(table: Table, rate: float, rows: int) -> None:
    """Requests and rows per second."""
    table.add_row("requests/s", f"{rate:,.1f}")
    table.add_row("rows/s", f"{rate * rows:,.1f}")


def add_latencies(table: Table, seconds: Mapping[str, float], prefix: str = "") -> None:
    """A row for each percentile."""
    for name, value in seconds.items():
        table.add_row(f"{prefix}{name}", f"{value * 1000:,.2f} ms")


def add_counts(table: Table, figures: Figures) -> None:
    """Answers by version, failures by code."""
    for version, count in sorted(figures.versions.items(), key=lambda item: (len(item[0]), item[0])):
        table.add_row(f"version {escape(version)}", f"{count:,}")
    for code, count in figures.failures.most_common():
        table.add_row(f"[red]{code}[/] {escape(figures.messages.get(code, ''))}", f"{count:,}")


def result_dict(result: Result, model: str, adjusted: Latencies | None) -> dict[str, object]:
    """The result for programs; latencies in milliseconds."""
    plan, figures = result.plan, result.figures
    return {
        "model": model,
        "loop": "closed" if plan.rate is None else "open",
        "method": plan.method,
        "rate": plan.rate,
        "connections": plan.connections,
        "in_flight": plan.in_flight,
        "batch": plan.rows,
        "seconds": round(result.seconds, 4),
        "stopped": result.stopped,
        "answered": figures.answered,
        "failed": figures.failed,
        "waited": result.waited,
        "requests_per_second": round(figures.answered / result.seconds, 2),
        "rows_per_second": round(figures.answered * plan.rows / result.seconds, 2),
        "latency_ms": in_milliseconds(percentiles(figures.latencies)),
        "corrected_latency_ms": None if adjusted is None else in_milliseconds(percentiles(adjusted)),
        "versions": dict(figures.versions),
        "failures": {
            code: {"count": count, "message": figures.messages.get(code, "")}
            for code, count in figures.failures.items()
        },
        "generator": {
            "late_ms": in_milliseconds(result.lag),
            "busy": round(result.busy, 3),
            "was_the_limit": result.generator_was_the_limit or None,
        },
        "timeline": result.timeline,
    }
