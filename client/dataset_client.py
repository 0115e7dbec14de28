"""A client's calls for data sets: list, describe, read, upload and remove. `TrainerClient` is one of these."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.errors import rpc_errors
from client.inference_client import array_of
from client.trainer_service_client import TrainerServiceClient, pages
from shared.pb.weightcast.v1 import dataset_pb2
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb

CHUNK_BYTES = 2**20
UPLOAD_SECONDS = 1800.0
EXAMPLES_PER_PAGE = 1000
FIRST_PAGE = 50
PAGE_BYTES = 16 * 2**20
FORMATS = {
    ".npz": pb.DATASET_FORMAT_NPZ,
    ".csv": pb.DATASET_FORMAT_CSV,
    ".zip": pb.DATASET_FORMAT_IMAGE_ZIP,
}

Sent = Callable[[int], object]


class DatasetClient(TrainerServiceClient):
    """The part of a trainer's client that is about data sets."""

    def datasets(self) -> list[dataset_pb2.Dataset]:
        """Every data set a job can name: what is known without loading any."""
        found = pages(lambda asked: self.stub.ListDatasets(asked, timeout=self._timeout), pb.ListDatasetsRequest())
        return [dataset for page in found for dataset in page.datasets]

    def dataset(self, name: str, timeout: float | None = None) -> dataset_pb2.Dataset:
        """One data set, described; give it a longer `timeout`, in seconds, where it may have to be downloaded."""
        with rpc_errors():
            return self.stub.GetDataset(pb.GetDatasetRequest(name=name), timeout=timeout or self._timeout).dataset

    def examples(
        self,
        dataset: str,
        count: int | None = None,
        split: dataset_pb2.DatasetSplit.ValueType = dataset_pb2.DATASET_SPLIT_TEST,
    ) -> tuple[npt.NDArray[np.uint8 | np.float32], npt.NDArray[np.int64]]:
        """The first `count` examples of a split (None: all), (rows, …input_shape), and the class id of each.

        Images are uint8, the rows of a table float32.
        """
        examples, class_ids, token = [], [], ""
        left, size = count, FIRST_PAGE
        while True:
            size = size if left is None else min(left, size)
            request = pb.ListDatasetExamplesRequest(dataset=dataset, split=split, page_size=size, page_token=token)
            with rpc_errors():
                page = self.stub.ListDatasetExamples(request, timeout=self._timeout)
            examples.append(array_of(page.examples))
            class_ids.append(np.array(page.class_ids, np.int64))
            token = page.next_page_token
            left = None if left is None else left - size
            if not token or left == 0:
                return np.concatenate(examples), np.concatenate(class_ids)
            # A page of large images must still fit one message.
            row_bytes = max(1, len(page.examples.contents) // len(page.class_ids))
            size = min(EXAMPLES_PER_PAGE, max(1, PAGE_BYTES // row_bytes))

    def upload_dataset(
        self,
        source: Path | bytes,
        name: str,
        *,
        format: pb.DatasetFormat.ValueType | None = None,  # noqa: A002 - the contract's name for it
        label_column: str = "",
        description: str = "",
        sent: Sent | None = None,
    ) -> dataset_pb2.Dataset:
        """Uploads a file, or its bytes, as a data set of one's own; the same again is no error.

        `format` None is told by the file's suffix: .npz, .csv or .zip. `sent` is called with the number of bytes of
        each chunk that is on its way.

        Raises:
            RpcError: with the row or file that was refused; then nothing is stored.
            ValueError: if the suffix tells no format.
            OSError: if the file cannot be read.
        """
        header = pb.UploadDatasetHeader(
            name=name,
            description=description,
            format=format_of(source) if format is None else format,
            label_column=label_column,
        )
        if isinstance(source, Path):
            source.open("rb").close()  # what cannot be read is said here, and not by grpc's thread
        with rpc_errors():
            return self.stub.UploadDataset(upload_parts(header, source, sent), timeout=UPLOAD_SECONDS).dataset

    def delete_dataset(self, name: str) -> None:
        """Removes an uploaded data set; versions trained on it stay."""
        with rpc_errors():
            self.stub.DeleteDataset(pb.DeleteDatasetRequest(name=name), timeout=self._timeout)


def format_of(source: Path | bytes) -> pb.DatasetFormat.ValueType:
    """The format that a file's suffix tells; ValueError if it tells none."""
    suffix = source.suffix.lower() if isinstance(source, Path) else ""
    if suffix not in FORMATS:
        came = f"the suffix {suffix!r}" if suffix else "no suffix"
        raise ValueError(f"got {came}, expected one of {', '.join(FORMATS)}; or say the format")
    return FORMATS[suffix]


def upload_parts(
    header: pb.UploadDatasetHeader, source: Path | bytes, sent: Sent | None = None
) -> Iterator[pb.UploadDatasetRequest]:
    """An upload's messages: the header, then the file in chunks of 1 MiB, read as they are asked for."""
    yield pb.UploadDatasetRequest(header=header)
    for chunk in chunks_of(source):
        yield pb.UploadDatasetRequest(chunk=chunk)
        if sent is not None:
            sent(len(chunk))


def chunks_of(source: Path | bytes) -> Iterator[bytes]:
    """A file's bytes, or these, in chunks of 1 MiB."""
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK_BYTES):
            yield source[start : start + CHUNK_BYTES]
        return
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
