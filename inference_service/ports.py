"""Keeps a port for processes that will listen on it together, while none of them does.

Nobody is sent to whoever only keeps it: a kept socket never listens.
"""

import socket
from contextlib import suppress
from errno import EADDRNOTAVAIL, EAFNOSUPPORT

ABSENT = (EADDRNOTAVAIL, EAFNOSUPPORT)  # a host's name may stand for addresses that this machine does not have


class KeptPort:
    """A port from `listen` ("host:port") that is this user's until it is closed; `address` names it, port 0 resolved.

    Raises:
        OSError: if another program has the port, or the address cannot be had.
    """

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self.port = int(port)
        self._sockets: list[socket.socket] = []
        refusals: list[OSError] = []
        found = socket.getaddrinfo(host.strip("[]"), self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, *_, sockaddr in found:
            try:
                self._sockets.append(self._keep(family, (sockaddr[0], self.port, *sockaddr[2:])))
            except OSError as error:
                refusals.append(error)
                if error.errno not in ABSENT:
                    break
            self.port = self._sockets[0].getsockname()[1] if self._sockets else self.port
        if refusals and (not self._sockets or refusals[-1].errno not in ABSENT):
            self.close()
            raise refusals[-1]
        self.address = f"{host}:{self.port}"

    def close(self) -> None:
        """Lets go of it."""
        for kept in self._sockets:
            kept.close()

    @staticmethod
    def _keep(family: socket.AddressFamily, sockaddr: tuple[str | int, ...]) -> socket.socket:
        # First as if alone, which fails where anybody listens, those included who would share the port.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended do not count
            alone.bind(sockaddr)
            sockaddr = alone.getsockname()
        kept = socket.socket(family, socket.SOCK_STREAM)
        try:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                kept.setsockopt(socket.SOL_SOCKET, option, 1)
            kept.bind(sockaddr)
            with suppress(OSError):  # now only who shares may bind too, so that a second service here finds it taken
                kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            kept.close()
            raise
        return kept
