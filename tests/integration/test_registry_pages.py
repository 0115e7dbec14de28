"""Pages of versions: a message that every client takes, however much each version has to say."""

from unittest.mock import Mock

from shared import snapshot_codec
from shared.model_version import StoredSnapshot
from shared.pb.weightcast.v1 import model_pb2
from shared.pb.weightcast.v1.model_registry_service_pb2 import ListModelVersionsRequest
from shared.store.model_store import ModelStore
from trainer_service.registry_servicer import RegistryServicer

GRPC_MESSAGE_BYTES = 4 * 2**20


def test_a_page_of_large_manifests_ends_early_and_goes_on(models: ModelStore) -> None:
    """Five versions of 1.2 MB each come as pages below gRPC's usual limit, newest first, each once."""
    manifest = model_pb2.Manifest(model="wide", class_labels=["x" * 1200] * 1000).SerializeToString()
    snapshot = StoredSnapshot(manifest, b"", snapshot_codec.snapshot_digest(manifest, b""))
    for number in range(5):
        models.publish("wide", snapshot, training_job_id=f"job-{number}")
    servicer, token, pages = RegistryServicer(models), "", []
    while True:
        request = ListModelVersionsRequest(model="wide", page_token=token)
        page = servicer.ListModelVersions(request, Mock())  # it has no use for a context
        assert page.ByteSize() < GRPC_MESSAGE_BYTES
        pages.append([version.version for version in page.versions])
        if not (token := page.next_page_token):
            break
    assert pages == [[5, 4], [3, 2], [1]]
