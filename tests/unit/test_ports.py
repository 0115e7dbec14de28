"""A port that is kept: nobody else's, and open to those who share it."""

import socket
from collections.abc import Iterator

import pytest

from inference_service.ports import KeptPort


def listener(port: int, *, shares: bool, host: str = "127.0.0.1") -> socket.socket:
    """A server as gRPC makes one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        made.bind((host, port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


@pytest.fixture
def kept() -> Iterator[KeptPort]:
    """A port of the system's choice."""
    port = KeptPort("127.0.0.1:0")
    yield port
    port.close()


def test_those_who_share_listen_together(kept: KeptPort) -> None:
    """And all who call reach one of them, never the keeper."""
    assert kept.address == f"127.0.0.1:{kept.port}"
    servers = [listener(kept.port, shares=True) for _ in range(2)]
    clients = [socket.create_connection(("127.0.0.1", kept.port)) for _ in range(40)]
    for server in servers:
        server.settimeout(0)
    accepted = [0, 0]
    for index, server in enumerate(servers):
        while True:
            try:
                connection, _ = server.accept()
            except BlockingIOError:
                break
            accepted[index] += 1
            connection.close()
    for each in (*servers, *clients):
        each.close()
    assert sum(accepted) == len(clients)
    assert all(accepted)


def test_nobody_else_gets_it(kept: KeptPort) -> None:
    """Neither a program that would listen alone nor a second keeper, before anybody listens."""
    with pytest.raises(OSError, match="in use"):
        listener(kept.port, shares=False)
    with pytest.raises(OSError, match="in use"):
        KeptPort(kept.address)


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_that_is_taken_is_not_kept(*, shares: bool) -> None:
    """Also where its owner would share it."""
    with listener(0, shares=shares) as taken, pytest.raises(OSError, match="in use"):
        KeptPort(f"127.0.0.1:{taken.getsockname()[1]}")


def test_what_is_let_go_can_be_had_again(kept: KeptPort) -> None:
    """At once, connections that ended just now or not."""
    with listener(kept.port, shares=True) as server:
        client = socket.create_connection(("127.0.0.1", kept.port))
        accepted, _ = server.accept()
        accepted.close()  # who closes first is the one who remembers it for a minute
        client.close()
    kept.close()
    KeptPort(kept.address).close()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "localhost:0", "[::1]:0"])
def test_a_host_may_be_written_as_any_address(listen: str) -> None:
    """All interfaces, a name, or IPv6 in brackets."""
    if listen.startswith("[") and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    kept = KeptPort(listen)
    assert kept.address == f"{listen.rpartition(':')[0]}:{kept.port}"
    assert kept.port > 0
    with pytest.raises(OSError, match="in use"):
        KeptPort(kept.address)
    kept.close()


def test_an_address_of_another_machine_is_refused() -> None:
    """It is for documentation and nobody's."""
    with pytest.raises(OSError, match="assign"):
        KeptPort("192.0.2.1:0")
