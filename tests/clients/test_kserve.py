"""KServe's client, unmodified: its gRPC client, sending bytes and sending numbers, gets what our own client gets."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias, TypeVar

import grpc
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput

from tests.clients.product import DATATYPES, Answered, Array, Product, assert_right
from tests.clients.wrong_requests import WRONG, WrongRequest

Result = TypeVar("Result")
Run: TypeAlias = Callable[[Callable[[InferenceGRPCClient], Awaitable[Result]]], Result]
KINDS = ["raw", "typed"]


@pytest.fixture(scope="module")
def run(product: Product) -> Iterator[Run[object]]:
    """Runs what is asked of one client, which lives in an event loop of its own."""

    async def connect() -> InferenceGRPCClient:
        return InferenceGRPCClient(product.address)

    async def ask(call: Callable[[InferenceGRPCClient], Awaitable[Result]]) -> Result:
        return await call(client)

    with asyncio.Runner() as runner:
        client = runner.run(connect())
        yield lambda call: runner.run(ask(call))
        runner.run(client.close())


def input_of(array: Array, kind: str, name: str = "input") -> InferInput:
    """The one input, as bytes or as numbers."""
    tensor = InferInput(name, list(array.shape), DATATYPES[array.dtype.name])
    tensor.set_data_from_numpy(array, binary_data=kind == "raw")
    return tensor


def answered(response: InferResponse) -> Answered:
    """Every output of a response."""
    outputs = {output.name: output.as_numpy() for output in response.outputs}
    return Answered(outputs, response.model_version, response.parameters["digest"].string_param)


def test_the_server_and_the_model_are_live_and_ready(run: Run[bool], product: Product) -> None:
    """What is not there is not ready."""
    assert run(lambda client: client.is_server_live())
    assert run(lambda client: client.is_server_ready())
    assert run(lambda client: client.is_model_ready(product.model))
    assert not run(lambda client: client.is_model_ready("nope"))


@pytest.mark.parametrize("examples", ["images", "features"])
def test_every_image_is_classified_as_by_our_own_client(
    run: Run[InferResponse], product: Product, examples: str
) -> None:
    """As bytes: UINT8 in the images' shape and FP32 in rows."""
    array: Array = getattr(product, examples)
    requests = [InferRequest(product.model, [input_of(array[batch], "raw")]) for batch in product.batches]
    responses = [run(lambda client, asked=request: client.infer(asked)) for request in requests]  # type: ignore[misc]
    assert_right(product, [answered(response) for response in responses])


@pytest.mark.parametrize("examples", ["images", "features"])
def test_numbers_are_answered_with_numbers(run: Run[InferResponse], product: Product, examples: str) -> None:
    """In the field of their type, both ways. One batch, for each takes this client a second to put together."""
    array: Array = getattr(product, examples)[: product.batches[0].stop]
    request = InferRequest(product.model, [input_of(array, "typed")])
    response = run(lambda client: client.infer(request))
    assert all(isinstance(output.data, list) and output.data for output in response.outputs)
    assert_right(product, [answered(response)], product.batches[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("asked", "version"), [("1", 1), ("first", 1), ("2", 2), (None, 2)])
def test_a_version_is_pinned_by_number_or_alias(
    run: Run[InferResponse], product: Product, kind: str, asked: str | None, version: int
) -> None:
    """The answer is by that version and says so; no version means what is live."""
    request = InferRequest(product.model, [input_of(product.images[:50], kind)], model_version=asked)
    response = run(lambda client: client.infer(request))
    assert_right(product, [answered(response)], slice(50), version)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_carries_the_id_and_the_outputs_that_were_asked_for(
    run: Run[InferResponse], product: Product, kind: str
) -> None:
    """The request's id, and the outputs in the order of the request."""
    wanted = ["scores", "class_ids"]
    outputs = [RequestedOutput(name) for name in wanted]
    tensors = [input_of(product.images[:50], kind)]
    request = InferRequest(product.model, tensors, request_id="a-7", request_outputs=outputs)
    response = run(lambda client: client.infer(request))
    assert (response.id, response.model_name) == ("a-7", product.model)
    assert [output.name for output in response.outputs] == wanted
    expected = product.probabilities[2][:50]
    np.testing.assert_array_equal(response.outputs[1].as_numpy(), expected.argmax(axis=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_wrong_request_is_refused(run: Run[InferResponse], product: Product, wrong: WrongRequest, kind: str) -> None:
    """With the contract's code, in words that say what was wrong."""
    array = wrong.array(product)
    if kind == "typed" and array.nbytes > 10**6:
        array = array[:, :1]  # its numbers would take seconds to send, and are refused for their count
    tensor = input_of(array, kind, wrong.input_name)
    tensor.shape = list(wrong.shape(array.shape))
    outputs = [RequestedOutput(name) for name in wrong.outputs]
    request = InferRequest(wrong.asked(product), [tensor], request_outputs=outputs, model_version=wrong.version)
    with pytest.raises(grpc.RpcError) as refused:
        run(lambda client: client.infer(request))
    error = refused.value
    assert isinstance(error, grpc.aio.AioRpcError)
    assert error.code().name == wrong.code, error.details()
    words = [word for word in wrong.words if not (kind == "typed" and word == "bytes")]
    assert [word for word in words if word not in (error.details() or "")] == [], error.details()
