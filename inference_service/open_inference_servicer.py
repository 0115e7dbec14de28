"""The gRPC face of what is served, for clients of the Open Inference Protocol: decodes, calls the domain, encodes.

`ModelInfer` and `ModelStreamInfer` are answered from their bytes, before this is asked: `infer_protocol`.
"""

from collections.abc import Iterator

import grpc

from inference_service.joint_status import JointStatus
from inference_service.limits import Limits
from inference_service.metrics.statistics import Statistics
from inference_service.open_inference import checked_name, selector_from
from inference_service.open_inference_codec import config_of, metadata_of, statistics_of
from inference_service.product import NAME, product_version
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.model_state import ModelState
from inference_service.versions.snapshot_loader import ServedVersion
from shared.errors import WeightcastError, WrongStateError
from shared.model_version import LIVE
from shared.pb.inference import model_config_pb2, model_repository_pb2, model_statistics_pb2
from shared.pb.inference import open_inference_service_pb2 as pb
from shared.pb.inference.open_inference_service_pb2_grpc import GRPCInferenceServiceServicer

EXTENSIONS = ("classification", "model_configuration", "model_repository", "parameters", "statistics")
READY, UNAVAILABLE = "READY", "UNAVAILABLE"
Index = model_repository_pb2.RepositoryIndexResponse.ModelIndex


class OpenInferenceServicer(GRPCInferenceServiceServicer):
    """inference.GRPCInferenceService; `statistics` say what all processes counted that answer on this port."""

    def __init__(self, manager: ModelManager, joint: JointStatus, limits: Limits, statistics: Statistics) -> None:
        self._manager = manager
        self._joint = joint
        self._limits = limits
        self._statistics = statistics
        self._version = product_version()

    def ServerLive(self, request: pb.ServerLiveRequest, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        """Yes."""
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: pb.ServerReadyRequest, context: grpc.ServicerContext) -> pb.ServerReadyResponse:
        """Whether some model can answer."""
        return pb.ServerReadyResponse(ready=any(self._joint.live(model) for model in self._manager.models()))

    def ModelReady(self, request: pb.ModelReadyRequest, context: grpc.ServicerContext) -> pb.ModelReadyResponse:
        """Whether a model can answer; a version that is not loaded yet is loaded for this."""
        try:
            selector = selector_from(request.version, "version")
            ready = self._joint.live(request.name) if selector == LIVE else self._manager.serve(request.name, selector)
        except WeightcastError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=ready is not None)

    def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ServerMetadataResponse:
        """What this server is."""
        return pb.ServerMetadataResponse(name=NAME, version=self._version, extensions=EXTENSIONS)

    def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        """What a model takes and gives."""
        served = self._served(request.name, request.version)
        known = {held.ref.version for held in self._manager.pinned(served.model)}
        known.update(self._manager.state(served.model).aliases.values(), [served.ref.version])
        return metadata_of(served, sorted(known))

    def ModelConfig(
        self, request: model_config_pb2.ModelConfigRequest, context: grpc.ServicerContext
    ) -> model_config_pb2.ModelConfigResponse:
        """How a model is set up."""
        served = self._served(request.name, request.version)
        return model_config_pb2.ModelConfigResponse(config=config_of(served, self._limits))

    def ModelStatistics(
        self, request: model_statistics_pb2.ModelStatisticsRequest, context: grpc.ServicerContext
    ) -> model_statistics_pb2.ModelStatisticsResponse:
        """What was asked of all models, of one, or of one version."""
        counted = self._statistics.totals()
        if request.name:
            wanted = self._served(request.name, request.version).ref.version if request.version else None
            self._manager.state(checked_name(request.name, "name"))
            counted = {
                (model, number): counts
                for (model, number), counts in counted.items()
                if model == request.name and wanted in (None, number)
            }
        return statistics_of(counted)

    def RepositoryIndex(
        self, request: model_repository_pb2.RepositoryIndexRequest, context: grpc.ServicerContext
    ) -> model_repository_pb2.RepositoryIndexResponse:
        """Lists each model by the versions it can answer with, and what stands in the way of others."""
        entries = [entry for model, state in self._manager.states() for entry in self._index(model, state)]
        return model_repository_pb2.RepositoryIndexResponse(
            models=[entry for entry in entries if entry.state == READY or not request.ready]
        )

    def RepositoryModelLoad(
        self, request: model_repository_pb2.RepositoryModelLoadRequest, context: grpc.ServicerContext
    ) -> model_repository_pb2.RepositoryModelLoadResponse:
        """Refuses."""
        raise follows_the_registry("loads every model's live version, and others when they are asked for")

    def RepositoryModelUnload(
        self, request: model_repository_pb2.RepositoryModelUnloadRequest, context: grpc.ServicerContext
    ) -> model_repository_pb2.RepositoryModelUnloadResponse:
        """Refuses."""
        raise follows_the_registry("lets go of a version when another one is promoted")

    def _served(self, name: str, asked_version: str) -> ServedVersion:
        return self._manager.serve(checked_name(name, "name"), selector_from(asked_version, "version"))

    def _index(self, model: str, state: ModelState) -> Iterator[Index]:
        """The entries of one model, the lowest version first."""
        live = self._joint.live(model)
        ready = {held.ref.version for held in self._manager.pinned(model)} | ({live.version} if live else set())
        if state.rollout:
            ready.add(state.rollout.candidate.ref.version)
        entries = {number: Index(name=model, version=str(number), state=READY) for number in ready}
        for failure in filter(None, (state.rollout_failure, state.failure)):
            number = failure.ref.version
            reason = f"{failure.reason}: {failure.message}"
            entries[number] = Index(name=model, version=str(number), state=UNAVAILABLE, reason=reason)
        if not entries:
            entries[0] = Index(name=model, state=UNAVAILABLE, reason="no version is live yet; promote one")
        yield from (entries[number] for number in sorted(entries))


def follows_the_registry(does: str) -> WrongStateError:
    """Why models are not loaded and unloaded by hand."""
    return WrongStateError(
        f"this server {does}; change what is live by PromoteModelVersion or RollbackModel of the trainer service",
        reason="FOLLOWS_REGISTRY",
    )
