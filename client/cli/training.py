"""`weightcast train` and `weightcast jobs`: start training and see what became of it."""

import re
from typing import Annotated

import typer
from rich.markup import escape

from client.cli.options import (
    TRAINER,
    AsJson,
    Exit,
    JobId,
    TrainerAddress,
    console,
    list_table,
    message_dict,
    print_json,
    print_messages,
)
from client.cli.recipe_options import Recipe, with_recipe
from client.cli.spec_view import job_fields, print_fields
from client.cli.watching import epoch_table, state_name, watch
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

jobs = typer.Typer(help="Lists, shows, watches, cancels and reproduces training jobs.", no_args_is_help=True)

DIGEST_SHOWN = 12
NO_NAME = re.compile(r"[^a-z0-9]+")
MAX_NAME = 63


@with_recipe
def train(
    recipe: Recipe,
    model: Annotated[
        str | None, typer.Option(help="The model to publish to; the data set's name if not given.")
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="What to learn from: a name in `weightcast datasets list`, or openml:NAME.")
    ] = "mnist",
    request_id: Annotated[str, typer.Option(help="The same id again gives the same job.")] = "",
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Starts a training job; with --watch, follows it and exits 1 if it does not succeed."""
    spec = training_pb2.TrainingSpec(model=model_name(dataset) if model is None else model, dataset=dataset)
    recipe.write(spec)
    with TrainerClient(trainer) as client:
        job = client.create_job(spec, request_id)
        if not watching:
            if as_json:
                print_json(message_dict(job))
            else:
                console.print(f"job {job.id} is queued; follow it with: weightcast jobs watch {job.id}")
            return
        follow(client, job.id, as_json=as_json)


def model_name(dataset: str) -> str:
    """The model of a data set for which none is named: openml:Iris_2 gives iris-2."""
    return NO_NAME.sub("-", dataset.rpartition(":")[2].lower()).strip("-")[:MAX_NAME]


def follow(client: TrainerClient, job_id: str, *, as_json: bool) -> None:
    """Watches a job to its end; exits 1 if it did not succeed."""
    try:
        job = client.wait(job_id) if as_json else watch(client.watch(job_id), console)
    except KeyboardInterrupt:
        console.print(f"\nstopped watching; the job goes on: weightcast jobs watch {job_id}")
        raise typer.Exit(Exit.OK) from None
    if as_json:
        print_json(message_dict(job))
    elif job.state == training_pb2.TrainingJob.STATE_SUCCEEDED:
        console.print(result_text(job), highlight=False, soft_wrap=True)
    else:
        console.print(f"[red]{state_name(job)}[/] {escape(job.error_message)}", highlight=False)
    if job.state != training_pb2.TrainingJob.STATE_SUCCEEDED:
        raise typer.Exit(Exit.FAILED)


def result_text(job: training_pb2.TrainingJob) -> str:
    """What a job that succeeded has given."""
    if job.version:
        return f"published {job.spec.model} version {job.version}, digest {job.digest[:DIGEST_SHOWN]}"
    return f"trained and not published, as asked; weights SHA-256 {job.weights_digest}"


@jobs.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(help="The most jobs to show.", min=1, max=200)] = 20,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Lists the newest jobs."""
    with TrainerClient(trainer) as client:
        found = client.jobs(limit)
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
            f"{job.create_time.ToDatetime():%b %d, %H:%M}",
        )
    console.print(table)


@jobs.command("show")
def show_job(job_id: JobId, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Shows one job: its spec, its state and what each epoch measured."""
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
