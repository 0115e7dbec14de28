"""The whole product on one machine: an embedded Redis and both services as processes, for `up`, `demo` and the tests.

Nothing here is imported from the services: they are started as an operator would start them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.channel import open_channel
from client.embedded_redis import EmbeddedRedis

START_SECONDS = 30.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02


class StackError(Exception):
    """A service did not start."""


class ServiceProcess:
    """One service as a child process."""

    def __init__(self, module: str, folder: Path, environment: Mapping[str, str], *, log_to_file: bool) -> None:
        self.module = module
        self._port_file = folder / f"{module}.port"
        self.log_path = folder / f"{module}.log" if log_to_file else None
        self._environment = {**os.environ, **environment, "WEIGHTCAST_PORT_FILE": str(self._port_file)}
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        """Starts the process; `wait_until` says when it answers."""
        self._port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", self.module]
        # start_new_session: Ctrl-C in a terminal reaches the one who started this, and it stops things in order.
        if self.log_path is None:
            self.process = subprocess.Popen(command, env=self._environment, start_new_session=True)  # noqa: S603
            return
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until(self, health_service: str, seconds: float = START_SECONDS) -> None:
        """Returns when the health check by this name says SERVING.

        Raises:
            StackError: if the process ends or the time passes before that.
        """
        deadline = time.monotonic() + seconds
        while not self._port_file.exists():
            self._check(deadline)
            time.sleep(POLL_SECONDS)
        self.address = f"127.0.0.1:{self._port_file.read_text()}"
        with open_channel(self.address, retry=False) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while not is_serving(health, health_service):
                self._check(deadline)
                time.sleep(POLL_SECONDS)

    def stop(self) -> int | None:
        """Asks it to end, waits, and returns its exit code; ends it by force if it does not."""
        if self.process is None:
            return None
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return code

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _check(self, deadline: float) -> None:
        where = f"; see {self.log_path}" if self.log_path else ""
        if self.process is None or self.process.poll() is not None:
            raise StackError(f"{self.module} ended while starting{where}")
        if time.monotonic() > deadline:
            raise StackError(f"{self.module} is not ready in time{where}")


def is_serving(health: health_pb2_grpc.HealthStub, service: str) -> bool:
    """Whether a health check says SERVING."""
    try:
        answer = health.Check(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(service=service), timeout=2
        )
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class LocalStack:
    """Redis, trainer and inference on this machine, from `start` to `stop`.

    `environment` adds to or overrides what the services are told. Each picks a free port unless told otherwise;
    `trainer.address` and `inference.address` say which.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        log_to_file: bool = True,
        append_only: bool = False,
    ) -> None:
        # /tmp and not TMPDIR: the path of a Unix socket must be short.
        self._log_to_file = log_to_file
        self.folder = Path(tempfile.mkdtemp(prefix="weightcast-", dir="/tmp"))
        self.redis = EmbeddedRedis(self.folder, append_only=append_only)
        listening = ("TRAINER_LISTEN", "INFERENCE_LISTEN", "INFERENCE_METRICS_LISTEN")
        any_port = {f"WEIGHTCAST_{name}": "127.0.0.1:0" for name in listening}
        told = {"WEIGHTCAST_REDIS_URL": self.redis.url, **any_port, **(environment or {})}
        self.trainer = ServiceProcess("trainer_service", self.folder, told, log_to_file=log_to_file)
        self.inference = ServiceProcess("inference_service", self.folder, told, log_to_file=log_to_file)

    def start(self) -> None:
        """Starts everything; returns when the trainer is ready and the inference service answers.

        Raises:
            StackError, EmbeddedRedisError: if something does not start; what did start is stopped.
        """
        try:
            self.redis.start()
            self.trainer.start()
            self.inference.start()
            self.trainer.wait_until("")
            self.inference.wait_until("liveness")
        except BaseException:
            self.stop()
            if not self._log_to_file:  # otherwise the error names a log that lies there
                self.remove_files()
            raise

    def stop(self) -> None:
        """Stops everything in order: first who takes requests, last who keeps the data."""
        self.inference.stop()
        self.trainer.stop()
        self.redis.stop()

    def check(self) -> None:
        """Returns if everything still runs.

        Raises:
            StackError: naming what has ended.
        """
        running = {"redis-server": self.redis.process, **{s.module: s.process for s in (self.trainer, self.inference)}}
        for name, process in running.items():
            if process is None or process.poll() is not None:
                raise StackError(f"{name} has ended by itself")

    def remove_files(self) -> None:
        """Removes the logs and the data."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind in (None, KeyboardInterrupt):  # otherwise the logs say what went wrong
            self.remove_files()
