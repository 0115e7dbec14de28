"""How a gRPC server of this product is made, started and stopped: one way for both services.

It answers health and reflection beside its own services, maps errors, and on SIGTERM or SIGINT says NOT_SERVING, lets
accepted calls finish within the grace period, and then ends.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from pathlib import Path

import grpc
import structlog
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection

from shared.grpc_errors import ErrorInterceptor
from shared.health import Health
from shared.process_supervisor import stop_request
from shared.whole_files import write_whole

NO_LIMIT = 2**31 - 1
# What a connection may send before anybody wants it; a message that is awaited is let through whole. Half of it costs
# batches of 3 MiB a tenth of their rate.
READ_AHEAD_BYTES = 2**21
ENDING_SECONDS = 3.0  # for calls that were cancelled to come to an end
log = structlog.get_logger()


class Server:
    """A gRPC server with health, reflection and the error mapping.

    `outermost` see what the error mapping made of each call, `interceptors` what it has yet to map. Of the calls that
    grpcio is left to serve, it refuses what is more than `max_calls` at a time; of all calls on one connection, what is
    more than `max_connection_calls` waits in the client.
    """

    def __init__(
        self,
        listen: str,
        pool: ThreadPoolExecutor,
        max_message_bytes: int,
        port_file: Path | None = None,
        *,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        outermost: Sequence[grpc.ServerInterceptor] = (),
        shared_port: bool = False,
        max_calls: int | None = None,
        max_connection_calls: int = NO_LIMIT,
    ) -> None:
        self.health = Health()
        self._listen = listen
        self._port_file = port_file
        self._names = [HEALTH_SERVICE, reflection.SERVICE_NAME]
        self._server = grpc.server(
            pool,
            interceptors=[*outermost, ErrorInterceptor(), *interceptors],
            maximum_concurrent_rpcs=max_calls,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(shared_port)),  # or a port that is taken is an error, no second listener
                ("grpc.max_concurrent_streams", max_connection_calls),
                # Or core refuses streams by itself, without a word, while calls that have ended are not let go yet.
                ("grpc.http.overload_protection", 0),
                # By default the window grows with what core measures, and a gigabyte of messages may wait in memory.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", READ_AHEAD_BYTES),
                # Who vanished without a word must not keep a stream, and a thread with it.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)

    def add(self, register: Callable[[grpc.Server], None], schema: FileDescriptor) -> None:
        """Adds a servicer: the function that registers it, and the schema whose services reflection lists."""
        register(self._server)
        self._names.extend(service.full_name for service in schema.services_by_name.values())

    def start(self, begin: Callable[[grpc.Server], None] = methodcaller("start")) -> int:
        """Begins to answer, by `begin` where it is not grpcio's own way, and returns the port.

        Raises:
            RuntimeError: if the address cannot be listened on.
        """
        reflection.enable_server_reflection(self._names, self._server)
        port = self._server.add_insecure_port(self._listen)
        begin(self._server)
        log.info("listening", address=self._listen, port=port)
        if self._port_file is not None:
            write_whole(self._port_file, str(port))
        return port

    def stop(
        self,
        grace_seconds: float,
        *,
        drain: Callable[[], None] = lambda: None,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Says NOT_SERVING, lets `drain` see the last calls come, takes no more, and waits for the accepted ones.

        After the grace period it calls `give_up`, and ends what is left.
        """
        self.health.shut_down()
        drain()
        stopped = self._server.stop(grace_seconds)
        self.health.end_watches()
        if not stopped.wait(grace_seconds):
            give_up()
            if not stopped.wait(ENDING_SECONDS):
                log.warning("calls that do not end are left behind")


def wait_for_signal() -> None:
    """Returns when the process is asked to end by SIGTERM or SIGINT."""
    stop_request().wait()
    log.info("stopping")
