"""UploadDataset and what follows from it, by real calls: all is told, every bad upload is refused, nothing is kept."""

import io
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from client.inference_client import array_of
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import dataset_pb2, tensor_pb2
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NPZ, CSV, ZIP = pb.DATASET_FORMAT_NPZ, pb.DATASET_FORMAT_CSV, pb.DATASET_FORMAT_IMAGE_ZIP
SECONDS = 60.0
LINES = ["size,kind,weight", *(f"{row},{'cat' if row % 2 else 'dog'},{row / 4 if row else ''}" for row in range(20))]
TABLE = "\n".join(LINES).encode()
Y = np.arange(20) % 2
Reader = Callable[[grpc.RpcError], Any]


def header_of(format: Any = CSV, name: str = "bad", label: str = "kind", **more: Any) -> pb.UploadDatasetRequest:  # noqa: A002, ANN401 - the contract's names
    """The first message; what is not given is right for the table."""
    label_column = label if format == CSV else ""
    return pb.UploadDatasetRequest(
        header=pb.UploadDatasetHeader(name=name, format=format, label_column=label_column, **more)
    )


def chunk_of(content: bytes) -> pb.UploadDatasetRequest:
    """A message with a part of the file."""
    return pb.UploadDatasetRequest(chunk=content)


def upload(trainer: TrainerClient, *parts: pb.UploadDatasetRequest) -> dataset_pb2.Dataset:
    """The data set that these messages make."""
    return trainer.stub.UploadDataset(iter(parts), timeout=SECONDS).dataset


def npz_of(**arrays: Any) -> bytes:  # noqa: ANN401 - whatever NumPy makes an array of
    """An .npz file."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zip_of(**sizes: tuple[int, int]) -> bytes:
    """A .zip of two classes of three coloured images, and others of these sizes."""
    file = io.BytesIO()
    usual = {f"{kind}/{index}": (8, 8) for kind in ("cat", "dog") for index in range(3)}
    with zipfile.ZipFile(file, "w") as archive:
        for name, size in {**usual, **sizes}.items():
            picture = io.BytesIO()
            Image.new("RGB", size, (1, 2, 3)).save(picture, "PNG")
            archive.writestr(f"{name}.png", picture.getvalue())
    return file.getvalue()


def bomb() -> bytes:
    """A .zip of an image that unpacks to more than is taken."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", bytes(64 * 2**20))
    return file.getvalue()


def line(number: int, content: str) -> bytes:
    """The table with one other line."""
    return "\n".join([*LINES[: number - 1], content, *LINES[number:]]).encode()


def stored(trainer: TrainerClient) -> list[str]:
    """The names of all data sets."""
    return [dataset.name for dataset in trainer.stub.ListDatasets(pb.ListDatasetsRequest(), timeout=SECONDS).datasets]


@pytest.fixture
def pets(trainer: TrainerClient) -> Iterator[dataset_pb2.Dataset]:
    """The table as a data set, removed after the test."""
    half = len(TABLE) // 2
    yield upload(trainer, header_of(name="pets"), chunk_of(TABLE[:half]), chunk_of(TABLE[half:]))
    trainer.stub.DeleteDataset(pb.DeleteDatasetRequest(name="pets"), timeout=SECONDS)


def test_an_upload_is_described_with_every_field(trainer: TrainerClient, pets: dataset_pb2.Dataset) -> None:
    """By the answer, by GetDataset and by ListDatasets alike."""
    got = trainer.stub.GetDataset(pb.GetDatasetRequest(name="pets"), timeout=SECONDS).dataset
    listed = trainer.stub.ListDatasets(pb.ListDatasetsRequest(), timeout=SECONDS).datasets
    assert pets == got == next(dataset for dataset in listed if dataset.name == "pets")
    assert [field.name for field in pets.DESCRIPTOR.fields if not getattr(pets, field.name)] == []
    assert pets.description == "Uploaded: 20 rows of 2 features in 2 classes."
    assert (pets.source, pets.data_type) == (dataset_pb2.DATASET_SOURCE_UPLOADED, tensor_pb2.DATA_TYPE_FLOAT32)
    assert (pets.train_size, pets.test_size, pets.size_bytes) == (16, 4, 20 * 16)
    assert (list(pets.train_class_counts), list(pets.test_class_counts)) == ([8, 8], [2, 2])
    assert [(column.name, column.type, column.missing_count) for column in pets.columns] == [
        ("size", dataset_pb2.COLUMN_TYPE_INTEGER, 0),
        ("weight", dataset_pb2.COLUMN_TYPE_REAL, 1),
    ]
    assert list(pets.preprocessing.feature_means) == pytest.approx([column.mean for column in pets.columns])
    assert list(pets.preprocessing.input_shape) == [2]


def test_a_tables_examples_are_floats(trainer: TrainerClient, pets: dataset_pb2.Dataset) -> None:
    """As they were sent."""
    request = pb.ListDatasetExamplesRequest(dataset="pets", split=dataset_pb2.DATASET_SPLIT_TRAIN)
    page = trainer.stub.ListDatasetExamples(request, timeout=SECONDS)
    examples = array_of(page.examples)
    assert examples.dtype == np.float32
    assert examples.shape == (16, 2)
    assert [int(size) % 2 for size in examples[:, 0]] == [1 - class_id for class_id in page.class_ids]


def test_a_built_in_data_set_is_described_with_every_field(trainer: TrainerClient) -> None:
    """But for what only a table and an upload have."""
    digits = trainer.stub.GetDataset(pb.GetDatasetRequest(name="digits"), timeout=SECONDS).dataset
    assert (digits.source, digits.data_type) == (dataset_pb2.DATASET_SOURCE_BUILT_IN, tensor_pb2.DATA_TYPE_UINT8)
    assert {field.name for field in digits.DESCRIPTOR.fields if not getattr(digits, field.name)} == {"columns"}
    assert not digits.HasField("create_time")
    assert sum(digits.train_class_counts) == digits.train_size == 1437


def test_lists_are_paged(trainer: TrainerClient, pets: dataset_pb2.Dataset) -> None:
    """Those of the trainer first, then uploads."""
    names: list[str] = []
    token = ""
    for _ in range(4):
        request = pb.ListDatasetsRequest(page_size=1, page_token=token)
        page = trainer.stub.ListDatasets(request, timeout=SECONDS)
        names.extend(dataset.name for dataset in page.datasets)
        token = page.next_page_token
    assert (names, token) == (["digits", "mnist", "fashion-mnist", "pets"], "")


BAD: dict[str, tuple[tuple[pb.UploadDatasetRequest, ...], str, str]] = {
    "no message": ((), "header", "required"),
    "no header": ((chunk_of(TABLE),), "header", "required: the first message"),
    "two headers": ((header_of(), header_of()), "header", "came twice"),
    "an empty message": ((header_of(), pb.UploadDatasetRequest()), "chunk", "carries nothing"),
    "no file": ((header_of(),), "chunk", "the file is empty"),
    "a large chunk": ((header_of(), chunk_of(bytes(2**20 + 1))), "chunk", "got 1048577 bytes, expected at most"),
    "no name": ((header_of(name=""),), "header.name", "required: the data set's name"),
    "a bad name": ((header_of(name="My Pets"),), "header.name", "got 'My Pets', expected 1 to 63"),
    "a name that is taken": ((header_of(name="mnist"),), "header.name", "'mnist' comes with the trainer; choose"),
    "no format": ((header_of(format=0),), "header.format", "required: DATASET_FORMAT_NPZ or"),
    "an unknown format": ((header_of(format=9),), "header.format", "required"),
    "a long description": ((header_of(description="x" * 501),), "header.description", "got 501 characters"),
    "a label column of images": (
        (pb.UploadDatasetRequest(header=pb.UploadDatasetHeader(name="bad", format=ZIP, label_column="x")),),
        "header.label_column", "only DATASET_FORMAT_CSV",
    ),
    "a ragged row": ((header_of(), chunk_of(line(7, "1,cat"))), "chunk", "line 7 has 2 cells, the header has 3"),
    "a missing label column": ((header_of(label="race"), chunk_of(TABLE)), "header.label_column", "no column 'race'"),
    "no label column": ((header_of(label=""), chunk_of(TABLE)), "header.label_column", "'size', 'kind', 'weight'"),
    "text in a number": ((header_of(), chunk_of(line(4, "big,cat,1"))), "chunk", "line 4, column 'size': 'big'"),
    "NaN": ((header_of(), chunk_of(line(4, "nan,cat,1"))), "chunk", "line 4, column 'size': nan is no number"),
    "a class with one sample": ((header_of(), chunk_of(line(4, "1,cow,1"))), "chunk", "'cow' has only one example"),
    "no UTF-8": ((header_of(), chunk_of(TABLE + b"\n\xff")), "chunk", "save the file as UTF-8"),
    "pickled arrays": (
        (header_of(NPZ), chunk_of(npz_of(x=np.ones((20, 2)), y=Y.astype(object)))),
        "chunk", "'y.npy' holds pickled Python objects",
    ),
    "NaN in an array": (
        (header_of(NPZ), chunk_of(npz_of(x=np.where(np.eye(20), np.nan, 1), y=Y))), "chunk", "x[0, 0] is nan",
    ),
    "unequal lengths": ((header_of(NPZ), chunk_of(npz_of(x=np.ones((20, 2)), y=Y[1:]))), "chunk", "its labels 19"),
    "other arrays": ((header_of(NPZ), chunk_of(npz_of(a=Y))), "chunk", "got the arrays a, expected x, y"),
    "no archive": ((header_of(NPZ), chunk_of(TABLE)), "chunk", "this is no .npz file"),
    "images of unequal size": (
        (header_of(ZIP), chunk_of(zip_of(**{"dog/9": (9, 8)}))), "chunk", "'dog/9.png' is 9 × 8 pixels, 'cat/0.png' 8",
    ),
    "a path that leads out": ((header_of(ZIP), chunk_of(zip_of(**{"../9": (8, 8)}))), "chunk", "'../9.png' is no"),
    "a zip bomb": ((header_of(ZIP), chunk_of(bomb())), "chunk", "to 67108864, more than 200 times as much, most of it"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_upload_is_refused_and_nothing_is_kept(trainer: TrainerClient, refusal_of: Reader, name: str) -> None:
    """With the field, the place within the file, and the remedy."""
    parts, field, words = BAD[name]
    before = stored(trainer)
    with pytest.raises(grpc.RpcError) as raised:
        upload(trainer, *parts)
    refusal = refusal_of(raised.value)
    assert (refusal.code, refusal.reason) == (INVALID, "INVALID_INPUT")
    assert list(refusal.violations) == [field]
    assert words in refusal.violations[field]
    assert stored(trainer) == before


def test_other_data_under_a_name_that_is_taken_is_refused(
    trainer: TrainerClient, refusal_of: Reader, pets: dataset_pb2.Dataset
) -> None:
    """The same again is none."""
    assert upload(trainer, header_of(name="pets"), chunk_of(TABLE)).digest == pets.digest
    with pytest.raises(grpc.RpcError) as raised:
        upload(trainer, header_of(name="pets"), chunk_of(line(3, "7,cat,7")))
    refusal = refusal_of(raised.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASET_EXISTS")


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("digits", grpc.StatusCode.FAILED_PRECONDITION, "DATASET_BUILT_IN"),
        ("openml:iris", grpc.StatusCode.FAILED_PRECONDITION, "DATASET_BUILT_IN"),
        ("nothing", grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"),
        ("", grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"),
        ("openml:../x", grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"),
    ],
)
def test_only_uploads_can_be_removed(
    trainer: TrainerClient, refusal_of: Reader, name: str, code: grpc.StatusCode, reason: str
) -> None:
    """What comes with the trainer stays, and what is not there is not found."""
    with pytest.raises(grpc.RpcError) as raised:
        trainer.stub.DeleteDataset(pb.DeleteDatasetRequest(name=name), timeout=SECONDS)
    refusal = refusal_of(raised.value)
    assert (refusal.code, refusal.reason) == (code, reason)


def test_an_upload_that_its_client_ends_leaves_nothing(trainer: TrainerClient) -> None:
    """Its place is free again for the next one."""
    before = stored(trainer)

    def ended() -> Iterator[pb.UploadDatasetRequest]:
        yield header_of(name="cut")
        yield chunk_of(TABLE[:100])
        call.cancel()
        yield chunk_of(TABLE[100:])

    for _ in range(3):
        call = trainer.stub.UploadDataset.future(ended(), timeout=SECONDS)
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result()
    upload(trainer, header_of(name="pets"), chunk_of(TABLE))
    trainer.stub.DeleteDataset(pb.DeleteDatasetRequest(name="pets"), timeout=SECONDS)
    assert stored(trainer) == before
