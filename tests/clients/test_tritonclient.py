"""tritonclient, unmodified: its gRPC client asks everything it can ask, and gets what our own client gets."""

import asyncio
import queue
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from tests.clients.product import DATATYPES, Answered, Array, Product, assert_right
from tests.clients.wrong_requests import WRONG, WrongRequest

WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def client(product: Product) -> Iterator[InferenceServerClient]:
    """A client of the product."""
    with tritonclient.grpc.InferenceServerClient(product.address) as connected:
        yield connected


def inputs_of(array: Array, name: str = "input") -> list[InferInput]:
    """The one input, raw."""
    tensor = InferInput(name, array.shape, DATATYPES[array.dtype.name])
    return [tensor.set_data_from_numpy(array)]


def answered(result: InferResult) -> Answered:
    """Every output of a result."""
    response = result.get_response()
    outputs = {output.name: result.as_numpy(output.name) for output in response.outputs}
    return Answered(outputs, response.model_version, response.parameters["digest"].string_param)


def test_the_server_and_the_model_are_live_and_ready(client: InferenceServerClient, product: Product) -> None:
    """Ready is asked by name, by version, by alias; what is not there is not ready."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(product.model)
    assert [client.is_model_ready(product.model, version) for version in ("1", "2", "first")] == [True] * 3
    assert [client.is_model_ready(product.model, version) for version in ("99", "abc")] == [False] * 2
    assert not client.is_model_ready("nope")


def test_the_server_says_what_it_is(client: InferenceServerClient) -> None:
    """A name and a version."""
    metadata = client.get_server_metadata()
    assert metadata.name == "weightcast"
    assert metadata.version


def test_the_model_says_what_it_takes_and_gives(client: InferenceServerClient, product: Product) -> None:
    """Names, datatypes and shapes as they are sent and answered."""
    metadata = client.get_model_metadata(product.model)
    assert metadata.name == product.model
    assert set(metadata.versions) >= {"1", "2"}
    (taken,) = metadata.inputs
    assert taken.name == "input"
    assert taken.datatype in {"FP32", "UINT8"}
    assert list(taken.shape) in ([-1, *product.images.shape[1:]], [-1, product.features.shape[1]])
    assert {(output.name, output.datatype, tuple(output.shape)) for output in metadata.outputs} == {
        ("probabilities", "FP32", (-1, len(product.class_labels))),
        ("class_ids", "INT64", (-1,)),
        ("scores", "FP32", (-1,)),
    }


def test_the_models_configuration_agrees_with_its_metadata(client: InferenceServerClient, product: Product) -> None:
    """What tools that make load read: the largest batch, the input, the outputs."""
    config = client.get_model_config(product.model).config
    assert config.name == product.model
    assert config.max_batch_size == product.max_batch_rows
    assert [tensor.name for tensor in config.input] == ["input"]
    assert [tensor.name for tensor in config.output] == ["probabilities", "class_ids", "scores"]


def test_the_repository_lists_the_model(client: InferenceServerClient, product: Product) -> None:
    """The live version is there and ready."""
    listed = {(model.name, model.version): model.state for model in client.get_model_repository_index().models}
    assert listed[product.model, "2"] == "READY"


def test_statistics_count_what_was_answered(client: InferenceServerClient, product: Product) -> None:
    """Three rows in one request are one success and three inferences more."""

    def counts() -> tuple[int, int]:
        (found,) = client.get_inference_statistics(product.model, "2").model_stats
        return int(found.inference_stats.success.count), int(found.inference_count)

    client.infer(product.model, inputs_of(product.images[:1]))  # or there may be nothing to count yet
    requests, rows = counts()
    client.infer(product.model, inputs_of(product.images[:3]))
    assert counts() == (requests + 1, rows + 3)


@pytest.mark.parametrize("kind", ["images", "features"])
def test_every_image_is_classified_as_by_our_own_client(
    client: InferenceServerClient, product: Product, kind: str
) -> None:
    """UINT8 in the images' shape and FP32 in rows, raw, in batches."""
    examples: Array = getattr(product, kind)
    results = [client.infer(product.model, inputs_of(examples[batch])) for batch in product.batches]
    assert_right(product, [answered(result) for result in results])


def test_every_image_in_one_request(client: InferenceServerClient, product: Product) -> None:
    """The largest batch there may be."""
    assert_right(product, [answered(client.infer(product.model, inputs_of(product.images)))])


@pytest.mark.parametrize(("asked", "version"), [("1", 1), ("first", 1), ("2", 2), ("live", 2), ("", 2)])
def test_a_version_is_pinned_by_number_or_alias(
    client: InferenceServerClient, product: Product, asked: str, version: int
) -> None:
    """The answer is by that version and says so; no version means what is live."""
    result = client.infer(product.model, inputs_of(product.images[:100]), model_version=asked)
    assert_right(product, [answered(result)], slice(100), version)


def test_an_answer_carries_its_request_id_and_its_models_name(client: InferenceServerClient, product: Product) -> None:
    """Who asks with an id finds it in the answer; who asks without finds none."""
    named = client.infer(product.model, inputs_of(product.images[:1]), request_id="a-7").get_response()
    unnamed = client.infer(product.model, inputs_of(product.images[:1])).get_response()
    assert (named.id, unnamed.id) == ("a-7", "")
    assert named.model_name == product.model


def test_only_the_requested_outputs_come(client: InferenceServerClient, product: Product) -> None:
    """In the order in which they were asked for."""
    wanted = ["class_ids", "probabilities"]
    outputs = [InferRequestedOutput(name) for name in wanted]
    result = client.infer(product.model, inputs_of(product.images[:50]), outputs=outputs)
    assert [output.name for output in result.get_response().outputs] == wanted
    assert result.as_numpy("scores") is None
    np.testing.assert_array_equal(result.as_numpy("class_ids"), result.as_numpy("probabilities").argmax(axis=1))


def test_the_best_classes_come_as_texts(client: InferenceServerClient, product: Product) -> None:
    """Triton's classification extension: probability, class id and label of each row's best three."""
    outputs = [InferRequestedOutput("probabilities", class_count=3)]
    rows = client.infer(product.model, inputs_of(product.images[:20]), outputs=outputs).as_numpy("probabilities")
    expected = product.probabilities[2][:20]
    for row, best in zip(rows, np.argsort(-expected, axis=1, kind="stable")[:, :3], strict=True):
        texts = [text.decode().split(":") for text in row]
        assert [text[2] for text in texts] == [product.class_labels[int(text[1])] for text in texts]
        assert [int(text[1]) for text in texts] == best.tolist()


def test_parameters_that_mean_nothing_here_change_nothing(client: InferenceServerClient, product: Product) -> None:
    """A priority, a timeout and a caller's own parameter are passed over."""
    result = client.infer(
        product.model, inputs_of(product.images[:50]), priority=2, timeout=5_000_000, parameters={"user": "me"}
    )
    assert_right(product, [answered(result)], slice(50))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request_is_answered(client: InferenceServerClient, product: Product, algorithm: str) -> None:
    """The compression that gRPC itself has, on request and answer."""
    result = client.infer(product.model, inputs_of(product.images[:100]), compression_algorithm=algorithm)
    assert_right(product, [answered(result)], slice(100))


def test_requests_in_flight_together_are_each_answered(client: InferenceServerClient, product: Product) -> None:
    """async_infer: all batches at once, each with its own id."""
    done: queue.Queue[tuple[InferResult, InferenceServerException]] = queue.Queue()
    for index, batch in enumerate(product.batches):
        client.async_infer(
            product.model,
            inputs_of(product.features[batch]),
            lambda result, error: done.put((result, error)),
            request_id=str(index),
        )
    finished = [done.get(timeout=WAIT_SECONDS) for _ in product.batches]
    assert [error for _, error in finished if error] == []
    results = sorted((result for result, _ in finished), key=lambda result: int(result.get_response().id))
    assert_right(product, [answered(result) for result in results])


def test_a_stream_answers_in_order_and_outlives_a_wrong_request(
    client: InferenceServerClient, product: Product
) -> None:
    """start_stream: every batch is answered, and a refusal in between comes as that request's error."""
    seen: queue.Queue[tuple[InferResult | None, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: seen.put((result, error)))
    client.async_stream_infer(product.model, inputs_of(product.images[:1]), model_version="99")
    for index, batch in enumerate(product.batches):
        client.async_stream_infer(product.model, inputs_of(product.images[batch]), request_id=str(index))
    finished = [seen.get(timeout=WAIT_SECONDS) for _ in range(len(product.batches) + 1)]
    client.stop_stream()
    (refused, error), *rest = finished
    assert refused is None
    assert error is not None
    assert "99" in str(error)
    results = [result for result, _ in rest if result is not None]
    assert [result.get_response().id for result in results] == [str(index) for index in range(len(product.batches))]
    assert_right(product, [answered(result) for result in results])


def test_the_asynchronous_client_gets_the_same(product: Product) -> None:
    """tritonclient.grpc.aio, which is another implementation of gRPC on the client's side."""

    async def classify() -> list[Answered]:
        async with tritonclient.grpc.aio.InferenceServerClient(product.address) as connected:
            calls = [connected.infer(product.model, inputs_of(product.images[batch])) for batch in product.batches]
            return [answered(result) for result in await asyncio.gather(*calls)]

    assert_right(product, asyncio.run(classify()))


def refusal(client: InferenceServerClient, product: Product, wrong: WrongRequest) -> InferenceServerException:
    """The error that a wrong request raises."""
    tensors = inputs_of(wrong.array(product), wrong.input_name)
    tensors[0].set_shape(wrong.shape(tuple(tensors[0].shape())))
    outputs = [InferRequestedOutput(name) for name in wrong.outputs] or None
    with pytest.raises(InferenceServerException) as refused:
        client.infer(wrong.asked(product), tensors, model_version=wrong.version, outputs=outputs)
    return refused.value


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_wrong_request_is_refused(client: InferenceServerClient, product: Product, wrong: WrongRequest) -> None:
    """With the contract's code, in words that say what was wrong."""
    error = refusal(client, product, wrong)
    assert error.status() == f"StatusCode.{wrong.code}", error.message()
    assert [word for word in wrong.words if word not in error.message()] == [], error.message()


@pytest.mark.parametrize("count", [0, 2])
def test_other_than_one_input_is_refused(client: InferenceServerClient, product: Product, count: int) -> None:
    """The model has one."""
    with pytest.raises(InferenceServerException, match=f"inputs.*{count}") as refused:
        client.infer(product.model, inputs_of(product.images[:1]) * count)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_an_input_without_data_is_refused(client: InferenceServerClient, product: Product) -> None:
    """A shape alone is no batch."""
    with pytest.raises(InferenceServerException, match="contents") as refused:
        client.infer(product.model, [InferInput("input", product.images[:1].shape, "UINT8")])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_shared_memory_and_sequences_are_refused(client: InferenceServerClient, product: Product) -> None:
    """What would change the answer and is not done here."""
    tensor = InferInput("input", product.images[:1].shape, "UINT8").set_shared_memory("mine", product.images[0].nbytes)
    with pytest.raises(InferenceServerException, match="shared_memory") as refused:
        client.infer(product.model, [tensor])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match="sequence") as refused:
        client.infer(product.model, inputs_of(product.images[:1]), sequence_id=3, sequence_start=True)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize("method", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
@pytest.mark.parametrize(("model", "version"), [("nope", ""), (None, "99"), (None, "abc")])
def test_what_is_not_there_cannot_be_described(
    client: InferenceServerClient, product: Product, method: str, model: str | None, version: str
) -> None:
    """NOT_FOUND, for an unknown model and for an unknown version."""
    with pytest.raises(InferenceServerException) as refused:
        getattr(client, method)(model or product.model, version)
    assert refused.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize("method", ["load_model", "unload_model"])
def test_models_are_not_loaded_by_hand(client: InferenceServerClient, product: Product, method: str) -> None:
    """What is served follows the registry, and the refusal says how to change that."""
    with pytest.raises(InferenceServerException, match="PromoteModelVersion") as refused:
        getattr(client, method)(product.model)
    assert refused.value.status() == "StatusCode.FAILED_PRECONDITION"
    assert client.is_model_ready(product.model)
