"""The gRPC face of what changes models, a part of ModelRegistryService: decodes, calls the registry, encodes."""

import grpc

from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb
from shared.pb.weightcast.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from shared.store.registry import ModelRegistry
from shared.training_spec import checked_model_name
from trainer_service.registry_codec import listed_version_message, masked_fields, model_message, rollout_mode


class RegistryChangeMethods(ModelRegistryServiceServicer):
    """The methods of weightcast.v1.ModelRegistryService that change something."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def PromoteModelVersion(
        self, request: pb.PromoteModelVersionRequest, context: grpc.ServicerContext
    ) -> pb.PromoteModelVersionResponse:
        """Makes a version live."""
        changed = self._registry.promote(
            checked_model_name(request.model),
            request.version,
            etag=request.etag,
            actor=request.actor,
            reason=request.reason,
        )
        return pb.PromoteModelVersionResponse(model=model_message(changed))

    def RollbackModel(
        self, request: pb.RollbackModelRequest, context: grpc.ServicerContext
    ) -> pb.RollbackModelResponse:
        """Makes the version live that was before."""
        changed = self._registry.rollback(
            checked_model_name(request.model), etag=request.etag, actor=request.actor, reason=request.reason
        )
        return pb.RollbackModelResponse(model=model_message(changed))

    def SetModelHold(self, request: pb.SetModelHoldRequest, context: grpc.ServicerContext) -> pb.SetModelHoldResponse:
        """Puts a hold on a model, or lifts it."""
        changed = self._registry.set_hold(
            checked_model_name(request.model), held=request.held, actor=request.actor, reason=request.reason
        )
        return pb.SetModelHoldResponse(model=model_message(changed))

    def SetModelRollout(
        self, request: pb.SetModelRolloutRequest, context: grpc.ServicerContext
    ) -> pb.SetModelRolloutResponse:
        """Tries a version on a share of the requests."""
        changed = self._registry.set_rollout(
            checked_model_name(request.model),
            request.version,
            rollout_mode(request.mode),
            request.percent,
            etag=request.etag,
            actor=request.actor,
            reason=request.reason,
        )
        return pb.SetModelRolloutResponse(model=model_message(changed))

    def EndModelRollout(
        self, request: pb.EndModelRolloutRequest, context: grpc.ServicerContext
    ) -> pb.EndModelRolloutResponse:
        """Ends a rollout."""
        changed = self._registry.end_rollout(checked_model_name(request.model), etag=request.etag)
        return pb.EndModelRolloutResponse(model=model_message(changed))

    def SetModelAlias(
        self, request: pb.SetModelAliasRequest, context: grpc.ServicerContext
    ) -> pb.SetModelAliasResponse:
        """Points an alias to a version, or removes it."""
        etag = self._registry.set_alias(
            checked_model_name(request.model), request.alias, request.version, etag=request.etag, actor=request.actor
        )
        return pb.SetModelAliasResponse(etag=etag)

    def UpdateModelVersion(
        self, request: pb.UpdateModelVersionRequest, context: grpc.ServicerContext
    ) -> pb.UpdateModelVersionResponse:
        """Writes about a version."""
        model, given = checked_model_name(request.model), masked_fields(request)
        changed = self._registry.annotate(
            model,
            request.version,
            notes=request.notes if "notes" in given else None,
            labels=dict(request.labels) if "labels" in given else None,
            pinned=request.pinned if "pinned" in given else None,
        )
        return pb.UpdateModelVersionResponse(version=listed_version_message(changed))

    def DeleteModelVersion(
        self, request: pb.DeleteModelVersionRequest, context: grpc.ServicerContext
    ) -> pb.DeleteModelVersionResponse:
        """Removes a version."""
        self._registry.delete(checked_model_name(request.model), request.version)
        return pb.DeleteModelVersionResponse()

    def PruneModelVersions(
        self, request: pb.PruneModelVersionsRequest, context: grpc.ServicerContext
    ) -> pb.PruneModelVersionsResponse:
        """Removes old versions."""
        pruned = self._registry.prune(checked_model_name(request.model), request.keep_newest, dry_run=request.dry_run)
        return pb.PruneModelVersionsResponse(
            versions=pruned.versions, size_bytes=pruned.size_bytes, kept_count=pruned.kept_count
        )
