"""What the commands share: where the services are, how results are printed, what exit codes mean."""

import json
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated

import grpc
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.table import Table

from client.errors import RpcError

TrainerAddress = Annotated[
    str,
    typer.Option("--trainer", envvar="WEIGHTCAST_TRAINER_ADDRESS", help="The trainer service.", metavar="HOST:PORT"),
]
InferenceAddress = Annotated[
    str,
    typer.Option(
        "--inference", envvar="WEIGHTCAST_INFERENCE_ADDRESS", help="The inference service.", metavar="HOST:PORT"
    ),
]
JobId = Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also in a terminal.")]
TRAINER = "127.0.0.1:50051"
INFERENCE = "127.0.0.1:50052"

console = Console()
errors = Console(stderr=True, soft_wrap=True)


class Exit(IntEnum):
    """What an exit code says."""

    OK = 0
    FAILED = 1  # the job failed, a check did not hold, or a service refused for its own reasons
    USAGE = 2  # the request itself was wrong
    UNAVAILABLE = 3  # a service or its store does not answer; try again
    NOT_FOUND = 4  # no such job, model, version, schedule or data set


EXIT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: Exit.USAGE,
    grpc.StatusCode.UNAVAILABLE: Exit.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Exit.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND: Exit.NOT_FOUND,
}

# What to type, where the service's words name what a program would call.
REMEDIES = {
    "ETAG_MISMATCH": "`weightcast models history MODEL` says what went live; do it again if you still want it.",
    "NO_PREVIOUS_VERSION": "`weightcast models promote MODEL VERSION` makes one live.",
    "NO_LIVE_VERSION": "`weightcast models promote MODEL VERSION` makes one live.",
    "NO_ROLLOUT": "`weightcast rollouts set MODEL VERSION --percent 10` begins one.",
    "VERSION_IN_USE": "`weightcast models promote`, `alias --remove`, `annotate --unpin` or `rollouts end` frees it.",
    "JOB_NOT_ENDED": "`weightcast jobs cancel JOB` ends it.",
    "JOB_NOT_FOUND": "`weightcast jobs list` lists them.",
    "SCHEDULE_EXISTS": "`weightcast schedules rm NAME` makes room; its jobs stay.",
    "SCHEDULE_NOT_FOUND": "`weightcast schedules list` lists them.",
    "MODEL_NOT_FOUND": "`weightcast models list` lists them.",
    "VERSION_NOT_FOUND": "`weightcast models versions MODEL` lists them.",
}


def list_table(*headings: str, whole: Sequence[str] = ()) -> Table:
    """An empty table for a list; the columns `whole` come first and are never cut: other commands ask for them."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in whole:
        table.add_column(heading, no_wrap=True, overflow="ignore")
    for heading in headings:
        table.add_column(heading)
    return table


def message_dict(message: Message) -> dict[str, object]:
    """A message with its fields named as in the contract."""
    fields: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return fields


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    console.print_json(json.dumps(value))


def print_messages(messages: Sequence[Message]) -> None:
    """Messages as a JSON array."""
    print_json([message_dict(message) for message in messages])


def moment_text(moment: Timestamp, *, seconds: bool = False) -> str:
    """A moment in UTC as tables show it."""
    return f"{moment.ToDatetime():{'%b %d, %H:%M:%S' if seconds else '%b %d, %H:%M'}}"


def announce(what: str, *, yes: bool) -> None:
    """Says what cannot be undone before it is done; whoever sits at a terminal is asked, unless he said yes."""
    errors.print(what, highlight=False, markup=False)
    if yes or not sys.stdin.isatty():
        return
    errors.print("go on? y or n: ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort


def report(error: RpcError) -> Exit:
    """Tells people what a service refused and what to do; the exit code that says the same to programs."""
    errors.print(f"[bold red]{error.code.name}[/] {error.reason}", highlight=False)
    lines = [f"{field}: {description}" for field, description in error.violations.items()] or [error.message]
    for line in lines:
        errors.print(f"  {line}", highlight=False, markup=False)  # what somebody typed may look like markup
    if remedy := REMEDIES.get(error.reason):
        errors.print(f"  {remedy}", highlight=False, markup=False)
    if error.code is grpc.StatusCode.UNAVAILABLE and not error.reason:
        errors.print("  Is the service running? `weightcast up` starts everything here; `weightcast doctor` checks.")
    return EXIT_CODES.get(error.code, Exit.FAILED)
