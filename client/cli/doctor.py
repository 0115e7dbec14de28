"""`weightcast doctor`: is everything reachable, does the store answer, and what is live."""

from dataclasses import dataclass

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.table import Table

from client.channel import open_channel
from client.cli.options import INFERENCE, TRAINER, AsJson, Exit, InferenceAddress, TrainerAddress, console, print_json
from client.errors import RpcError
from client.inference_client import InferenceClient
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import inference_service_pb2

READY = inference_service_pb2.ModelStatus.STATE_READY
TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str


def doctor(as_json: AsJson = False, trainer: TrainerAddress = TRAINER, inference: InferenceAddress = INFERENCE) -> None:
    """Checks that everything is reachable and tells what is live; exits 1 if something is not right."""
    checks = [
        health("trainer runs", trainer, "liveness", "start it: weightcast up, or python -m trainer_service"),
        health("trainer reaches Redis", trainer, "", "see that Redis runs, and the trainer's WEIGHTCAST_REDIS_URL"),
        health("inference runs", inference, "liveness", "start it: weightcast up, or python -m inference_service"),
        health("inference has a model", inference, "", "train one: weightcast train --watch"),
        *served_models(trainer, inference),
    ]
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        table = Table()
        for heading in ("", "check", "found"):
            table.add_column(heading)
        for check in checks:
            table.add_row("[green]✓[/]" if check.ok else "[red]✗[/]", check.name, check.found)
        console.print(table)
    if not all(check.ok for check in checks):
        raise typer.Exit(Exit.FAILED)


def health(name: str, address: str, service: str, remedy: str) -> Check:
    """A health check by name, and what to do if it does not say SERVING."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        with open_channel(address, retry=False) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_SECONDS)  # type: ignore[attr-defined]
    except grpc.RpcError as error:
        return Check(name, ok=False, found=f"{address} gives no answer ({error.code().name}); {remedy}")
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    ok = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Check(name, ok=ok, found=f"{address} says {status}" + ("" if ok else f"; {remedy}"))


def served_models(trainer: str, inference: str) -> list[Check]:
    """For each model, whether what is served is what is live in the store."""
    try:
        with TrainerClient(trainer, timeout=TIMEOUT_SECONDS) as client:
            live = {model.name: model.live_version for model in client.models()}
        with InferenceClient(inference, timeout=TIMEOUT_SECONDS, retry=False) as client:
            statuses = {status.model: status for status in client.served_models()}
    except RpcError:
        return []  # the checks above have said so
    checks = []
    for name, version in live.items():
        status = statuses.get(name)
        if status is None or status.state != READY:
            why = status.failure.message if status else "not known to it yet"
            checks.append(Check(f"model {name}", ok=False, found=f"live is version {version}; not served: {why}"))
            continue
        found = f"version {status.live.version} is served, {version} is live; digest {status.live.digest[:12]}"
        if status.failure.reason:
            found += f"; version {status.failure.version} refused: {status.failure.reason}"
        checks.append(Check(f"model {name}", ok=status.live.version == version, found=found))
    return checks
