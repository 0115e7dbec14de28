"""Clients of whichever server is the master now: of the service that Sentinels watch, or of one slot of a cluster.

Each connection asks for the master when it connects, and leaves a server that says it is none any more: a failover
costs a client its connections and nothing else. No lock is held while it asks, so a process may fork at any time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, TryAgainError
from redis.retry import Retry

from shared.store.address import Node

Options = dict[str, Any]
Ask = Callable[[redis.Redis, Node], Node | None]
ONCE = Retry(NoBackoff(), 0)  # whoever does not answer: the next one may
# What a server replies that is not, or not now, the master for what it was asked.
NO_MASTER = (redis.ReadOnlyError, AskError, ClusterDownError, TryAgainError)
# The same within the reply to a script, and to a command that had blocked; redis-py has no class for these.
READ_ONLY = "READONLY You can't write"
UNBLOCKED = "UNBLOCKED"


class MasterConnection(redis.Connection):
    """A connection to whatever `find_master` finds."""

    def __init__(self, *, find_master: Callable[[], Node], **options: Any) -> None:  # noqa: ANN401 - redis-py's
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._find_master = find_master

    def connect_check_health(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - redis-py's
        """Connects if it is not connected: the one place that redis-py comes by, the first time and after each loss."""
        if not self.is_connected:
            self.host, self.port = self._find_master()
        super().connect_check_health(*arguments, **{**options, "retry_socket_connect": False})

    def read_response(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's
        """A reply; one that says that the server is not the master is a lost connection, which its user tries again."""
        try:
            return super().read_response(*arguments, **options)
        except redis.ResponseError as error:
            if not is_no_master(error):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(f"{self.host}:{self.port} is not the master ({error})") from error


class EncryptedMasterConnection(MasterConnection, redis.SSLConnection):
    """The same over TLS."""


def master_client(find_master: Callable[[], Node], options: Options) -> redis.Redis:
    """A plain client whose connections are to the master. It asks for it with its first command."""
    own = {name: value for name, value in options.items() if name != "ssl"}
    connection_class = EncryptedMasterConnection if options.get("ssl") else MasterConnection
    return redis.Redis(
        connection_pool=redis.ConnectionPool(connection_class=connection_class, find_master=find_master, **own)
    )


def is_no_master(error: Exception) -> bool:
    """Whether a reply says that another server is the master, or will be."""
    return isinstance(error, NO_MASTER) or READ_ONLY in str(error) or str(error).startswith(UNBLOCKED)


class SentinelMaster:
    """Finds the master of a service. redis-py's own Sentinel reorders its list unlocked, and may lose one of them."""

    def __init__(self, sentinels: Sequence[Node], service: str, options: Options) -> None:
        self._sentinels = sentinels
        self._service = service
        self._options = options

    def __call__(self) -> Node:
        """The master's address.

        Raises:
            redis.ConnectionError: if no Sentinel that answers knows it.
        """
        return first_answer(self._sentinels, self._options, self._ask, f"the master of {self._service}")

    def _ask(self, sentinel: redis.Redis, _: Node) -> Node | None:
        found = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)  # type: ignore[no-untyped-call]
        return (found[0].decode(), int(found[1])) if found else None


class SlotMaster:
    """Finds the node that has the slot of a key."""

    def __init__(self, nodes: Sequence[Node], key: str, options: Options) -> None:
        self._first_nodes = nodes
        self._nodes = nodes
        self._slot = key_slot(key.encode())
        self._options = options

    def __call__(self) -> Node:
        """The node's address.

        Raises:
            redis.ConnectionError: if no node that answers knows it.
        """
        return first_answer(self._nodes, self._options, self._ask, f"the node that has slot {self._slot}")

    def _ask(self, client: redis.Redis, asked: Node) -> Node | None:
        ranges = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        master, nodes = None, []
        for first, last, *servers in ranges:
            found = [(host.decode() if host else asked[0], int(port)) for host, port, *_ in servers]
            nodes += found
            if first <= self._slot <= last:
                master = found[0]
        # Whoever is in the cluster now, and last the ones we were told of, should all of these be gone one day.
        self._nodes = tuple(dict.fromkeys((*nodes, *self._first_nodes)))
        return master


def first_answer(nodes: Sequence[Node], options: Options, ask: Ask, what: str) -> Node:
    """What the first node that knows it says.

    Raises:
        redis.ConnectionError: if none does; says why.
    """
    problems = []
    for host, port in nodes:
        with redis.Redis(host, port, **{**options, "retry": ONCE}) as client:
            try:
                if found := ask(client, (host, port)):
                    return found
            except redis.RedisError as error:
                problems.append(str(error))
            else:
                problems.append(f"{host}:{port} knows of none")
    raise redis.ConnectionError(f"nobody says where {what} is: {'; '.join(problems)}")
