"""The serving benchmark's tables: what was reached beside what is to be, as Markdown and as rows for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contenders.serving_groups import Goal, Group
from benchmarks.contenders.serving_turns import Run

Row = dict[str, Any]


def row_of(name: str, run: Run, base: Run | None, goal: Goal | None, rows: int | None = None) -> Row:
    """One line of a table."""
    ratio = run.median / base.median if base else None
    return {
        "contender": name,
        "median": run.median,
        "least": min(run.values),
        "most": max(run.values),
        "p99": sorted(run.p99)[len(run.p99) // 2] if run.p99 else None,
        "turns": len(run.values),
        "rows_per_request": rows,
        "ratio": ratio,
        "goal": str(goal) if goal else None,
        "reached": goal.reached(ratio) if goal and ratio is not None else None,
        "kernel": run.kernel,
    }


def group_rows(group: Group, runs: Mapping[int, Run]) -> list[Row]:
    """A line for each entry that took part."""
    base = runs.get(group.base)
    return [
        row_of(run.name, run, base, group.entries[place].goal, group.entries[place].body.rows)
        for place, run in runs.items()
    ]


def limit_row(name: str, value: float, most: float, unit: str) -> Row:
    """A line for what has a limit instead of a base."""
    return {
        "contender": name,
        "median": value,
        "goal": f"≤ {most:g} {unit}",
        "reached": value <= most,
    }


def markdown(title: str, unit: str, rows: Sequence[Row]) -> str:
    """A table for people and documents."""
    lines = [
        f"**{title}**",
        "",
        f"| contender | {unit}, median | least – most | ratio | goal | reached | BLAS kernel |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        spread = f"{figure(row['least'])} – {figure(row['most'])}" if row.get("least") is not None else ""
        if row.get("p99") is not None:
            spread += f"; p99 {figure(row['p99'])}"
        ratio = f"{row['ratio']:.2f}×" if row.get("ratio") is not None else ""
        reached = {True: "yes", False: "**no**"}.get(row["reached"], "") if "reached" in row else ""
        cells = (
            row["contender"],
            figure(row["median"]),
            spread,
            ratio,
            row.get("goal") or "",
            reached,
            row.get("kernel", ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(value: float) -> str:
    """A number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"  # noqa: PLR2004
