"""`weightcast datasets`: what a job can learn from, and people's own data sets added and removed."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from client.cli.dataset_view import contents_text, show_described, show_samples, source_name
from client.cli.options import (
    TRAINER,
    AsJson,
    TrainerAddress,
    console,
    errors,
    list_table,
    message_dict,
    print_json,
    print_messages,
)
from client.dataset_client import FORMATS, format_of
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import dataset_pb2

datasets = typer.Typer(help="Lists, shows, adds and removes data sets.", no_args_is_help=True)

DOWNLOAD_SECONDS = 600.0
SAMPLES_READ = 200
DatasetName = Annotated[str, typer.Argument(help="The data set's name.", metavar="NAME")]


@datasets.command("list")
def list_datasets(as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Lists every data set a job can name; openml:NAME works besides."""
    with TrainerClient(trainer) as client:
        found = client.datasets()
    if as_json:
        print_messages(found)
        return
    table = list_table("source", "holds", "description", whole=("name",))
    for dataset in found:
        table.add_row(dataset.name, source_name(dataset), contents_text(dataset), escape(dataset.description))
    console.print(table)


@datasets.command("show")
def show_dataset(name: DatasetName, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Describes a data set: shapes, ranges, classes, columns, and a few samples."""
    with TrainerClient(trainer) as client:
        with errors.status(f"loading {escape(name)}; what is not there yet is downloaded"):
            dataset = client.dataset(name, timeout=DOWNLOAD_SECONDS)
        if as_json:
            print_json(message_dict(dataset))
            return
        examples, class_ids = client.examples(name, SAMPLES_READ, dataset_pb2.DATASET_SPLIT_TRAIN)
    show_described(console, dataset)
    show_samples(console, dataset, examples, class_ids)


@datasets.command("add")
def add_dataset(
    name: DatasetName,
    file: Annotated[
        Path,
        typer.Argument(help=".npz, .csv, or .zip of class folders.", metavar="FILE", exists=True, dir_okay=False),
    ],
    label_column: Annotated[str, typer.Option(help="The CSV column that holds the label.")] = "",
    description: Annotated[str, typer.Option(help="One sentence on what it holds.")] = "",
    file_format: Annotated[
        Literal["npz", "csv", "zip"] | None, typer.Option("--format", help="The kind of file; else told by its suffix.")
    ] = None,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Uploads a data set of your own; the same again is no error, other data under a taken name is one."""
    try:
        kind = FORMATS[f".{file_format}"] if file_format else format_of(file)
    except ValueError:
        raise typer.BadParameter(
            f"got {file.name!r}, whose suffix is not .npz, .csv or .zip; say the kind with --format", param_hint="FILE"
        ) from None
    with TrainerClient(trainer) as client, upload_progress() as progress:
        task = progress.add_task("sending", total=file.stat().st_size)
        dataset = client.upload_dataset(
            file,
            name,
            format=kind,
            label_column=label_column,
            description=description,
            sent=lambda count: progress.advance(task, count),
        )
    if as_json:
        print_json(message_dict(dataset))
        return
    show_described(console, dataset)
    console.print(f"train on it with: weightcast train --dataset {dataset.name} --watch", highlight=False)


def upload_progress() -> Progress:
    """A bar on standard error, where that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


@datasets.command("rm")
def remove_dataset(name: DatasetName, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Removes an uploaded data set; versions trained on it stay."""
    with TrainerClient(trainer) as client:
        client.delete_dataset(name)
    if as_json:
        print_json({"removed": name})
    else:
        console.print(f"removed {name}", highlight=False, markup=False)
