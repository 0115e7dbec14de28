"""The inference service's composition root: reads settings once, wires, serves, and shuts down in order."""

from inference_service.process_tuning import choose_experiments, keep_large_blocks, look_for_cycles_rarely
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
from inference_service.comparison import Comparisons
from inference_service.infer_protocol import InferProtocol, InferStreamProtocol
from inference_service.joint_status import JointStatus
from inference_service.limits import Limits
from inference_service.long_work import LongWork
from inference_service.metrics.counters import Counters
from inference_service.metrics.methods import CountedMethods
from inference_service.metrics.server import MetricsServer
from inference_service.metrics.statistics import Statistics
from inference_service.metrics.totals import read
from inference_service.open_inference_servicer import OpenInferenceServicer
from inference_service.polling_loop import PollingLoop, begin, is_tested
from inference_service.public_methods import PublicMethods
from inference_service.replying import Replying
from inference_service.request_log import RequestLog
from inference_service.servicer import InferenceServicer
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.snapshot_disk import SnapshotDisk
from inference_service.versions.watcher import Watcher
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

PROTOCOLS = (ClassifyProtocol(), ClassifyStreamProtocol(), InferProtocol(), InferStreamProtocol())
# A message of up to twice the limit is read and refused with a remedy; what is larger, gRPC itself refuses.
READ_FOR_ONE = 2
log = structlog.get_logger()


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = load(InferenceSettings)
    member = membership()
    logs.configure(settings.log_level, f"inference-{member.number}" if member else "inference")
    threadpool_limits(1)  # requests run side by side; BLAS threads of their own would only fight over the cores

    metrics = None if member else MetricsServer(settings)  # of several processes, the supervisor's tells for all
    counters = Counters(member.board, member.number) if member else Counters()
    statistics = Statistics(counters)
    board = Board(member.board if member else None)
    joint = JointStatus(board, lambda name, serving: server.health.set_serving(name, serving=serving))
    connection = StoreConnection(settings.redis_url)
    store = ModelStore(connection)
    disk = SnapshotDisk(settings.inference_snapshot_dir) if settings.inference_snapshot_dir else None
    manager = ModelManager(store, settings.inference_pinned_bytes, joint.announce, statistics, disk)
    watcher = Watcher(store.model_names, ModelEvents(connection), manager, settings.inference_reconcile_seconds)
    limits = limits_of(settings)
    pool = ThreadPoolExecutor(settings.inference_threads, thread_name_prefix="rpc")
    request_log = RequestLog(settings.log_level)
    answering = answering_by(manager, limits, pool, statistics, request_log)
    told = (PROTOCOLS, answering, statistics.method, request_log)
    server = server_of(settings, pool, PublicMethods(*told), statistics, shared_port=member is not None)
    add_services(server, manager, joint, limits, statistics)

    if member:
        end_with_supervisor(board.orphan)
        joint.join(watcher.catch_up)
    server.start(partial(begin, PollingLoop(*told), settings.inference_polling))
    if metrics:
        metrics.start(partial(read, counters), lambda: int(board.own.listening))
    log.info("ready", blas_kernel=running_kernel())
    watcher.start()
    joint.start()
    look_for_cycles_rarely()
    wait_for_signal()
    server.stop(  # first finish what was accepted …
        settings.shutdown_grace_seconds,
        drain=partial(answering.drain, settings.inference_drain_seconds),
        give_up=answering.give_up,
    )
    watcher.stop()  # … with versions still arriving …
    joint.stop()
    if metrics:
        metrics.stop()
    connection.close()  # … and only then let go of the store


def limits_of(settings: InferenceSettings) -> Limits:
    """How much one process takes."""
    return Limits(
        max_rows=settings.inference_max_batch_rows,
        max_message_bytes=settings.inference_max_message_bytes,
        max_in_flight=settings.inference_max_in_flight,
        max_waiting_bytes=settings.inference_max_waiting_bytes,
    )


def answering_by(
    manager: ModelManager, limits: Limits, pool: ThreadPoolExecutor, statistics: Statistics, request_log: RequestLog
) -> Answering:
    """What answers requests by the versions that `manager` holds."""
    replying = Replying(request_log)
    classification = Classification(manager, limits.max_rows, statistics, Comparisons(statistics))
    return Answering(classification, LongWork(classification, replying, pool), replying, limits, statistics)


def server_of(
    settings: InferenceSettings,
    pool: ThreadPoolExecutor,
    public_methods: PublicMethods,
    statistics: Statistics,
    *,
    shared_port: bool,
) -> Server:
    """The server, on which nothing is registered yet."""
    is_public = settings.inference_polling == "public" or not is_tested()
    return Server(
        settings.inference_listen,
        pool,
        READ_FOR_ONE * settings.inference_max_message_bytes,
        settings.port_file,
        interceptors=[public_methods],
        outermost=[CountedMethods(statistics, [protocol.method for protocol in PROTOCOLS])],
        shared_port=shared_port,
        max_calls=settings.inference_max_in_flight if is_public else None,  # or the polling loop bounds them itself
        max_connection_calls=settings.inference_max_connection_calls,
    )


def add_services(
    server: Server, manager: ModelManager, joint: JointStatus, limits: Limits, statistics: Statistics
) -> None:
    """Registers what this service answers; what the servicers lack is answered from its bytes."""
    servicer = InferenceServicer(manager, joint, limits, statistics)  # type: ignore[abstract]  # see above
    server.add(partial(add_InferenceServiceServicer_to_server, servicer), pb.DESCRIPTOR)
    open_servicer = OpenInferenceServicer(manager, joint, limits, statistics)  # type: ignore[abstract]
    server.add(
        partial(add_GRPCInferenceServiceServicer_to_server, open_servicer), open_inference_service_pb2.DESCRIPTOR
    )


if __name__ == "__main__":
    keep_large_blocks()
    main()
