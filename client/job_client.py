"""A client's calls for training jobs: create, read, list, watch, cancel and remove. `TrainerClient` is one of these."""

import time
import uuid
from collections.abc import Collection, Iterator
from itertools import islice

import grpc

from client.errors import RpcError, rpc_errors
from client.silence import SilenceGuard
from client.trainer_service_client import TrainerServiceClient, pages
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1 import training_pb2

FINAL_STATES = frozenset(
    {
        training_pb2.TrainingJob.STATE_SUCCEEDED,
        training_pb2.TrainingJob.STATE_FAILED,
        training_pb2.TrainingJob.STATE_CANCELLED,
    }
)
RESUME_SECONDS = 60.0
RESUME_PAUSE_SECONDS = 0.5
SILENCE_SECONDS = 30.0  # the service says something every 5 seconds


class JobClient(TrainerServiceClient):
    """The part of a trainer's client that is about jobs."""

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

    def jobs(
        self,
        limit: int | None = None,
        *,
        model: str = "",
        states: Collection[training_pb2.TrainingJob.State.ValueType] = (),
    ) -> list[training_pb2.TrainingJob]:
        """The newest jobs, up to `limit` (None: all); only those of a model or in one of these states, where given."""
        request = pb.ListTrainingJobsRequest(model=model, states=states)
        found = pages(lambda asked: self.stub.ListTrainingJobs(asked, timeout=self._timeout), request, limit)
        return list(islice((job for page in found for job in page.jobs), limit))

    def cancel(self, job_id: str) -> training_pb2.TrainingJob:
        """Asks a job to stop."""
        with rpc_errors():
            return self.stub.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id=job_id), timeout=self._timeout).job

    def delete_job(self, job_id: str) -> None:
        """Removes a job that has ended; the version it published stays."""
        with rpc_errors():
            self.stub.DeleteTrainingJob(pb.DeleteTrainingJobRequest(job_id=job_id), timeout=self._timeout)

    def watch(self, job_id: str, cursor: str = "") -> Iterator[pb.WatchTrainingJobResponse]:
        """A job's events, from the beginning or after `cursor`, until it has ended. Heartbeats are not passed on.

        A stream that breaks, or on which not even a heartbeat comes any more, is taken up where it broke, for a minute;
        only one that never began fails at once.
        """
        began, broken = False, 0.0
        while True:
            try:
                for event in self._heard(job_id, cursor):
                    began, broken = True, 0.0
                    if event.WhichOneof("event") == "heartbeat":
                        continue
                    yield event
                    cursor = event.cursor
            except RpcError as error:
                now = time.monotonic()
                broken = broken or now
                if not began or error.code is not grpc.StatusCode.UNAVAILABLE or now - broken > RESUME_SECONDS:
                    raise
                time.sleep(RESUME_PAUSE_SECONDS)
            else:
                return

    def wait(self, job_id: str) -> training_pb2.TrainingJob:
        """The job in its final state, however long that takes."""
        for event in self.watch(job_id):
            if event.WhichOneof("event") == "job" and event.job.state in FINAL_STATES:
                return event.job
        return self.job(job_id)

    def _heard(self, job_id: str, cursor: str) -> Iterator[pb.WatchTrainingJobResponse]:
        """The messages of one stream; RpcError UNAVAILABLE when there is silence where a heartbeat should be."""
        call = self.stub.WatchTrainingJob(pb.WatchTrainingJobRequest(job_id=job_id, cursor=cursor))
        with SilenceGuard(call, SILENCE_SECONDS) as guard:
            try:
                with rpc_errors():
                    for message in call:
                        guard.heard()
                        yield message
                        guard.waiting()
            except RpcError:
                if not guard.was_silent:
                    raise
                words = f"nothing was heard of job {job_id} for {SILENCE_SECONDS:g} s, not even a heartbeat"
                raise RpcError(grpc.StatusCode.UNAVAILABLE, words) from None
            finally:
                call.cancel()  # whoever stops listening must not keep a stream, of which the service has few
