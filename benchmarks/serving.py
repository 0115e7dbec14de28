"""The inference service beside bare grpcio on the same contract and network: `make bench-serving`.

h2load sends, the server has one core and the load another, and all contenders of a table take turns in the same run,
with the same interpreter; figures are medians over the rounds. Every contender's answers are compared with NumPy's
before it is timed, and every answer's size while it is.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.contenders import h2load, serving_report
from benchmarks.contenders.running import ROOT, say
from benchmarks.contenders.serving_groups import (
    GROUPS,
    MOST_RESIDENT_BYTES,
    MOST_START_SECONDS,
    STREAM_GOAL,
    Group,
    beside,
)
from benchmarks.contenders.serving_servers import drop_settings, pinned
from benchmarks.contenders.serving_task import Task, WrongServerError
from benchmarks.contenders.serving_turns import House, Run, measure_group, measure_memory, measure_start, measure_stream
from benchmarks.publish_to_answer import MODEL
from benchmarks.training import installed, processor
from client.embedded_redis import EmbeddedRedis
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("numpy", "grpcio", "protobuf")
CORES = 2
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.4


class Benchmark:
    """One run of the command: where it measures, and the tables so far."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.tables: dict[str, list[serving_report.Row]] = {}

    def group(self, name: str, group: Group) -> None:
        """Contenders under one load of h2load's."""
        rows = serving_report.group_rows(group, measure_group(self._house, group))
        self._show(name, group.title, "µs" if group.idle else "requests/s", rows)

    def stream(self) -> None:
        """ClassifyStream beside Classify, by the same Python client."""
        runs = measure_stream(self._house)
        goals = {0: STREAM_GOAL, 1: None}
        rows = [serving_report.row_of(run.name, run, runs[1], goals[place], 1) for place, run in runs.items()]
        self._show("stream", "one stream beside one connection, 1 row, Python client", "requests/s", rows)

    def memory(self) -> None:
        """Of one process."""
        run = measure_memory(self._house)
        rows = [
            serving_report.limit_row(
                "resident after requests of one row", run.median / 1e6, MOST_RESIDENT_BYTES / 1e6, "MB"
            ),
            {"contender": "after batches of 32 and 1000 rows too", "median": run.p99[0] / 1e6, "reached": None},
        ]
        self._show("memory", "memory of one process", "MB", rows)

    def start(self) -> None:
        """Of a process whose Redis is up."""
        run = measure_start(self._house)
        row = serving_report.row_of(run.name, run, None, None)
        limit = serving_report.limit_row(run.name, run.median, MOST_START_SECONDS, "s")
        self._show("start", "start of a process, both cores", "s", [{**row, **limit}])

    def limit(self) -> None:
        """What NumPy alone can do."""
        runs: dict[str, Run] = {}
        for _ in range(self._house.rounds):
            with pinned(self._house.server_cores):
                command = [sys.executable, "-m", "benchmarks.contenders.forward_limit"]
                done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
            answer = json.loads(done.stdout)
            for rows, rate in answer["rates"].items():
                runs.setdefault(rows, Run("1 row" if rows == "1" else f"{rows} rows", answer["kernel"])).values.append(
                    rate
                )
        table = [serving_report.row_of(run.name, run, None, None, int(rows)) for rows, run in runs.items()]
        self._show("limit", "the network's matrix products alone, one core", "times/s", table)

    def _show(self, name: str, title: str, unit: str, rows: list[serving_report.Row]) -> None:
        self.tables[name] = rows
        say("\n" + serving_report.markdown(title, unit, rows))


def about(house: House) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "when": datetime.now(UTC).isoformat(),
        "command": " ".join(["python -m benchmarks.serving", *sys.argv[1:]]),
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "libraries": {name: installed(name) for name in LIBRARIES},
        "h2load": h2load.version(),
        "server_cores": list(house.server_cores),
        "load_cores": list(house.load_cores),
        "rounds": house.rounds,
        "seconds": house.seconds,
    }


OTHERS: dict[str, Callable[[Benchmark], None]] = {
    "stream": Benchmark.stream,
    "memory": Benchmark.memory,
    "start": Benchmark.start,
    "limit": Benchmark.limit,
}


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*GROUPS, *OTHERS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="which of the tables, default all")
    parser.add_argument("--beside", type=Path, help="another checkout of this project: only what differs from it")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender, default %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long a turn is, default %(default)s")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works: two short rounds")
    return parser.parse_args()


def measure(house: House, names: Iterable[str], groups: Mapping[str, Group]) -> tuple[Benchmark, dict[str, str]]:
    """Every table that was asked for, and why others could not be made."""
    benchmark, failed = Benchmark(house), dict[str, str]()
    for name in names:
        say(f"measuring {name} …")
        try:
            if name in OTHERS:
                OTHERS[name](benchmark)
            else:
                benchmark.group(name, groups[name])
        except (h2load.LoadError, WrongServerError, RuntimeError, OSError) as error:
            failed[name] = str(error)
            say(f"no table {name}: {error}")
    return benchmark, failed


def main() -> None:
    """Measures what was asked for, prints tables and writes JSON; exits 1 if a table could not be made."""
    wanted = options()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < CORES:
        sys.exit("skipped: this needs Linux and two cores, one for the server and one for the load")
    try:
        h2load.version()
    except h2load.LoadError as error:
        sys.exit(str(error))
    drop_settings()
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if wanted.quick else (wanted.rounds, wanted.seconds)
    with tempfile.TemporaryDirectory(
        prefix="weightcast-", dir="/tmp"
    ) as name:  # the path of a Unix socket must be short
        folder = Path(name)
        redis = EmbeddedRedis(folder)
        with pinned(cores[1:]):
            redis.start()
        try:
            task = Task(folder)
            ModelStore(StoreConnection(redis.url)).publish(MODEL, task.snapshot, training_job_id="first")
            house = House(task, folder, redis.url, cores[:1], cores[1:CORES], rounds, seconds)
            groups = beside(wanted.beside) if wanted.beside else GROUPS
            benchmark, failed = measure(house, groups if wanted.beside else wanted.only, groups)
            described = about(house)
        finally:
            redis.stop()
    whole = not wanted.quick and not wanted.beside and {*wanted.only} == {*GROUPS, *OTHERS}
    results = RESULTS / ("serving.json" if whole else "serving-part.json")  # a look at a part keeps the whole one
    RESULTS.mkdir(exist_ok=True)
    results.write_text(json.dumps({**described, "tables": benchmark.tables, "failed": failed}, indent=2) + "\n")
    say(f"`{described['command']}`, {described['processor']}; written to {results.relative_to(ROOT)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
