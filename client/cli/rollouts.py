"""`weightcast rollouts`: a version that is tried on a share of the requests before it goes live."""

from typing import Annotated

import grpc
import typer

from client.cli.models import ModelName, VersionName, number_of
from client.cli.options import (
    INFERENCE,
    TRAINER,
    AsJson,
    InferenceAddress,
    TrainerAddress,
    console,
    message_dict,
    print_json,
)
from client.cli.rollout_view import answering_text, rollout_text, show_rollout, tell
from client.errors import RpcError
from client.inference_client import InferenceClient
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1.inference_service_pb2 import ModelStatus

rollouts = typer.Typer(
    help="Tries a version on a share of the requests, shows how it does, and ends that or makes the version live.",
    no_args_is_help=True,
)
TIMEOUT_SECONDS = 5.0
SILENCE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
Reason = Annotated[str, typer.Option(help="Why.", metavar="TEXT")]


@rollouts.command("set")
def set_rollout(
    model: ModelName,
    version: VersionName,
    percent: Annotated[float, typer.Option(help="The share of the requests, up to 100.", metavar="PERCENT")],
    shadow: Annotated[
        bool, typer.Option("--shadow", help="The live version answers the share too; the other is only compared.")
    ] = False,
    reason: Reason = "",
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Tries a version on a share of the requests, or changes the share or who answers it."""
    with TrainerClient(trainer) as client:
        number = number_of(client, model, version)
        changed = client.set_rollout(model, number, percent, shadow=shadow, reason=reason)
    if as_json:
        print_json(message_dict(changed))
    else:
        tell(console, f"{model}: {rollout_text(changed.rollout)}; how it does: weightcast rollouts show {model}")


@rollouts.command("show")
def show(
    model: ModelName,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
    inference: InferenceAddress = INFERENCE,
) -> None:
    """Shows what is tried, and the live version beside it: requests, rows, times, and how often both agree."""
    with TrainerClient(trainer) as client:
        found = client.model(model)
    status, error = status_of(inference, model)
    if as_json:
        served = message_dict(status.rollout) if status and status.HasField("rollout") else None
        print_json({"model": message_dict(found), "served": served, "error": error})
        return
    show_rollout(console, found, status)
    if error:
        tell(console, error, style="yellow")


@rollouts.command("end")
def end_rollout(model: ModelName, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Ends a rollout: the live version answers everything again, and the other one stays as it is."""
    with TrainerClient(trainer) as client:
        changed = client.end_rollout(model)
    if as_json:
        print_json(message_dict(changed))
    else:
        tell(console, f"the rollout of {model} has ended; {answering_text(changed)}")


@rollouts.command("promote")
def promote_rollout(
    model: ModelName, reason: Reason = "", as_json: AsJson = False, trainer: TrainerAddress = TRAINER
) -> None:
    """Makes the version live that is tried, which ends its rollout, and lifts a hold."""
    with TrainerClient(trainer) as client:
        changed = client.promote_rollout(model, reason=reason)
    if as_json:
        print_json(message_dict(changed))
        return
    back = f"; back to version {changed.previous_version}: weightcast models rollback {model}"
    tell(console, f"{model} version {changed.live_version} is live{back if changed.previous_version else ''}")


def status_of(inference: str, model: str) -> tuple[ModelStatus | None, str]:
    """What the inference service serves for a model, or why it does not say so."""
    try:
        with InferenceClient(inference, timeout=TIMEOUT_SECONDS, retry=False) as client:
            return client.status(model), ""
    except RpcError as error:
        if error.code in SILENCE:
            return None, f"the inference service at {inference} gives no answer ({error.code.name})"
        return None, f"the inference service at {inference} says: {error.message}"
