"""The gRPC face of schedules, a part of TrainerService: decodes a message, calls the domain, encodes its answer."""

import grpc

from shared.paging import page_of
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1.trainer_service_pb2_grpc import TrainerServiceServicer
from trainer_service.schedules.schedule_codec import given_spec, schedule_to_proto, timing_from_proto
from trainer_service.schedules.schedule_service import ScheduleService


class ScheduleMethods(TrainerServiceServicer):
    """The methods of weightcast.v1.TrainerService that are about schedules."""

    def __init__(self, schedules: ScheduleService) -> None:
        self._schedules = schedules

    def CreateTrainingSchedule(
        self, request: pb.CreateTrainingScheduleRequest, context: grpc.ServicerContext
    ) -> pb.CreateTrainingScheduleResponse:
        """Stores a schedule."""
        asked = request.schedule
        created = self._schedules.create(
            asked.name, given_spec(asked.spec), timing_from_proto(asked), paused=asked.paused
        )
        return pb.CreateTrainingScheduleResponse(schedule=schedule_to_proto(created))

    def GetTrainingSchedule(
        self, request: pb.GetTrainingScheduleRequest, context: grpc.ServicerContext
    ) -> pb.GetTrainingScheduleResponse:
        """Returns one schedule."""
        return pb.GetTrainingScheduleResponse(schedule=schedule_to_proto(self._schedules.get(request.name)))

    def ListTrainingSchedules(
        self, request: pb.ListTrainingSchedulesRequest, context: grpc.ServicerContext
    ) -> pb.ListTrainingSchedulesResponse:
        """Lists schedules by name."""
        page = page_of(request.page_size, request.page_token)
        offset = page.position or 0
        schedules = self._schedules.by_name(offset, page.size + 1)
        return pb.ListTrainingSchedulesResponse(
            schedules=[schedule_to_proto(schedule) for schedule in schedules[: page.size]],
            next_page_token=str(offset + page.size) if len(schedules) > page.size else "",
        )

    def PauseTrainingSchedule(
        self, request: pb.PauseTrainingScheduleRequest, context: grpc.ServicerContext
    ) -> pb.PauseTrainingScheduleResponse:
        """Pauses a schedule, or lets it go on."""
        schedule = self._schedules.pause(request.name, paused=request.paused)
        return pb.PauseTrainingScheduleResponse(schedule=schedule_to_proto(schedule))

    def DeleteTrainingSchedule(
        self, request: pb.DeleteTrainingScheduleRequest, context: grpc.ServicerContext
    ) -> pb.DeleteTrainingScheduleResponse:
        """Removes a schedule."""
        self._schedules.delete(request.name)
        return pb.DeleteTrainingScheduleResponse()
