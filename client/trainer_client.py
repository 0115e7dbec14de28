"""A client of the trainer service: training jobs, schedules, data sets, the registry of versions and rollouts."""

from client.dataset_client import DatasetClient
from client.job_client import FINAL_STATES, JobClient
from client.rollout_client import RolloutClient
from client.schedule_client import ScheduleClient

__all__ = ["FINAL_STATES", "TrainerClient"]


class TrainerClient(JobClient, ScheduleClient, DatasetClient, RolloutClient):
    """Calls to one trainer service. Safe to share between threads; close it or use it in a `with`."""
