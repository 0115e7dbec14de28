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
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection

from shared.grpc_errors import ErrorInterceptor
from shared.process_supervisor import stop_request
from shared.whole_files import write_whole

# The health service that is SERVING as long as the process runs; readiness is "", the server as a whole.
LIVENESS = "liveness"
READINESS = ""
ENDING_SECONDS = 3.0  # for calls that were cancelled to come to an end
log = structlog.get_logger()


class Health:
    """What health checks answer. A check by name is NOT_SERVING until it is set."""

    def __init__(self) -> None:
        self.servicer = HealthServicer(experimental_non_blocking=True)
        self._states: dict[str, bool] = {}
        self.set_serving(LIVENESS, serving=True)
        self.set_serving(READINESS, serving=False)

    def set_serving(self, name: str, *, serving: bool) -> None:
        """Changes what a check by `name` answers; who watches it is told when it differs."""
        if self._states.get(name) is not serving:
            self._states[name] = serving
            self.servicer.set(name, HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)

    def shut_down(self) -> None:
        """Answers NOT_SERVING to everything from now on."""
        self.servicer.enter_graceful_shutdown()


class Server:
    """A gRPC server with health, reflection and the error mapping."""

    def __init__(
        self,
        listen: str,
        pool: ThreadPoolExecutor,
        max_message_bytes: int,
        port_file: Path | None = None,
        *,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        shared_port: bool = False,
    ) -> None:
        self.health = Health()
        self._listen = listen
        self._port_file = port_file
        self._names = [HEALTH_SERVICE, reflection.SERVICE_NAME]
        self._server = grpc.server(
            pool,
            interceptors=[ErrorInterceptor(), *interceptors],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(shared_port)),  # or a port that is taken is an error, no second listener
                # Who vanished without a word must not keep a stream, and a thread with it.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, self._server)

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

    def stop(self, grace_seconds: float, give_up: Callable[[], None] = lambda: None) -> None:
        """Says NOT_SERVING, refuses new calls, waits for the accepted ones, calls `give_up`, and ends what is left."""
        self.health.shut_down()
        stopped = self._server.stop(grace_seconds)
        if not stopped.wait(grace_seconds):
            give_up()
            if not stopped.wait(ENDING_SECONDS):
                log.warning("calls that do not end are left behind")


def wait_for_signal() -> None:
    """Returns when the process is asked to end by SIGTERM or SIGINT."""
    stop_request().wait()
    log.info("stopping")
