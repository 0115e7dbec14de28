"""The servers that are measured, each as a process on the cores it is given, started as its operator would start it.

Promises: settings of this shell that change what a server does by itself reach none of them.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.contenders.plain_forward import WEIGHTS
from benchmarks.contenders.running import ROOT, say
from benchmarks.contenders.serving_task import Body, Task, is_right
from shared.blas import CHECKED, CORETYPE
from shared.settings import InferenceSettings

WEB_PYTHON = "WEB_PYTHON"
POLLING, PROCESSES = "WEIGHTCAST_INFERENCE_POLLING", "WEIGHTCAST_INFERENCE_PROCESSES"
DROPPED = (
    CORETYPE,
    CHECKED,
    "GRPC_EXPERIMENTS",
    "GRPC_POLL_STRATEGY",
    "GRPC_TRACE",
    "GRPC_VERBOSITY",
    "WEIGHTCAST_",
    "OMP_",
    "OPENBLAS_",
)
START_SECONDS = 30.0
POLL_SECONDS = 0.002
MODULE = "inference_service"


@dataclass(frozen=True)
class Contender:
    """A server: the module that is run, with what it is told; `computes` is whether its answers can be checked.

    `tree` is the checkout that it is run from.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    computes: bool = True
    web: bool = False
    tree: Path = ROOT

    @property
    def python(self) -> str:
        """The interpreter it runs in: this one, unless it is the peer that needs packages of its own."""
        return os.environ[WEB_PYTHON] if self.web else sys.executable

    def missing(self) -> str | None:
        """Why it cannot take part, if it cannot."""
        if self.web and WEB_PYTHON not in os.environ:
            return f"{WEB_PYTHON} names no Python with fastapi, uvicorn, uvloop and httptools"
        for variable in self.environment:
            setting = variable.removeprefix("WEIGHTCAST_").lower()
            if variable.startswith("WEIGHTCAST_") and setting not in InferenceSettings.model_fields:
                return f"this version has no setting {variable}"
        return None


OURS = Contender("weightcast", MODULE)
FALLBACK = Contender("weightcast, public interface", MODULE, environment={POLLING: "public"})
TWO = Contender("weightcast, two processes", MODULE, environment={PROCESSES: "2"})
FORWARD = Contender("bare grpcio, forward pass", "benchmarks.contenders.bare_server")
ECHO = Contender("bare grpcio, echo", "benchmarks.contenders.bare_server", ("echo",), computes=False)
FASTAPI = Contender("FastAPI, raw bytes", "benchmarks.contenders.web_server", web=True)


def drop_settings() -> None:
    """Takes out of this process's environment what would reach the servers; says so."""
    for name in sorted(os.environ):
        if name.startswith(DROPPED):
            value = os.environ.pop(name)
            shown = "" if name.startswith("WEIGHTCAST_") else f"={value}"  # such as Redis' address may hold a password
            say(f"{name}{shown} is dropped: every server runs with what it comes to by itself")


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Whatever is started in this block runs on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """A contender's process. In a `with` it is started, ready and checked, and ended afterwards."""

    def __init__(self, contender: Contender, task: Task, folder: Path, redis_url: str, cores: Sequence[int]) -> None:
        self.contender = contender
        self.address = ""
        self._task = task
        self._cores = cores
        slug = re.sub(r"\W+", "-", contender.name)
        self._port_file, self._log_path = folder / f"{slug}.port", folder / f"{slug}.log"
        self._environment = {
            **os.environ,
            "WEIGHTCAST_REDIS_URL": redis_url,
            "WEIGHTCAST_INFERENCE_LISTEN": "127.0.0.1:0",
            "WEIGHTCAST_INFERENCE_METRICS_LISTEN": "127.0.0.1:0",
            "WEIGHTCAST_PORT_FILE": str(self._port_file),
            WEIGHTS: str(task.weights),
            **contender.environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Starts it; the seconds until its first right answer.

        Raises:
            RuntimeError: if it ends or gives none in time.
        """
        self._port_file.unlink(missing_ok=True)
        begun = time.perf_counter()
        with self._log_path.open("wb") as log, pinned(self._cores):
            self._process = subprocess.Popen(
                [self.contender.python, "-m", self.contender.module, *self.contender.arguments],
                env=self._environment,
                cwd=self.contender.tree,
                stdout=log,
                stderr=log,
            )
        while not self._port_file.exists():
            self._wait(begun)
        self.address = f"127.0.0.1:{self._port_file.read_text()}"
        if self.contender.computes:
            body = Body("http" if self.contender.web else "classify")
            while not is_right(self._task, self.address, body):
                self._wait(begun)
        return time.perf_counter() - begun

    def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._process = None

    @property
    def kernel(self) -> str:
        """The BLAS kernel it says it runs on."""
        found = re.search(r"blas_kernel\W+(\w+)", self._log_path.read_text(encoding="utf-8", errors="replace"))
        return found[1] if found else "unknown"

    @property
    def resident_bytes(self) -> int:
        """The memory of its process, those of its children not counted."""
        assert self._process is not None  # noqa: S101 - asked for while it runs
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        kibibytes = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert kibibytes is not None  # noqa: S101 - Linux writes it
        return int(kibibytes[1]) * 1024

    def _wait(self, begun: float) -> None:
        assert self._process is not None  # noqa: S101 - started above
        if self._process.poll() is not None or time.perf_counter() - begun > START_SECONDS:
            log = self._log_path.read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{self.contender.name} did not start:\n{log[-2000:]}")
        time.sleep(POLL_SECONDS)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
