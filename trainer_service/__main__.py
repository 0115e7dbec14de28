"""The trainer service's composition root: reads settings once, wires, serves, and shuts down in order.

The API and the chores run here; training runs in the workers it starts, and in those that run elsewhere. To the
arithmetic: worker.py → jobs/run_job.py → training/loop.py → training/backpropagation.py.
"""

from shared.blas import choose_kernel

choose_kernel()  # before anything below loads NumPy

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from shared import logs
from shared.errors import NotFoundError
from shared.grpc_server import Server, wait_for_signal
from shared.health import READINESS
from shared.pb.weightcast.v1 import model_registry_service_pb2, trainer_service_pb2
from shared.pb.weightcast.v1.model_registry_service_pb2_grpc import add_ModelRegistryServiceServicer_to_server
from shared.pb.weightcast.v1.trainer_service_pb2_grpc import add_TrainerServiceServicer_to_server
from shared.settings import TrainerSettings, load
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry
from trainer_service.chores import Chore, Chores
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload import UploadService
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_service import JobService, Limits
from trainer_service.jobs.job_store import JobStore
from trainer_service.jobs.keeper import JobKeeper, JobRetention
from trainer_service.jobs.lifecycle import JobLifecycle
from trainer_service.readiness import Readiness
from trainer_service.registry_servicer import RegistryServicer
from trainer_service.schedules.schedule_service import ScheduleService
from trainer_service.schedules.schedule_store import ScheduleStore
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
    models, registry = ModelStore(connection), ModelRegistry(connection)
    uploads = UploadStore(connection)
    catalogue = Catalogue(settings.data_dir, settings.cache_dir, uploads)
    store, queue = JobStore(connection), JobQueue(connection)
    lifecycle = JobLifecycle(store, queue, models)
    jobs = JobService(store, lifecycle, models, catalogue, Limits(settings.trainer_max_jobs, MAX_WATCHERS))
    schedules = ScheduleService(ScheduleStore(connection), jobs)

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rpc")
    server = Server(settings.trainer_listen, pool, MAX_MESSAGE_BYTES, settings.port_file)
    training = TrainingServicer(jobs, schedules, catalogue, UploadService(uploads))
    server.add(partial(add_TrainerServiceServicer_to_server, training), trainer_service_pb2.DESCRIPTOR)
    server.add(
        partial(add_ModelRegistryServiceServicer_to_server, RegistryServicer(models, registry)),
        model_registry_service_pb2.DESCRIPTOR,
    )
    readiness = Readiness(models.ping, lambda ready: server.health.set_serving(READINESS, serving=ready))
    retention = JobRetention(store, lifecycle, days=settings.trainer_keep_job_days, count=settings.trainer_keep_jobs)
    looking = Chores(Chore("look at the store", readiness.look, seconds=1))  # alone, so behind nothing that takes long
    chores = Chores(
        Chore("keep jobs", JobKeeper(store, queue, lifecycle).sweep, seconds=1),
        Chore("fire schedules", lambda: schedules.fire_due(datetime.now(UTC)), seconds=1),
        Chore("remove old jobs", retention.sweep, seconds=60),
        Chore(
            "remove old versions", lambda: prune_models(models, registry, settings.trainer_keep_versions), seconds=60
        ),
    )
    workers = WorkerSupervisor(settings.trainer_workers)

    server.start()
    for part in (looking, workers, chores):
        part.start()
    wait_for_signal()
    for part in (chores, looking):
        part.stop()
    server.health.shut_down()  # no new callers, while those there are still see what becomes of their jobs
    workers.stop(settings.shutdown_grace_seconds)  # checkpoints are written, jobs handed back …
    jobs.stop_watches()  # … before those who watch are told to do so elsewhere
    server.stop(settings.shutdown_grace_seconds)
    connection.close()


def prune_models(models: ModelStore, registry: ModelRegistry, keep_newest: int) -> None:
    """Removes old versions of every model, where a number to keep is set."""
    for model in models.model_names() if keep_newest else ():
        with suppress(NotFoundError):  # listed, and not published yet
            registry.prune(model, keep_newest, dry_run=False)


if __name__ == "__main__":
    main()
