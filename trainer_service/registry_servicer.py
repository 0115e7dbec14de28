"""The gRPC face of the model registry: decodes a message, calls one method of the store, encodes its answer."""

from collections.abc import Iterator
from contextlib import suppress

import grpc

from shared.errors import InvalidInputError, NotFoundError
from shared.paging import page_of
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb
from shared.proto_values import selector_of
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry
from shared.training_spec import checked_model_name
from trainer_service.download import FileFormat, downloadable
from trainer_service.registry_change_servicer import RegistryChangeMethods
from trainer_service.registry_codec import (
    change_message,
    listed_version_message,
    model_message,
    version_filter,
    whole_version_message,
)

CHUNK_BYTES = 2**20
FILE_FORMATS = {
    pb.DOWNLOAD_FORMAT_UNSPECIFIED: FileFormat.SAFETENSORS,
    pb.DOWNLOAD_FORMAT_SAFETENSORS: FileFormat.SAFETENSORS,
    pb.DOWNLOAD_FORMAT_ONNX: FileFormat.ONNX,
}
MAX_LIST_BYTES = 2 * 2**20  # in one answer; fewer models where they have many aliases


class RegistryServicer(RegistryChangeMethods):
    """weightcast.v1.ModelRegistryService: what reads here, what changes in the class it extends."""

    def __init__(self, models: ModelStore, registry: ModelRegistry) -> None:
        super().__init__(registry)
        self._models = models

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        """Lists models by name."""
        page = page_of(request.page_size, request.page_token)
        stop = start = page.position or 0
        names = self._models.model_names()
        response, size = pb.ListModelsResponse(), 0
        for name in names[start : start + page.size]:
            with suppress(NotFoundError):  # listed, but not published yet
                message = model_message(self._models.model(name))
                size += message.ByteSize()
                if response.models and size > MAX_LIST_BYTES:
                    break
                response.models.append(message)
            stop += 1
        response.next_page_token = str(stop) if stop < len(names) else ""
        return response

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:
        """Returns one model."""
        return pb.GetModelResponse(model=model_message(self._models.model(checked_model_name(request.model))))

    def ListModelVersions(
        self, request: pb.ListModelVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelVersionsResponse:
        """Lists a model's versions, newest first."""
        page = page_of(request.page_size, request.page_token)
        found = self._models.versions(
            checked_model_name(request.model),
            count=page.size,
            below=page.position,
            wanted=version_filter(request.filter),
        )
        return pb.ListModelVersionsResponse(
            versions=[listed_version_message(version) for version in found.versions],
            next_page_token=token_of(found.next_below),
        )

    def GetModelVersion(
        self, request: pb.GetModelVersionRequest, context: grpc.ServicerContext
    ) -> pb.GetModelVersionResponse:
        """Returns one version."""
        published = self._models.version(checked_model_name(request.model), selector_of(request), with_weights=False)
        return pb.GetModelVersionResponse(version=whole_version_message(published))

    def ListLiveChanges(
        self, request: pb.ListLiveChangesRequest, context: grpc.ServicerContext
    ) -> pb.ListLiveChangesResponse:
        """Lists what was live when."""
        page = page_of(request.page_size, request.page_token)
        found = self._registry.history(checked_model_name(request.model), count=page.size, below=page.position)
        return pb.ListLiveChangesResponse(
            changes=[change_message(change) for change in found.changes], next_page_token=token_of(found.next_below)
        )

    def DownloadModelVersion(
        self, request: pb.DownloadModelVersionRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DownloadModelVersionResponse]:
        """Streams a version as a file, checked against its digest."""
        if request.format not in FILE_FORMATS:
            raise InvalidInputError.of(
                "format", f"got {request.format}, expected DOWNLOAD_FORMAT_SAFETENSORS or DOWNLOAD_FORMAT_ONNX"
            )
        published = self._models.version(checked_model_name(request.model), selector_of(request))
        file = downloadable(published, FILE_FORMATS[request.format])
        yield pb.DownloadModelVersionResponse(
            header=pb.DownloadModelVersionHeader(
                version=whole_version_message(published),
                file_name=file.name,
                size_bytes=len(file.contents),
                sha256=file.sha256,
            )
        )
        for start in range(0, len(file.contents), CHUNK_BYTES):
            yield pb.DownloadModelVersionResponse(chunk=file.contents[start : start + CHUNK_BYTES])


def token_of(position: int | None) -> str:
    """The token of the page that begins below a position; empty where there is none."""
    return "" if position is None else str(position)
