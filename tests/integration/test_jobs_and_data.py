"""Jobs on uploads: a job learns from the data it was created for, and waits for a store that is away."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.embedded_redis import EmbeddedRedis
from shared.network_codec import preprocessing_to_proto
from shared.store.connection import StoreConnection
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.upload import UploadFormat, UploadHeader, UploadService
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job import JobState, TrainingJob
from trainer_service.jobs.job_service import JobService
from trainer_service.jobs.run_job import JobRun
from trainer_service.presets import SpecRequest

Until = Callable[..., None]


def rows(offset: int) -> Iterator[bytes]:
    """A table of two columns whose classes differ."""
    yield b"size,weight,kind\n"
    for index in range(20):
        yield f"{index + offset},{index % 3},{'large' if index > 9 else 'small'}\n".encode()


class Shop:
    """A trainer's parts on one store."""

    def __init__(
        self,
        connection: StoreConnection,
        cache_dir: Path,
        service_on: Callable[..., JobService],
        run_on: Callable[..., JobRun],
    ) -> None:
        store = UploadStore(connection)
        self.uploads, self.catalogue = UploadService(store), Catalogue(None, cache_dir, store)
        self.service = service_on(connection, self.catalogue)
        self._connection, self._run_on = connection, run_on

    def upload(self, offset: int) -> None:
        """Stores the table as `mine`."""
        self.uploads.take(UploadHeader("mine", "", UploadFormat.CSV, "kind"), rows(offset))

    def create(self) -> TrainingJob:
        """A job on `mine`."""
        return self.service.create(SpecRequest("m", "mine", given={"epochs": 2, "seed": 1}))

    def run(self, job_id: str, load: Callable[[str], Dataset] | None = None) -> TrainingJob:
        """Runs a job as a worker does."""
        self._run_on(self._connection, job_id, load or self.catalogue.load).run()
        return self.service.get(job_id)


@pytest.fixture
def shop(
    connection: StoreConnection,
    tmp_path: Path,
    service_on: Callable[..., JobService],
    run_on: Callable[..., JobRun],
) -> Shop:
    """A trainer with one uploaded table."""
    made = Shop(connection, tmp_path, service_on, run_on)
    made.upload(0)
    return made


def test_a_job_knows_its_data_before_it_runs(shop: Shop) -> None:
    """An upload's digest stands in the job from the beginning, and in the version it publishes."""
    job = shop.create()
    digest = shop.catalogue.load("mine").digest
    assert job.dataset_digest == digest
    ended = shop.run(job.id)
    assert (ended.state, ended.dataset_digest) == (JobState.SUCCEEDED, digest)


def test_data_that_was_replaced_meanwhile_is_not_trained_on(shop: Shop) -> None:
    """The job was fitted to other data: it fails and says so, and publishes nothing."""
    job = shop.create()
    shop.uploads.delete("mine")
    shop.upload(100)
    ended = shop.run(job.id)
    assert (ended.state, ended.version) == (JobState.FAILED, 0)
    assert "other data has taken the name 'mine'" in ended.error_message


def test_a_store_that_is_away_while_data_loads_does_not_end_the_job(
    shop: Shop, redis_server: EmbeddedRedis, until: Until
) -> None:
    """It waits, and goes on when the store is back."""
    job = shop.create()
    tried = threading.Event()

    def load(name: str) -> Dataset:
        if not tried.is_set():
            redis_server.stop()
        tried.set()
        return shop.catalogue.load(name)

    running = threading.Thread(target=shop.run, args=(job.id, load), daemon=True)
    running.start()
    until(tried.is_set, "a first attempt")
    running.join(1.5)
    assert running.is_alive()
    redis_server.start()
    running.join(30)
    assert shop.service.get(job.id).state is JobState.SUCCEEDED


def test_a_tables_columns_are_named_in_what_serves_it(shop: Shop) -> None:
    """So that whoever sends rows can put them in order."""
    proto = preprocessing_to_proto(shop.catalogue.load("mine").preprocessing)
    assert list(proto.feature_names) == ["size", "weight"]
