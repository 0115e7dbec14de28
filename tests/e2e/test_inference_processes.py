"""Several inference processes on one port: one to a client, also while they swap, die, start anew and stop."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import psutil  # type: ignore[import-untyped]
import pytest
from grpc_health.v1 import health_pb2_grpc

from client.errors import RpcError, rpc_errors
from client.inference_client import InferenceClient, tensor_of
from client.local_stack import LocalStack, is_serving
from inference_service.ports import KeptPort
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1.inference_service_pb2_grpc import InferenceServiceStub
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry
from tests.e2e.inference_pids import inference_pids, listening_pids
from tests.e2e.suspension import suspend
from tests.e2e.zeros import ROWS, snapshot_of_zeros

Until = Callable[..., None]
MODEL = "shared"
PROCESSES = 2
VERSIONS = 30
MOST_CONNECTIONS = 64  # after which both processes have some, but for once in 2^63


class Connection:
    """A TCP connection of its own, so that it always reaches the same process; grpc would share one per address."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(
            address, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
        )
        self._stub = InferenceServiceStub(self._channel)

    def answering_version(self) -> int:
        """The version that answers here."""
        request = pb.ClassifyRequest(model=MODEL, tensor=tensor_of(ROWS))
        with rpc_errors():
            return self._stub.Classify(request, timeout=20).served_by.version

    def live(self) -> pb.LoadedVersion:
        """What is said here to be live."""
        with rpc_errors():
            return self._stub.GetModelStatus(pb.GetModelStatusRequest(model=MODEL), timeout=20).status.live

    def is_serving(self, name: str) -> bool:
        """What a health check here says."""
        return is_serving(health_pb2_grpc.HealthStub(self._channel), name)

    def close(self) -> None:
        """Ends it."""
        self._channel.close()


@dataclass
class Service:
    """The inference service as several processes, with a store to publish to."""

    stack: LocalStack
    store: ModelStore
    registry: ModelRegistry
    connections: list[Connection] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where it is."""
        return self.stack.inference.address

    def supervisor(self) -> psutil.Process:
        """Who watches over the processes."""
        assert self.stack.inference.process is not None
        return psutil.Process(self.stack.inference.process.pid)

    def pids(self) -> set[int]:
        """The processes that answer."""
        return inference_pids(self.stack)

    def publish(self) -> int:
        """Publishes a version and returns its number."""
        number = max(self.store.aliases(MODEL).values(), default=0) + 1
        assert self.store.publish(MODEL, snapshot_of_zeros(MODEL, number), f"job-{number}").ref.version == number
        return number

    def connect(self) -> tuple[int, Connection]:
        """A new connection, and the pid of the process that it reaches."""
        before = self._callers()
        connection = Connection(self.address)
        self.connections.append(connection)
        connection.is_serving("liveness")
        ((pid, _),) = self._callers() - before
        return pid, connection

    def one_to_each(self) -> dict[int, Connection]:
        """A connection to each process, by its pid."""
        found: dict[int, Connection] = {}
        while found.keys() != self.pids():
            assert len(self.connections) < MOST_CONNECTIONS, f"only {found.keys()} of {self.pids()} answer"
            pid, connection = self.connect()
            found[pid] = connection
        return found

    def _callers(self) -> set[tuple[int, int]]:
        """Each process with each port from which it is called."""
        port = int(self.address.rpartition(":")[2])
        return {
            (pid, connection.raddr.port)
            for pid in self.pids()
            for connection in psutil.Process(pid).net_connections("tcp")
            if connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED
        }


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """Redis and the inference service; nobody trains."""
    told = {"WEIGHTCAST_INFERENCE_PROCESSES": str(PROCESSES), "WEIGHTCAST_INFERENCE_RECONCILE_SECONDS": "60"}
    made = LocalStack(told, append_only=True)
    made.redis.start()
    yield made
    made.stop()
    made.remove_files()


@pytest.fixture
def service(stack: LocalStack) -> Iterator[Service]:
    """The service, started if it does not run, with a version of the model."""
    if stack.inference.process is None:
        stack.inference.start()
        stack.inference.wait_until("liveness")
    connection = StoreConnection(stack.redis.url)
    running = Service(stack, ModelStore(connection), ModelRegistry(connection))
    with InferenceClient(running.address) as client:
        client.wait_for_version(MODEL, running.publish(), 20)
    yield running
    for each in running.connections:
        each.close()
    connection.close()


def test_all_processes_answer_on_one_port(service: Service, until: Until) -> None:
    """Each is reached, serves the model, and says that it is ready."""
    to = service.one_to_each()
    assert len(to) == PROCESSES
    assert service.supervisor().pid not in to
    for connection in to.values():
        assert connection.answering_version() == connection.live().version
        for name in ("", f"models/{MODEL}"):
            until(lambda connection=connection, name=name: connection.is_serving(name), f"readiness {name!r}")


def test_who_waited_for_a_version_gets_it_from_every_process(service: Service) -> None:
    """Whichever it asks, and after each of many versions."""
    connections = service.one_to_each().values()
    with InferenceClient(service.address) as client:
        for _ in range(VERSIONS):
            number = service.publish()
            client.wait_for_version(MODEL, number, 20)
            assert [connection.answering_version() for connection in connections] == [number] * PROCESSES


def test_a_version_is_live_only_when_the_last_process_serves_it(service: Service, until: Until) -> None:
    """While one lags behind, the others say what it still answers by; so on the way back to an older one."""
    (lagging, behind), (_, ahead) = service.one_to_each().items()
    process = psutil.Process(lagging)
    before = ahead.live().version
    suspend(process)
    try:
        number = service.publish()
        until(lambda: ahead.answering_version() == number, "the new version")
        assert ahead.live().version == before
    finally:
        process.resume()
    until(lambda: ahead.live().version == number, "that it is live")
    assert behind.answering_version() == behind.live().version == number
    suspend(process)
    try:
        service.registry.promote(MODEL, before)
        until(lambda: ahead.answering_version() == before, "the old version again")
        assert ahead.live().version == number
    finally:
        process.resume()
    until(lambda: ahead.live().version == before, "that it is live again")
    assert behind.answering_version() == before


class Callers:
    """Requests one after the other, each on a connection of its own, and what became of them."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.versions: list[int] = []
        self.failures: list[RpcError] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.005):
            connection = Connection(self._address)
            try:
                self.versions.append(connection.answering_version())
            except RpcError as error:
                self.failures.append(error)
            finally:
                connection.close()


def test_a_process_that_is_killed_is_started_again(service: Service, until: Until) -> None:
    """Only what it had accepted fails; the new one answers as the others do from its first request, and swaps too."""
    killed, *_ = before = service.pids()
    connections = service.one_to_each()
    with Callers(service.address) as callers:
        until(lambda: len(callers.versions) > 10, "requests")
        psutil.Process(killed).send_signal(signal.SIGKILL)
        until(lambda: len(service.pids() - before) == 1, "another process")
        until(lambda: connections[next(iter(before - {killed}))].is_serving(""), "readiness")
        (started,) = service.pids() - before
        until(lambda: len(listening_pids(service.stack)) == PROCESSES, "that it listens")
        failed, answered = len(callers.failures), len(callers.versions)
        until(lambda: len(callers.versions) > answered + 50, "50 more requests")
        assert len(callers.failures) == failed
        number = service.publish()
        with InferenceClient(service.address) as client:
            client.wait_for_version(MODEL, number, 20)
        until(lambda: number in callers.versions, "an answer by it")
    answers = {pid: each.answering_version() for pid, each in service.one_to_each().items()}
    assert answers == dict.fromkeys(service.pids(), number)
    assert service.pids() == {started, *before} - {killed}
    assert {error.code for error in callers.failures} <= {grpc.StatusCode.UNAVAILABLE}
    assert [error.reason for error in callers.failures if error.reason] == []  # refused by no process, only cut off
    assert f'"pid": {killed}, "exit_code": -9' in log_of(service)


def test_a_process_that_starts_while_the_store_is_away_is_not_reached(service: Service, until: Until) -> None:
    """It could answer nothing, so the others answer alone until it can."""
    before = service.pids()
    version = max(service.store.aliases(MODEL).values())
    service.stack.redis.kill()
    try:
        psutil.Process(min(before)).send_signal(signal.SIGKILL)
        until(lambda: len(service.pids() - before) == 1, "another process")
        (started,) = service.pids() - before
        waiting = f'"models": ["{MODEL}"], "event": "waiting until this process can answer what others can"'
        until(lambda: waiting in log_of(service), "that it waits")
        with Callers(service.address) as callers:
            until(lambda: len(callers.versions) + len(callers.failures) >= 50, "50 requests")
        assert callers.failures == []
        assert set(callers.versions) == {version}
        assert started not in listening_pids(service.stack)
    finally:
        service.stack.redis.start()
    until(lambda: started in listening_pids(service.stack), "that it listens")
    assert service.one_to_each()[started].answering_version() == version


def log_of(service: Service) -> str:
    """What the processes have written."""
    assert service.stack.inference.log_path is not None
    return service.stack.inference.log_path.read_text()


def test_a_second_service_finds_the_port_taken(service: Service) -> None:
    """Though it would share the port with processes of its own; it names the setting, and ends."""
    result = subprocess.run(
        [sys.executable, "-m", "inference_service"],
        env={
            "WEIGHTCAST_INFERENCE_LISTEN": service.address,
            "WEIGHTCAST_INFERENCE_PROCESSES": str(PROCESSES),
            "WEIGHTCAST_REDIS_URL": service.stack.redis.url,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    for word in ("WEIGHTCAST_INFERENCE_LISTEN", service.address, "in use"):
        assert word in result.stderr
    assert "Traceback" not in result.stderr


def board_of(pid: int) -> Path:
    """The folder that a process was told."""
    return Path(psutil.Process(pid).cmdline()[-1])


def test_told_to_stop_all_end_in_order(service: Service) -> None:
    """The supervisor's exit code is 0, and nothing of theirs is left."""
    pids = service.pids()
    board = board_of(min(pids))
    assert len(list(board.glob("standing-*.json"))) == PROCESSES
    assert service.stack.inference.stop() == 0
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert not board.exists()


def test_the_processes_end_with_their_supervisor(service: Service, until: Until) -> None:
    """Also if it is killed: the port is free again."""
    pids = service.pids()
    board = board_of(min(pids))
    service.stack.inference.kill()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the end of its processes")
    assert not board.exists()
    KeptPort(service.address).close()
