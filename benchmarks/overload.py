"""The inference service at twice the rate it can take, beside itself at its limit: `make bench-overload`.

h2load sends at a steady rate, and another process now and then sends a request of which the time is taken. What is to
hold: accepted requests take at most twice as long at the 99th percentile as at saturation, the rest is refused quickly,
the memory stays bounded, and afterwards everything is as before.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.contenders import h2load
from benchmarks.contenders.running import ROOT, say
from benchmarks.contenders.serving_servers import OURS, Server, drop_settings, pinned
from benchmarks.contenders.serving_task import Body, Task
from benchmarks.contenders.serving_turns import House
from benchmarks.publish_to_answer import HIDDEN, MODEL
from client.embedded_redis import EmbeddedRedis
from shared.settings import InferenceSettings
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore

RESULTS = Path(__file__).parent / "results" / "overload.json"
# By name, the hidden layers and the request: one whose way costs more than its product, and two whose product does.
LOADS = {
    "1 row of 784–256–10": (HIDDEN, Body()),
    "32 rows of 784–256–10": (HIDDEN, Body(rows=32)),
    "1 row of 784–2048–2048–10": ((2048, 2048), Body()),
    "8 rows of 784–2048–2048–10": ((2048, 2048), Body(rows=8)),
}
CONNECTIONS, SAMPLES_A_SECOND = 4, 50
SATURATING = 0.9  # of what may be in flight: with what is sampled it stays below
TIMES = 2.0  # the rate it can take
MOST_STREAMS = 1000  # on each connection: nothing waits in the client
MOST_RATIO = 2.0


@dataclass(frozen=True)
class Phase:
    """One load: requests a second by what became of them, the sampled ones' times in milliseconds, memory in MB."""

    name: str
    accepted: float
    refused: float
    accepted_p50: float
    accepted_p99: float
    refused_p50: float
    refused_p99: float
    failed_samples: int
    resident: float


def percentile(seconds: list[float], percent: float) -> float:
    """In milliseconds."""
    return float(np.percentile(seconds, percent)) * 1000 if seconds else 0.0


class Overload:
    """Loads one server with one kind of request."""

    def __init__(self, house: House, server: Server, body: Body) -> None:
        self._house = house
        self._server = server
        self._target = house.task_at(server, body)

    def saturated(self, name: str, in_flight: int) -> Phase:
        """As many requests at a time as may be in flight, each followed by the next."""
        return self._phase(name, ["-m", str(in_flight // CONNECTIONS)])

    def overloaded(self, rate: float) -> Phase:
        """So many requests a second, whatever becomes of them."""
        return self._phase(f"{TIMES:g} times that", ["-m", str(MOST_STREAMS), f"--rps={round(rate / CONNECTIONS)}"])

    def _phase(self, name: str, options: list[str]) -> Phase:
        seconds = self._house.seconds
        command = ["h2load", "-D", f"{seconds + 1:g}", "-c", str(CONNECTIONS), *options, "-d", str(self._target.file)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        command.append(f"http://{self._target.address}{self._target.body.path}")
        sampling = [sys.executable, "-m", "benchmarks.contenders.sampling", self._target.address]
        sampling += [self._target.body.path, str(self._target.file), str(SAMPLES_A_SECOND), str(seconds)]
        with pinned(self._house.load_cores):
            load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            sampled = subprocess.run(sampling, cwd=ROOT, stdout=subprocess.PIPE, check=True)
            output, _ = load.communicate()
        accepted, others = counts(output, self._target.answer_bytes)
        by_code: dict[str, list[float]] = json.loads(sampled.stdout)
        answered, refused = by_code.pop("OK", []), by_code.pop("RESOURCE_EXHAUSTED", [])
        phase = Phase(
            name,
            accepted / (seconds + 1),
            others / (seconds + 1),
            percentile(answered, 50),
            percentile(answered, 99),
            percentile(refused, 50),
            percentile(refused, 99),
            sum(map(len, by_code.values())),
            self._server.resident_bytes / 1e6,
        )
        say(
            f"| {phase.name} | {phase.accepted:,.0f} | {phase.refused:,.0f} | {phase.accepted_p50:.1f} | "
            f"{phase.accepted_p99:.1f} | {phase.refused_p50:.1f} | {phase.refused_p99:.1f} | {phase.resident:.0f} MB |"
        )
        return phase


def counts(output: str, answer_bytes: int) -> tuple[int, int]:
    """Answered requests, by the bytes that came, and others that ended, also those that gRPC's core refused."""
    ended = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    data = re.search(r"\((\d+)\) data", output)
    if not (ended and data):
        raise h2load.LoadError(f"h2load said nothing of its requests:\n{output[-1000:]}")
    answered = round(int(data[1]) / answer_bytes)
    return answered, int(ended[1]) + int(ended[2]) - answered


def measure(name: str, folder: Path, seconds: float) -> list[Phase]:
    """One load, with a store and a server of its own."""
    hidden, body = LOADS[name]
    most = InferenceSettings().inference_max_in_flight
    redis = EmbeddedRedis(folder)
    redis.start()
    try:
        task = Task(folder, hidden)
        ModelStore(StoreConnection(redis.url)).publish(MODEL, task.snapshot, training_job_id="first")
        house = House(task, folder, redis.url, [0], [1], 1, seconds)
        with house.server(OURS) as server:
            task.check(server.address, body)
            say(f"\n**{name}**, at most {most} in flight; requests/s, milliseconds\n")
            say("| load | accepted | refused | accepted p50 | p99 | refused p50 | p99 | resident |")
            say("|---|---|---|---|---|---|---|---|")
            overload, in_flight = Overload(house, server, body), int(most * SATURATING)
            overload.saturated("warming up", in_flight)
            before = overload.saturated("saturated", in_flight)
            during = overload.overloaded(TIMES * before.accepted)
            time.sleep(1)
            after = overload.saturated("saturated again", in_flight)
    finally:
        redis.stop()
    ratio = during.accepted_p99 / before.accepted_p99
    held = "held" if ratio <= MOST_RATIO else "not held"
    say(f"\np99 of accepted requests: {ratio:.2f} times that at saturation, at most {MOST_RATIO:g}: {held}")
    return [before, during, after]


def main() -> None:
    """Measures, prints tables, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*LOADS], default=[*LOADS], help="which requests, default all")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load, default %(default)s")
    wanted = parser.parse_args()
    try:
        h2load.version()
    except h2load.LoadError as error:
        sys.exit(str(error))
    drop_settings()
    tables = {}
    for name in wanted.only:
        with tempfile.TemporaryDirectory(prefix="weightcast-", dir="/tmp") as folder:  # a Unix socket's path is short
            tables[name] = [asdict(phase) for phase in measure(name, Path(folder), wanted.seconds)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
