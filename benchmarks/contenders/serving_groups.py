"""Who is measured against whom, with which requests, and what is to be reached: what `make bench-serving` holds."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders.h2load import Shape
from benchmarks.contenders.serving_servers import (
    ECHO,
    FALLBACK,
    FASTAPI,
    FORWARD,
    MODULE,
    OURS,
    TWO,
    Contender,
)
from benchmarks.contenders.serving_task import Body


@dataclass(frozen=True)
class Goal:
    """A multiple of the group's base that is to be reached: at least, or at most where `less` is better; then more."""

    ratio: float
    then: float | None = None
    less: bool = False

    def reached(self, ratio: float) -> bool:
        """Whether it is."""
        return ratio <= self.ratio if self.less else ratio >= self.ratio

    def __str__(self) -> str:
        sign = "≤" if self.less else "≥"
        return f"{sign} {self.ratio:g}×" + (f", then {self.then:g}×" if self.then else "")


@dataclass(frozen=True)
class Entry:
    """One row of a table: a server, and the request that it gets."""

    server: Contender
    body: Body
    goal: Goal | None = None
    call: str = ""

    @property
    def name(self) -> str:
        """For people."""
        what = self.call or self.body.dtype
        return f"{self.server.name}, {what}"


@dataclass(frozen=True)
class Group:
    """Entries that take turns under one load; the ratios are to the entry `base`.

    `idle` asks for the time of a request and not for requests per second; `shared` has servers and load share cores.
    """

    title: str
    shape: Shape
    entries: tuple[Entry, ...]
    base: int
    idle: bool = False
    shared: bool = False


def batch_group(rows: int, streams: int, float_goal: Goal, byte_goal: Goal) -> Group:
    """A group of whole batches: both types here, beside the bare server with float32."""
    floats, values = Body(rows=rows), Body(rows=rows, dtype="uint8")
    shape = Shape(4, streams)
    entries = (
        Entry(OURS, floats, float_goal),
        Entry(OURS, values, byte_goal),
        Entry(FALLBACK, floats),
        Entry(FORWARD, floats),
        Entry(FORWARD, values),
        Entry(FASTAPI, Body("http", rows)),
    )
    return Group(f"{rows} rows, {shape.in_flight} in flight", shape, entries, base=3)


ROW, BYTES = Body(), Body(dtype="uint8")
MANY = Shape(4, 32)
GROUPS = {
    "one": Group(
        "1 row, 128 in flight",
        MANY,
        (
            Entry(OURS, ROW, Goal(3.3, 4.4)),
            Entry(OURS, BYTES),
            Entry(FALLBACK, ROW),
            Entry(FORWARD, ROW),
            Entry(ECHO, ROW),
            Entry(FASTAPI, Body("http")),
        ),
        base=3,
    ),
    "batch32": batch_group(32, 16, Goal(1.5, 1.9), Goal(2.0, 2.5)),
    "batch1000": batch_group(1000, 2, Goal(1.6, 1.9), Goal(2.5, 3.0)),
    "idle": Group(
        "1 row, one at a time: microseconds",
        Shape(1, 1),
        (
            Entry(OURS, ROW, Goal(0.75, 0.5, less=True)),
            Entry(FALLBACK, ROW),
            Entry(FORWARD, ROW),
            Entry(ECHO, ROW),
            Entry(FASTAPI, Body("http")),
        ),
        base=2,
        idle=True,
    ),
    "infer": Group(
        "ModelInfer beside Classify, 1 row, 128 in flight",
        MANY,
        (Entry(OURS, Body("infer"), Goal(0.85), call="ModelInfer"), Entry(OURS, ROW, call="Classify")),
        base=1,
    ),
    "processes": Group(
        "two processes beside one, 1 row, 128 in flight on 16 connections, load on the same two cores",
        Shape(16, 8),  # the kernel gives connections to processes by chance: of four, one may get all
        (Entry(TWO, ROW, Goal(1.7)), Entry(OURS, ROW)),
        base=1,
        shared=True,
    ),
}
STREAM_GOAL = Goal(2.0)
MOST_LOST = 0.03


def beside(tree: Path) -> dict[str, Group]:
    """This checkout beside another one, the same request in each: what a change costs the way of a request."""
    other = Contender("weightcast, the other checkout", MODULE, tree=tree.resolve())
    loads = {
        "one": (ROW, MANY),
        "one-uint8": (BYTES, MANY),
        "one-infer": (Body("infer"), MANY),
        "batch32": (Body(rows=32), Shape(4, 16)),
        "batch1000": (Body(rows=1000), Shape(4, 2)),
        "idle": (ROW, Shape(1, 1)),
    }
    groups = {}
    for name, (body, shape) in loads.items():
        idle = name == "idle"
        goal = Goal(1 + MOST_LOST, less=True) if idle else Goal(1 - MOST_LOST)
        entries = (Entry(OURS, body, goal, call=body.method), Entry(other, body, call=body.method))
        title = f"beside {tree.name}: {body}, {shape.in_flight} in flight{': microseconds' if idle else ''}"
        groups[f"beside-{name}"] = Group(title, shape, entries, base=1, idle=idle)
    return groups


MOST_RESIDENT_BYTES = 100 * 10**6
MOST_START_SECONDS = 0.7
