"""The gRPC face of training jobs: decodes a message, calls one method of the domain, encodes its answer."""

from collections.abc import Iterable, Iterator

import grpc

from shared.errors import InvalidInputError
from shared.paging import page_of
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.proto_values import key_of
from trainer_service.dataset_servicer import DatasetMethods
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload import UploadService
from trainer_service.jobs.job import JobState
from trainer_service.jobs.job_codec import STATES, event_to_proto, job_to_proto
from trainer_service.jobs.job_service import JobService
from trainer_service.schedules.schedule_service import ScheduleService
from trainer_service.schedules.schedule_servicer import ScheduleMethods
from trainer_service.spec_request import spec_request


class TrainingServicer(DatasetMethods, ScheduleMethods):
    """weightcast.v1.TrainerService: jobs here, data sets and schedules in the classes it extends."""

    def __init__(
        self, jobs: JobService, schedules: ScheduleService, catalogue: Catalogue, uploads: UploadService
    ) -> None:
        DatasetMethods.__init__(self, catalogue, uploads)
        ScheduleMethods.__init__(self, schedules)
        self._jobs = jobs

    def CreateTrainingJob(
        self, request: pb.CreateTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.CreateTrainingJobResponse:
        """Validates and queues a job."""
        job = self._jobs.create(spec_request(request.spec), request.request_id)
        return pb.CreateTrainingJobResponse(job=job_to_proto(job))

    def GetTrainingJob(
        self, request: pb.GetTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.GetTrainingJobResponse:
        """Returns one job."""
        return pb.GetTrainingJobResponse(job=job_to_proto(self._jobs.get(request.job_id)))

    def ListTrainingJobs(
        self, request: pb.ListTrainingJobsRequest, context: grpc.ServicerContext
    ) -> pb.ListTrainingJobsResponse:
        """Lists jobs, newest first."""
        page = page_of(request.page_size, request.page_token)
        states = states_of(request.states)
        jobs, following = self._jobs.page(page.position, page.size, model=request.model, states=states)
        return pb.ListTrainingJobsResponse(
            jobs=[job_to_proto(job) for job in jobs], next_page_token=str(following) if following else ""
        )

    def CancelTrainingJob(
        self, request: pb.CancelTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.CancelTrainingJobResponse:
        """Asks a job to stop."""
        return pb.CancelTrainingJobResponse(job=job_to_proto(self._jobs.cancel(request.job_id)))

    def DeleteTrainingJob(
        self, request: pb.DeleteTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.DeleteTrainingJobResponse:
        """Removes a job that has ended."""
        self._jobs.remove(request.job_id)
        return pb.DeleteTrainingJobResponse()

    def WatchTrainingJob(
        self, request: pb.WatchTrainingJobRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingJobResponse]:
        """Streams a job's events."""
        for watched in self._jobs.watch(request.job_id, request.cursor, context.is_active):
            yield event_to_proto(watched.event, watched.cursor)


def states_of(values: Iterable[int]) -> set[JobState]:
    """The states that a list is limited to.

    Raises:
        InvalidInputError: if there is one of no kind this build knows.
    """
    try:
        return {key_of(STATES, value, "states") for value in values}
    except ValueError as error:
        raise InvalidInputError.of("states", f"{error}; expected {', '.join(state.name for state in STATES)}") from None
