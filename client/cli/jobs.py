"""`weightcast jobs`: what became of training jobs, and those that are over removed."""

from enum import StrEnum
from typing import Annotated

import typer

from client.cli.options import (
    TRAINER,
    AsJson,
    JobId,
    TrainerAddress,
    console,
    list_table,
    message_dict,
    moment_text,
    print_json,
    print_messages,
    report,
)
from client.cli.outcome_view import attempts_table, verdict_text
from client.cli.spec_view import job_fields, print_fields
from client.cli.training import follow, train
from client.cli.watching import epoch_table, state_name
from client.errors import RpcError
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

jobs = typer.Typer(
    help="Creates, lists, shows, watches, cancels, removes and reproduces training jobs.", no_args_is_help=True
)
JobIds = Annotated[list[str], typer.Argument(help="The jobs' ids.", metavar="JOB…")]


class StateName(StrEnum):
    """A job's state as it is typed."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


jobs.command("create")(train)


@jobs.command("list")
def list_jobs(
    model: Annotated[str, typer.Option(help="Only jobs of this model.")] = "",
    state: Annotated[
        list[StateName] | None, typer.Option(help="Only jobs in this state; may be given more than once.")
    ] = None,
    limit: Annotated[int, typer.Option(help="The most jobs to show.", min=1)] = 20,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Lists the newest jobs."""
    states = [training_pb2.TrainingJob.State.Value(f"STATE_{name.name}") for name in state or ()]
    with TrainerClient(trainer) as client:
        found = client.jobs(limit, model=model, states=states)
    if as_json:
        print_messages(found)
        return
    table = list_table("model", "data set", "epochs", "accuracy", "created, UTC", whole=("job", "state"))
    for job in found:
        table.add_row(
            job.id,
            state_name(job),
            f"{job.spec.model} {job.version or ''}",
            job.spec.dataset,
            f"{len(job.epochs)}/{job.spec.epochs}",
            f"{job.epochs[-1].test_accuracy:.2%}" if job.epochs else "",
            moment_text(job.create_time),
        )
    console.print(table)


@jobs.command("show")
def show_job(job_id: JobId, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Shows one job: its spec, its state, its runs, what each epoch measured, and whether its version went live."""
    with TrainerClient(trainer) as client:
        job = client.job(job_id)
    if as_json:
        print_json(message_dict(job))
        return
    console.print(f"job {job.id} {state_name(job)} {job.error_message}", highlight=False, markup=False)
    print_fields(console, job_fields(job))
    if job.version:
        console.print(
            f"published {job.spec.model} version {job.version}, digest {job.digest}", highlight=False, soft_wrap=True
        )
    if verdict := verdict_text(job.promotion):
        console.print(verdict, highlight=False, markup=False)
    if job.attempts:
        console.print(attempts_table(job.attempts))
    console.print(epoch_table(job.epochs))


@jobs.command("watch")
def watch_job(job_id: JobId, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Follows a job from its beginning to its end; exits 1 if it does not succeed."""
    with TrainerClient(trainer) as client:
        follow(client, job_id, as_json=as_json)


@jobs.command("cancel")
def cancel_job(job_id: JobId, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Asks a job to stop."""
    with TrainerClient(trainer) as client:
        job = client.cancel(job_id)
    if as_json:
        print_json(message_dict(job))
    else:
        stopping = job.state == training_pb2.TrainingJob.STATE_RUNNING
        console.print(f"job {job.id} {'stops at its next minibatch' if stopping else state_name(job)}")


@jobs.command("rm")
def remove_jobs(job_ids: JobIds, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Removes jobs that have ended, with their history; the versions they published stay."""
    removed: list[str] = []
    refused = None
    with TrainerClient(trainer) as client:
        for job_id in job_ids:
            try:
                client.delete_job(job_id)
            except RpcError as error:  # one that cannot go does not keep the others
                refused = report(error)
            else:
                removed.append(job_id)
    if as_json:
        print_json({"removed": removed})
    elif removed:
        console.print(f"removed {', '.join(removed)}", highlight=False, markup=False)
    if refused:
        raise typer.Exit(refused)
