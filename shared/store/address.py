"""Where Redis is, as WEIGHTCAST_REDIS_URL says it: one server, a master that Sentinels watch, or a cluster.

Nothing here connects, and no message shows what a URL holds, for that may be a password.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import SplitResult, unquote, urlsplit


class Topology(Enum):
    """What answers at an address, with the form that its URL has."""

    SERVER = "redis://[user:password@]host[:6379][/DB], rediss:// over TLS, or unix:///path"
    SENTINEL = "redis+sentinel://[user:password@]host[:26379][,host…]/SERVICE[/DB], rediss+sentinel:// over TLS"
    CLUSTER = "redis+cluster://[user:password@]host[:6379][,host…] without a database, rediss+cluster:// over TLS"


SCHEMES = {
    "redis": Topology.SERVER,
    "rediss": Topology.SERVER,
    "unix": Topology.SERVER,
    "redis+sentinel": Topology.SENTINEL,
    "rediss+sentinel": Topology.SENTINEL,
    "redis+cluster": Topology.CLUSTER,
    "rediss+cluster": Topology.CLUSTER,
}
DEFAULT_PORT, DEFAULT_SENTINEL_PORT = 6379, 26379
SERVICE = re.compile(r"[A-Za-z0-9._-]+")  # what Sentinel takes for a name; one that is none may be half a password
ENCODING = "'#', '/', '?' and '@' in a password must be %-encoded"
ANY_HOST = "host"  # in the URL of one server that stands for several
Node = tuple[str, int]


@dataclass(frozen=True)
class RedisAddress:
    """A URL, read. `nodes` are the Sentinels, or some of the cluster's; `service` is the master's name with Sentinels.

    `name` is for messages. `client_url` is one server's URL, with user, password, database and options given.
    """

    topology: Topology
    name: str
    client_url: str = field(repr=False)
    nodes: tuple[Node, ...] = ()
    service: str = ""


def parse(url: str) -> RedisAddress:
    """Reads a URL.

    Raises:
        ValueError: if it has none of the known forms; says which it should have.
    """
    topology = SCHEMES.get(url.partition("://")[0])
    if topology is None:
        raise ValueError(f"expected one of {', '.join(f'{known}://' for known in SCHEMES)}; {ENCODING}")
    try:
        parts = urlsplit(url)
        address = _server(url, parts) if topology is Topology.SERVER else _group(topology, parts)
    except ValueError:  # its message may quote the URL
        address = None
    if address is None or parts.fragment:
        raise ValueError(f"expected {topology.value}; {ENCODING}")
    return address


def _server(url: str, parts: SplitResult) -> RedisAddress | None:
    if parts.scheme == "unix":
        return RedisAddress(Topology.SERVER, unquote(parts.path), url) if parts.path else None
    host, port = _node(parts.netloc.rpartition("@")[2], DEFAULT_PORT)
    return RedisAddress(Topology.SERVER, f"{host}:{port}", url)


def _group(topology: Topology, parts: SplitResult) -> RedisAddress | None:
    """The address of what consists of several servers."""
    credentials, at, hosts = parts.netloc.rpartition("@")
    is_cluster = topology is Topology.CLUSTER
    nodes = tuple(_node(host, DEFAULT_PORT if is_cluster else DEFAULT_SENTINEL_PORT) for host in hosts.split(","))
    named = ",".join(f"{host}:{port}" for host, port in nodes)
    service, _, database = parts.path.strip("/").partition("/")
    if is_cluster:
        name = f"cluster {named}"
        is_usable = not service
    else:
        name = f"sentinel {service} via {named}"
        is_usable = bool(SERVICE.fullmatch(service)) and (database.isdecimal() or not database)
    client_url = f"{parts.scheme.partition('+')[0]}://{credentials}{at}{ANY_HOST}/{database}?{parts.query}"
    return RedisAddress(topology, name, client_url, nodes, service) if is_usable else None


def _node(text: str, default_port: int) -> Node:
    """A host with its port.

    Raises:
        ValueError: if it is none.
    """
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.port == 0:
        raise ValueError
    return parts.hostname, parts.port or default_port
