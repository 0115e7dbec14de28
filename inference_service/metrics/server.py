"""Where `/metrics` is: a small HTTP server beside the service, which costs nothing while nobody asks.

The address is taken at once, so that one that is taken already is an error at the start. What answers is loaded
afterwards, for that takes longer and nobody has to wait for it.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import structlog

from inference_service.metrics.totals import Reading
from shared.settings import OFF, InferenceSettings
from shared.whole_files import write_whole

SETTING = "WEIGHTCAST_INFERENCE_METRICS_LISTEN"
MOST_CONNECTIONS = 8  # others wait for one of these to end
LONGEST_SECONDS = 10.0  # that a connection may take: who is slow or stuck must not keep a thread
POLL_SECONDS = 0.2
log = structlog.get_logger()


class MetricsServer:
    """Answers at the address of the settings, if they have one, from `start` to `stop`.

    Ends the process with status 1 and a message if the address cannot be listened on.
    """

    def __init__(self, settings: InferenceSettings) -> None:
        self._port_file = settings.metrics_port_file
        self._server: BoundedServer | None = None
        self._thread: threading.Thread | None = None
        if (listen := settings.inference_metrics_listen) == OFF:
            return
        try:
            self._server = BoundedServer(listening(listen))
        except OSError as error:
            sys.exit(
                f"{SETTING}: cannot listen on {listen}: {error.strerror}; "
                f"end the program that has the port, choose another, or say {OFF!r}"
            )

    def start(self, read: Callable[[], Reading], processes: Callable[[], int]) -> None:
        """Begins to answer with what `read` gives; `processes` says how many answer requests."""
        if self._server is None:
            return
        address, port = self._server.socket.getsockname()[:2]
        log.info("metrics", address=address, port=port)
        if self._port_file is not None:
            write_whole(self._port_file, str(port))
        self._thread = threading.Thread(target=self._server.run, args=(read, processes), name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes no more connections; one that is being answered has until the process ends."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            if self._thread is not None:
                self._thread.join()
            server.server_close()


class BoundedServer(ThreadingTCPServer):
    """A thread for each connection, but few at a time and none for long."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, taken: socket.socket) -> None:
        super().__init__(("", 0), BaseRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = taken
        self._ends: dict[socket.socket, float] = {}  # of connections, as times of time.monotonic
        self._stopping = threading.Event()

    def run(self, read: Callable[[], Reading], processes: Callable[[], int]) -> None:
        """Answers until it is told to stop."""
        from inference_service.metrics.handler import handler  # noqa: PLC0415 - it takes 80 ms, see above

        self.RequestHandlerClass = handler(read, processes)
        while not self._stopping.is_set():
            if len(self._ends) < MOST_CONNECTIONS:
                self.timeout = POLL_SECONDS if self._ends else None
                self.handle_request()
            else:
                self._stopping.wait(POLL_SECONDS)
            for connection, end in list(self._ends.items()):
                if time.monotonic() > end:
                    with suppress(OSError):  # it has just ended
                        connection.shutdown(socket.SHUT_RDWR)  # which wakes the one who waits for it

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()
        self.socket.shutdown(socket.SHUT_RDWR)  # which wakes it

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        try:
            connection, address = super().get_request()
        except OSError:  # such as no more files: that must not be tried in a tight loop
            self._stopping.wait(POLL_SECONDS)
            raise
        self._ends[connection] = time.monotonic() + LONGEST_SECONDS
        return connection, address

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as it is inherited
        """Lets go of a connection."""
        super().shutdown_request(request)
        self._ends.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the same
        """Says what went wrong, unless it is only that the other side is gone."""
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("the metrics cannot be told")  # noqa: LOG004 - it is called by one


def listening(address: str) -> socket.socket:
    """A socket that listens on "host:port".

    Raises:
        OSError: if it cannot.
    """
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, sockaddr = found[0]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # [::] is every address, as it is to gRPC
    return socket.create_server(sockaddr[:2], family=family, backlog=MOST_CONNECTIONS, dualstack_ipv6=both)
