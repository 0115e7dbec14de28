"""Pages of models and versions: a message that every client takes, however much each of them has to say."""

from unittest.mock import Mock

import pytest

from shared import snapshot_codec
from shared.model_version import StoredSnapshot
from shared.pb.weightcast.v1 import model_pb2
from shared.pb.weightcast.v1.model_registry_service_pb2 import (
    ListModelsRequest,
    ListModelVersionsRequest,
    VersionFilter,
)
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry
from trainer_service.registry_servicer import RegistryServicer

GRPC_MESSAGE_BYTES = 4 * 2**20
LABEL_BYTES = 1200


@pytest.fixture
def servicer(models: ModelStore, connection: StoreConnection) -> RegistryServicer:
    """The registry as clients see it."""
    return RegistryServicer(models, ModelRegistry(connection))


def publish_wide(models: ModelStore, count: int, classes: int) -> None:
    """Publishes versions whose manifests have 1200 bytes a class."""
    manifest = model_pb2.Manifest(model="wide", class_labels=["x" * LABEL_BYTES] * classes).SerializeToString()
    snapshot = StoredSnapshot(manifest, b"", snapshot_codec.snapshot_digest(manifest, b""))
    for number in range(count):
        models.publish("wide", snapshot, training_job_id=f"job-{number}")


def pages_of(servicer: RegistryServicer, wanted: VersionFilter | None = None) -> list[list[int]]:
    """The numbers on each page, none of which may be larger than gRPC takes."""
    token, pages = "", []
    while True:
        request = ListModelVersionsRequest(model="wide", page_token=token, filter=wanted)
        page = servicer.ListModelVersions(request, Mock())  # it has no use for a context
        assert page.ByteSize() < GRPC_MESSAGE_BYTES
        pages.append([version.version for version in page.versions])
        if not (token := page.next_page_token):
            return pages


def test_a_page_of_large_manifests_ends_early_and_goes_on(models: ModelStore, servicer: RegistryServicer) -> None:
    """Five versions of 1.2 MB each come as pages below gRPC's usual limit, newest first, each once."""
    publish_wide(models, 5, classes=1000)
    assert pages_of(servicer) == [[5, 4], [3, 2], [1]]


def test_a_version_that_fills_a_page_alone_is_on_one(models: ModelStore, servicer: RegistryServicer) -> None:
    """It hides neither itself nor the others."""
    publish_wide(models, 3, classes=2500)
    assert pages_of(servicer) == [[3], [2], [1]]


def test_what_a_filter_lets_through_makes_pages_that_are_no_larger(
    models: ModelStore, servicer: RegistryServicer
) -> None:
    """The large ones that are wanted come each once, whatever lies between them."""
    publish_wide(models, 7, classes=1000)
    for version in (1, 2, 4, 7):
        servicer._registry.annotate("wide", version, pinned=True)
    found = pages_of(servicer, VersionFilter(pinned=True))
    assert [number for page in found for number in page] == [7, 4, 2, 1]


def test_a_page_reads_no_more_than_it_gives(
    models: ModelStore, servicer: RegistryServicer, connection: StoreConnection
) -> None:
    """Ten large manifests are not fetched to give two."""
    publish_wide(models, 10, classes=1000)
    connection.command("CONFIG", "RESETSTAT")
    servicer.ListModelVersions(ListModelVersionsRequest(model="wide"), Mock())
    assert connection.command("INFO", "stats")["total_net_output_bytes"] < 3 * 1000 * LABEL_BYTES


def test_a_page_of_models_with_many_aliases_ends_early_and_goes_on(
    models: ModelStore, servicer: RegistryServicer, connection: StoreConnection
) -> None:
    """All of them come, by name, each once; a name that nothing was published under is left out."""
    names = [f"model-{number:02}" for number in range(60)]
    for name in names:
        models.publish(name, StoredSnapshot(b"", b"", "d"), "job")
        aliases = [word for number in range(998) for word in (f"{'a' * 57}-{number}", 1)]
        connection.command("HSET", ModelKeys(name).aliases, *aliases)
    connection.command("DEL", ModelKeys(names[30]).counter)
    token, found, sizes = "", [], []
    while True:
        page = servicer.ListModels(ListModelsRequest(page_token=token), Mock())
        sizes.append(page.ByteSize())
        found += [model.name for model in page.models]
        if not (token := page.next_page_token):
            break
    assert found == [*names[:30], *names[31:]]
    assert len(sizes) > 1
    assert max(sizes) < GRPC_MESSAGE_BYTES
