"""A client of the trainer service: training jobs, schedules, data sets and the registry of versions."""

from client.dataset_client import DatasetClient
from client.job_client import FINAL_STATES, JobClient
from client.registry_client import RegistryClient
from client.schedule_client import ScheduleClient

__all__ = ["FINAL_STATES", "TrainerClient"]


class TrainerClient(JobClient, ScheduleClient, DatasetClient, RegistryClient):
    """Calls to one trainer service. Safe to share between threads; close it or use it in a `with`."""
