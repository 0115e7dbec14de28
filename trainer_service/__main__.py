"""The trainer service's composition root: reads settings once, wires, serves, and shuts down in order.

The API runs here; training runs in the workers it starts. To the arithmetic: worker.py → jobs/run_job.py →
training/loop.py → training/backpropagation.py.
"""

from shared.blas import choose_kernel

choose_kernel()  # before anything below loads NumPy

from functools import partial

from shared import logs
from shared.grpc_server import READINESS, Server, wait_for_signal
from shared.pb.weightcast.v1 import model_registry_service_pb2, trainer_service_pb2
from shared.pb.weightcast.v1.model_registry_service_pb2_grpc import add_ModelRegistryServiceServicer_to_server
from shared.pb.weightcast.v1.trainer_service_pb2_grpc import add_TrainerServiceServicer_to_server
from shared.settings import TrainerSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload import UploadService
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_service import JobService
from trainer_service.jobs.job_store import JobStore
from trainer_service.readiness import Readiness
from trainer_service.registry_servicer import RegistryServicer
from trainer_service.training_servicer import TrainingServicer
from trainer_service.worker_supervisor import WorkerSupervisor

THREADS = 64
MAX_WATCHERS = 48  # each watch keeps a thread; the rest stay free for everybody else
MAX_MESSAGE_BYTES = 4 * 2**20


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = load(TrainerSettings)
    logs.configure(settings.log_level, "trainer")

    connection = StoreConnection(settings.redis_url)
    models = ModelStore(connection)
    uploads = UploadStore(connection)
    catalogue = Catalogue(settings.data_dir, settings.cache_dir, uploads)
    jobs = JobService(JobStore(connection), JobQueue(connection), catalogue, MAX_WATCHERS)

    server = Server(settings.trainer_listen, THREADS, MAX_MESSAGE_BYTES, settings.port_file)
    server.add(
        partial(add_TrainerServiceServicer_to_server, TrainingServicer(jobs, catalogue, UploadService(uploads))),
        trainer_service_pb2.DESCRIPTOR,
    )
    server.add(
        partial(add_ModelRegistryServiceServicer_to_server, RegistryServicer(models)),
        model_registry_service_pb2.DESCRIPTOR,
    )
    readiness = Readiness(models.ping, lambda ready: server.health.set_serving(READINESS, serving=ready))
    workers = WorkerSupervisor(settings.trainer_workers)

    server.start()
    readiness.start()
    workers.start()
    wait_for_signal()
    readiness.stop()
    server.health.shut_down()  # no new callers, while those there are still see their jobs end
    workers.stop(settings.shutdown_grace_seconds)  # watches see their jobs end …
    server.stop(settings.shutdown_grace_seconds)  # … before their streams do
    connection.close()


if __name__ == "__main__":
    main()
