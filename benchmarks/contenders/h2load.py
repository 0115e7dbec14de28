"""One turn of h2load on one server: requests per second and, where asked for, the time of each request.

Promises: a turn in which a request failed is no figure but an error. A gRPC error has HTTP status 200 as well, but no
data; so the bytes of all answers together are compared with those of right ones.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contenders.serving_servers import pinned
from benchmarks.contenders.serving_task import Body

REMEDY = "h2load is not installed; on Debian and Ubuntu: apt-get install nghttp2-client; with Homebrew: nghttp2"
TURN_SECONDS = 600.0


class LoadError(Exception):
    """h2load is missing, or not every request was answered rightly."""


@dataclass(frozen=True)
class Turn:
    """What one run measured: requests per second, and the median and 99th percentile in microseconds if logged."""

    rate: float
    median_us: float = 0.0
    p99_us: float = 0.0


@dataclass(frozen=True)
class Shape:
    """How requests come: connections, and requests at once on each."""

    connections: int
    streams: int

    @property
    def in_flight(self) -> int:
        """Requests at once altogether."""
        return self.connections * self.streams


def version() -> str:
    """What is installed.

    Raises:
        LoadError: with what to install if nothing is.
    """
    found = shutil.which("h2load")
    if found is None:
        raise LoadError(REMEDY)
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True)
class Target:
    """What is asked where: the request in `file`, whose right answer has `answer_bytes` of data."""

    address: str
    body: Body
    file: Path
    answer_bytes: int


def run(target: Target, shape: Shape, requests: int, cores: Sequence[int], log: Path | None = None) -> Turn:
    """Sends `requests` times the target's request; each one's time is known only with a file to `log` it in.

    Raises:
        LoadError: if one was not answered, or not rightly.
    """
    web = target.body.method == "http"
    if web:  # HTTP/1.1 answers one after another: what were streams are connections
        shape = Shape(shape.in_flight, 1)
    command = ["h2load", "-n", str(requests), "-c", str(shape.connections), "-m", str(shape.streams)]
    command += ["-d", str(target.file)]
    if web:
        command += ["--h1", "-H", "content-type: application/octet-stream"]
    else:
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    if log is not None:
        log.unlink(missing_ok=True)
        command.append(f"--log-file={log}")
    command.append(f"http://{target.address}{target.body.path}")
    with pinned(cores):
        done = subprocess.run(command, capture_output=True, text=True, timeout=TURN_SECONDS, check=False)
    return read(done.stdout, target, requests, log)


def read(output: str, target: Target, requests: int, log: Path | None) -> Turn:
    """The figures in h2load's output."""
    rate = re.search(r"finished in [^,]+, ([0-9.]+) req/s", output)
    answered = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    data = re.search(r"\((\d+)\) data", output)
    if not (rate and answered and data):
        raise LoadError(f"h2load said nothing of its requests:\n{output[-1000:]}")
    expected = requests * target.answer_bytes
    if int(answered[1]) != requests or int(data[1]) != expected:
        raise LoadError(
            f"{answered[0]} of {requests} {target.body}, {data[1]} bytes of answers where right ones have {expected}"
        )
    if log is None:
        return Turn(float(rate[1]))
    microseconds = np.loadtxt(log, usecols=2)
    return Turn(float(rate[1]), *map(float, np.percentile(microseconds, (50, 99))))
