"""The rows of the error table that no request causes by itself: not ready, store away, too much at once, unforeseen."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest

from client.channel import open_channel
from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import inference_service_pb2, tensor_pb2, training_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as registry_pb
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from shared.pb.weightcast.v1.trainer_service_pb2_grpc import TrainerServiceStub
from shared.store.connection import StoreConnection
from shared.store.keys import MODELS, JobKeys, ModelKeys

TIMEOUT_SECONDS = 20.0
MAX_WATCHERS = 48
Reader = Callable[[grpc.RpcError], Any]
SPEC = training_pb2.TrainingSpec(model="digits", dataset="digits", epochs=1, seed=1)


def one_row(model: str = "digits", version: int | None = None) -> inference_service_pb2.ClassifyRequest:
    """A request that nothing is wrong with."""
    tensor = tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_UINT8, shape=(1, 64), contents=bytes(64))
    request = inference_service_pb2.ClassifyRequest(model=model, tensor=tensor)
    if version is not None:
        request.version = version
    return request


@pytest.fixture
def own_stack() -> Iterator[LocalStack]:
    """Redis and both services for one test alone, and no worker: jobs stay queued."""
    with LocalStack({"WEIGHTCAST_TRAINER_WORKERS": "0"}) as running:
        yield running


def refused(call: Callable[[], object], refusal_of: Reader) -> Any:  # noqa: ANN401 - the conftest's Refusal
    """What the call was refused with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal_of(caught.value)


def test_what_may_be_tried_again_says_so_and_when(own_stack: LocalStack, refusal_of: Reader) -> None:
    """Without a model, and for what needs the store while it is away: UNAVAILABLE with RetryInfo."""
    with (
        open_channel(own_stack.trainer.address, retry=False) as channel,
        InferenceClient(own_stack.inference.address, retry=False) as inference,
    ):
        trainer, registry = TrainerServiceStub(channel), ModelRegistryServiceStub(channel)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        # The very first moments may say STORE_UNAVAILABLE: the store was not read yet.
        while True:
            refusal = refused(lambda: inference.stub.Classify(one_row()), refusal_of)
            assert (refusal.code, refusal.domain) == (grpc.StatusCode.UNAVAILABLE, "weightcast")
            if refusal.reason == "NO_MODEL_YET":
                break
            assert time.monotonic() < deadline, refusal
        assert refusal.retry_seconds >= 1

        own_stack.redis.stop()
        calls: dict[str, Callable[[], object]] = {
            "create": lambda: trainer.CreateTrainingJob(pb.CreateTrainingJobRequest(spec=SPEC)),
            "get": lambda: trainer.GetTrainingJob(pb.GetTrainingJobRequest(job_id="x")),
            "list": lambda: trainer.ListTrainingJobs(pb.ListTrainingJobsRequest()),
            "cancel": lambda: trainer.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id="x")),
            "watch": lambda: list(trainer.WatchTrainingJob(pb.WatchTrainingJobRequest(job_id="x"))),
            "data sets": lambda: trainer.ListDatasets(pb.ListDatasetsRequest()),
            "models": lambda: registry.ListModels(registry_pb.ListModelsRequest()),
            "model": lambda: registry.GetModel(registry_pb.GetModelRequest(model="digits")),
        }
        for name, call in calls.items():
            refusal = refused(call, refusal_of)
            found = (refusal.code, refusal.reason, refusal.domain)
            assert found == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", "weightcast"), name
            assert refusal.retry_seconds >= 1
            assert "redis.sock" in refusal.message
            assert "WEIGHTCAST_REDIS_URL" in refusal.message
        digits = trainer.GetDataset(pb.GetDatasetRequest(name="digits")).dataset  # what needs no store is answered
        assert (digits.name, digits.test_size) == ("digits", 360)


def test_too_many_watches_are_refused_and_everything_else_still_answers(
    own_stack: LocalStack, refusal_of: Reader
) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo; other calls have threads left, and a watch that ends makes room."""
    with TrainerClient(own_stack.trainer.address) as trainer, ExitStack() as watches:
        job = trainer.create_job(SPEC)
        request = pb.WatchTrainingJobRequest(job_id=job.id)
        first = trainer.stub.WatchTrainingJob(request)
        for watch in [first, *(trainer.stub.WatchTrainingJob(request) for _ in range(MAX_WATCHERS - 1))]:
            watches.callback(watch.cancel)
            assert next(watch).job.id == job.id
        refusal = refused(lambda: next(trainer.stub.WatchTrainingJob(request)), refusal_of)
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (refusal.reason, refusal.domain) == ("TOO_MANY_WATCHERS", "weightcast")
        assert refusal.retry_seconds >= 1
        assert trainer.job(job.id).state == training_pb2.TrainingJob.STATE_QUEUED

        first.cancel()
        deadline = time.monotonic() + TIMEOUT_SECONDS
        again = None
        while again is None:
            watch = trainer.stub.WatchTrainingJob(request)
            watches.callback(watch.cancel)
            try:
                again = next(watch)
            except grpc.RpcError as error:  # the server has not noticed yet
                refusal = refusal_of(error)
            assert refusal.reason == "TOO_MANY_WATCHERS"
            assert time.monotonic() < deadline
        assert again.job.id == job.id


def test_a_version_that_exists_and_cannot_be_served_is_a_failed_precondition(
    stack: LocalStack, trainer: TrainerClient, inference: InferenceClient, refusal_of: Reader
) -> None:
    """Stored bytes that are not those published: no answer, no download, and the version loaded before goes on."""
    connection = StoreConnection(stack.redis.url)
    spec = training_pb2.TrainingSpec(model="altered", dataset="digits", epochs=1)
    first, second = (trainer.create_job(spec).id for _ in range(2))
    first_digest, version = trainer.wait(first).digest, trainer.wait(second).version
    inference.wait_for_version("altered", version, TIMEOUT_SECONDS)  # so that the first is no longer held
    weights = ModelKeys("altered").weights
    stored = connection.command("HGET", weights, 1)
    connection.command("HSET", weights, 1, stored[:-1] + bytes([stored[-1] ^ 1]))
    connection.close()

    download = registry_pb.DownloadModelVersionRequest(model="altered", version=1)
    for call in (
        lambda: inference.stub.Classify(one_row("altered", version=1)),
        lambda: list(trainer.registry.DownloadModelVersion(download)),
    ):
        refusal = refused(call, refusal_of)
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert (refusal.reason, refusal.domain) == ("DIGEST_MISMATCH", "weightcast")
        assert first_digest in refusal.message
        assert refusal.retry_seconds is None
    assert inference.classify("altered", np.zeros((1, 64), np.uint8)).version == 2


def test_the_unforeseen_is_told_by_an_id_and_its_traceback_stays_in_the_log(
    stack: LocalStack, trainer: TrainerClient, refusal_of: Reader
) -> None:
    """A stored job that is no protobuf: INTERNAL with an error id that the log explains, and nothing of the inside."""
    connection = StoreConnection(stack.redis.url)
    connection.command("HSET", JobKeys("broken").job, "state", "queued", "job", b"\xff")
    refusal = refused(lambda: trainer.stub.GetTrainingJob(pb.GetTrainingJobRequest(job_id="broken")), refusal_of)
    connection.close()
    assert (refusal.code, refusal.reason, refusal.domain) == (grpc.StatusCode.INTERNAL, "INTERNAL", "weightcast")
    error_id = refusal.metadata["error_id"]
    assert error_id in refusal.message
    for inside in ("Traceback", "DecodeError", "protobuf", ".py"):
        assert inside not in refusal.message
    assert stack.trainer.log_path is not None
    lines = [line for line in stack.trainer.log_path.read_text().splitlines() if error_id in line]
    assert len(lines) == 1
    assert "Traceback" in lines[0]


def test_what_cannot_be_read_hides_nothing_else(stack: LocalStack, trainer: TrainerClient, refusal_of: Reader) -> None:
    """A name without a version is left out, an altered manifest is named where it is asked for; the rest is listed."""
    names = ("hidden", "shown")
    for name in names:
        trainer.wait(trainer.create_job(training_pb2.TrainingSpec(model=name, dataset="digits", epochs=1, seed=1)).id)
    connection = StoreConnection(stack.redis.url)
    connection.command("SADD", MODELS, "ghost")
    connection.command("HSET", ModelKeys("hidden").manifests, 1, b"\xff\xff")
    listed = {model.name for model in trainer.models()}
    assert listed >= set(names)
    assert "ghost" not in listed
    (version,) = trainer.versions("hidden", 10)
    assert (version.version, version.HasField("manifest")) == (1, False)
    refusal = refused(
        lambda: trainer.registry.GetModelVersion(registry_pb.GetModelVersionRequest(model="hidden")), refusal_of
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MALFORMED_MANIFEST")
    connection.command("SREM", MODELS, "ghost", *names)
    connection.close()
