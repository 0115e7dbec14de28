"""Uploaded data sets in Redis, where every worker on every host finds them.

The data lies under its digest, in parts that Redis can hold; a name is a pointer to it. Parts arrive under a name that
nobody reads and expires, and one script makes them the data and names it: nothing is ever half stored.
"""

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared.errors import CapacityError, NotFoundError, UnavailableError, WrongStateError
from shared.pb.weightcast.v1 import dataset_pb2
from shared.store.connection import StoreConnection
from shared.store.keys import DatasetKeys
from trainer_service.datasets.dataset import Dataset, Description
from trainer_service.datasets.dataset_codec import (
    description_from_proto,
    description_to_proto,
    load_examples,
    save_examples,
)
from trainer_service.datasets.limits import MAX_STORED, MAX_STORED_BYTES, MIB

PART_BYTES = 16 * 2**20  # what one command carries; Redis takes no value over 512 MiB
ARRIVAL_SECONDS = 600  # since the last part
DATA_FILE = "examples.safetensors"


class UploadStore:
    """Where uploads are kept. Every method raises StoreUnavailableError while Redis is away."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._store = connection.script("trainer_service.datasets", "store_dataset.lua")
        self._store_part = connection.script("trainer_service.datasets", "store_part.lua")
        self._remove = connection.script("trainer_service.datasets", "remove_dataset.lua")

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(name.decode() for name in self._redis.command("HKEYS", DatasetKeys.DIGESTS))

    def find(self, name: str) -> Description | None:
        """What was written down when it came; None if there is no such data set."""
        record = self._redis.command("HGET", DatasetKeys.RECORDS, name)
        return None if record is None else description_from_proto(dataset_pb2.Dataset.FromString(record))

    def save(self, dataset: Dataset, description: Description) -> None:
        """Stores a data set under its name. The same data again changes what is said of it, and repairs what was lost.

        Raises:
            WrongStateError: DATASET_EXISTS, if the name has other data.
            CapacityError: TOO_MANY_DATASETS, if there is no room for another one.
        """
        known = self._redis.command("HGET", DatasetKeys.DIGESTS, description.name)
        if known is not None and known.decode() != description.digest:
            raise exists(description.name)
        if known is None:
            self._check_room(description)
        upload = secrets.token_hex(8)
        if not self._is_whole(dataset, DatasetKeys(description.digest).data):
            self._send(dataset, upload)
        named = self._name(description, upload)
        if not named:  # the data was there a moment ago, and its last name was removed meanwhile
            self._send(dataset, upload)
            named = self._name(description, upload)
        if not named:
            raise UnavailableError("the store lost the data while it arrived; upload it again")
        if named != description.digest:
            raise exists(description.name)

    def load(self, description: Description) -> Dataset:
        """The examples, checked against their digest.

        Raises:
            NotFoundError: DATASET_NOT_FOUND, if it was removed meanwhile.
            WrongStateError: DATASET_ALTERED, if they are not those that were stored.
        """
        key = DatasetKeys(description.digest).data
        with tempfile.TemporaryDirectory(prefix="weightcast-dataset-") as folder:
            path = Path(folder) / DATA_FILE
            with path.open("wb") as file:
                for place in range(self._redis.command("HLEN", key)):
                    part = self._redis.command("HGET", key, place)
                    if part is None:
                        break
                    file.write(part)
            if not self._redis.command("EXISTS", key):
                raise no_upload(description.name)
            try:
                return load_examples(path, description)
            except ValueError as error:
                raise WrongStateError(
                    f"the data set {description.name!r} is not as it was stored: {error}; upload it again",
                    reason="DATASET_ALTERED",
                ) from error

    def delete(self, name: str) -> None:
        """Removes a name, and with its last name the data.

        Raises:
            NotFoundError: DATASET_NOT_FOUND.
        """
        while (digest := self._redis.command("HGET", DatasetKeys.DIGESTS, name)) is not None:
            keys = DatasetKeys(digest.decode())
            if self._remove((DatasetKeys.DIGESTS, DatasetKeys.RECORDS, keys.data, keys.names), (name, digest)):
                return
        raise no_upload(name)

    def _name(self, description: Description, upload: str) -> str:
        """Gives the name to the data; the digest it has then, or nothing where there is no data."""
        keys = DatasetKeys(description.digest)
        record = description_to_proto(description).SerializeToString()
        named: bytes = self._store(
            (DatasetKeys.DIGESTS, DatasetKeys.RECORDS, keys.data, keys.names, DatasetKeys.arriving(upload)),
            (description.name, description.digest, record),
        )
        return named.decode()

    def _check_room(self, description: Description) -> None:
        """Returns if there is room under another name; uploads at the same moment may both count themselves as last."""
        names = self.names()
        sizes = {found.digest: found.size_bytes for found in map(self.find, names) if found is not None}
        sizes[description.digest] = description.size_bytes
        if len(names) >= MAX_STORED or sum(sizes.values()) > MAX_STORED_BYTES:
            raise CapacityError(
                f"{len(names)} data sets are stored, {sum(sizes.values()) // MIB} MiB with this one; at most "
                f"{MAX_STORED} of {MAX_STORED_BYTES // MIB} MiB in all are kept: remove one first",
                reason="TOO_MANY_DATASETS",
            )

    def _is_whole(self, dataset: Dataset, key: str) -> bool:
        """Whether all of the data is stored, and nothing else."""
        if not self._redis.command("EXISTS", key):
            return False
        same = [self._redis.command("HGET", key, place) == part for place, part in enumerate(parts_of(dataset))]
        return all(same) and len(same) == self._redis.command("HLEN", key)

    def _send(self, dataset: Dataset, upload: str) -> None:
        for place, part in enumerate(parts_of(dataset)):
            self._store_part((DatasetKeys.arriving(upload),), (place, part, ARRIVAL_SECONDS))


def parts_of(dataset: Dataset) -> Iterator[bytes]:
    """The safetensors file of a data set, in parts that Redis can hold."""
    with tempfile.TemporaryDirectory(prefix="weightcast-dataset-") as folder:
        path = Path(folder) / DATA_FILE
        save_examples(dataset, path)
        with path.open("rb") as file:
            yield from iter(lambda: file.read(PART_BYTES), b"")


def exists(name: str) -> WrongStateError:
    """The refusal of other data under a name that is taken."""
    return WrongStateError(
        f"there is a data set {name!r} with other data; delete it first, or choose another name",
        reason="DATASET_EXISTS",
    )


def no_upload(name: str) -> NotFoundError:
    """The answer for a name that no upload has."""
    return NotFoundError(f"there is no uploaded data set {name[:80]!r}; see ListDatasets", reason="DATASET_NOT_FOUND")
