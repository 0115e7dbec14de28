"""The gRPC face of the model registry: decodes a message, calls one method of the store, encodes its answer."""

from collections.abc import Iterator
from contextlib import suppress

import grpc
from google.protobuf.message import DecodeError

from shared.errors import InvalidInputError, NotFoundError, SnapshotRejectedError
from shared.model_version import ModelSummary, PublishedVersion
from shared.paging import page_of
from shared.pb.weightcast.v1 import model_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb
from shared.pb.weightcast.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from shared.proto_values import selector_of, timestamp
from shared.snapshot_codec import verify_digest
from shared.store.model_store import ModelStore
from shared.training_spec import checked_model_name

CHUNK_BYTES = 2**20
PAGE_BYTES = 2 * 2**20


class RegistryServicer(ModelRegistryServiceServicer):
    """weightcast.v1.ModelRegistryService."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        """Lists models by name."""
        page = page_of(request.page_size, request.page_token)
        start = page.position or 0
        stop = start + page.size
        names = self._models.model_names()
        found = []
        for name in names[start:stop]:
            with suppress(NotFoundError):  # listed, but not published yet
                found.append(model_message(self._models.model(name)))
        return pb.ListModelsResponse(models=found, next_page_token=str(stop) if stop < len(names) else "")

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:
        """Returns one model."""
        return pb.GetModelResponse(model=model_message(self._models.model(checked_model_name(request.model))))

    def ListModelVersions(
        self, request: pb.ListModelVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelVersionsResponse:
        """Lists a model's versions, newest first."""
        page = page_of(request.page_size, request.page_token)
        model = checked_model_name(request.model)
        numbers = self._models.version_numbers(model, below=page.position, count=page.size + 1)
        versions: list[model_pb2.ModelVersion] = []
        size = 0
        for number in numbers[: page.size]:
            published = self._models.version(model, number, with_weights=False)
            versions.append(version_message(published))
            with suppress(SnapshotRejectedError):  # one manifest that cannot be read must not hide the others
                versions[-1].manifest.CopyFrom(manifest_message(published))
            size += versions[-1].ByteSize()
            if size > PAGE_BYTES:  # a version of a thousand classes has a confusion matrix of a million counts
                break
        return pb.ListModelVersionsResponse(
            versions=versions, next_page_token=str(versions[-1].version) if len(numbers) > len(versions) else ""
        )

    def GetModelVersion(
        self, request: pb.GetModelVersionRequest, context: grpc.ServicerContext
    ) -> pb.GetModelVersionResponse:
        """Returns one version."""
        published = self._models.version(checked_model_name(request.model), selector_of(request), with_weights=False)
        version = version_message(published)
        version.manifest.CopyFrom(manifest_message(published))
        return pb.GetModelVersionResponse(version=version)

    def DownloadModelVersion(
        self, request: pb.DownloadModelVersionRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DownloadModelVersionResponse]:
        """Streams a version's weights, checked against their digest."""
        if request.format == pb.DOWNLOAD_FORMAT_ONNX:
            raise NotImplementedError
        if request.format not in (pb.DOWNLOAD_FORMAT_UNSPECIFIED, pb.DOWNLOAD_FORMAT_SAFETENSORS):
            raise InvalidInputError.of("format", f"got {request.format}, expected DOWNLOAD_FORMAT_SAFETENSORS")
        published = self._models.version(checked_model_name(request.model), selector_of(request))
        verify_digest(published.snapshot)
        version, weights = version_message(published), published.snapshot.weights
        version.manifest.CopyFrom(manifest_message(published))
        yield pb.DownloadModelVersionResponse(
            header=pb.DownloadModelVersionHeader(
                version=version,
                file_name=f"{published.model}-{published.ref.version}.safetensors",
                size_bytes=len(weights),
                sha256=version.manifest.weights_digest,
            )
        )
        for start in range(0, len(weights), CHUNK_BYTES):
            yield pb.DownloadModelVersionResponse(chunk=weights[start : start + CHUNK_BYTES])

    def PromoteModelVersion(
        self, request: pb.PromoteModelVersionRequest, context: grpc.ServicerContext
    ) -> pb.PromoteModelVersionResponse:
        """Not implemented yet."""
        raise NotImplementedError

    def RollbackModel(
        self, request: pb.RollbackModelRequest, context: grpc.ServicerContext
    ) -> pb.RollbackModelResponse:
        """Not implemented yet."""
        raise NotImplementedError

    def SetModelAlias(
        self, request: pb.SetModelAliasRequest, context: grpc.ServicerContext
    ) -> pb.SetModelAliasResponse:
        """Not implemented yet."""
        raise NotImplementedError

    def DeleteModelVersion(
        self, request: pb.DeleteModelVersionRequest, context: grpc.ServicerContext
    ) -> pb.DeleteModelVersionResponse:
        """Not implemented yet."""
        raise NotImplementedError


def model_message(summary: ModelSummary) -> model_pb2.Model:
    """A model as a message."""
    return model_pb2.Model(
        name=summary.name,
        latest_version=summary.latest_version,
        live_version=summary.live_version,
        version_count=summary.version_count,
    )


def version_message(published: PublishedVersion) -> model_pb2.ModelVersion:
    """A version as a message, without its manifest."""
    return model_pb2.ModelVersion(
        model=published.model,
        version=published.ref.version,
        digest=published.ref.digest,
        publish_time=timestamp(published.publish_time),
        aliases=published.aliases,
        weights_size_bytes=published.weights_size_bytes,
    )


def manifest_message(published: PublishedVersion) -> model_pb2.Manifest:
    """A version's manifest as it was published.

    Raises:
        SnapshotRejectedError: MALFORMED_MANIFEST.
    """
    try:
        return model_pb2.Manifest.FromString(published.snapshot.manifest)
    except DecodeError as error:
        raise SnapshotRejectedError(
            f"the manifest of version {published.ref.version} is no protobuf: {error}", reason="MALFORMED_MANIFEST"
        ) from error
