"""A client's calls for models and their versions: read, make live, mark, remove, download. `TrainerClient` is one."""

import getpass
import socket
from collections.abc import Callable, Mapping
from itertools import islice

import grpc

from client.channel import select
from client.errors import RpcError, rpc_errors
from client.trainer_service_client import TrainerServiceClient, pages
from shared.pb.weightcast.v1 import model_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb

LIVE = "live"
MAX_ACTOR = 64
MOST_PRUNED = 1000  # versions that one call removes
NO_ALIAS = "0"  # the etag of an alias that does not exist


class RegistryClient(TrainerServiceClient):
    """The part of a trainer's client that is about models.

    Where a change has an `actor`, None means user@host of this process.
    """

    def models(self) -> list[model_pb2.Model]:
        """Every model, by name."""
        found = pages(lambda asked: self.registry.ListModels(asked, timeout=self._timeout), pb.ListModelsRequest())
        return [model for page in found for model in page.models]

    def model(self, model: str) -> model_pb2.Model:
        """One model."""
        with rpc_errors():
            return self.registry.GetModel(pb.GetModelRequest(model=model), timeout=self._timeout).model

    def versions(
        self,
        model: str,
        limit: int | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        dataset: str = "",
        training_job_id: str = "",
        pinned: bool | None = None,
    ) -> list[model_pb2.ModelVersion]:
        """A model's newest versions, up to `limit` (None: all); only those that all that is given holds for.

        A label with an empty value means one with any value.
        """
        chosen = pb.VersionFilter(labels=labels, dataset=dataset, training_job_id=training_job_id, pinned=pinned)
        request = pb.ListModelVersionsRequest(model=model, filter=chosen)
        found = pages(lambda asked: self.registry.ListModelVersions(asked, timeout=self._timeout), request, limit)
        return list(islice((version for page in found for version in page.versions), limit))

    def version(self, model: str, version: int | str | None = None) -> model_pb2.ModelVersion:
        """One version by number or alias; None means what is live."""
        request = pb.GetModelVersionRequest(model=model)
        select(request, version)
        with rpc_errors():
            return self.registry.GetModelVersion(request, timeout=self._timeout).version

    def promote(self, model: str, version: int, *, reason: str = "", actor: str | None = None) -> model_pb2.Model:
        """Makes a version live and lifts a hold; the model after that.

        Raises:
            RpcError: ABORTED, if something else went live meanwhile.
        """
        return self._promote(model, lambda _before: version, reason, actor)

    def rollback(self, model: str, *, reason: str = "", actor: str | None = None) -> model_pb2.Model:
        """Makes the version live again that was live before, and puts a hold on the model; the model after that.

        Raises:
            RpcError: ABORTED, if something else went live meanwhile; FAILED_PRECONDITION, if none was live before.
        """

        def change(before: model_pb2.Model) -> model_pb2.Model:
            request = pb.RollbackModelRequest(
                model=model, etag=live_etag(before), actor=actor_or_me(actor), reason=reason
            )
            return self.registry.RollbackModel(request, timeout=self._timeout).model

        return self._change_live(
            model, change, lambda before, now: now.live_version == before.previous_version and is_held(now)
        )

    def set_hold(self, model: str, *, held: bool = True, reason: str = "", actor: str | None = None) -> model_pb2.Model:
        """Keeps new versions from going live, or lifts that; the model after that."""
        request = pb.SetModelHoldRequest(model=model, held=held, actor=actor_or_me(actor), reason=reason)
        with rpc_errors():
            return self.registry.SetModelHold(request, timeout=self._timeout).model

    def set_alias(self, model: str, alias: str, version: int, *, etag: str = "", actor: str | None = None) -> str:
        """Points an alias to a version, 0 removes it; the etag to give with the next change.

        With the `etag` last read for the alias, ABORTED when somebody else has changed it since.
        """
        request = pb.SetModelAliasRequest(
            model=model, alias=alias, version=version, etag=etag, actor=actor_or_me(actor)
        )
        with rpc_errors():
            return self.registry.SetModelAlias(request, timeout=self._timeout).etag

    def live_changes(self, model: str, limit: int | None = None) -> list[model_pb2.LiveChange]:
        """What was live when, newest first, up to `limit` (None: all)."""
        request = pb.ListLiveChangesRequest(model=model)
        found = pages(lambda asked: self.registry.ListLiveChanges(asked, timeout=self._timeout), request, limit)
        return list(islice((change for page in found for change in page.changes), limit))

    def update_version(
        self,
        model: str,
        version: int,
        *,
        notes: str | None = None,
        labels: Mapping[str, str] | None = None,
        pinned: bool | None = None,
    ) -> model_pb2.ModelVersion:
        """Writes what is not None about a version: `labels` are all of them then."""
        request = pb.UpdateModelVersionRequest(model=model, version=version)
        if notes is not None:
            request.notes = notes
            request.update_mask.paths.append("notes")
        if labels is not None:
            request.labels.update(labels)
            request.update_mask.paths.append("labels")
        if pinned is not None:
            request.pinned = pinned
            request.update_mask.paths.append("pinned")
        with rpc_errors():
            return self.registry.UpdateModelVersion(request, timeout=self._timeout).version

    def delete_version(self, model: str, version: int) -> None:
        """Removes a version."""
        request = pb.DeleteModelVersionRequest(model=model, version=version)
        with rpc_errors():
            self.registry.DeleteModelVersion(request, timeout=self._timeout)

    def prune(self, model: str, keep_newest: int, *, dry_run: bool = False) -> pb.PruneModelVersionsResponse:
        """Removes all old versions but those that are in use, or only says which would go; of these the first 1,000."""
        request = pb.PruneModelVersionsRequest(model=model, keep_newest=keep_newest, dry_run=dry_run)
        gone = pb.PruneModelVersionsResponse()
        while True:
            with rpc_errors():
                answer = self.registry.PruneModelVersions(request, timeout=self._timeout)
            gone.versions.extend(answer.versions)
            gone.size_bytes += answer.size_bytes
            gone.kept_count = answer.kept_count
            if dry_run or len(answer.versions) < MOST_PRUNED:
                return gone

    def download(
        self,
        model: str,
        version: int | str | None = None,
        *,
        format: pb.DownloadFormat.ValueType = pb.DOWNLOAD_FORMAT_SAFETENSORS,  # noqa: A002 - the contract's name for it
    ) -> tuple[pb.DownloadModelVersionHeader, bytes]:
        """A version as a file, and what the service says of it."""
        request = pb.DownloadModelVersionRequest(model=model, format=format)
        select(request, version)
        with rpc_errors():
            parts = self.registry.DownloadModelVersion(request, timeout=self._timeout)
            header = next(parts).header
            return header, b"".join(part.chunk for part in parts)

    def _promote(
        self, name: str, version_of: Callable[[model_pb2.Model], int], reason: str, actor: str | None
    ) -> model_pb2.Model:
        """The model after the version is live that `version_of` chooses by how the model stood before."""

        def change(before: model_pb2.Model) -> model_pb2.Model:
            request = pb.PromoteModelVersionRequest(
                model=name,
                version=version_of(before),
                etag=live_etag(before),
                actor=actor_or_me(actor),
                reason=reason,
            )
            return self.registry.PromoteModelVersion(request, timeout=self._timeout).model

        return self._change_live(
            name, change, lambda before, now: now.live_version == version_of(before) and not is_held(now)
        )

    def _change_live(
        self,
        name: str,
        change: Callable[[model_pb2.Model], model_pb2.Model],
        is_done: Callable[[model_pb2.Model, model_pb2.Model], bool],
    ) -> model_pb2.Model:
        """The model after `change`, which is told how it stood before and sends its etag.

        The channel sends a call again whose answer was lost. The etag is stale then, and the first one has done it.
        """
        before = self.model(name)
        try:
            with rpc_errors():
                return change(before)
        except RpcError as error:
            if error.code is not grpc.StatusCode.ABORTED:
                raise
            now = self.model(name)
            if is_done(before, now):
                return now
            raise


def live_etag(model: model_pb2.Model) -> str:
    """What the alias `live` has for an etag."""
    return next((alias.etag for alias in model.aliases if alias.alias == LIVE), NO_ALIAS)


def is_held(model: model_pb2.Model) -> bool:
    """Whether new versions wait for a promotion."""
    return model.HasField("hold")


def actor_or_me(actor: str | None) -> str:
    """Who asks, as the history takes it; user@host of this process if nobody is named."""
    if actor is not None:
        return actor
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:MAX_ACTOR]
