"""A client's calls for rollouts, which try a version before it goes live. `TrainerClient` is one of these."""

import grpc

from client.errors import RpcError, rpc_errors
from client.registry_client import RegistryClient, actor_or_me
from shared.pb.weightcast.v1 import model_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb


class RolloutClient(RegistryClient):
    """The part of a trainer's client that is about rollouts: `model(…).rollout` is how one stands.

    With the `etag` last read for the rollout, or "0" if there was none, a change is ABORTED when somebody else has
    changed it since.
    """

    def set_rollout(
        self,
        model: str,
        version: int,
        percent: float,
        *,
        shadow: bool = False,
        reason: str = "",
        actor: str | None = None,
        etag: str = "",
    ) -> model_pb2.Model:
        """Tries a version on a share of the requests, or changes the share or the mode; the model after that.

        The version answers these requests; with `shadow` it only computes them for comparison.
        """
        request = pb.SetModelRolloutRequest(
            model=model,
            version=version,
            mode=model_pb2.ModelRollout.MODE_SHADOW if shadow else model_pb2.ModelRollout.MODE_CANARY,
            percent=percent,
            etag=etag,
            actor=actor_or_me(actor),
            reason=reason,
        )
        with rpc_errors():
            return self.registry.SetModelRollout(request, timeout=self._timeout).model

    def end_rollout(self, model: str, *, etag: str = "") -> model_pb2.Model:
        """Ends a rollout, so that the live version answers everything again; the model after that."""
        request = pb.EndModelRolloutRequest(model=model, etag=etag)
        with rpc_errors():
            return self.registry.EndModelRollout(request, timeout=self._timeout).model

    def promote_rollout(self, model: str, *, reason: str = "", actor: str | None = None) -> model_pb2.Model:
        """Makes the version live that is tried, which ends its rollout, and lifts a hold; the model after that.

        Raises:
            RpcError: FAILED_PRECONDITION, if none is tried; ABORTED, if something else went live meanwhile.
        """
        return self._promote(model, tried_version, reason, actor)


def tried_version(model: model_pb2.Model) -> int:
    """The version that a model's rollout tries.

    Raises:
        RpcError: FAILED_PRECONDITION, if there is no rollout.
    """
    if not model.HasField("rollout"):
        raise RpcError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"model {model.name!r} has no rollout to promote; SetModelRollout begins one",
            "NO_ROLLOUT",
        )
    return model.rollout.version
