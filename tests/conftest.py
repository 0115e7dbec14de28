"""What tests share: a private Redis, the whole product as processes, and the real MNIST where it is at hand."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.embedded_redis import EmbeddedRedis
from client.local_stack import LocalStack
from shared.store.connection import StoreConnection

DATA_DIR = Path(os.environ.get("WEIGHTCAST_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session", autouse=True)
def own_environment() -> Iterator[None]:
    """A developer's own settings must not change what a test sees, nor what the services it starts are told."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("WEIGHTCAST_")]:
            monkeypatch.delenv(name)
        yield


@pytest.fixture(scope="session")
def mnist_data_dir() -> Path:
    """The folder with MNIST's files; skips where they are not."""
    if not (DATA_DIR / "mnist").is_dir():
        pytest.skip(f"no MNIST in {DATA_DIR / 'mnist'}; set WEIGHTCAST_DATA_DIR to run this test")
    return DATA_DIR


@pytest.fixture
def redis_server() -> Iterator[EmbeddedRedis]:
    """A Redis of this test's own, empty; it keeps its data when the test restarts it."""
    with tempfile.TemporaryDirectory(prefix="wc-", dir="/tmp") as folder:
        server = EmbeddedRedis(Path(folder), append_only=True)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def connection(redis_server: EmbeddedRedis) -> Iterator[StoreConnection]:
    """A connection to this test's Redis."""
    store_connection = StoreConnection(redis_server.url)
    yield store_connection
    store_connection.close()


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """Redis and both services, shared by the tests of a module."""
    with LocalStack() as running:
        yield running
