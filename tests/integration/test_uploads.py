"""Uploads in a real Redis: stored whole or not at all, once for each data, found by every worker, and checked."""

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from client.embedded_redis import EmbeddedRedis
from shared.errors import (
    CapacityError,
    InvalidInputError,
    NotFoundError,
    StoreUnavailableError,
    WeightcastError,
    WrongStateError,
)
from shared.store.connection import StoreConnection
from shared.store.keys import DatasetKeys
from trainer_service.datasets import upload_store
from trainer_service.datasets.catalogue import MAX_LOADED, Catalogue
from trainer_service.datasets.dataset import DatasetSource, Description
from trainer_service.datasets.upload import UploadFormat, UploadHeader, UploadService
from trainer_service.datasets.upload_csv import read_csv
from trainer_service.datasets.upload_store import UploadStore

HEADER = UploadHeader("pets", "Some pets.", UploadFormat.CSV, "kind")
Until = Callable[..., None]


def csv_of(rows: int = 20, scale: float = 1.0, column: str = "size") -> bytes:
    """A table of two classes with an empty cell; another `scale` gives other data, another `column` the same."""
    lines = [f"{row * scale},{'' if row == 3 else row / 4},{'cat' if row % 2 else 'dog'}" for row in range(rows)]
    return "\n".join([f"{column},weight,kind", *lines]).encode()


def refused(call: Callable[[], object], kind: type[WeightcastError]) -> str:
    """The reason and the message of a refusal."""
    with pytest.raises(kind) as raised:
        call()
    return f"{raised.value.reason}: {raised.value.message}"


@pytest.fixture
def store(connection: StoreConnection) -> UploadStore:
    """The store in this test's Redis."""
    return UploadStore(connection)


@pytest.fixture
def uploads(store: UploadStore) -> UploadService:
    """What takes uploads."""
    return UploadService(store)


@pytest.fixture
def catalogue(store: UploadStore, tmp_path: Path) -> Catalogue:
    """A catalogue that finds what was uploaded."""
    return Catalogue(None, tmp_path, store)


@pytest.fixture
def keys(connection: StoreConnection) -> Callable[[], set[str]]:
    """Every key there is."""
    return lambda: {key.decode() for key in connection.command("KEYS", "*")}


def test_what_was_uploaded_is_found_by_everybody(
    uploads: UploadService, connect: Callable[[], StoreConnection], tmp_path: Path
) -> None:
    """Another process on another host loads the same numbers, and knows all that was said when they came."""
    started = datetime.now(UTC)
    description = uploads.take(HEADER, [csv_of()])
    elsewhere = Catalogue(None, tmp_path, UploadStore(connect()))
    dataset, expected = elsewhere.load("pets"), read_csv(io.BytesIO(csv_of()), "pets", "kind")
    for split, wanted in ((dataset.train, expected.train), (dataset.test, expected.test)):
        np.testing.assert_array_equal(split.examples, wanted.examples)
        np.testing.assert_array_equal(split.class_ids, wanted.class_ids)
        assert split.examples.dtype == np.float32
    assert dataset.class_labels == ("cat", "dog")
    assert dataset.digest == expected.digest == description.digest
    found = elsewhere.describe("pets")
    assert (found.sentence, found.source, found.columns) == ("Some pets.", DatasetSource.UPLOADED, expected.columns)
    assert (found.train_class_counts, found.test_class_counts) == ((8, 8), (2, 2))
    assert found.size_bytes == 20 * (2 * 4 + 8)
    assert found.create_time is not None
    assert started <= found.create_time <= datetime.now(UTC)
    assert found.preprocessing.standardisation is not None
    assert expected.preprocessing.standardisation is not None
    np.testing.assert_array_equal(
        found.preprocessing.standardisation.deviations, expected.preprocessing.standardisation.deviations
    )
    entry = elsewhere.entry("pets")
    assert (entry.input_shape, entry.class_count) == ((2,), 2)


def test_the_same_again_is_no_error(uploads: UploadService, catalogue: Catalogue) -> None:
    """Same name, same data: what is said of it is what was said last."""
    first = uploads.take(HEADER, [csv_of()])
    assert uploads.take(replace(HEADER, description="Other words."), [csv_of()]).digest == first.digest
    assert catalogue.entry("pets").description == "Other words."


def test_other_data_under_a_name_that_is_taken_is_refused(
    uploads: UploadService, catalogue: Catalogue, keys: Callable[[], set[str]]
) -> None:
    """With the remedy, and nothing has changed."""
    first = uploads.take(HEADER, [csv_of()])
    before = keys()
    message = refused(lambda: uploads.take(HEADER, [csv_of(scale=2)]), WrongStateError)
    assert message == (
        "DATASET_EXISTS: there is a data set 'pets' with other data; delete it first, or choose another name"
    )
    assert catalogue.load("pets").digest == first.digest
    assert keys() == before


def test_one_data_under_two_names_is_stored_once(
    uploads: UploadService, store: UploadStore, catalogue: Catalogue, keys: Callable[[], set[str]], tmp_path: Path
) -> None:
    """Each name keeps its own words for it, and the data goes with the last of them."""
    digest = uploads.take(HEADER, [csv_of()]).digest
    before = keys()
    uploads.take(replace(HEADER, name="animals", description="Theirs."), [csv_of(column="length")])
    assert keys() == before
    assert [entry.name for entry in catalogue.entries()] == ["digits", "mnist", "fashion-mnist", "animals", "pets"]
    assert [catalogue.load(name).columns[0].name for name in ("pets", "animals")] == ["size", "length"]
    uploads.delete("pets")
    assert Catalogue(None, tmp_path, store).load("animals").digest == digest
    assert "uploaded data set 'pets'" in refused(lambda: uploads.delete("pets"), NotFoundError)
    uploads.delete("animals")
    assert keys() == set()


def test_a_replaced_upload_is_never_served_stale(uploads: UploadService, catalogue: Catalogue) -> None:
    """The catalogue that had loaded the old one gives out the new one, and after its removal none."""
    uploads.take(HEADER, [csv_of()])
    old = catalogue.load("pets")
    assert catalogue.load("pets") is old
    uploads.delete("pets")
    new = uploads.take(HEADER, [csv_of(rows=30)])
    assert catalogue.load("pets").digest == new.digest != old.digest
    uploads.delete("pets")
    assert "there are digits, mnist, fashion-mnist, openml:NAME" in refused(
        lambda: catalogue.load("pets"), NotFoundError
    )


def test_only_few_data_sets_stay_in_memory(uploads: UploadService, catalogue: Catalogue) -> None:
    """Those that were used last."""
    names = [f"pets-{index}" for index in range(MAX_LOADED + 1)]
    for index, name in enumerate(names):
        uploads.take(replace(HEADER, name=name), [csv_of(scale=index + 1)])
    first, second = catalogue.load(names[0]), catalogue.load(names[1])
    for name in (*names[2:MAX_LOADED], names[0], names[MAX_LOADED]):
        catalogue.load(name)
    assert catalogue.load(names[0]) is first
    assert catalogue.load(names[1]) is not second


@pytest.mark.parametrize(
    "damage", [lambda part: part[:-1] + bytes([part[-1] ^ 1]), lambda part: part[:-8], lambda _: b"no safetensors"]
)
def test_data_that_was_altered_is_refused(
    uploads: UploadService, catalogue: Catalogue, connection: StoreConnection, damage: Callable[[bytes], bytes]
) -> None:
    """One bit in the store is enough."""
    key = DatasetKeys(uploads.take(HEADER, [csv_of()]).digest).data
    connection.command("HSET", key, 0, damage(connection.command("HGET", key, 0)))
    message = refused(lambda: catalogue.load("pets"), WrongStateError)
    assert message.startswith("DATASET_ALTERED: the data set 'pets' is not as it was stored: ")


def test_data_goes_in_parts(
    uploads: UploadService, catalogue: Catalogue, connection: StoreConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis limits a value's size, and a part that is missing is noticed."""
    monkeypatch.setattr(upload_store, "PART_BYTES", 100)
    description = uploads.take(HEADER, [csv_of()])
    key = DatasetKeys(description.digest).data
    sizes = [len(part) for part in connection.command("HVALS", key)]
    assert len(sizes) > 5
    assert max(sizes) == 100
    assert catalogue.load("pets").digest == description.digest
    connection.command("HDEL", key, 2)
    assert "DATASET_ALTERED" in refused(lambda: UploadStore(connection).load(description), WrongStateError)


def test_what_is_cut_off_leaves_nothing_behind(
    uploads: UploadService, store: UploadStore, keys: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a name nor data; what had arrived expires by itself."""
    description = uploads.take(HEADER, [csv_of()])
    uploads.delete("pets")
    monkeypatch.setattr(upload_store, "ARRIVAL_SECONDS", 1)
    store._send(read_csv(io.BytesIO(csv_of()), "pets", "kind"), "cut")  # and then the trainer dies
    assert keys() == {DatasetKeys.arriving("cut")}
    assert store.names() == []
    assert store.find("pets") is None
    assert "DATASET_NOT_FOUND" in refused(lambda: store.load(description), NotFoundError)


def test_what_arrived_and_was_not_named_expires(
    store: UploadStore, keys: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Soon after its last part."""
    monkeypatch.setattr(upload_store, "ARRIVAL_SECONDS", 1)
    store._send(read_csv(io.BytesIO(csv_of()), "pets", "kind"), "cut")
    until(lambda: keys() == set(), "the parts are gone")


def test_named_data_does_not_expire(uploads: UploadService, connection: StoreConnection) -> None:
    """Unlike what is still arriving."""
    digest = uploads.take(HEADER, [csv_of()]).digest
    assert connection.command("TTL", DatasetKeys(digest).data) == -1


def test_many_at_once_agree(
    uploads: UploadService, connect: Callable[[], StoreConnection], catalogue: Catalogue
) -> None:
    """Of two data for one name one wins, and the other is refused whole."""
    results: list[Description | WrongStateError] = []

    def send(service: UploadService, scale: float) -> None:
        try:
            results.append(service.take(HEADER, [csv_of(scale=scale)]))
        except WrongStateError as error:
            results.append(error)

    services = [UploadService(UploadStore(connect())) for _ in range(6)]
    threads = [threading.Thread(target=send, args=(service, 1 + n % 2)) for n, service in enumerate(services)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = {result.digest for result in results if isinstance(result, Description)}
    assert stored == {catalogue.load("pets").digest}
    assert sum(isinstance(result, WrongStateError) for result in results) == 3


def test_only_two_are_taken_at_a_time(uploads: UploadService, until: Until) -> None:
    """A third is told to try again, and can once one has ended."""
    go_on = threading.Event()
    waiting = []

    def slowly() -> Iterator[bytes]:
        waiting.append(1)
        go_on.wait(20)
        yield csv_of()

    threads = [
        threading.Thread(target=uploads.take, args=(replace(HEADER, name=f"slow-{n}"), slowly())) for n in range(2)
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(waiting) == 2, "two uploads have begun")
    assert "TOO_MANY_UPLOADS: 2 uploads" in refused(lambda: uploads.take(HEADER, [csv_of()]), CapacityError)
    go_on.set()
    for thread in threads:
        thread.join()
    assert uploads.take(HEADER, [csv_of()]).name == "pets"


def test_a_refused_upload_gives_its_place_back(uploads: UploadService, keys: Callable[[], set[str]]) -> None:
    """However many fail, the next one is taken, and nothing of them is stored."""
    for _ in range(5):
        refused(lambda: uploads.take(HEADER, [b"a,kind\n1\n"]), InvalidInputError)
    assert keys() == set()
    uploads.take(HEADER, [csv_of()])


def test_without_redis_an_upload_is_refused_as_retryable(uploads: UploadService, redis_server: EmbeddedRedis) -> None:
    """As everything that needs the store."""
    redis_server.stop()
    refused(lambda: uploads.take(HEADER, [csv_of()]), StoreUnavailableError)
