"""A client without generated code: every descriptor comes from the server's own reflection, every message is dynamic.

It can send what no finished client would, so it has the wrong requests that need a hand-made message.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.clients.product import DATATYPES, Answered, Array, Product, assert_right
from tests.clients.wrong_requests import INVALID, WRONG, WrongRequest

Message: TypeAlias = Any  # a class that was made while the test runs
OURS, PROTOCOL = "weightcast.v1.InferenceService", "inference.GRPCInferenceService"
NUMPY_DTYPES = {"FP32": "<f4", "INT64": "<i8"}
TYPED_FIELDS = {"FP32": "fp32_contents", "INT64": "int64_contents", "UINT8": "uint_contents"}
WAIT_SECONDS = 30


class ReflectedClient:
    """Calls whatever a server says that it has."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._database = ProtoReflectionDescriptorDatabase(self._channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> list[str]:
        """The names of all services."""
        return list(self._database.get_services())

    def methods(self, service: str) -> list[str]:
        """The names of a service's methods."""
        return [method.name for method in self._pool.FindServiceByName(service).methods]

    def request(self, service: str, method: str, **fields: Any) -> Message:  # noqa: ANN401 - any field
        """A method's request."""
        return GetMessageClass(self._method(service, method).input_type)(**fields)

    def call(self, service: str, method: str, **fields: Any) -> Message:  # noqa: ANN401 - any field
        """What a method answers to a request with these fields."""
        return self.send(service, method, self.request(service, method, **fields))

    def send(self, service: str, method: str, request: Message) -> Message:
        """What a method answers."""
        descriptor = self._method(service, method)
        call: Any = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )
        return call(request, timeout=WAIT_SECONDS)

    def stream(self, service: str, method: str, requests: Iterable[Message]) -> list[Message]:
        """What a method answers to a stream."""
        descriptor = self._method(service, method)
        call: Any = self._channel.stream_stream(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )
        return list(call(iter(requests), timeout=WAIT_SECONDS))

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _method(self, service: str, method: str) -> Any:  # noqa: ANN401 - has no public type
        return self._pool.FindServiceByName(service).FindMethodByName(method)


@pytest.fixture(scope="module")
def client(product: Product) -> Iterator[ReflectedClient]:
    """A client of the product."""
    connected = ReflectedClient(product.address)
    yield connected
    connected.close()


def raw(array: Array) -> dict[str, Any]:
    """The fields of a ModelInfer request that holds this array as bytes."""
    tensor = {"name": "input", "datatype": DATATYPES[array.dtype.name], "shape": array.shape}
    return {"inputs": [tensor], "raw_input_contents": [array.tobytes()]}


def typed(array: Array) -> dict[str, Any]:
    """The fields of a ModelInfer request that holds this array as numbers."""
    datatype = DATATYPES[array.dtype.name]
    contents = {TYPED_FIELDS[datatype]: array.ravel().tolist()}
    return {"inputs": [{"name": "input", "datatype": datatype, "shape": array.shape, "contents": contents}]}


def answered(response: Message) -> Answered:
    """Every output of a ModelInfer response, as bytes or as numbers."""
    outputs = {}
    for index, output in enumerate(response.outputs):
        dtype = NUMPY_DTYPES[output.datatype]
        if response.raw_output_contents:
            assert not output.HasField("contents")
            flat = np.frombuffer(response.raw_output_contents[index], dtype)
        else:
            flat = np.array(getattr(output.contents, TYPED_FIELDS[output.datatype]), dtype)
        outputs[output.name] = flat.reshape(tuple(output.shape))
    return Answered(outputs, response.model_version, response.parameters["digest"].string_param)


def test_reflection_shows_both_services(client: ReflectedClient) -> None:
    """By name, with their methods."""
    assert {OURS, PROTOCOL} <= set(client.services())
    assert {"Classify", "GetModelStatus"} <= set(client.methods(OURS))
    assert {"ServerLive", "ServerReady", "ModelReady", "ModelInfer"} <= set(client.methods(PROTOCOL))
    assert {"ServerMetadata", "ModelMetadata", "ModelStreamInfer"} <= set(client.methods(PROTOCOL))


def test_every_image_by_classify(client: ReflectedClient, product: Product) -> None:
    """weightcast.v1: the classes, the scores, the probabilities, and which version they are of."""
    found = []
    for batch in product.batches:
        images = product.images[batch]
        tensor = {"data_type": "DATA_TYPE_UINT8", "shape": images.shape, "contents": images.tobytes()}
        response = client.call(OURS, "Classify", model=product.model, tensor=tensor, include_probabilities=True)
        assert tuple(response.class_labels) == product.class_labels
        probabilities = np.frombuffer(response.probabilities.contents, "<f4")
        outputs: dict[str, Array] = {
            "probabilities": probabilities.reshape(tuple(response.probabilities.shape)),
            "class_ids": np.array(response.class_ids, np.int64),
            "scores": np.array(response.scores, np.float32),
        }
        found.append(Answered(outputs, str(response.served_by.version), response.served_by.digest))
    assert_right(product, found)


@pytest.mark.parametrize("kind", ["images", "features"])
def test_every_image_by_model_infer(client: ReflectedClient, product: Product, kind: str) -> None:
    """The Open Inference Protocol, raw: UINT8 in the images' shape, FP32 in rows."""
    examples: Array = getattr(product, kind)
    responses = [
        client.call(PROTOCOL, "ModelInfer", model_name=product.model, **raw(examples[batch]))
        for batch in product.batches
    ]
    assert all(len(response.raw_output_contents) == 3 for response in responses)
    assert_right(product, [answered(response) for response in responses])


@pytest.mark.parametrize("kind", ["images", "features"])
def test_numbers_are_answered_with_numbers(client: ReflectedClient, product: Product, kind: str) -> None:
    """Typed contents in, typed contents out."""
    rows: Array = getattr(product, kind)[:500]
    response = client.call(PROTOCOL, "ModelInfer", model_name=product.model, **typed(rows))
    assert not response.raw_output_contents
    assert_right(product, [answered(response)], slice(500))


@pytest.mark.parametrize(("asked", "version"), [("1", 1), ("first", 1), ("2", 2), ("latest", 2), ("", 2)])
def test_a_version_is_pinned_by_number_or_alias(
    client: ReflectedClient, product: Product, asked: str, version: int
) -> None:
    """The answer is by that version and says so; no version means what is live."""
    fields = raw(product.images[:50])
    response = client.call(PROTOCOL, "ModelInfer", model_name=product.model, model_version=asked, id="7", **fields)
    assert (response.model_name, response.id) == (product.model, "7")
    assert_right(product, [answered(response)], slice(50), version)


def test_a_stream_goes_on_after_a_wrong_request(client: ReflectedClient, product: Product) -> None:
    """Each request has its response, in order; a refused one has its id and the reason."""

    def request(identity: str, **fields: Any) -> Message:  # noqa: ANN401 - any field
        return client.request(PROTOCOL, "ModelStreamInfer", model_name=product.model, id=identity, **fields)

    good = raw(product.images[:50])
    requests = [request("a", **good), request("b"), request("c", **good)]
    responses = client.stream(PROTOCOL, "ModelStreamInfer", requests)
    assert [response.infer_response.id for response in responses] == ["a", "b", "c"]
    assert [bool(response.error_message) for response in responses] == [False, True, False]
    assert_right(product, [answered(responses[0].infer_response)], slice(50))
    assert_right(product, [answered(responses[2].infer_response)], slice(50))


def test_the_configuration_names_the_classes(client: ReflectedClient, product: Product) -> None:
    """What the metadata has no room for: the version, its digest, and the labels by class id."""
    parameters = client.call(PROTOCOL, "ModelConfig", name=product.model).config.parameters
    assert parameters["version"].string_value == "2"
    assert parameters["digest"].string_value == product.digests[2]
    assert tuple(json.loads(parameters["class_labels"].string_value)) == product.class_labels


def refuse(client: ReflectedClient, fields: dict[str, Any], code: str, words: Iterable[str]) -> None:
    """Checks that a ModelInfer request with these fields is refused so."""
    with pytest.raises(grpc.RpcError) as refused:
        client.call(PROTOCOL, "ModelInfer", **fields)
    error: Any = refused.value
    assert error.code().name == code, error.details()
    assert [word for word in words if word not in error.details()] == [], error.details()


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_wrong_request_is_refused(client: ReflectedClient, product: Product, wrong: WrongRequest) -> None:
    """With the contract's code, in words that say what was wrong."""
    array = wrong.array(product)
    fields = raw(array)
    fields["inputs"][0] |= {"shape": wrong.shape(array.shape), "name": wrong.input_name}
    fields["outputs"] = [{"name": name} for name in wrong.outputs]
    refuse(
        client, {"model_name": wrong.asked(product), "model_version": wrong.version, **fields}, wrong.code, wrong.words
    )


def hand_made(name: str, product: Product) -> dict[str, Any]:
    """A request that finished clients do not send."""
    image, features = product.images[:1], product.features[:1]
    right, numbers = raw(image), typed(features)
    (tensor,) = right["inputs"]
    contents = numbers["inputs"][0]["contents"]["fp32_contents"]
    made = {
        "more raw contents than inputs": {**right, "raw_input_contents": [image.tobytes()] * 2},
        "no contents at all": {"inputs": right["inputs"]},
        "both kinds of contents": {**numbers, "raw_input_contents": [features.tobytes()]},
        "two inputs": {"inputs": [tensor, tensor], "raw_input_contents": [image.tobytes()] * 2},
        "no input": {},
        "no datatype": {**right, "inputs": [{**tensor, "datatype": ""}]},
        "our own name of a datatype": {
            **raw(features),
            "inputs": [{**raw(features)["inputs"][0], "datatype": "FLOAT32"}],
        },
        "a number too few": {"inputs": [{**numbers["inputs"][0], "contents": {"fp32_contents": contents[1:]}}]},
        "numbers in another type's field": {
            "inputs": [{**numbers["inputs"][0], "contents": {"fp64_contents": contents}}]
        },
        "a number that is no byte": {
            "inputs": [{**tensor, "contents": {"uint_contents": [256, *image.ravel().tolist()[1:]]}}]
        },
        "an output twice": {**right, "outputs": [{"name": "scores"}, {"name": "scores"}]},
        "elements in shared memory": {
            "inputs": [{**tensor, "parameters": {"shared_memory_region": {"string_param": "mine"}}}]
        },
        "part of a sequence": {**right, "parameters": {"sequence_id": {"int64_param": 3}}},
    }
    return {"model_name": product.model, **made[name]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("more raw contents than inputs", ("raw_input_contents", "2", "1")),
        ("no contents at all", ("contents",)),
        ("both kinds of contents", ("contents",)),
        ("two inputs", ("inputs", "2")),
        ("no input", ("inputs", "0")),
        ("no datatype", ("datatype", "FP32")),
        ("our own name of a datatype", ("FLOAT32", "FP32")),
        ("a number too few", ("contents",)),
        ("numbers in another type's field", ("fp64_contents", "fp32_contents")),
        ("a number that is no byte", ("256", "255")),
        ("an output twice", ("scores",)),
        ("elements in shared memory", ("shared_memory_region",)),
        ("part of a sequence", ("sequence_id",)),
    ],
)
def test_a_message_that_no_client_makes_is_refused(
    client: ReflectedClient, product: Product, name: str, words: tuple[str, ...]
) -> None:
    """What is inconsistent in itself is refused by name, and the next request is answered."""
    refuse(client, hand_made(name, product), INVALID, words)
    response = client.call(PROTOCOL, "ModelInfer", model_name=product.model, **raw(product.images[:1]))
    assert_right(product, [answered(response)], slice(1))
