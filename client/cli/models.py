"""`weightcast models`: what was published, what is live, what was learned, and a version as a file."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import typer

from client.cli.first_layer import weight_images
from client.cli.learning import IMAGES_READ, show_learning
from client.cli.learning_plot import PlotError, save_plot
from client.cli.options import (
    TRAINER,
    AsJson,
    Exit,
    TrainerAddress,
    console,
    errors,
    message_dict,
    print_json,
    print_messages,
)
from client.cli.version_view import models_table, show_origin, versions_table
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb

models = typer.Typer(
    help="Lists models and their versions, makes versions live, compares, keeps, removes and downloads them.",
    no_args_is_help=True,
)
LARGEST_VERSION = 2**63 - 1
FORMATS = {"safetensors": pb.DOWNLOAD_FORMAT_SAFETENSORS, "onnx": pb.DOWNLOAD_FORMAT_ONNX}
ModelName = Annotated[str, typer.Argument(help="The model's name.", metavar="MODEL")]
VersionName = Annotated[str, typer.Argument(help="A version's number, or an alias.", metavar="VERSION")]
Selector = Annotated[
    str, typer.Option("--version", help="A version's number, or an alias such as live or latest.", metavar="VERSION")
]


def selector(text: str) -> int | str:
    """A number as a number; an alias, or a number that no version can have, as it is."""
    return int(text) if text.isascii() and text.isdigit() and int(text) <= LARGEST_VERSION else text


def number_of(client: TrainerClient, model: str, text: str) -> int:
    """The number of a version that is named by it or by an alias."""
    version = selector(text)
    return version if isinstance(version, int) else client.version(model, version).version


def labels_of(texts: list[str]) -> dict[str, str]:
    """Labels as they are typed, NAME=VALUE each, or NAME alone."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


@models.command("list")
def list_models(as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Lists every model, and which of them are on hold."""
    with TrainerClient(trainer) as client:
        found = client.models()
    if as_json:
        print_messages(found)
    else:
        console.print(models_table(found))


@models.command("versions")
def list_versions(
    model: ModelName,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Only versions with this label; may be given more than once.", metavar="NAME[=VALUE]"),
    ] = None,
    dataset: Annotated[str, typer.Option(help="Only versions that learned from this data set.")] = "",
    job: Annotated[str, typer.Option(help="Only the version that this job published.")] = "",
    pinned: Annotated[
        bool | None, typer.Option("--pinned/--not-pinned", help="Only versions that are pinned, or are not.")
    ] = None,
    limit: Annotated[int, typer.Option(help="The most versions to show.", min=1)] = 20,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Lists a model's newest versions."""
    with TrainerClient(trainer) as client:
        found = client.versions(
            model, limit, labels=labels_of(label or []), dataset=dataset, training_job_id=job, pinned=pinned
        )
    if as_json:
        print_messages(found)
    else:
        console.print(versions_table(found))


@models.command("show")
def show_version(
    model: ModelName,
    version: Selector = "live",
    plot: Annotated[
        Path | None, typer.Option(help="Also write curves, confusions and weights as a PNG.", metavar="FILE.png")
    ] = None,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Shows one version: whether it went live and why, where it came from, what it learned, what people wrote."""
    with TrainerClient(trainer) as client:
        found, its_model = client.version(model, selector(version)), client.model(model)
        drawn = plot is not None or not as_json
        weights = weight_images(found.manifest, fetch(client, model, found.version)[1], IMAGES_READ) if drawn else None
    if plot is not None:
        try:
            save_plot(plot, f"{found.model} version {found.version}", found.manifest, weights)
        except PlotError as error:
            errors.print(str(error), style="red", highlight=False, markup=False)
            raise typer.Exit(Exit.FAILED) from None
    if as_json:
        print_json(message_dict(found))
        return
    show_origin(console, found, its_model)
    show_learning(console, found.manifest, weights)
    if plot is not None:
        console.print(f"wrote {plot}", highlight=False, markup=False)


@models.command("download")
def download(
    model: ModelName,
    version: Selector = "live",
    file_format: Annotated[
        Literal["safetensors", "onnx"],
        typer.Option(
            "--format", help="The weights as published, or the whole network: raw examples in, probabilities out."
        ),
    ] = "safetensors",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write it.")] = None,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Downloads a version as a file, checked against its digest."""
    with TrainerClient(trainer) as client:
        header, contents = fetch(client, model, selector(version), FORMATS[file_format])
    path = output or Path(header.file_name)
    path.write_bytes(contents)
    console.print(f"wrote {path}, {len(contents):,} bytes, SHA-256 {header.sha256}", highlight=False)


def fetch(
    client: TrainerClient,
    model: str,
    version: int | str,
    file_format: pb.DownloadFormat.ValueType = pb.DOWNLOAD_FORMAT_SAFETENSORS,
) -> tuple[pb.DownloadModelVersionHeader, bytes]:
    """A version as a file, checked against its digest; exits 1 if it is not what was announced."""
    header, contents = client.download(model, version, format=file_format)
    if hashlib.sha256(contents).hexdigest() != header.sha256:
        errors.print("[red]what arrived does not have the SHA-256 that was announced; try again[/]")
        raise typer.Exit(Exit.FAILED)
    return header, contents
