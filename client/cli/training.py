"""`weightcast train`, which is `weightcast jobs create` too: starts training, and with --watch follows it."""

import re
from typing import Annotated

import typer
from rich.markup import escape

from client.cli.options import TRAINER, AsJson, Exit, TrainerAddress, console, message_dict, print_json
from client.cli.outcome_view import verdict_text
from client.cli.recipe_options import Recipe, with_recipe
from client.cli.watching import state_name, watch
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

DIGEST_SHOWN = 12
NO_NAME = re.compile(r"[^a-z0-9]+")
MAX_NAME = 63
TrainedModel = Annotated[str | None, typer.Option(help="The model to publish to; the data set's name if not given.")]
TrainedOn = Annotated[
    str, typer.Option(help="What to learn from: a name in `weightcast datasets list`, or openml:NAME.")
]


@with_recipe
def train(
    recipe: Recipe,
    model: TrainedModel = None,
    dataset: TrainedOn = "mnist",
    request_id: Annotated[str, typer.Option(help="The same id again gives the same job.")] = "",
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Starts a training job; with --watch, follows it and exits 1 if it does not succeed."""
    with TrainerClient(trainer) as client:
        job = client.create_job(spec_asked_for(recipe, model, dataset), request_id)
        if not watching:
            if as_json:
                print_json(message_dict(job))
            else:
                console.print(f"job {job.id} is queued; follow it with: weightcast jobs watch {job.id}")
            return
        follow(client, job.id, as_json=as_json)


def spec_asked_for(recipe: Recipe, model: str | None, dataset: str) -> training_pb2.TrainingSpec:
    """The spec that the options say; what they leave out stays unset.

    Raises:
        typer.BadParameter: if an option cannot be read, or belongs to another that was not given.
    """
    spec = training_pb2.TrainingSpec(model=model_name(dataset) if model is None else model, dataset=dataset)
    recipe.write(spec)
    return spec


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
        published = f"published {job.spec.model} version {job.version}, digest {job.digest[:DIGEST_SHOWN]}"
        verdict = verdict_text(job.promotion)
        return f"{published}; {verdict}" if verdict else published
    return f"trained and not published, as asked; weights SHA-256 {job.weights_digest}"
