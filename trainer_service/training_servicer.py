"""The gRPC face of training jobs: decodes a message, calls one method of the domain, encodes its answer."""

from collections.abc import Iterator

import grpc

from shared.paging import page_of
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from trainer_service.dataset_servicer import DatasetMethods
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload import UploadService
from trainer_service.jobs.job_codec import event_to_proto, job_to_proto
from trainer_service.jobs.job_service import JobService
from trainer_service.spec_request import spec_request


class TrainingServicer(DatasetMethods):
    """weightcast.v1.TrainerService: jobs here, data sets in the class it extends."""

    def __init__(self, jobs: JobService, catalogue: Catalogue, uploads: UploadService) -> None:
        super().__init__(catalogue, uploads)
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
        offset = page.position or 0
        jobs = self._jobs.newest(offset, page.size + 1)
        return pb.ListTrainingJobsResponse(
            jobs=[job_to_proto(job) for job in jobs[: page.size]],
            next_page_token=str(offset + page.size) if len(jobs) > page.size else "",
        )

    def CancelTrainingJob(
        self, request: pb.CancelTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.CancelTrainingJobResponse:
        """Asks a job to stop."""
        return pb.CancelTrainingJobResponse(job=job_to_proto(self._jobs.cancel(request.job_id)))

    def WatchTrainingJob(
        self, request: pb.WatchTrainingJobRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingJobResponse]:
        """Streams a job's events."""
        for recorded in self._jobs.watch(request.job_id, request.cursor, context.is_active):
            yield event_to_proto(recorded.event, recorded.cursor)
