"""A client of the trainer service: training jobs, data sets and the registry of versions."""

import time
import uuid
from collections.abc import Iterator

import grpc

from client.channel import select
from client.dataset_client import DatasetClient
from client.errors import RpcError, rpc_errors
from shared.pb.weightcast.v1 import model_pb2, training_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as registry_pb
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub

FINAL_STATES = frozenset(
    {
        training_pb2.TrainingJob.STATE_SUCCEEDED,
        training_pb2.TrainingJob.STATE_FAILED,
        training_pb2.TrainingJob.STATE_CANCELLED,
    }
)
RESUME_SECONDS = 60.0
RESUME_PAUSE_SECONDS = 0.5


class TrainerClient(DatasetClient):
    """Calls to one trainer service. Safe to share between threads; close it or use it in a `with`."""

    def __init__(self, address: str = "127.0.0.1:50051", *, timeout: float = 30.0) -> None:
        super().__init__(address, timeout=timeout)
        self.registry = ModelRegistryServiceStub(self._channel)

    def create_job(self, spec: training_pb2.TrainingSpec, request_id: str = "") -> training_pb2.TrainingJob:
        """Queues a training job; the same `request_id` again gives the same job.

        Without one, a new one is made up: a call that is sent again after a lost answer must not make a second job.
        """
        request = pb.CreateTrainingJobRequest(spec=spec, request_id=request_id or uuid.uuid4().hex)
        with rpc_errors():
            return self.stub.CreateTrainingJob(request, timeout=self._timeout).job

    def job(self, job_id: str) -> training_pb2.TrainingJob:
        """One job."""
        with rpc_errors():
            return self.stub.GetTrainingJob(pb.GetTrainingJobRequest(job_id=job_id), timeout=self._timeout).job

    def jobs(self, limit: int) -> list[training_pb2.TrainingJob]:
        """The newest jobs."""
        with rpc_errors():
            request = pb.ListTrainingJobsRequest(page_size=limit)
            return list(self.stub.ListTrainingJobs(request, timeout=self._timeout).jobs)

    def cancel(self, job_id: str) -> training_pb2.TrainingJob:
        """Asks a job to stop."""
        with rpc_errors():
            return self.stub.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id=job_id), timeout=self._timeout).job

    def watch(self, job_id: str, cursor: str = "") -> Iterator[pb.WatchTrainingJobResponse]:
        """A job's events, from the beginning or after `cursor`, until it has ended.

        A stream that breaks is taken up where it broke, for a minute; only one that never began fails at once.
        """
        last_event = None
        while True:
            try:
                with rpc_errors():
                    request = pb.WatchTrainingJobRequest(job_id=job_id, cursor=cursor)
                    for event in self.stub.WatchTrainingJob(request):
                        yield event
                        cursor, last_event = event.cursor, time.monotonic()
                    return
            except RpcError as error:
                if error.code is not grpc.StatusCode.UNAVAILABLE or last_event is None:
                    raise
                if time.monotonic() - last_event > RESUME_SECONDS:
                    raise
                time.sleep(RESUME_PAUSE_SECONDS)

    def wait(self, job_id: str) -> training_pb2.TrainingJob:
        """The job in its final state, however long that takes."""
        for event in self.watch(job_id):
            if event.WhichOneof("event") == "job" and event.job.state in FINAL_STATES:
                return event.job
        return self.job(job_id)

    def models(self) -> list[model_pb2.Model]:
        """Every model, up to the first 200 by name."""
        with rpc_errors():
            request = registry_pb.ListModelsRequest(page_size=200)
            return list(self.registry.ListModels(request, timeout=self._timeout).models)

    def versions(self, model: str, limit: int) -> list[model_pb2.ModelVersion]:
        """A model's newest versions."""
        with rpc_errors():
            request = registry_pb.ListModelVersionsRequest(model=model, page_size=limit)
            return list(self.registry.ListModelVersions(request, timeout=self._timeout).versions)

    def version(self, model: str, version: int | str | None = None) -> model_pb2.ModelVersion:
        """One version by number or alias; None means what is live."""
        request = registry_pb.GetModelVersionRequest(model=model)
        select(request, version)
        with rpc_errors():
            return self.registry.GetModelVersion(request, timeout=self._timeout).version

    def download(
        self, model: str, version: int | str | None = None
    ) -> tuple[registry_pb.DownloadModelVersionHeader, bytes]:
        """A version's safetensors file, and what the service says of it."""
        request = registry_pb.DownloadModelVersionRequest(model=model)
        select(request, version)
        with rpc_errors():
            parts = self.registry.DownloadModelVersion(request, timeout=self._timeout)
            header = next(parts).header
            return header, b"".join(part.chunk for part in parts)
