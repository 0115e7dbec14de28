"""Turn after turn: every entry of a group is measured once a round, each round led by another.

Promises: all servers of a group run at the same time, one of them working; each answered rightly before its first turn.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contenders import h2load
from benchmarks.contenders.running import SETTLE_SECONDS, say
from benchmarks.contenders.serving_groups import Entry, Group
from benchmarks.contenders.serving_servers import OURS, Contender, Server, pinned
from benchmarks.contenders.serving_task import Body, Task
from client.load.generator import LoadTest
from client.load.plan import Plan

WARM_UP_TIMES = 8  # as many requests as are in flight
LEAST_REQUESTS = 16
PIPELINED = 64
MEMORY_REQUESTS = 2000


@dataclass(frozen=True)
class House:
    """Where servers run and load comes from, and for how long and how often."""

    task: Task
    folder: Path
    redis_url: str
    server_cores: Sequence[int]
    load_cores: Sequence[int]
    rounds: int
    seconds: float

    @property
    def all_cores(self) -> list[int]:
        """Both kinds."""
        return sorted({*self.server_cores, *self.load_cores})

    def server(self, contender: Contender, cores: Sequence[int] | None = None) -> Server:
        """A server that is not started yet."""
        return Server(contender, self.task, self.folder, self.redis_url, cores or self.server_cores)

    def task_at(self, server: Server, body: Body) -> h2load.Target:
        """A request to a server, for h2load."""
        size = self.task.answer_bytes(server.address, body)
        return h2load.Target(server.address, body, self.task.file(body), size)


@dataclass
class Run:
    """What an entry did: a figure for each turn, the 99th percentiles where there are some, the server's kernel."""

    name: str
    kernel: str
    values: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


def alternate(turns: Sequence[Callable[[], None]], rounds: int) -> None:
    """A turn each a round: A B C, then B C A, and so on."""
    for number in range(rounds):
        shift = number % len(turns)
        for turn in (*turns[shift:], *turns[:shift]):
            time.sleep(SETTLE_SECONDS)
            turn()


def measure_group(house: House, group: Group) -> dict[int, Run]:
    """Every entry's run, by its place in the group; those that cannot take part are named and left out."""
    cores = (house.all_cores, house.all_cores) if group.shared else (house.server_cores, house.load_cores)
    servers: dict[str, Server] = {}
    runs: dict[int, Run] = {}
    turns: list[Callable[[], None]] = []
    with ExitStack() as stack:
        for place, entry in enumerate(group.entries):
            if missing := entry.server.missing():
                say(f"{entry.name} is left out: {missing}")
                continue
            name = entry.server.name
            if name not in servers:
                servers[name] = stack.enter_context(house.server(entry.server, cores[0]))
            runs[place] = Run(entry.name, servers[name].kernel)
            turns.append(prepared(house, group, entry, servers[name], cores=cores[1], run=runs[place]))
        alternate(turns, house.rounds)
    return runs


def prepared(
    house: House, group: Group, entry: Entry, server: Server, *, cores: Sequence[int], run: Run
) -> Callable[[], None]:
    """An entry's turn, after its answer was checked and enough requests were sent to know how many fill a turn."""
    if entry.server.computes:
        house.task.check(server.address, entry.body)
    target = house.task_at(server, entry.body)
    log = house.folder / "h2load.log" if group.idle else None

    def send(requests: int) -> h2load.Turn:
        return h2load.run(target, group.shape, requests, cores, log)

    count = max(LEAST_REQUESTS, WARM_UP_TIMES * group.shape.in_flight)
    for _ in range(2):  # the first one is slower than what follows
        count = max(LEAST_REQUESTS, 2 * group.shape.in_flight, round(send(count).rate * house.seconds))

    def turn() -> None:
        found = send(count)
        run.values.append(found.median_us if group.idle else found.rate)
        if group.idle:
            run.p99.append(found.p99_us)

    return turn


def measure_stream(house: House) -> dict[int, Run]:
    """Requests of one row on one stream, many under way, and unary ones on one connection, one under way.

    Both by the same client, that of `weightcast bench`: h2load cannot send more than one message in a call.
    """
    with house.server(OURS) as server:
        runs = {}
        turns = []
        for place, (method, in_flight) in enumerate((("stream", PIPELINED), ("classify", 1))):
            body = Body(method)
            house.task.check(server.address, body)
            run = runs[place] = Run(f"{method}, {in_flight} in flight", server.kernel)
            plan = Plan(server.address, method, 1, 1, in_flight, None, house.seconds, None, 10.0)

            def turn(plan: Plan = plan, body: Body = body, run: Run = run) -> None:
                with pinned(house.load_cores):
                    test = LoadTest(plan, [house.task.message(body)], 1)
                with test:
                    for _ in test:
                        pass
                    result = test.result()
                if result.figures.failed:
                    raise h2load.LoadError(f"{result.figures.failures} {result.figures.messages}")
                if limit := result.generator_was_the_limit:
                    say(f"{run.name}: the client was the limit, {limit}")
                run.values.append(result.figures.answered / result.seconds)

            turns.append(turn)
        alternate(turns, house.rounds)
    return runs


def measure_start(house: House) -> Run:
    """Seconds from the start of a process to its first right answer, Redis up and a version published."""
    run = Run("start to the first right answer", "")
    for _ in range(house.rounds):
        server = house.server(OURS, house.all_cores)
        try:
            run.values.append(server.start())
            run.kernel = server.kernel
        finally:
            server.stop()
    return run


def measure_memory(house: House) -> Run:
    """Resident bytes of one process that has answered requests of every size."""
    with house.server(OURS) as server:
        run = Run("resident memory", server.kernel)
        for rows, requests in ((1, MEMORY_REQUESTS), (32, MEMORY_REQUESTS // 10), (1000, LEAST_REQUESTS)):
            body = Body(rows=rows)
            shape = h2load.Shape(4, min(32, requests // 8))
            h2load.run(house.task_at(server, body), shape, requests, house.load_cores)
            if rows == 1:
                run.values.append(server.resident_bytes)
        run.p99.append(server.resident_bytes)
    return run
