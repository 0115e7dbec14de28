"""A running product with one trained model, and how a status's details are read without the project's own client."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

MODEL = "digits"
SERVED_SECONDS = 10.0


@dataclass
class Refusal:
    """What a refused call carried; `violations` is field → description, `retry_seconds` None without RetryInfo."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)
    retry_seconds: float | None = None


class RefusalReader:
    """Reads the standard details of a status."""

    def __call__(self, error: grpc.RpcError) -> Refusal:
        """The refusal behind a failed call."""
        refusal = Refusal(error.code(), error.details() or "")
        assert isinstance(error, grpc.Call)
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                refusal.reason, refusal.domain, refusal.metadata = info.reason, info.domain, dict(info.metadata)
            elif detail.Unpack(bad):
                refusal.violations = {violation.field: violation.description for violation in bad.field_violations}
            elif detail.Unpack(retry):
                refusal.retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
        return refusal


@pytest.fixture(scope="session")
def refusal_of() -> RefusalReader:
    """Reads what a refused call carried."""
    return RefusalReader()


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    """Redis and both services, shared by all tests of the contract: none of them changes what another asks for."""
    with LocalStack() as running:
        yield running


@pytest.fixture(scope="session")
def trainer(stack: LocalStack) -> Iterator[TrainerClient]:
    """A client of the trainer service."""
    with TrainerClient(stack.trainer.address) as client:
        yield client


@pytest.fixture(scope="session")
def inference(stack: LocalStack) -> Iterator[InferenceClient]:
    """A client of the inference service; it tries nothing twice, so that a test sees each refusal."""
    with InferenceClient(stack.inference.address, retry=False) as client:
        yield client


@pytest.fixture(scope="session")
def trained(trainer: TrainerClient, inference: InferenceClient) -> training_pb2.TrainingJob:
    """A job that has published version 1 of the model `digits`, which is served."""
    spec = training_pb2.TrainingSpec(model=MODEL, dataset="digits", epochs=2, seed=1)
    job = trainer.wait(trainer.create_job(spec).id)
    assert job.version == 1, job.error_message
    inference.wait_for_version(MODEL, 1, SERVED_SECONDS)
    return job
