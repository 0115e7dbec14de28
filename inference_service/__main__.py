"""The inference service's composition root: reads settings once, wires, serves, and shuts down in order."""

from shared.blas import choose_kernel, running_kernel

choose_kernel()  # before anything below loads NumPy

from functools import partial

import structlog
from threadpoolctl import threadpool_limits

from inference_service.model_manager import ModelManager
from inference_service.servicer import InferenceServicer
from inference_service.watcher import Watcher
from shared import logs
from shared.grpc_server import READINESS, Server, wait_for_signal
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from shared.settings import InferenceSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore

log = structlog.get_logger()


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = load(InferenceSettings)
    logs.configure(settings.log_level, "inference")
    threadpool_limits(1)  # requests run side by side; BLAS threads of their own would only fight over the cores

    server = Server(
        settings.inference_listen,
        settings.inference_threads,
        settings.inference_max_message_bytes,
        settings.port_file,
    )

    def announce(model: str, ready: bool) -> None:  # noqa: FBT001 - a callback's argument
        server.health.set_serving(f"models/{model}", serving=ready)
        if ready:
            server.health.set_serving(READINESS, serving=True)

    connection = StoreConnection(settings.redis_url)
    store = ModelStore(connection)
    manager = ModelManager(store, settings.inference_pinned_versions, announce)
    watcher = Watcher(store.model_names, ModelEvents(connection), manager, settings.inference_reconcile_seconds)
    servicer = InferenceServicer(manager, settings.inference_max_batch_rows)
    server.add(partial(add_InferenceServiceServicer_to_server, servicer), pb.DESCRIPTOR)

    server.start()
    log.info("ready", blas_kernel=running_kernel())
    watcher.start()
    wait_for_signal()
    server.stop(settings.shutdown_grace_seconds)  # first finish what was accepted …
    watcher.stop()  # … with versions still arriving …
    connection.close()  # … and only then let go of the store


if __name__ == "__main__":
    main()
