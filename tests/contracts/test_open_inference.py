"""The Open Inference Protocol on a running server: each method, by the stubs its schema gives, answers as it says."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.inference import model_config_pb2, model_repository_pb2, model_statistics_pb2
from shared.pb.inference import open_inference_service_pb2 as pb
from shared.pb.inference.open_inference_service_pb2_grpc import GRPCInferenceServiceStub
from shared.pb.weightcast.v1 import training_pb2

MODEL = "two-versions"
SERVED_SECONDS = 10.0
TIMEOUT_SECONDS = 20.0
PIXELS = np.random.default_rng(3).integers(0, 17, (5, 8, 8), dtype=np.uint8)
FEATURES = (PIXELS / np.float32(16)).astype("<f4")
Output = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def stub(stack: LocalStack) -> Iterator[GRPCInferenceServiceStub]:
    """The protocol's own client."""
    with grpc.insecure_channel(stack.inference.address) as channel:
        yield GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def versions(trainer: TrainerClient, inference: InferenceClient) -> dict[int, str]:
    """Two versions of a model, the second of which is live, with their digests."""
    digests = {}
    for seed in (1, 2):
        spec = training_pb2.TrainingSpec(model=MODEL, dataset="digits", epochs=1, seed=seed)
        job = trainer.wait(trainer.create_job(spec).id)
        inference.wait_for_version(MODEL, job.version, SERVED_SECONDS)
        digests[job.version] = job.digest
    assert list(digests) == [1, 2]
    return digests


def raw(rows: np.ndarray, **fields: Any) -> pb.ModelInferRequest:  # noqa: ANN401 - any field
    """A request with its elements as bytes."""
    datatype = "UINT8" if rows.dtype == np.uint8 else "FP32"
    tensor = pb.ModelInferRequest.InferInputTensor(name="input", datatype=datatype, shape=rows.shape)
    return pb.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[rows.tobytes()], **fields)


def typed(rows: np.ndarray, **fields: Any) -> pb.ModelInferRequest:  # noqa: ANN401 - any field
    """A request with its elements as numbers."""
    request = raw(rows, **fields)
    request.ClearField("raw_input_contents")
    contents = request.inputs[0].contents
    (contents.uint_contents if rows.dtype == np.uint8 else contents.fp32_contents).extend(rows.ravel().tolist())
    return request


def outputs_of(response: pb.ModelInferResponse) -> Output:
    """Each output as an array, whichever way it came."""
    arrays: Output = {}
    for index, output in enumerate(response.outputs):
        dtype = {"FP32": "<f4", "INT64": "<i8"}[output.datatype]
        if response.raw_output_contents:
            flat = np.frombuffer(response.raw_output_contents[index], dtype)
        else:
            flat = np.array(output.contents.fp32_contents or output.contents.int64_contents, dtype)
        arrays[output.name] = flat.reshape(output.shape)
    return arrays


def test_the_server_is_live_ready_and_says_what_it_is(stub: GRPCInferenceServiceStub, versions: dict[int, str]) -> None:
    """A name, a version, and the extensions that are there."""
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    metadata = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (metadata.name, bool(metadata.version)) == ("weightcast", True)
    assert {"classification", "model_configuration", "model_repository", "statistics"} <= set(metadata.extensions)


@pytest.mark.parametrize(
    ("model", "version", "ready"),
    [
        (MODEL, "", True),
        (MODEL, "1", True),
        (MODEL, "2", True),
        (MODEL, "latest", True),
        (MODEL, "3", False),
        (MODEL, "9" * 40, False),
        (MODEL, "nobodys", False),
        ("nobodys", "", False),
        ("", "", False),
        ("No!", "1", False),
    ],
)
def test_a_model_is_ready_if_it_would_answer(
    stub: GRPCInferenceServiceStub,
    versions: dict[int, str],
    model: str,
    version: str,
    ready: bool,  # noqa: FBT001
) -> None:
    """What is not there is not ready, which is no error."""
    assert stub.ModelReady(pb.ModelReadyRequest(name=model, version=version)).ready is ready


def test_metadata_says_what_is_taken_and_given(stub: GRPCInferenceServiceStub, versions: dict[int, str]) -> None:
    """The shapes with −1 for the batch, and the versions by number."""
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name=MODEL))
    assert (metadata.name, metadata.platform) == (MODEL, "weightcast_mlp")
    assert "2" in metadata.versions
    assert "1" in stub.ModelMetadata(pb.ModelMetadataRequest(name=MODEL, version="1")).versions
    tensors = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in (*metadata.inputs, *metadata.outputs)]
    assert tensors == [
        ("input", "FP32", [-1, 8, 8]),
        ("probabilities", "FP32", [-1, 10]),
        ("class_ids", "INT64", [-1]),
        ("scores", "FP32", [-1]),
    ]


def test_the_configuration_agrees_with_the_metadata(stub: GRPCInferenceServiceStub, versions: dict[int, str]) -> None:
    """In Triton's terms, where the batch is apart; and with the names of the classes, which are nowhere else."""
    config = stub.ModelConfig(model_config_pb2.ModelConfigRequest(name=MODEL, version="1")).config
    assert (config.name, config.platform, config.backend) == (MODEL, "weightcast_mlp", "weightcast")
    assert config.max_batch_size > 1
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in config.input] == [
        ("input", model_config_pb2.TYPE_FP32, [8, 8])
    ]
    assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in config.output] == [
        ("probabilities", model_config_pb2.TYPE_FP32, [10]),
        ("class_ids", model_config_pb2.TYPE_INT64, [1]),
        ("scores", model_config_pb2.TYPE_FP32, [1]),
    ]
    said = {key: value.string_value for key, value in config.parameters.items()}
    assert (said["version"], said["digest"]) == ("1", versions[1])
    assert (said["max_message_bytes"], said["max_in_flight"]) == (str(32 * 2**20), "256")
    assert json.loads(said["class_labels"]) == [str(digit) for digit in range(10)]


ROWS = [PIXELS, FEATURES, PIXELS.reshape(5, 64), FEATURES.reshape(5, 64), FEATURES[:1]]


@pytest.mark.parametrize("write", [raw, typed])
@pytest.mark.parametrize("rows", ROWS, ids=lambda rows: f"{rows.dtype} {rows.shape}")
def test_an_answer_is_what_our_own_client_gets(
    stub: GRPCInferenceServiceStub,
    inference: InferenceClient,
    versions: dict[int, str],
    write: Callable[..., pb.ModelInferRequest],
    rows: np.ndarray,
) -> None:
    """Bytes to who sent bytes, numbers to who sent numbers; what is recognised the second time is answered the same."""
    ours = inference.classify(MODEL, rows, include_probabilities=True)
    assert ours.probabilities is not None
    for request_id in ("", "r-1", "r-1"):
        response = stub.ModelInfer(write(rows, id=request_id))
        assert (response.model_name, response.model_version, response.id) == (MODEL, "2", request_id)
        assert response.parameters["digest"].string_param == versions[2]
        assert bool(response.raw_output_contents) is (write is raw)
        outputs = outputs_of(response)
        assert list(outputs) == ["probabilities", "class_ids", "scores"]
        np.testing.assert_allclose(outputs["probabilities"], ours.probabilities, atol=1e-6)
        np.testing.assert_array_equal(outputs["class_ids"], ours.class_ids[:, 0])
        np.testing.assert_allclose(outputs["scores"], ours.scores[:, 0], atol=1e-6)


@pytest.mark.parametrize(("asked", "version"), [("", 2), ("live", 2), ("latest", 2), ("2", 2), ("1", 1), ("01", 1)])
def test_a_version_is_pinned_by_number_or_alias(
    stub: GRPCInferenceServiceStub, versions: dict[int, str], asked: str, version: int
) -> None:
    """The answer is that version's and says so."""
    response = stub.ModelInfer(raw(FEATURES, model_version=asked))
    assert (response.model_version, response.parameters["digest"].string_param) == (str(version), versions[version])


@pytest.mark.parametrize("write", [raw, typed])
@pytest.mark.parametrize(
    "names", [["scores"], ["class_ids", "probabilities"], ["scores", "class_ids", "probabilities"]]
)
def test_only_the_outputs_asked_for_come_and_in_that_order(
    stub: GRPCInferenceServiceStub,
    versions: dict[int, str],
    write: Callable[..., pb.ModelInferRequest],
    names: list[str],
) -> None:
    """With the same numbers as among all of them."""
    all_outputs = outputs_of(stub.ModelInfer(write(FEATURES)))
    asked = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names]
    outputs = outputs_of(stub.ModelInfer(write(FEATURES, outputs=asked)))
    assert list(outputs) == names
    for name in names:
        np.testing.assert_array_equal(outputs[name], all_outputs[name])


def test_the_best_classes_come_as_text(stub: GRPCInferenceServiceStub, versions: dict[int, str]) -> None:
    """Triton's classification extension: probability, class id, label."""
    request = typed(FEATURES)
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    (output,) = stub.ModelInfer(request).outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [5, 2])
    probabilities = outputs_of(stub.ModelInfer(typed(FEATURES)))["probabilities"]
    texts = [text.decode().split(":") for text in output.contents.bytes_contents]
    best = np.argsort(-probabilities, axis=1)[:, :2].ravel()
    assert [int(class_id) for _, class_id, _ in texts] == best.tolist()
    assert [label for _, _, label in texts] == [str(class_id) for class_id in best]
    np.testing.assert_allclose(
        [float(score) for score, _, _ in texts], np.sort(probabilities)[:, :-3:-1].ravel(), atol=1e-6
    )


def test_a_stream_answers_in_order_and_outlives_a_wrong_request(
    stub: GRPCInferenceServiceStub, versions: dict[int, str]
) -> None:
    """What was wrong with one is in its response, with its id; the others are answered."""
    requests = [raw(FEATURES[:1], id=str(index)) for index in range(20)]
    requests[3].model_version = "99"
    requests[7].inputs[0].datatype = "FP16"
    requests[9].raw_input_contents[0] = b"short"
    responses = list(stub.ModelStreamInfer(iter(requests), timeout=TIMEOUT_SECONDS))
    assert [response.infer_response.id for response in responses] == [str(index) for index in range(20)]
    refused = {index: response.error_message for index, response in enumerate(responses) if response.error_message}
    assert list(refused) == [3, 7, 9]
    for index, words in {3: "99", 7: "inputs[0].datatype", 9: "raw_input_contents[0]"}.items():
        assert words in refused[index]
    answered = [response.infer_response for response in responses if not response.error_message]
    alone = stub.ModelInfer(raw(FEATURES[:1]))
    assert {response.outputs[1].name for response in answered} == {"class_ids"}
    assert {response.raw_output_contents[1] for response in answered} == {alone.raw_output_contents[1]}


def test_what_was_asked_is_counted(stub: GRPCInferenceServiceStub, versions: dict[int, str]) -> None:
    """Requests, rows and refusals, by version; and by model where no version is named."""

    def count(version: str) -> tuple[int, int, int]:
        request = model_statistics_pb2.ModelStatisticsRequest(name=MODEL, version=version)
        found = stub.ModelStatistics(request).model_stats
        assert {(stats.name, stats.version) for stats in found} <= {(MODEL, version)}
        if not found:
            return 0, 0, 0
        stats = found[0].inference_stats
        return stats.success.count, found[0].inference_count, stats.fail.count

    requests, rows, failures = count("1")
    for _ in range(3):
        stub.ModelInfer(raw(FEATURES, model_version="1"))
    for wrong in (FEATURES * np.float32(np.nan), FEATURES[:, :7]):
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(raw(wrong, model_version="1"))
    assert count("1") == (requests + 3, rows + 15, failures + 2)
    (stats,) = stub.ModelStatistics(model_statistics_pb2.ModelStatisticsRequest(name=MODEL, version="1")).model_stats
    assert stats.execution_count > 0
    assert stats.last_inference > 0
    assert stats.inference_stats.success.ns >= stats.inference_stats.compute_infer.ns > 0
    by_model = stub.ModelStatistics(model_statistics_pb2.ModelStatisticsRequest(name=MODEL)).model_stats
    assert {each.version for each in by_model} >= {"1"}
    everything = stub.ModelStatistics(model_statistics_pb2.ModelStatisticsRequest()).model_stats
    assert (MODEL, "1") in [(each.name, each.version) for each in everything]


def test_the_index_lists_what_can_answer(stub: GRPCInferenceServiceStub, versions: dict[int, str]) -> None:
    """The live version and those that were asked for, ready."""
    stub.ModelInfer(raw(FEATURES, model_version="1"))
    for ready in (False, True):
        models = stub.RepositoryIndex(model_repository_pb2.RepositoryIndexRequest(ready=ready)).models
        ours = [(model.version, model.state, model.reason) for model in models if model.name == MODEL]
        assert ours == [("1", "READY", ""), ("2", "READY", "")]
