"""Takes an upload: checks what is announced, keeps the file aside, reads it, and stores the data set or nothing.

Few are taken at a time, and a file is in memory once at most, so uploads cannot crowd out the rest of the service.
"""

import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import IO, Protocol

import structlog

from shared.errors import CapacityError, FieldViolation, InvalidInputError
from shared.training_spec import name_violation
from trainer_service.datasets.catalogue import BUILT_IN
from trainer_service.datasets.dataset import Dataset, DatasetSource, Description, described
from trainer_service.datasets.limits import MAX_CHUNK_BYTES, MAX_DESCRIPTION, MAX_UPLOAD_BYTES, MAX_UPLOADS
from trainer_service.datasets.upload_csv import read_csv
from trainer_service.datasets.upload_images import read_image_zip
from trainer_service.datasets.upload_npz import read_npz

log = structlog.get_logger()


class UploadFormat(Enum):
    """The kinds of file that can be read."""

    NPZ = "npz"
    CSV = "csv"
    IMAGE_ZIP = "image_zip"


@dataclass(frozen=True)
class UploadHeader:
    """What is said of an upload before it comes; `format` is None where it is none that can be read."""

    name: str
    description: str
    format: UploadFormat | None
    label_column: str

    def violations(self) -> Iterator[FieldViolation]:
        """Every field that cannot be accepted."""
        if violation := name_violation(self.name, "header.name", "data set"):
            yield violation
        elif self.name in BUILT_IN:
            yield FieldViolation("header.name", f"{self.name!r} comes with the trainer; choose another name")
        if len(self.description) > MAX_DESCRIPTION or not self.description.replace("\n", " ").isprintable():
            yield FieldViolation(
                "header.description",
                f"got {len(self.description)} characters, expected at most {MAX_DESCRIPTION}, printable ones",
            )
        if self.format is None:
            expected = " or ".join(f"DATASET_FORMAT_{known.name}" for known in UploadFormat)
            yield FieldViolation("header.format", f"required: {expected}")
        elif self.label_column and self.format is not UploadFormat.CSV:
            yield FieldViolation("header.label_column", "only DATASET_FORMAT_CSV has columns; leave it empty")


class Store(Protocol):
    """Where the data set goes."""

    def save(self, dataset: Dataset, description: Description) -> None:
        """Stores it under its name, all of it or nothing."""

    def delete(self, name: str) -> None:
        """Removes a name."""


class UploadService:
    """Uploads as their senders see them."""

    def __init__(self, store: Store, most_at_once: int = MAX_UPLOADS) -> None:
        self._store = store
        self._most_at_once = most_at_once
        self._places = threading.BoundedSemaphore(most_at_once)

    def take(self, header: UploadHeader, chunks: Iterable[bytes]) -> Description:
        """Stores the data set in the file that the chunks are, and describes it.

        Raises:
            InvalidInputError: naming a field of the header, or what is wrong in the file.
            WrongStateError: DATASET_EXISTS, if the name has other data.
            CapacityError: TOO_MANY_UPLOADS, or TOO_MANY_DATASETS, which lasts until one is removed.
        """
        if violations := list(header.violations()):
            raise InvalidInputError(*violations)
        if not self._places.acquire(blocking=False):
            raise CapacityError(
                f"{self._most_at_once} uploads are being taken already; try again", reason="TOO_MANY_UPLOADS"
            )
        try:
            with tempfile.TemporaryFile(prefix="weightcast-upload-") as file:
                write(chunks, file)
                dataset = read(file, header)
            sentence = header.description or summary(dataset)
            description = described(dataset, sentence, DatasetSource.UPLOADED, datetime.now(UTC))
            self._store.save(dataset, description)
        finally:
            self._places.release()
        log.info("data set stored", name=header.name, digest=description.digest, size=description.size_bytes)
        return description

    def delete(self, name: str) -> None:
        """Removes an upload; see the store's."""
        self._store.delete(name)


def write(chunks: Iterable[bytes], file: IO[bytes]) -> None:
    """Writes the chunks to the file; InvalidInputError where one or all of them are too large, or there is nothing."""
    size = 0
    for chunk in chunks:
        if len(chunk) > MAX_CHUNK_BYTES:
            raise InvalidInputError.of(
                "chunk", f"got {len(chunk)} bytes, expected at most {MAX_CHUNK_BYTES}; send smaller chunks"
            )
        size += len(chunk)
        if size > MAX_UPLOAD_BYTES:
            raise InvalidInputError.of(
                "chunk", f"the file has more than {MAX_UPLOAD_BYTES} bytes; compress it or send a sample"
            )
        file.write(chunk)
    if not size:
        raise InvalidInputError.of("chunk", "required: the file is empty")


def read(file: IO[bytes], header: UploadHeader) -> Dataset:
    """The data set in the file."""
    if header.format is UploadFormat.CSV:
        return read_csv(file, header.name, header.label_column)
    reader = read_npz if header.format is UploadFormat.NPZ else read_image_zip
    return reader(file, header.name)


def summary(dataset: Dataset) -> str:
    """What to say of a data set whose sender said nothing."""
    shape, rows = dataset.preprocessing.input_shape, len(dataset.train) + len(dataset.test)
    what = f"rows of {shape[0]} features" if len(shape) == 1 else f"images of {' × '.join(map(str, shape))}"
    return f"Uploaded: {rows:,} {what} in {len(dataset.class_labels)} classes."
