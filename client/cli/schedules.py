"""`weightcast schedules`: jobs that are created again and again, every so often or at the times of a cron line."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.markup import escape

from client.cli.durations import DurationError, duration_of, duration_text
from client.cli.options import (
    TRAINER,
    AsJson,
    TrainerAddress,
    console,
    list_table,
    message_dict,
    moment_text,
    print_json,
    print_messages,
)
from client.cli.recipe_options import Recipe, with_recipe
from client.cli.spec_view import given_fields, print_fields
from client.cli.training import TrainedModel, TrainedOn, spec_asked_for
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1.trainer_service_pb2 import TrainingSchedule

schedules = typer.Typer(help="Creates, lists, shows, pauses and removes schedules of jobs.", no_args_is_help=True)
ScheduleName = Annotated[str, typer.Argument(help="The schedule's name.", metavar="NAME")]


@schedules.command("create")
@with_recipe
def create_schedule(
    recipe: Recipe,
    name: ScheduleName,
    every: Annotated[
        str | None, typer.Option(help="So long after the time before: 90m, 6h or 1d.", metavar="DURATION")
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(help='At these times, in UTC: "0 3 * * *" is every day at three.', metavar="CRON LINE"),
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    model: TrainedModel = None,
    dataset: TrainedOn = "mnist",
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Creates a schedule: a job by these options each time it is due and the one before has ended."""
    distance = timing_of(every, cron)
    spec = spec_asked_for(recipe, model, dataset)
    with TrainerClient(trainer) as client:
        created = client.create_schedule(name, spec, every=distance, cron=cron or "", paused=paused)
    show(created, as_json=as_json)


def timing_of(every: str | None, cron: str | None) -> timedelta | None:
    """The distance that `every` says, None where `cron` is given; wrong usage unless it is exactly one of them."""
    if (every is None) == (cron is None):
        raise typer.BadParameter('give either --every, such as 6h, or --cron, such as "0 3 * * *"')
    try:
        return None if every is None else duration_of(every)
    except DurationError as error:
        raise typer.BadParameter(str(error), param_hint="--every") from None


@schedules.command("list")
def list_schedules(as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Lists every schedule."""
    with TrainerClient(trainer) as client:
        found = client.schedules()
    if as_json:
        print_messages(found)
        return
    table = list_table("when, UTC", "model", "data set", "next, UTC", "last job", whole=("name",))
    for schedule in found:
        failed = " [red]failed[/]" if schedule.error_message else ""
        table.add_row(
            schedule.name,
            escape(timing_text(schedule)),
            schedule.spec.model,
            escape(schedule.spec.dataset),
            next_text(schedule),
            schedule.last_job_id + failed,
        )
    console.print(table)


@schedules.command("show")
def show_schedule(name: ScheduleName, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Shows one schedule: when it is due, what its jobs train, and what became of the last time."""
    with TrainerClient(trainer) as client:
        found = client.schedule(name)
    show(found, as_json=as_json)


@schedules.command("pause")
def pause_schedule(name: ScheduleName, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Pauses a schedule; a job under way goes on."""
    with TrainerClient(trainer) as client:
        changed = client.pause_schedule(name)
    tell(changed, as_json=as_json)


@schedules.command("resume")
def resume_schedule(name: ScheduleName, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Lets a paused schedule go on; it makes up for nothing that it missed."""
    with TrainerClient(trainer) as client:
        changed = client.pause_schedule(name, paused=False)
    tell(changed, as_json=as_json)


@schedules.command("rm")
def remove_schedule(name: ScheduleName, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Removes a schedule; its jobs stay."""
    with TrainerClient(trainer) as client:
        client.delete_schedule(name)
    if as_json:
        print_json({"removed": name})
    else:
        console.print(f"removed {name}; its jobs stay", highlight=False, markup=False)


def timing_text(schedule: TrainingSchedule) -> str:
    """Every 6h, or the cron line."""
    if schedule.WhichOneof("timing") == "every":
        return f"every {duration_text(schedule.every.ToTimedelta())}"
    return schedule.cron


def next_text(schedule: TrainingSchedule) -> str:
    """When it is due next."""
    return "paused" if schedule.paused else moment_text(schedule.next_time)


def tell(schedule: TrainingSchedule, *, as_json: bool) -> None:
    """Says in a line how a schedule stands now."""
    if as_json:
        print_json(message_dict(schedule))
    elif schedule.paused:
        console.print(f"{schedule.name} is paused; go on with: weightcast schedules resume {schedule.name}")
    else:
        console.print(f"{schedule.name} is due next at {next_text(schedule)} UTC", highlight=False)


def show(schedule: TrainingSchedule, *, as_json: bool) -> None:
    """Prints all of a schedule."""
    if as_json:
        print_json(message_dict(schedule))
        return
    console.print(f"schedule {schedule.name}, {timing_text(schedule)}", highlight=False, markup=False)
    last_time = moment_text(schedule.last_time, seconds=True) if schedule.HasField("last_time") else ""
    skipped = schedule.skipped_count
    print_fields(
        console,
        {
            "next, UTC": next_text(schedule),
            "last, UTC": last_time,
            "last job": schedule.last_job_id,
            "skipped": f"{skipped:,} times, as the job before had not ended" if skipped else "",
            "failed": schedule.error_message,
        },
    )
    console.print("each job", highlight=False)
    print_fields(console, given_fields(schedule.spec))
