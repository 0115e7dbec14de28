"""`weightcast models annotate`, `rm` and `gc`: what is written about versions, and which of them are kept."""

from collections.abc import Sequence
from typing import Annotated

import typer

from client.cli.dataset_view import size_text
from client.cli.models import ModelName, VersionName, labels_of, number_of
from client.cli.options import (
    TRAINER,
    AsJson,
    TrainerAddress,
    Yes,
    announce,
    console,
    message_dict,
    print_json,
    report,
)
from client.cli.spec_view import print_fields
from client.cli.version_view import annotation_fields
from client.errors import RpcError
from client.registry_client import MOST_PRUNED
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1.model_registry_service_pb2 import PruneModelVersionsResponse

FOR_GOOD = "for good, weights and all that is known of them"


def annotate(
    model: ModelName,
    version: VersionName,
    notes: Annotated[str | None, typer.Option(help="Notes instead of those there are.", metavar="TEXT")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A label to set; may be given more than once.", metavar="NAME=VALUE")
    ] = None,
    remove_label: Annotated[
        list[str] | None, typer.Option(help="A label to remove; may be given more than once.", metavar="NAME")
    ] = None,
    pin: Annotated[
        bool | None, typer.Option("--pin/--unpin", help="Keep the version whatever its age, or no longer.")
    ] = None,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Writes notes and labels about a version, or pins it."""
    if notes is None and pin is None and not label and not remove_label:
        raise typer.BadParameter("give at least one of --notes, --label, --remove-label, --pin and --unpin")
    if unnamed := [text for text in label or () if "=" not in text]:
        raise typer.BadParameter(f"got {unnamed[0]!r}, expected NAME=VALUE", param_hint="--label")
    with TrainerClient(trainer) as client:
        number = number_of(client, model, version)
        labels = None
        if label or remove_label:
            labels = {**client.version(model, number).labels, **labels_of(label or [])}
            labels = {name: value for name, value in labels.items() if name not in (remove_label or ())}
        changed = client.update_version(model, number, notes=notes, labels=labels, pinned=pin)
    if as_json:
        print_json(message_dict(changed))
        return
    console.print(f"{changed.model} version {changed.version}", highlight=False)
    print_fields(console, annotation_fields(changed))


def remove_versions(
    model: ModelName,
    versions: Annotated[list[int], typer.Argument(help="The versions' numbers.", metavar="VERSION…", min=1)],
    yes: Yes = False,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Removes versions for good; not one that is live, is tried, has an alias of your own, or is pinned."""
    announce(f"removing {counted(versions)} of {model} {FOR_GOOD}", yes=yes)
    removed: list[int] = []
    refused = None
    with TrainerClient(trainer) as client:
        for version in dict.fromkeys(versions):
            try:
                client.delete_version(model, version)
            except RpcError as error:  # one that cannot go does not keep the others
                refused = report(error)
            else:
                removed.append(version)
    if as_json:
        print_json({"model": model, "removed": removed})
    elif removed:
        console.print(f"removed {counted(removed)} of {model}", highlight=False)
    if refused:
        raise typer.Exit(refused)


def gc(
    model: ModelName,
    keep: Annotated[int, typer.Option(help="How many of the newest versions to keep.", min=1)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which versions would go.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Removes old versions for good; the newest stay, and what is or was live, is tried, has an alias or is pinned."""
    with TrainerClient(trainer) as client:
        found = client.prune(model, keep, dry_run=True)
        if found.versions and not dry_run:
            more = ", and more after these" if len(found.versions) >= MOST_PRUNED else ""
            announce(f"removing {counted(found.versions)}{more} of {model} {FOR_GOOD}", yes=yes)
            found = client.prune(model, keep)
    if as_json:
        print_json(message_dict(found))
    else:
        console.print(pruned_text(model, found, dry_run=dry_run), highlight=False, soft_wrap=True)


def pruned_text(model: str, pruned: PruneModelVersionsResponse, *, dry_run: bool) -> str:
    """What went, or would go."""
    if not pruned.versions:
        return f"{model} has no version to remove; {pruned.kept_count:,} are kept"
    went, kept = ("would remove", "would be kept") if dry_run else ("removed", "are kept")
    return f"{went} {counted(pruned.versions)} of {model}, {size_text(pruned.size_bytes)}; {pruned.kept_count:,} {kept}"


def counted(versions: Sequence[int]) -> str:
    """How many versions, and which."""
    return f"version {versions[0]}" if len(versions) == 1 else f"{len(versions):,} versions ({ranges_text(versions)})"


def ranges_text(numbers: Sequence[int]) -> str:
    """1–3, 5: numbers with those that follow each other drawn together."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
