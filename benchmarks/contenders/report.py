"""Tables for the terminal, and the same figures for JSON; nothing here measures."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.entries import SPEED
from benchmarks.contenders.running import Run

Row = dict[str, Any]
PIPE_WIDTH = 120
console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def speed_rows(runs: Sequence[Run], base: str) -> list[Row]:
    """Each contender's speed: median, least and most of its turns, and the median as a multiple of the base's."""
    medians = {run.contender.name: run.median(SPEED) for run in runs}
    return [
        {
            "contender": run.contender.name,
            "samples_per_second": round(medians[run.contender.name]),
            "least": round(min(run.values(SPEED))),
            "most": round(max(run.values(SPEED))),
            "turns": len(run.answers),
            "ratio": medians[run.contender.name] / medians[base] if base in medians else None,
            "numpy_kernel": run.kernel,
        }
        for run in runs
    ]


def accuracy_rows(runs: Sequence[Run], base: str, goal: float) -> list[Row]:
    """Each contender's wall time to the goal, over the turns that reached it, and what share of the base's it is."""
    seconds = {
        run.contender.name: [
            float(answer["seconds"] or 0) for answer in run.answers if (answer["accuracy"] or 0) >= goal
        ]
        for run in runs
    }
    medians = {name: statistics.median(values) for name, values in seconds.items() if values}
    return [
        {
            "contender": (name := run.contender.name),
            "seconds": medians.get(name),
            "least": min(seconds[name], default=None),
            "most": max(seconds[name], default=None),
            "epochs": run.median("epochs"),
            "turns": len(run.answers),
            "reached": len(seconds[name]),
            "ratio": medians[name] / medians[base] if name in medians and base in medians else None,
            "after_first_second": statistics.median(found) if (found := run.values("first_second")) else None,
        }
        for run in runs
    ]


def print_table(title: str, columns: Mapping[str, str], rows: Sequence[Row]) -> None:
    """The rows' fields that `columns` name, each under its heading and in the format that stands behind a colon."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    formats = {}
    for number, (column, field) in enumerate(columns.items()):
        name, _, form = field.partition(":")
        formats[name] = form
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*("–" if row[name] is None else format(row[name], form) for name, form in formats.items()))
    console.print(table)


def draw(speeds: Mapping[str, Sequence[Row]], path: Path) -> bool:
    """A chart of samples per second, a panel for each title; whether matplotlib is installed to draw it."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - it may not be installed
    except ModuleNotFoundError:
        return False
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, panels = plt.subplots(
        len(speeds), squeeze=False, figsize=(9, 0.6 + sum(0.5 + 0.34 * len(rows) for rows in speeds.values())),
        height_ratios=[len(rows) + 1 for rows in speeds.values()], layout="constrained",
    )  # fmt: skip
    for panel, (title, rows) in zip(panels[:, 0], speeds.items(), strict=True):
        names, values = [row["contender"] for row in rows], [row["samples_per_second"] for row in rows]
        colours = ["#c2410c" if name.startswith("this engine") else "#94a3b8" for name in names]
        bars = panel.barh(names, values, color=colours)
        panel.bar_label(bars, [f" {value:,}" for value in values])
        panel.set_title(f"{title}: samples per second", loc="left")
        panel.invert_yaxis()
        panel.margins(x=0.12)
        panel.xaxis.set_visible(False)
        panel.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)
    return True
