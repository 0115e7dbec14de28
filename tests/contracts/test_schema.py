"""The contract as others see it: every method of the design, reflection, and a client that has no generated code."""

import base64
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from client.local_stack import LocalStack
from shared.pb.inference import open_inference_service_pb2
from shared.pb.weightcast.v1 import (
    inference_service_pb2,
    model_registry_service_pb2,
    trainer_service_pb2,
    training_pb2,
)

TRAINER = "weightcast.v1.TrainerService"
REGISTRY = "weightcast.v1.ModelRegistryService"
INFERENCE = "weightcast.v1.InferenceService"
OPEN_INFERENCE = "inference.GRPCInferenceService"
UNARY, FROM_CLIENT, FROM_SERVER, BOTH = (False, False), (True, False), (False, True), (True, True)
# The design's table: each method with who streams.
DESIGN = {
    TRAINER: {
        "CreateTrainingJob": UNARY,
        "GetTrainingJob": UNARY,
        "ListTrainingJobs": UNARY,
        "CancelTrainingJob": UNARY,
        "WatchTrainingJob": FROM_SERVER,
        "ListDatasets": UNARY,
        "GetDataset": UNARY,
        "UploadDataset": FROM_CLIENT,
        "DeleteDataset": UNARY,
    },
    REGISTRY: {
        "ListModels": UNARY,
        "GetModel": UNARY,
        "ListModelVersions": UNARY,
        "GetModelVersion": UNARY,
        "PromoteModelVersion": UNARY,
        "RollbackModel": UNARY,
        "SetModelAlias": UNARY,
        "DeleteModelVersion": UNARY,
        "DownloadModelVersion": FROM_SERVER,
    },
    INFERENCE: {
        "Classify": UNARY,
        "ClassifyStream": BOTH,
        "GetModelStatus": UNARY,
        "ListServedModels": UNARY,
    },
    OPEN_INFERENCE: {
        "ServerLive": UNARY,
        "ServerReady": UNARY,
        "ModelReady": UNARY,
        "ServerMetadata": UNARY,
        "ModelMetadata": UNARY,
        "ModelInfer": UNARY,
        "ModelStreamInfer": BOTH,
        "ModelConfig": UNARY,
        "ModelStatistics": UNARY,
        "RepositoryIndex": UNARY,
        "RepositoryModelLoad": UNARY,
        "RepositoryModelUnload": UNARY,
    },
}
SCHEMAS = (trainer_service_pb2, model_registry_service_pb2, inference_service_pb2, open_inference_service_pb2)
GENERATED = {
    service.full_name: service for schema in SCHEMAS for service in schema.DESCRIPTOR.services_by_name.values()
}
STANDARD = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
TIMEOUT_SECONDS = 20.0


def methods_of(service: ServiceDescriptor) -> dict[str, tuple[bool, bool]]:
    """Each method's name with whether the client and whether the server streams."""
    return {method.name: (method.client_streaming, method.server_streaming) for method in service.methods}


class DynamicClient:
    """What grpcurl does: asks the server what it has, builds the messages from that, and calls."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._database = ProtoReflectionDescriptorDatabase(self._channel)
        self.pool = descriptor_pool.DescriptorPool(self._database)

    def services(self) -> set[str]:
        """The names that reflection lists."""
        return set(self._database.get_services())

    def call(self, service: str, method: str, fields: dict[str, Any]) -> Any:  # noqa: ANN401 - a type made at run time
        """Calls a method with one response."""
        descriptor = self.pool.FindServiceByName(service).methods_by_name[method]
        request: Message = ParseDict(fields, message_factory.GetMessageClass(descriptor.input_type)())
        invoke: Callable[..., Message] = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(descriptor.output_type).FromString,
        )
        return invoke(request, timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


@pytest.fixture
def dynamic() -> Iterator[Callable[[str], DynamicClient]]:
    """Makes dynamic clients and closes them."""
    made: list[DynamicClient] = []

    def make(address: str) -> DynamicClient:
        made.append(DynamicClient(address))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.mark.parametrize("name", DESIGN)
def test_every_method_of_the_design_is_in_the_contract(name: str) -> None:
    """Each service has the methods the design's table names, streaming the way it says."""
    assert DESIGN[name].items() <= methods_of(GENERATED[name]).items()


def test_reflection_shows_every_service_and_method(stack: LocalStack, dynamic: Callable[[str], DynamicClient]) -> None:
    """What a running server lists is what the contract says, health and reflection included."""
    expected = {
        stack.trainer.address: [TRAINER, REGISTRY],
        stack.inference.address: [INFERENCE, OPEN_INFERENCE],
    }
    for address, names in expected.items():
        client = dynamic(address)
        assert client.services() == {*names, *STANDARD}
        for name in names:
            assert methods_of(client.pool.FindServiceByName(name)) == methods_of(GENERATED[name])


def test_a_client_without_generated_code_can_do_the_main_job(
    stack: LocalStack, dynamic: Callable[[str], DynamicClient]
) -> None:
    """Through reflection alone: create a job, see it in the list and succeed, then classify with what it published."""
    trainer, inference = dynamic(stack.trainer.address), dynamic(stack.inference.address)
    assert trainer.pool is not descriptor_pool.Default()
    spec = {"model": "by-reflection", "dataset": "digits", "epochs": 1, "optimizer": "OPTIMIZER_SGD", "seed": 5}
    created = trainer.call(TRAINER, "CreateTrainingJob", {"spec": spec}).job
    assert not isinstance(created, training_pb2.TrainingJob)
    assert created.id in [job.id for job in trainer.call(TRAINER, "ListTrainingJobs", {}).jobs]

    deadline = time.monotonic() + TIMEOUT_SECONDS
    job = created
    while not job.version:
        assert time.monotonic() < deadline, job
        assert not job.error_message
        job = trainer.call(TRAINER, "GetTrainingJob", {"job_id": created.id}).job
        time.sleep(0.02)
    models = trainer.call(REGISTRY, "ListModels", {}).models
    assert ("by-reflection", 1) in [(model.name, model.live_version) for model in models]

    rows = base64.b64encode(bytes(2 * 64)).decode()
    tensor = {"data_type": "DATA_TYPE_UINT8", "shape": [2, 8, 8], "contents": rows}
    request = {"model": "by-reflection", "tensor": tensor, "top_k": 3}
    while "by-reflection" not in [s.model for s in inference.call(INFERENCE, "ListServedModels", {}).models]:
        assert time.monotonic() < deadline, "not hot-loaded"
        time.sleep(0.02)
    answer = inference.call(INFERENCE, "Classify", request)
    assert (len(answer.class_ids), len(answer.scores), answer.top_k) == (6, 6, 3)
    assert (answer.served_by.version, answer.served_by.digest) == (1, job.digest)
