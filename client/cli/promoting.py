"""`weightcast models promote`, `rollback`, `hold`, `history` and `alias`: what is live, and what points where."""

from typing import Annotated

import typer

from client.cli.models import ModelName, VersionName, number_of
from client.cli.options import TRAINER, AsJson, TrainerAddress, console, message_dict, print_json, print_messages
from client.cli.outcome_view import changes_table
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1.model_pb2 import Model

Reason = Annotated[str, typer.Option(help="Why, for the history.", metavar="TEXT")]
AliasName = Annotated[str, typer.Argument(help="The alias.", metavar="NAME")]


def promote(
    model: ModelName,
    version: VersionName,
    reason: Reason = "",
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Makes a version live, whatever was decided when it was published, and lifts a hold."""
    with TrainerClient(trainer) as client:
        changed = client.promote(model, number_of(client, model, version), reason=reason)
    if as_json:
        print_json(message_dict(changed))
        return
    back = f"; back to version {changed.previous_version}: weightcast models rollback {changed.name}"
    tell(f"{changed.name} version {changed.live_version} is live{back if changed.previous_version else ''}")


def rollback(model: ModelName, reason: Reason = "", as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Makes the version live again that was live before, and holds the model, so that the next job does not undo it."""
    with TrainerClient(trainer) as client:
        changed = client.rollback(model, reason=reason)
    if as_json:
        print_json(message_dict(changed))
    else:
        tell(f"{changed.name} version {changed.live_version} is live again; {held_text(changed)}")


def hold(
    model: ModelName,
    reason: Reason = "",
    off: Annotated[bool, typer.Option("--off", help="Lift the hold.")] = False,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Keeps a model's new versions from going live until one is promoted or the hold is lifted."""
    with TrainerClient(trainer) as client:
        changed = client.set_hold(model, held=not off, reason=reason)
    if as_json:
        print_json(message_dict(changed))
    else:
        tell(
            f"{changed.name} is not on hold; new versions go live by their jobs' policies"
            if off
            else f"{changed.name} version {changed.live_version or 'none'} stays live; {held_text(changed)}"
        )


def history(
    model: ModelName,
    limit: Annotated[int, typer.Option(help="The most changes to show.", min=1)] = 20,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Lists what was live when, newest first: by a job, a promotion or a rollback, by whom and why."""
    with TrainerClient(trainer) as client:
        found = client.live_changes(model, limit)
    if as_json:
        print_messages(found)
    else:
        console.print(changes_table(found))


def alias(
    model: ModelName,
    name: AliasName,
    version: Annotated[
        str | None, typer.Argument(help="The version it shall point to, by its number or another alias.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Points an alias of your own to a version, or removes it."""
    if remove == (version is not None):
        raise typer.BadParameter("give either VERSION or --remove")
    with TrainerClient(trainer) as client:
        number = 0 if version is None else number_of(client, model, version)
        etag = client.set_alias(model, name, number)
    if as_json:
        print_json({"model": model, "alias": name, "version": number, "etag": etag})
    elif remove:
        tell(f"removed alias {name} of {model}; the version stays")
    else:
        tell(f"{model} {name} is version {number}")


def held_text(model: Model) -> str:
    """How a hold is ended."""
    return f"on hold, so new versions wait; go on with: weightcast models hold {model.name} --off"


def tell(text: str) -> None:
    """Prints a line as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
