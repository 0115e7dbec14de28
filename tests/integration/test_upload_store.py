"""The store of uploads when things go wrong: data that was lost, a trainer that dies, a Redis that is full."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from shared.errors import CapacityError, StoreUnavailableError
from shared.store.connection import StoreConnection
from shared.store.keys import DatasetKeys
from trainer_service.datasets import upload_store
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.upload import UploadFormat, UploadHeader, UploadService
from trainer_service.datasets.upload_csv import read_csv
from trainer_service.datasets.upload_store import UploadStore

HEADER = UploadHeader("pets", "Some pets.", UploadFormat.CSV, "kind")


def csv_of(scale: int = 1, column: str = "size") -> bytes:
    """A table of two classes; another `scale` gives other data, another `column` the same."""
    return "\n".join(
        [f"{column},kind", *(f"{row * scale},{'cat' if row % 2 else 'dog'}" for row in range(20))]
    ).encode()


@pytest.fixture
def store(connection: StoreConnection) -> UploadStore:
    """The store in this test's Redis."""
    return UploadStore(connection)


@pytest.fixture
def uploads(store: UploadStore) -> UploadService:
    """What takes uploads."""
    return UploadService(store)


def cut(connection: StoreConnection, key: str) -> None:
    """Takes the end off a part."""
    connection.command("HSET", key, 1, connection.command("HGET", key, 1)[:-1])


def altered(connection: StoreConnection, key: str) -> None:
    """Changes a byte."""
    part = connection.command("HGET", key, 2)
    connection.command("HSET", key, 2, bytes([part[0] ^ 1]) + part[1:])


DAMAGE: dict[str, Callable[[StoreConnection, str], object]] = {
    "no data": lambda connection, key: connection.command("UNLINK", key),
    "a part lost": lambda connection, key: connection.command("HDEL", key, 2),
    "the last part lost": lambda connection, key: connection.command("HDEL", key, connection.command("HLEN", key) - 1),
    "a part too many": lambda connection, key: connection.command("HSET", key, 99, b"x"),
    "a part cut": cut,
    "a byte altered": altered,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_uploading_again_repairs_what_the_store_lost(
    uploads: UploadService,
    store: UploadStore,
    connection: StoreConnection,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is missing or changed; an answer without an error means that the data is there, for good."""
    monkeypatch.setattr(upload_store, "PART_BYTES", 100)
    description = uploads.take(HEADER, [csv_of()])
    key = DatasetKeys(description.digest).data
    whole = connection.command("HGETALL", key)
    DAMAGE[damage](connection, key)
    assert connection.command("HGETALL", key) != whole
    uploads.take(HEADER, [csv_of()])
    assert store.load(description).digest == description.digest
    assert connection.command("HGETALL", key) == whole
    assert connection.command("TTL", key) == -1
    assert connection.command("KEYS", "*arriving*") == []


def test_a_trainer_that_dies_at_any_command_leaves_nothing_for_ever(
    store: UploadStore, connection: StoreConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives expires from its first part on, not from a second command on."""
    command = StoreConnection.command

    def dying(self: StoreConnection, *arguments: str | bytes | float) -> object:
        if arguments[0] == "EXPIRE":
            raise KeyboardInterrupt
        return command(self, *arguments)

    monkeypatch.setattr(StoreConnection, "command", dying)
    with suppress(KeyboardInterrupt):
        store._send(read_csv(BytesIO(csv_of()), "pets", "kind"), "cut")
    assert 0 < connection.command("TTL", DatasetKeys.arriving("cut")) <= upload_store.ARRIVAL_SECONDS


def test_only_so_many_names_are_kept(
    uploads: UploadService, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is refused until one is removed; the same again always is taken."""
    monkeypatch.setattr(upload_store, "MAX_STORED", 2)
    for name in ("pets", "animals"):
        uploads.take(replace(HEADER, name=name), [csv_of()])
    with pytest.raises(CapacityError, match=r"2 data sets are stored, .* remove one first") as raised:
        uploads.take(replace(HEADER, name="more"), [csv_of()])
    assert raised.value.reason == "TOO_MANY_DATASETS"
    assert store.names() == ["animals", "pets"]
    uploads.take(HEADER, [csv_of()])
    uploads.delete("pets")
    assert uploads.take(replace(HEADER, name="more"), [csv_of()]).name == "more"


def test_only_so_many_bytes_are_kept(
    uploads: UploadService, connection: StoreConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all data together, and what two names share counts once."""
    size = uploads.take(HEADER, [csv_of()]).size_bytes
    monkeypatch.setattr(upload_store, "MAX_STORED_BYTES", 2 * size)
    uploads.take(replace(HEADER, name="animals"), [csv_of(column="length")])
    uploads.take(replace(HEADER, name="twice"), [csv_of(scale=2)])
    before = set(connection.command("KEYS", "*"))
    with pytest.raises(CapacityError, match="remove one first"):
        uploads.take(replace(HEADER, name="thrice"), [csv_of(scale=3)])
    assert set(connection.command("KEYS", "*")) == before
    uploads.take(replace(HEADER, name="more"), [csv_of(scale=2)])


def test_a_store_that_is_full_is_told_as_that(uploads: UploadService, connection: StoreConnection) -> None:
    """By a command and by a script: nobody is sent to start a Redis that runs."""
    connection.command("CONFIG", "SET", "maxmemory", 1)
    wanted = r"is full \(.*\); raise its maxmemory, or remove a data set or a version"
    with pytest.raises(StoreUnavailableError, match=wanted):
        connection.command("SET", "key", "value")
    with pytest.raises(StoreUnavailableError, match=wanted):
        uploads.take(HEADER, [csv_of()])
    connection.command("CONFIG", "SET", "maxmemory", 0)
    uploads.take(HEADER, [csv_of()])


def test_other_column_names_for_the_same_data_are_the_ones_that_are_learned(
    uploads: UploadService, store: UploadStore, tmp_path: Path
) -> None:
    """By a catalogue too that had loaded it with the old ones."""
    catalogue = Catalogue(None, tmp_path, store)
    for column in ("size", "length"):
        uploads.take(HEADER, [csv_of(column=column)])
        assert catalogue.load("pets").preprocessing.feature_names == (column,)
        assert store.find("pets") is not None
