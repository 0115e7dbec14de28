"""A connection to Redis whose failures speak the domain's language: to one server, a Sentinel's master, or a cluster.

Every command goes through `command` or `commands` or a script made here, so no caller can forget to translate an error.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import AskError, ClusterError, NoScriptError, RedisClusterException, SlotNotCoveredError
from redis.retry import Retry

from shared.errors import StoreUnavailableError
from shared.store.address import RedisAddress, Topology, parse
from shared.store.keys import RQ_PREFIX
from shared.store.masters import Options, SentinelMaster, SlotMaster, is_no_master, master_client

SOCKET_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 2.0
# Read as "cannot answer now": no connection, no answer in time, or too many servers that sent us on to another.
UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError, ClusterError, SlotNotCoveredError)
# The same, said by a reply that redis-py has no class for: its first word.
UNAVAILABLE_REPLIES = frozenset({"NOREPLICAS", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"})
# The same, said by the cluster's client when it looks for the nodes, in a class that it uses for our mistakes too.
NO_CLUSTER = ("Redis Cluster cannot be connected", "All slots are not covered", "startup_nodes could not agree")
FULL = "OOM command not allowed"  # stands within the reply where a script was refused

Argument = str | bytes | int | float
Script = Callable[[Sequence[str], Sequence[Argument]], Any]
Client = redis.Redis | RedisCluster


def connect(url: str) -> Client:
    """The client for `url`, which tries a lost connection once more by itself.

    It connects with its first command; a cluster's does so at once, for it must know which node has what.
    """
    address = parse(url)
    if address.topology is Topology.SERVER:
        return redis.Redis.from_url(url, **patience())
    options = options_of(address)
    if address.topology is Topology.SENTINEL:
        asking = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        common = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl", "protocol"))}
        return master_client(SentinelMaster(address.nodes, address.service, {**common, **asking}), options)
    nodes = [ClusterNode(*node) for node in address.nodes]  # type: ignore[no-untyped-call]
    # Whether a part of the cluster answers without the rest is for the cluster's own settings to say.
    return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)


def patience() -> Options:
    """How long a client waits, and how often it tries."""
    return {
        "protocol": 2,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "retry": Retry(ConstantBackoff(0.05), 1),
    }


def options_of(address: RedisAddress) -> Options:
    """What the URL says of each server of several: user, password, database, and whatever stands in its query."""
    options: Options = parse_url(address.client_url)  # type: ignore[no-untyped-call]
    del options["host"]
    return {**patience(), **({"ssl": True} if options.pop("connection_class", None) else {}), **options}


class StoreConnection:
    """What the stores use of Redis. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._redis = parse(url)
        self.address = self._redis.name
        self.is_cluster = self._redis.topology is Topology.CLUSTER
        self._client: Client | None = None if self.is_cluster else connect(url)
        self._lock = threading.Lock()
        self._is_closed = False

    def command(self, *arguments: Argument) -> Any:  # noqa: ANN401 - a reply's type depends on the command
        """Runs one command and returns its reply.

        Raises:
            StoreUnavailableError: if Redis cannot be reached or cannot take it.
        """
        with self.translated():
            return self._run(*arguments)

    def commands(self, several: Sequence[Sequence[Argument]]) -> list[Any]:
        """Runs commands that do not depend on each other in one round trip, and returns their replies in order.

        Raises:
            StoreUnavailableError: if Redis cannot be reached or cannot take one of them.
        """
        if not several:
            return []
        with self.translated(), self.client.pipeline(transaction=False) as pipeline:
            for arguments in several:
                pipeline.execute_command(*arguments)
            return pipeline.execute()

    def script(self, package: str, name: str) -> Script:
        """The Lua script `name` that lies in `package`: `lua` of its text."""
        return self.lua(files(package).joinpath(name).read_text(encoding="utf-8"))

    def lua(self, text: str) -> Script:
        """A Lua script as a function of keys and arguments. It runs atomically; its keys must have one hash tag."""
        digest = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - what Redis calls a script by

        def run(keys: Sequence[str], arguments: Sequence[Argument]) -> Any:  # noqa: ANN401 - as above
            call = (len(keys), *keys, *arguments)
            with self.translated():
                try:
                    return self._run("EVALSHA", digest, *call)
                except NoScriptError:
                    # Not by SCRIPT LOAD, for which every master of a cluster would have to be up.
                    return self._run("EVAL", text, *call)

        return run

    def _run(self, *arguments: Argument) -> Any:  # noqa: ANN401 - as above
        return self.client.execute_command(*arguments)  # type: ignore[no-untyped-call]

    @property
    def client(self) -> Client:
        """The client of redis-py. A cluster's is made when it is asked for, and made anew after the cluster was away.

        Raises:
            redis.RedisError, RedisClusterException: if the cluster cannot be reached.
        """
        if (client := self._client) is not None:
            return client
        if self._is_closed:
            raise RuntimeError("this connection is closed")
        made = connect(self._url)  # without the lock: when it takes long, nobody shall wait for others' turns too
        with self._lock:
            if self._client is None and not self._is_closed:
                self._client = made
                return made
        made.close()
        return self.client

    @cached_property
    def queue_client(self) -> redis.Redis:
        """A plain client of the master that has all keys of rq. They are in one slot, for rq moves jobs between them.

        rq cannot work with a cluster's client, which neither watches keys in a pipeline nor has a connection pool.
        """
        if isinstance(self._client, redis.Redis):
            return self._client
        options = options_of(self._redis)
        return master_client(SlotMaster(self._redis.nodes, RQ_PREFIX, options), options)

    def close(self) -> None:
        """Closes every connection; commands that block in other threads fail."""
        with self._lock:
            self._is_closed = True
        for client in {self._client, self.__dict__.get("queue_client")}:
            if client is not None:
                client.close()
            if isinstance(client, redis.Redis):
                client.connection_pool.disconnect()
        if self.is_cluster:
            self._client = None

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translates the errors of whatever uses a client in this block, as rq does."""
        try:
            yield
        except (redis.RedisError, RedisClusterException) as error:
            if isinstance(error, redis.OutOfMemoryError) or FULL in str(error):
                raise StoreUnavailableError(
                    f"Redis at {self.address} is full ({error}); raise its maxmemory, or remove a data set or a version"
                ) from error
            if not is_away(error):
                raise
            self._leave_cluster()
            is_part = isinstance(error, AskError) and self._redis.topology is Topology.SERVER
            remedy = "it is a node of a cluster: say redis+cluster:// in" if is_part else "start it, or correct"
            raise StoreUnavailableError(
                f"Redis at {self.address} is not available ({error}); {remedy} WEIGHTCAST_REDIS_URL"
            ) from error

    def _leave_cluster(self) -> None:
        """Makes the next command look for the cluster from the start.

        Its client knows only the nodes that there were when it last could ask, and needs the first of them for some
        commands: it may not get well by itself.
        """
        with self._lock:
            client = self._client
            if not isinstance(client, RedisCluster):
                return
            self._client = None
        for node in client.get_nodes():  # type: ignore[no-untyped-call]
            if node.redis_connection:  # other threads may be using it still
                node.redis_connection.connection_pool.disconnect(inuse_connections=False)


def is_away(error: Exception) -> bool:
    """Whether an error of redis-py says that Redis cannot answer now."""
    return (
        isinstance(error, UNAVAILABLE)
        or is_no_master(error)
        or str(error).partition(" ")[0] in UNAVAILABLE_REPLIES
        or str(error).startswith(NO_CLUSTER)
    )
