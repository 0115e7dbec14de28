"""The design's error table, by real calls: code, reason, the field with both numbers, and that nothing breaks."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeAlias, cast

import grpc
import numpy as np
import pytest
from PIL import Image

from client.inference_client import InferenceClient
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import (
    inference_service_pb2,
    model_registry_service_pb2,
    tensor_pb2,
    trainer_service_pb2,
    training_pb2,
)

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UINT8, FLOAT32 = tensor_pb2.DATA_TYPE_UINT8, tensor_pb2.DATA_TYPE_FLOAT32
TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Clients:
    """Both services, and a job that has ended."""

    trainer: TrainerClient
    inference: InferenceClient
    job_id: str


Call: TypeAlias = Callable[[Clients], object]


@dataclass(frozen=True)
class Bad:
    """A call that must be refused: with which code and reason, naming which fields, with which words in each."""

    name: str
    call: Call
    code: grpc.StatusCode = INVALID
    reason: str = "INVALID_INPUT"
    fields: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def classify(
    shape: tuple[int, ...] = (1, 64),
    contents: bytes = bytes(64),
    data_type: int = UINT8,
    **more: Any,  # noqa: ANN401 - any field
) -> Call:
    """A Classify call with a tensor."""
    request = inference_service_pb2.ClassifyRequest(**{"model": "digits", **more})
    request.tensor.shape.extend(shape)
    request.tensor.contents = contents
    request.tensor.data_type = cast(tensor_pb2.DataType.ValueType, data_type)  # unknown ones too
    return lambda clients: clients.inference.stub.Classify(request, timeout=TIMEOUT_SECONDS)


def images(*files: bytes) -> Call:
    """A Classify call with image files."""
    request = inference_service_pb2.ClassifyRequest(model="digits")
    request.images.files.extend(files)
    request.images.SetInParent()
    return lambda clients: clients.inference.stub.Classify(request, timeout=TIMEOUT_SECONDS)


def floats(*values: float) -> bytes:
    """One row of 64 features that begins with these."""
    return np.array([*values, *[0.5] * (64 - len(values))], "<f4").tobytes()


def create(request_id: str = "", **spec: Any) -> Call:  # noqa: ANN401 - any field
    """A CreateTrainingJob call; what is not given is right."""
    given = {"model": "digits", "dataset": "digits", **spec}
    layers = given.pop("hidden", None)
    proto = training_pb2.TrainingSpec(**given)
    if layers is not None:
        proto.network.hidden_layer_sizes.extend(layers)
    request = trainer_service_pb2.CreateTrainingJobRequest(spec=proto, request_id=request_id)
    return lambda clients: clients.trainer.stub.CreateTrainingJob(request, timeout=TIMEOUT_SECONDS)


def trainer(method: str, request: Any) -> Call:  # noqa: ANN401 - any message
    """A TrainerService call, its stream read to the end."""
    if method == "WatchTrainingJob":
        return lambda clients: list(getattr(clients.trainer.stub, method)(request, timeout=TIMEOUT_SECONDS))
    return lambda clients: getattr(clients.trainer.stub, method)(request, timeout=TIMEOUT_SECONDS)


def watch(cursor: str) -> Call:
    """A WatchTrainingJob call for the job that has ended."""
    return lambda clients: list(
        clients.trainer.stub.WatchTrainingJob(
            trainer_service_pb2.WatchTrainingJobRequest(job_id=clients.job_id, cursor=cursor), timeout=TIMEOUT_SECONDS
        )
    )


def registry(method: str, **fields: Any) -> Call:  # noqa: ANN401 - any field
    """A ModelRegistryService call, its stream read to the end."""
    request = getattr(model_registry_service_pb2, f"{method}Request")(**fields)
    if method == "DownloadModelVersion":
        return lambda clients: list(getattr(clients.trainer.registry, method)(request, timeout=TIMEOUT_SECONDS))
    return lambda clients: getattr(clients.trainer.registry, method)(request, timeout=TIMEOUT_SECONDS)


def cut_short_png() -> bytes:
    """A PNG whose pixels end too early."""
    file = BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()[:300]


pb = trainer_service_pb2
SHAPE, CONTENTS = ("tensor.shape",), ("tensor.contents",)
CLASSIFY = [
    Bad("784 features for a model of 64", classify((1, 784), bytes(784)), fields=SHAPE, words=("784", "64")),
    Bad("28 × 28 for 8 × 8", classify((1, 28, 28), bytes(784)), fields=SHAPE, words=("[1, 28, 28]", "[1, 8, 8]")),
    Bad("no dimension", classify((), bytes(64)), fields=SHAPE, words=("0", "10000")),
    Bad("one dimension", classify((64,), bytes(64)), fields=SHAPE, words=("[64]", "64 features")),
    Bad("negative rows", classify((-1, 64), bytes(64)), fields=SHAPE, words=("-1", "10000")),
    Bad("a negative size inside", classify((1, -8, -8), bytes(64)), fields=SHAPE, words=("[1, -8, -8]", "[1, 8, 8]")),
    Bad("sizes whose product overflows", classify((1, 2**62, 4), b""), fields=SHAPE, words=(str(2**62), "64")),
    Bad("an empty batch", classify((0, 64), b""), fields=SHAPE, words=("0 rows", "1 to 10000")),
    Bad("a batch over the limit", classify((10001, 64), bytes(640064)), fields=SHAPE, words=("10001", "10000")),
    Bad("too few bytes", classify((2, 64), bytes(64)), fields=CONTENTS, words=("64 bytes", "128")),
    Bad("too many bytes", classify((1, 64), bytes(65)), fields=CONTENTS, words=("65 bytes", "64")),
    Bad("uint8 bytes called float32", classify(data_type=FLOAT32), fields=CONTENTS, words=("64 bytes", "256")),
    Bad("no data type", classify(data_type=0), fields=("tensor.data_type",), words=("0", "UINT8 or FLOAT32")),
    Bad("an unknown data type", classify(data_type=77), fields=("tensor.data_type",), words=("77", "UINT8")),
    Bad("a byte over 16", classify(contents=b"\x11" * 64), fields=CONTENTS, words=("17", "16")),
    Bad("NaN", classify(contents=floats(math.nan), data_type=FLOAT32), fields=CONTENTS, words=("row 0", "NaN")),
    Bad("infinity", classify(contents=floats(math.inf), data_type=FLOAT32), fields=CONTENTS, words=("infinity",)),
    Bad("−infinity", classify(contents=floats(-math.inf), data_type=FLOAT32), fields=CONTENTS, words=("infinity",)),
    Bad(
        "NaN in the second row",
        classify((2, 64), floats() + floats(0, math.nan), FLOAT32),
        fields=CONTENTS,
        words=("row 1", "finite"),
    ),
    Bad("raw values as floats", classify(contents=floats(16), data_type=FLOAT32), fields=CONTENTS, words=("16", "1")),
    Bad("a negative feature", classify(contents=floats(-1), data_type=FLOAT32), fields=CONTENTS, words=("-1", "0")),
    Bad("top_k below 0", classify(top_k=-1), fields=("top_k",), words=("-1", "10")),
    Bad("top_k over the classes", classify(top_k=11), fields=("top_k",), words=("11", "10")),
    Bad(
        "no input",
        lambda clients: clients.inference.stub.Classify(inference_service_pb2.ClassifyRequest(model="digits")),
        fields=("input",),
        words=("tensor or images",),
    ),
    Bad("no image", images(), fields=("images.files",), words=("0 rows", "1 to 10000")),
    Bad("too many images", images(*[b"x"] * 10001), fields=("images.files",), words=("10001", "10000")),
    Bad("an image that is none", images(b"GIF89a"), fields=("images.files[0]",), words=("PNG or JPEG", "6")),
    Bad("an image cut short", images(cut_short_png()), fields=("images.files[0]",), words=("decoded",)),
    Bad("an image too large", images(bytes(8 * 2**20 + 1)), fields=("images.files[0]",), words=("8388609", "8388608")),
    Bad("no model", classify(model=""), fields=("model",), words=("required",)),
    Bad("a name that no model has", classify(model="A B"), fields=("model",), words=("A B", "a-z")),
    Bad("an unknown model", classify(model="nope"), NOT_FOUND, "MODEL_NOT_FOUND", words=("nope", "digits")),
    Bad("an unknown version", classify(version=99), NOT_FOUND, "VERSION_NOT_FOUND", words=("99", "1")),
    Bad("version 0", classify(version=0), NOT_FOUND, "VERSION_NOT_FOUND", words=("0", "1")),
    Bad("a negative version", classify(version=-1), NOT_FOUND, "VERSION_NOT_FOUND", words=("-1", "1")),
    Bad("an unknown alias", classify(alias="best"), NOT_FOUND, "ALIAS_NOT_FOUND", words=("best", "latest, live")),
    Bad(
        "the status of an unknown model",
        lambda clients: clients.inference.stub.GetModelStatus(
            inference_service_pb2.GetModelStatusRequest(model="nope")
        ),
        NOT_FOUND,
        "MODEL_NOT_FOUND",
        words=("nope",),
    ),
]
LAYERS = "spec.network.hidden_layer_sizes"
TRAIN = [
    Bad("no epochs", create(epochs=0), fields=("spec.epochs",), words=("0", "1 to 1000")),
    Bad("negative epochs", create(epochs=-1), fields=("spec.epochs",), words=("-1", "1 to 1000")),
    Bad("too many epochs", create(epochs=1001), fields=("spec.epochs",), words=("1001", "1000")),
    Bad("a million units", create(hidden=[10**6]), fields=(f"{LAYERS}[0]",), words=("1000000", "8192")),
    Bad("a layer of none", create(hidden=[8, 0]), fields=(f"{LAYERS}[1]",), words=("0", "8192")),
    Bad("too many layers", create(hidden=[1] * 17), fields=(LAYERS,), words=("17", "16")),
    Bad("too many weights", create(hidden=[8192] * 3), fields=("spec.layers",), words=("weights", str(2**25))),
    Bad("an empty batch size", create(batch_size=0), fields=("spec.batch_size",), words=("0", "65536")),
    Bad("a negative rate", create(learning_rate=-1), fields=("spec.learning_rate",), words=("-1", "10")),
    Bad("a rate of 0", create(learning_rate=0), fields=("spec.learning_rate",), words=("0", "10")),
    Bad("a rate of NaN", create(learning_rate=math.nan), fields=("spec.learning_rate",), words=("nan", "10")),
    Bad("an infinite rate", create(learning_rate=math.inf), fields=("spec.learning_rate",), words=("inf", "10")),
    Bad("a negative seed", create(seed=-1), fields=("spec.seed",), words=("-1", str(2**63 - 1))),
    Bad("an unknown optimizer", create(optimizer=77), fields=("spec.optimizer",), words=("77", "OPTIMIZER_ADAM")),
    Bad("no model to train", create(model=""), fields=("spec.model",), words=("required",)),
    Bad("no such model name", create(model="Ä/b"), fields=("spec.model",), words=("a-z",)),
    Bad("no data set", create(dataset=""), fields=("spec.dataset",), words=("required",)),
    Bad("a long request_id", create(request_id="x" * 65), fields=("request_id",), words=("65", "64")),
    Bad("no spec", trainer("CreateTrainingJob", pb.CreateTrainingJobRequest()), fields=("spec.model", "spec.dataset")),
    Bad(
        "many bad fields",
        create("y" * 70, model="_", hidden=[0, 9999], epochs=0, batch_size=-3, learning_rate=-1, seed=-5),
        fields=(
            "spec.model",
            f"{LAYERS}[0]",
            f"{LAYERS}[1]",
            "spec.epochs",
            "spec.batch_size",
            "spec.learning_rate",
            "spec.seed",
            "request_id",
        ),
    ),
    Bad(
        "many bad fields, the optimizer among them",
        create(optimizer=77, epochs=0),
        fields=("spec.optimizer", "spec.epochs"),
    ),
    Bad("an unknown data set", create(dataset="nope"), NOT_FOUND, "DATASET_NOT_FOUND", words=("nope", "digits, mnist")),
    Bad(
        "the description of an unknown data set",
        trainer("GetDataset", pb.GetDatasetRequest(name="nope")),
        NOT_FOUND,
        "DATASET_NOT_FOUND",
        words=("nope",),
    ),
    Bad(
        "examples of an unknown data set",
        trainer("ListDatasetExamples", pb.ListDatasetExamplesRequest(dataset="nope")),
        NOT_FOUND,
        "DATASET_NOT_FOUND",
        words=("nope",),
    ),
    Bad(
        "examples of an unknown split",
        trainer("ListDatasetExamples", pb.ListDatasetExamplesRequest(dataset="digits", split=7)),  # type: ignore[arg-type]
        fields=("split",),
        words=("7",),
    ),
]
UNKNOWN_JOB = (NOT_FOUND, "JOB_NOT_FOUND")
# Page tokens of no page.
WORD, NEGATIVE, SQUARED, DECIMAL, BIG = "x", "-1", "²", "1.5", str(2**63)
JOBS = [
    *(
        Bad(
            f"{method} of an unknown job", trainer(method, getattr(pb, f"{method}Request")(job_id="nope")), *UNKNOWN_JOB
        )
        for method in ("GetTrainingJob", "CancelTrainingJob", "WatchTrainingJob")
    ),
    Bad("no job id", trainer("GetTrainingJob", pb.GetTrainingJobRequest()), *UNKNOWN_JOB),
    Bad(
        "a job id that could be another key's name",
        trainer("GetTrainingJob", pb.GetTrainingJobRequest(job_id="index")),
        *UNKNOWN_JOB,
    ),
    Bad(
        "a job that has ended",
        lambda clients: clients.trainer.stub.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id=clients.job_id)),
        grpc.StatusCode.FAILED_PRECONDITION,
        "JOB_ENDED",
        words=("SUCCEEDED",),
    ),
    Bad("a cursor that is none", watch("yesterday"), fields=("cursor",), words=("yesterday",)),
    Bad(
        "a cursor over 64 bits",
        watch("99999999999999999999-0"),
        fields=("cursor",),
    ),
    Bad(
        "a cursor of other digits",
        watch("٣-٣"),
        fields=("cursor",),
    ),
    Bad(
        "a negative page", trainer("ListTrainingJobs", pb.ListTrainingJobsRequest(page_size=-1)), fields=("page_size",)
    ),
    Bad(
        "a bad token", trainer("ListTrainingJobs", pb.ListTrainingJobsRequest(page_token=WORD)), fields=("page_token",)
    ),
    Bad(
        "a token over 63 bits",
        trainer("ListTrainingJobs", pb.ListTrainingJobsRequest(page_token=BIG)),
        fields=("page_token",),
    ),
    Bad(
        "a bad token of data sets",
        trainer("ListDatasets", pb.ListDatasetsRequest(page_token=NEGATIVE)),
        fields=("page_token",),
    ),
    Bad(
        "a bad token of examples",
        trainer("ListDatasetExamples", pb.ListDatasetExamplesRequest(dataset="digits", page_token=SQUARED)),
        fields=("page_token",),
    ),
]
REGISTRY = [
    Bad("no model name", registry("GetModel"), fields=("model",), words=("required",)),
    Bad("a bad model name", registry("GetModel", model="x" * 64), fields=("model",), words=("63",)),
    Bad("a model that is not there", registry("GetModel", model="nope"), NOT_FOUND, "MODEL_NOT_FOUND", words=("nope",)),
    Bad("versions of no model", registry("ListModelVersions", model="nope"), NOT_FOUND, "MODEL_NOT_FOUND"),
    Bad("a negative page of models", registry("ListModels", page_size=-1), fields=("page_size",), words=("-1", "200")),
    Bad("a bad token of models", registry("ListModels", page_token=WORD), fields=("page_token",), words=("x",)),
    Bad(
        "a bad token of versions",
        registry("ListModelVersions", model="digits", page_token=DECIMAL),
        fields=("page_token",),
    ),
    Bad(
        "a missing version",
        registry("GetModelVersion", model="digits", version=7),
        NOT_FOUND,
        "VERSION_NOT_FOUND",
        words=("7", "1"),
    ),
    Bad("a missing alias", registry("GetModelVersion", model="digits", alias="x"), NOT_FOUND, "ALIAS_NOT_FOUND"),
    Bad("a download of nothing", registry("DownloadModelVersion", model="nope"), NOT_FOUND, "MODEL_NOT_FOUND"),
    Bad(
        "an unknown format",
        registry("DownloadModelVersion", model="digits", format=77),
        fields=("format",),
        words=("77",),
    ),
]


@pytest.fixture(scope="session")
def clients(trainer: TrainerClient, inference: InferenceClient, trained: training_pb2.TrainingJob) -> Clients:
    """Both services with a model."""
    return Clients(trainer, inference, trained.id)


@pytest.mark.parametrize("bad", [*CLASSIFY, *TRAIN, *JOBS, *REGISTRY], ids=lambda bad: bad.name)
def test_bad_input_is_refused_by_name_and_the_service_goes_on(
    clients: Clients, refusal_of: Callable[[grpc.RpcError], Any], bad: Bad
) -> None:
    """Each has the code and reason of the table and names its fields, with what came and what is expected."""
    with pytest.raises(grpc.RpcError) as caught:
        bad.call(clients)
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason, refusal.domain) == (bad.code, bad.reason, "weightcast"), refusal.message
    assert set(refusal.violations) == set(bad.fields)
    assert refusal.retry_seconds is None
    told = " ".join(refusal.violations.values()) if bad.fields else refusal.message
    assert [word for word in bad.words if word not in told] == [], told
    assert clients.inference.classify("digits", np.zeros((1, 8, 8), np.uint8)).version == 1


def test_a_message_over_the_limit_is_refused_with_the_limit(
    clients: Clients, refusal_of: Callable[[grpc.RpcError], Any]
) -> None:
    """By the inference service itself, which also tells the limit to whoever asks for a model's status."""
    most = clients.inference.status("digits").max_message_bytes
    with pytest.raises(grpc.RpcError) as caught:
        classify(contents=bytes(most))(clients)
    refusal = refusal_of(caught.value)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert re.fullmatch(rf"request: got \d+ bytes, expected at most {most}; split the batch", refusal.message)
    assert clients.inference.classify("digits", np.zeros((1, 64), np.uint8)).version == 1


@pytest.mark.parametrize(
    "call",
    [
        classify(contents=bytes(64 * 2**20 + 1)),
        trainer("CreateTrainingJob", pb.CreateTrainingJobRequest(request_id="x" * (4 * 2**20 + 1))),
    ],
    ids=["inference", "trainer"],
)
def test_a_message_far_over_the_limit_never_reaches_the_service(
    clients: Clients, refusal_of: Callable[[grpc.RpcError], Any], call: Call
) -> None:
    """It is gRPC itself that refuses it, naming the limit, and the service goes on."""
    with pytest.raises(grpc.RpcError) as caught:
        call(clients)
    refusal = refusal_of(caught.value)
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refusal.message
    assert clients.inference.classify("digits", np.zeros((1, 64), np.uint8)).version == 1
    assert clients.trainer.job(clients.job_id).version == 1


@pytest.mark.parametrize(("asked", "given"), [(0, 1), (1, 1), (10, 10)])
def test_top_k_within_the_classes_is_answered(clients: Clients, asked: int, given: int) -> None:
    """0 means 1, and as many as there are classes is allowed: best first, each once."""
    prediction = clients.inference.classify("digits", np.full((2, 8, 8), 7, np.uint8), top_k=asked)
    assert prediction.class_ids.shape == prediction.scores.shape == (2, given)
    assert (np.diff(prediction.scores, axis=1) <= 0).all()
    assert len(set(prediction.class_ids[0])) == given


def test_pages_of_a_list_cover_it_once(clients: Clients) -> None:
    """Following next_page_token gives every example once, in order, and an empty token at the end."""
    stub, token, labels = clients.trainer.stub, "", list[int]()
    while True:
        request = pb.ListDatasetExamplesRequest(dataset="digits", page_size=100, page_token=token)
        page = stub.ListDatasetExamples(request, timeout=TIMEOUT_SECONDS)
        labels.extend(page.class_ids)
        token = page.next_page_token
        if not token:
            break
    assert len(labels) == page.total_size == 360
    whole = stub.ListDatasetExamples(pb.ListDatasetExamplesRequest(dataset="digits", page_size=1000))
    assert labels == list(whole.class_ids)
