"""A client's calls for schedules, which create jobs again and again. `TrainerClient` is one of these."""

from datetime import timedelta

from client.errors import rpc_errors
from client.trainer_service_client import TrainerServiceClient, pages
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1 import training_pb2


class ScheduleClient(TrainerServiceClient):
    """The part of a trainer's client that is about schedules."""

    def create_schedule(
        self,
        name: str,
        spec: training_pb2.TrainingSpec,
        *,
        every: timedelta | None = None,
        cron: str = "",
        paused: bool = False,
    ) -> pb.TrainingSchedule:
        """Creates a schedule of jobs by this spec: `every` so often, or at the times of a `cron` line, in UTC.

        The same schedule again is no error.
        """
        schedule = pb.TrainingSchedule(name=name, spec=spec, paused=paused)
        if every is not None:
            schedule.every.FromTimedelta(every)
        if cron:
            schedule.cron = cron
        request = pb.CreateTrainingScheduleRequest(schedule=schedule)
        with rpc_errors():
            return self.stub.CreateTrainingSchedule(request, timeout=self._timeout).schedule

    def schedule(self, name: str) -> pb.TrainingSchedule:
        """One schedule."""
        request = pb.GetTrainingScheduleRequest(name=name)
        with rpc_errors():
            return self.stub.GetTrainingSchedule(request, timeout=self._timeout).schedule

    def schedules(self) -> list[pb.TrainingSchedule]:
        """Every schedule, by name."""
        call = self.stub.ListTrainingSchedules
        found = pages(lambda request: call(request, timeout=self._timeout), pb.ListTrainingSchedulesRequest())
        return [schedule for page in found for schedule in page.schedules]

    def pause_schedule(self, name: str, *, paused: bool = True) -> pb.TrainingSchedule:
        """Pauses a schedule, or lets it go on."""
        request = pb.PauseTrainingScheduleRequest(name=name, paused=paused)
        with rpc_errors():
            return self.stub.PauseTrainingSchedule(request, timeout=self._timeout).schedule

    def delete_schedule(self, name: str) -> None:
        """Removes a schedule; its jobs stay."""
        with rpc_errors():
            self.stub.DeleteTrainingSchedule(pb.DeleteTrainingScheduleRequest(name=name), timeout=self._timeout)
