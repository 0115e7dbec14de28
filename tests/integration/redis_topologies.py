"""Real Redis processes on loopback ports: a cluster, and a master with a replica that a Sentinel watches.

Each topology is a context manager that ends every process it started. All of them ask for a password.
"""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from client.embedded_redis import EmbeddedRedisError, find_redis_server
from shared.errors import StoreUnavailableError

HOST = "127.0.0.1"
NOBODY = f"{HOST}:1"  # an address where nothing listens
PASSWORD, SENTINEL_PASSWORD = "p@ss/w:rd?", "sent#inel"  # in a URL they need %-encoding
SERVICE = "mymaster"
DOWN_AFTER_MS = 500
NODE_TIMEOUT_MS = 2000  # not so short that a busy machine looks like a dead node
BUS_OFFSET = 10_000  # a cluster's nodes talk to each other so many ports above the one for clients
LARGEST_PORT = 65_535
SLOTS = 16_384
MASTERS = 3
START_ATTEMPTS = 5
DEADLINE_SECONDS = 30.0


class RedisProcess:
    """One redis-server, or one Sentinel, on a port of its own."""

    def __init__(self, folder: Path, arguments: Sequence[str], password: str, *, with_bus: bool = False) -> None:
        self._log = folder / "redis.log"
        self._arguments = (*arguments, "--bind", HOST, "--dir", str(folder))
        for _ in range(START_ATTEMPTS):
            self.port = free_port(with_bus=with_bus)
            self._client = redis.Redis(HOST, self.port, password=password, protocol=2)
            self._start()
            try:
                wait_until(self._answers, f"an answer; see {self._log}")
            except EmbeddedRedisError:  # somebody else took the port in between
                continue
            except BaseException:
                self.close()
                raise
            return
        raise EmbeddedRedisError(self._log.read_text())

    def ask(self, *arguments: str | int) -> Any:  # noqa: ANN401 - a reply's type depends on the command
        """Runs one command here, wherever its key belongs."""
        return self._client.execute_command(*arguments)  # type: ignore[no-untyped-call]

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends it if it runs."""
        self._client.close()
        if self._process.poll() is None:
            self.kill()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            command = (find_redis_server(), *self._arguments, "--port", str(self.port))
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise EmbeddedRedisError("it ended")
        try:
            return bool(self.ask("PING"))
        except redis.ConnectionError:
            return False


@dataclass(frozen=True)
class WatchedMaster:
    """A master, its replica, and the Sentinel that puts the one in the other's place."""

    master: RedisProcess
    replica: RedisProcess
    sentinel: RedisProcess

    @property
    def url(self) -> str:
        """As an operator writes it; at the first of the addresses nobody listens."""
        return (
            f"redis+sentinel://:{quote(PASSWORD, safe='')}@{NOBODY},{HOST}:{self.sentinel.port}/{SERVICE}"
            f"?sentinel_password={quote(SENTINEL_PASSWORD, safe='')}"
        )


@dataclass(frozen=True)
class Cluster:
    """Masters that share the slots, and a replica of one of them."""

    masters: Sequence[RedisProcess]
    replica: RedisProcess

    @property
    def url(self) -> str:
        """As an operator writes it; at the first of the addresses nobody listens."""
        known = ",".join(f"{HOST}:{master.port}" for master in self.masters[:2])
        return f"redis+cluster://:{quote(PASSWORD, safe='')}@{NOBODY},{known}"

    def master_of(self, key: str) -> RedisProcess:
        """The master that has a key's slot."""
        return self.masters[int(self.masters[0].ask("CLUSTER", "KEYSLOT", key)) * MASTERS // SLOTS]


@contextmanager
def watched_master() -> Iterator[WatchedMaster]:
    """Starts a master, a replica and a Sentinel, and yields them when the Sentinel knows both."""
    with process_starter() as start:
        login = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
        master = start(login)
        replica = start((*login, "--replicaof", HOST, str(master.port)))
        sentinel = start((), f"""
            requirepass {SENTINEL_PASSWORD}
            sentinel monitor {SERVICE} {HOST} {master.port} 1
            sentinel auth-pass {SERVICE} {PASSWORD}
            sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}
            sentinel failover-timeout {SERVICE} 2000
        """)  # fmt: skip

        def is_ready() -> bool:
            replicas = sentinel.ask("SENTINEL", "REPLICAS", SERVICE)
            return len(replicas) == 1 and b"ok" in replicas[0]  # its link to the master

        wait_until(is_ready, "the Sentinel knows the replica")
        yield WatchedMaster(master, replica, sentinel)


@contextmanager
def cluster(replica_of: str) -> Iterator[Cluster]:
    """Starts a cluster in which the master of the key `replica_of` has a replica, and yields it when all is well."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
    login = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
    with process_starter() as start:
        *masters, replica = (start((*options, *login)) for _ in range(MASTERS + 1))
        made = Cluster(masters, replica)
        bounds = [-(-SLOTS * index // MASTERS) for index in range(MASTERS + 1)]
        for epoch, (master, (first, end)) in enumerate(zip(masters, pairwise(bounds), strict=True), 1):
            master.ask("CLUSTER", "ADDSLOTS", *range(first, end))
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for node in (*masters[1:], replica):
            node.ask("CLUSTER", "MEET", HOST, masters[0].port)

        def know_each_other() -> bool:
            known = [node.ask("CLUSTER", "NODES") for node in (*masters, replica)]
            return all(len(nodes.splitlines()) == MASTERS + 1 and b"handshake" not in nodes for nodes in known)

        def is_ready() -> bool:
            are_well = all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in (*masters, replica))
            return are_well and replica.ask("INFO", "replication")["master_link_status"] == "up"

        wait_until(know_each_other, "the nodes know each other")
        replica.ask("CLUSTER", "REPLICATE", made.master_of(replica_of).ask("CLUSTER", "MYID").decode())
        wait_until(is_ready, "the cluster is well")
        yield made


@contextmanager
def process_starter() -> Iterator[Callable[..., RedisProcess]]:
    """A function that starts a redis-server, or a Sentinel if it is given a configuration."""
    with ExitStack() as stack:

        def start(arguments: Sequence[str], sentinel: str = "") -> RedisProcess:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wc-", dir="/tmp")))
            if sentinel:
                configuration = folder / "sentinel.conf"
                configuration.write_text(sentinel)
                process = RedisProcess(folder, (str(configuration), "--sentinel", *arguments), SENTINEL_PASSWORD)
            else:
                with_bus = "--cluster-enabled" in arguments
                process = RedisProcess(folder, ("--save", "", *arguments), PASSWORD, with_bus=with_bus)
            stack.callback(process.close)
            return process

        yield start


def free_port(*, with_bus: bool) -> int:
    """A port that nobody listens on now; nor on the one of a cluster's bus above it, if asked."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind((HOST, 0))
            port: int = first.getsockname()[1]
            if not with_bus:
                return port
            if port + BUS_OFFSET <= LARGEST_PORT and second.connect_ex((HOST, port + BUS_OFFSET)):
                return port


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Returns when `holds` does; fails naming `what` if it does not in time. A store that is away is not there yet."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            if holds():
                return
        except StoreUnavailableError:
            pass
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS:g} s: {what}"
        time.sleep(0.02)
