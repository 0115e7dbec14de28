"""A schedule that is due, in a running trainer service: it makes one job for the time, and none on top of another."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1 import training_pb2
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_service import JobService, Limits
from trainer_service.jobs.job_store import JobStore
from trainer_service.jobs.lifecycle import JobLifecycle
from trainer_service.schedules.schedule_service import ScheduleService
from trainer_service.schedules.schedule_store import ScheduleStore
from trainer_service.schedules.timing import Timing


def create_an_hour_ago(stack: LocalStack, folder: Path, spec: training_pb2.TrainingSpec) -> None:
    """A schedule of every five minutes as it would stand had it been created an hour ago, with no service since."""
    connection = StoreConnection(stack.redis.url)
    store, models = JobStore(connection), ModelStore(connection)
    catalogue = Catalogue(None, folder, UploadStore(connection))
    jobs = JobService(store, JobLifecycle(store, JobQueue(connection), models), models, catalogue, Limits(10, 1))
    schedules = ScheduleService(ScheduleStore(connection), jobs, clock=lambda: datetime.now(UTC) - timedelta(hours=1))
    schedules.create("often", spec.SerializeToString(), Timing(every=timedelta(minutes=5)))
    connection.close()


def test_times_that_were_missed_make_one_job(
    stack: LocalStack, tmp_path: Path, spec_of: Callable[..., training_pb2.TrainingSpec], until: Callable[..., None]
) -> None:
    """Within a second or two of the service being there, and the next time is counted from now."""
    create_an_hour_ago(stack, tmp_path, spec_of())
    with TrainerClient(stack.trainer.address) as trainer:

        def schedule() -> pb.TrainingSchedule:
            return trainer.stub.GetTrainingSchedule(pb.GetTrainingScheduleRequest(name="often")).schedule

        until(lambda: bool(schedule().last_job_id), "a job")
        made = trainer.wait(schedule().last_job_id)
        assert made.state == training_pb2.TrainingJob.STATE_SUCCEEDED
        assert made.schedule == "often"
        assert [job.id for job in trainer.jobs(10)] == [made.id]
        following = schedule().next_time.ToDatetime(tzinfo=UTC)
        assert timedelta(0) < following - datetime.now(UTC) <= timedelta(minutes=5)
