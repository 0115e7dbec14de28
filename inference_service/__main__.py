"""The inference service's composition root: reads settings once, wires, serves, and shuts down in order."""

from inference_service.process_tuning import choose_experiments, keep_large_blocks
from shared.blas import choose_kernel, running_kernel

choose_kernel()  # before anything below loads NumPy …
choose_experiments()  # … or grpcio

from inference_service.members import membership, supervise_if_several

if __name__ == "__main__":
    supervise_if_several()  # a process that only watches over others ends here, and loads nothing of what follows

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from threadpoolctl import threadpool_limits

from inference_service.answering import Answering
from inference_service.board import Board
from inference_service.classification import Classification
from inference_service.classify_protocol import ClassifyProtocol, ClassifyStreamProtocol
from inference_service.infer_protocol import InferProtocol, InferStreamProtocol
from inference_service.joint_status import JointStatus
from inference_service.model_manager import ModelManager
from inference_service.open_inference_servicer import OpenInferenceServicer
from inference_service.polling_loop import PollingLoop, begin
from inference_service.public_methods import PublicMethods
from inference_service.servicer import InferenceServicer
from inference_service.statistics import Statistics
from inference_service.watcher import Watcher
from shared import logs
from shared.grpc_server import Server, wait_for_signal
from shared.pb.inference import open_inference_service_pb2
from shared.pb.inference.open_inference_service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from shared.process_supervisor import end_with_supervisor
from shared.settings import InferenceSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore

log = structlog.get_logger()


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = load(InferenceSettings)
    member = membership()
    logs.configure(settings.log_level, f"inference-{member.number}" if member else "inference")
    threadpool_limits(1)  # requests run side by side; BLAS threads of their own would only fight over the cores

    statistics = Statistics()
    board = Board(member.board if member else None, statistics.snapshot)
    joint = JointStatus(board, lambda name, serving: server.health.set_serving(name, serving=serving))
    connection = StoreConnection(settings.redis_url)
    store = ModelStore(connection)
    manager = ModelManager(store, settings.inference_pinned_versions, joint.announce)
    watcher = Watcher(store.model_names, ModelEvents(connection), manager, settings.inference_reconcile_seconds)
    pool = ThreadPoolExecutor(settings.inference_threads, thread_name_prefix="rpc")
    classification = Classification(manager, settings.inference_max_batch_rows, statistics)
    answering = Answering(classification, pool, settings.inference_max_waiting_bytes)
    protocols = (ClassifyProtocol(), ClassifyStreamProtocol(), InferProtocol(), InferStreamProtocol())
    server = Server(
        settings.inference_listen,
        pool,
        settings.inference_max_message_bytes,
        settings.port_file,
        interceptors=[PublicMethods(protocols, answering)],
        shared_port=member is not None,
    )
    servicer = InferenceServicer(  # type: ignore[abstract]  # what it lacks is answered from its bytes
        manager, joint, settings.inference_max_batch_rows
    )
    server.add(partial(add_InferenceServiceServicer_to_server, servicer), pb.DESCRIPTOR)
    open_servicer = OpenInferenceServicer(  # type: ignore[abstract]  # the same
        manager, joint, settings.inference_max_batch_rows, lambda: [statistics.snapshot(), *board.others_statistics()]
    )
    server.add(
        partial(add_GRPCInferenceServiceServicer_to_server, open_servicer), open_inference_service_pb2.DESCRIPTOR
    )

    if member:
        end_with_supervisor(board.orphan)
        joint.join(watcher.catch_up)
    server.start(partial(begin, PollingLoop(protocols, answering), settings.inference_polling))
    log.info("ready", blas_kernel=running_kernel())
    watcher.start()
    joint.start()
    wait_for_signal()
    server.stop(settings.shutdown_grace_seconds, answering.give_up)  # first finish what was accepted …
    watcher.stop()  # … with versions still arriving …
    joint.stop()
    connection.close()  # … and only then let go of the store


if __name__ == "__main__":
    keep_large_blocks()
    main()
