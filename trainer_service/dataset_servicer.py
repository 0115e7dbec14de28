"""The gRPC face of data sets, a part of TrainerService: decodes a message, calls the domain, encodes its answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from shared.errors import InvalidInputError, UnavailableError, WrongStateError
from shared.paging import page_of
from shared.pb.weightcast.v1 import dataset_pb2
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1.trainer_service_pb2_grpc import TrainerServiceServicer
from shared.proto_values import tensor_to_proto
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset, DatasetSource, Split
from trainer_service.datasets.dataset_codec import description_to_proto, entry_to_proto
from trainer_service.datasets.limits import MAX_UPLOAD_SECONDS
from trainer_service.datasets.upload import UploadFormat, UploadHeader, UploadService

MAX_EXAMPLES = 1000
DEFAULT_EXAMPLES = 100
MAX_EXAMPLE_BYTES = 32 * 2**20  # in one answer; fewer examples where they are large
MAX_LIST_BYTES = 2 * 2**20  # in one answer; fewer data sets where they have many columns
FORMATS = {
    pb.DATASET_FORMAT_NPZ: UploadFormat.NPZ,
    pb.DATASET_FORMAT_CSV: UploadFormat.CSV,
    pb.DATASET_FORMAT_IMAGE_ZIP: UploadFormat.IMAGE_ZIP,
}


class DatasetMethods(TrainerServiceServicer):
    """The methods of weightcast.v1.TrainerService that are about data sets."""

    def __init__(self, catalogue: Catalogue, uploads: UploadService) -> None:
        self._catalogue = catalogue
        self._uploads = uploads

    def ListDatasets(self, request: pb.ListDatasetsRequest, context: grpc.ServicerContext) -> pb.ListDatasetsResponse:
        """Lists the data sets a job can name."""
        page = page_of(request.page_size, request.page_token)
        start = page.position or 0
        entries = self._catalogue.entries()
        response, size = pb.ListDatasetsResponse(), 0
        for entry in entries[start : start + page.size]:
            message = entry_to_proto(entry)
            size += message.ByteSize()
            if response.datasets and size > MAX_LIST_BYTES:
                break
            response.datasets.append(message)
        stop = start + len(response.datasets)
        response.next_page_token = str(stop) if stop < len(entries) else ""
        return response

    def GetDataset(self, request: pb.GetDatasetRequest, context: grpc.ServicerContext) -> pb.GetDatasetResponse:
        """Describes one data set."""
        return pb.GetDatasetResponse(dataset=description_to_proto(self._catalogue.describe(request.name)))

    def ListDatasetExamples(
        self, request: pb.ListDatasetExamplesRequest, context: grpc.ServicerContext
    ) -> pb.ListDatasetExamplesResponse:
        """Pages through a data set's examples."""
        page = page_of(request.page_size, request.page_token, default=DEFAULT_EXAMPLES, largest=MAX_EXAMPLES)
        dataset = self._catalogue.load(request.dataset)
        split = requested_split(request.split, dataset)
        start = page.position or 0
        row_bytes = split.examples.itemsize * split.examples.shape[1]
        stop = start + min(page.size, max(1, MAX_EXAMPLE_BYTES // row_bytes))
        examples = split.examples[start:stop].reshape(-1, *dataset.preprocessing.input_shape)
        return pb.ListDatasetExamplesResponse(
            examples=tensor_to_proto(examples),
            class_ids=split.class_ids[start:stop].tolist(),
            next_page_token=str(stop) if stop < len(split) else "",
            total_size=len(split),
        )

    def UploadDataset(
        self, request_iterator: Iterator[pb.UploadDatasetRequest], context: grpc.ServicerContext
    ) -> pb.UploadDatasetResponse:
        """Stores a file as a data set."""
        with ended_after(MAX_UPLOAD_SECONDS, context):
            parts = received(request_iterator)
            description = self._uploads.take(header_in(parts), chunks_in(parts))
        return pb.UploadDatasetResponse(dataset=description_to_proto(description))

    def DeleteDataset(
        self, request: pb.DeleteDatasetRequest, context: grpc.ServicerContext
    ) -> pb.DeleteDatasetResponse:
        """Removes an upload."""
        if self._catalogue.entry(request.name).source is not DatasetSource.UPLOADED:
            raise WrongStateError(
                f"{request.name!r} was not uploaded and cannot be removed; only uploads can", reason="DATASET_BUILT_IN"
            )
        self._uploads.delete(request.name)
        return pb.DeleteDatasetResponse()


@contextmanager
def ended_after(seconds: float, context: grpc.ServicerContext) -> Iterator[None]:
    """Cancels the call if the block takes longer, so that a client which stalls does not keep its place for ever."""
    timer = threading.Timer(seconds, context.cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def received(parts: Iterator[pb.UploadDatasetRequest]) -> Iterator[pb.UploadDatasetRequest]:
    """The messages as they come; UnavailableError where the client goes away in between, which is nobody's fault."""
    try:
        yield from parts
    except grpc.RpcError as error:
        raise UnavailableError("the upload ended before its file did; send it again", reason="UPLOAD_CUT") from error


def header_in(parts: Iterator[pb.UploadDatasetRequest]) -> UploadHeader:
    """The header, which comes first; InvalidInputError if it does not."""
    first = next(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidInputError.of("header", "required: the first message says what is being uploaded")
    header = first.header
    return UploadHeader(header.name, header.description, FORMATS.get(header.format), header.label_column)


def chunks_in(parts: Iterator[pb.UploadDatasetRequest]) -> Iterator[bytes]:
    """The file's bytes, which come after it; InvalidInputError where something else comes."""
    for part in parts:
        match part.WhichOneof("part"):
            case "chunk":
                yield part.chunk
            case "header":
                raise InvalidInputError.of("header", "came twice; send it once, then the file in chunks")
            case _:
                raise InvalidInputError.of("chunk", "required: the message carries nothing")


def requested_split(split: int, dataset: Dataset) -> Split:
    """The split in a request; the test split where it names none.

    Raises:
        InvalidInputError: if it is none this build knows.
    """
    match split:
        case dataset_pb2.DATASET_SPLIT_UNSPECIFIED | dataset_pb2.DATASET_SPLIT_TEST:
            return dataset.test
        case dataset_pb2.DATASET_SPLIT_TRAIN:
            return dataset.train
        case _:
            raise InvalidInputError.of("split", f"got {split}, expected DATASET_SPLIT_TRAIN or DATASET_SPLIT_TEST")
