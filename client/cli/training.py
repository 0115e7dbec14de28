"""`weightcast train` and `weightcast jobs`: start training and see what became of it."""

from typing import Annotated, Literal

import typer
from rich.markup import escape

from client.cli.options import (
    TRAINER,
    AsJson,
    Exit,
    TrainerAddress,
    console,
    list_table,
    message_dict,
    print_json,
    print_messages,
)
from client.cli.watching import epoch_table, state_name, watch
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

jobs = typer.Typer(help="Lists, shows, watches and cancels training jobs.", no_args_is_help=True)

OPTIMIZERS = {"sgd": training_pb2.OPTIMIZER_SGD, "adam": training_pb2.OPTIMIZER_ADAM}
JobId = Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")]


def train(
    model: Annotated[
        str | None, typer.Option(help="The model to publish to; the data set's name if not given.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="The data set to learn from: mnist or digits.")] = "mnist",
    hidden: Annotated[
        str | None, typer.Option(help="Units of each hidden layer, e.g. 512,256; none means softmax regression.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per update.")] = None,
    optimizer: Annotated[Literal["sgd", "adam"], typer.Option(help="How gradients change the weights.")] = "adam",
    learning_rate: Annotated[float | None, typer.Option(help="The optimizer's step size.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same weights.")] = None,
    request_id: Annotated[str, typer.Option(help="The same id again gives the same job.")] = "",
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Starts a training job; with --watch, follows it and exits 1 if it does not succeed."""
    spec = training_pb2.TrainingSpec(
        model=dataset if model is None else model, dataset=dataset, optimizer=OPTIMIZERS[optimizer]
    )
    if hidden is not None:
        spec.network.CopyFrom(network_of(hidden))
    numbers = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    for name, value in numbers.items():
        if value is not None:
            set_number(spec, name, value)
    with TrainerClient(trainer) as client:
        job = client.create_job(spec, request_id)
        if not watching:
            if as_json:
                print_json(message_dict(job))
            else:
                console.print(f"job {job.id} is queued; follow it with: weightcast jobs watch {job.id}")
            return
        follow(client, job.id, as_json=as_json)


def set_number(spec: training_pb2.TrainingSpec, name: str, value: float) -> None:
    """Sets a field of the spec; what the message cannot hold is wrong usage, what it can is the service's to judge."""
    try:
        setattr(spec, name, value)
    except ValueError:
        raise typer.BadParameter(f"got {value}, which is too large", param_hint=f"--{name.replace('_', '-')}") from None


def network_of(text: str) -> training_pb2.DenseNetwork:
    """512,256 as a network; none as one without hidden layers."""
    try:
        sizes = [] if text == "none" else [int(units) for units in text.split(",")]
        return training_pb2.DenseNetwork(hidden_layer_sizes=sizes)
    except ValueError:
        raise typer.BadParameter(
            f"got {text!r}, expected numbers such as 512,256, or none", param_hint="--hidden"
        ) from None


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
        console.print(f"published {job.spec.model} version {job.version}, digest {job.digest[:12]}")
    else:
        console.print(f"[red]{state_name(job)}[/] {escape(job.error_message)}", highlight=False)
    if job.state != training_pb2.TrainingJob.STATE_SUCCEEDED:
        raise typer.Exit(Exit.FAILED)


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
    console.print(str(job.spec).strip(), markup=False)
    if job.version:
        console.print(f"published {job.spec.model} version {job.version}, digest {job.digest}")
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
