"""`weightcast models`: what was published, what is live, what was learned, and the weights as a file."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from client.cli.first_layer import weight_images
from client.cli.layer_text import architecture_text
from client.cli.learning import IMAGES_READ, show_learning
from client.cli.learning_plot import PlotError, save_plot
from client.cli.options import (
    TRAINER,
    AsJson,
    Exit,
    TrainerAddress,
    console,
    errors,
    list_table,
    message_dict,
    print_json,
    print_messages,
)
from client.cli.spec_view import print_fields, spec_fields
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1.model_pb2 import ModelVersion
from shared.pb.weightcast.v1.model_registry_service_pb2 import DownloadModelVersionHeader

models = typer.Typer(help="Lists models and their versions, and downloads weights.", no_args_is_help=True)
DIGEST_SHOWN = 12
LARGEST_VERSION = 2**63 - 1
ModelName = Annotated[str, typer.Argument(help="The model's name.", metavar="MODEL")]
Selector = Annotated[
    str, typer.Option("--version", help="A version's number, or an alias such as live or latest.", metavar="VERSION")
]


def selector(text: str) -> int | str:
    """A number as a number; an alias, or a number that no version can have, as it is."""
    return int(text) if text.isascii() and text.isdigit() and int(text) <= LARGEST_VERSION else text


@models.command("list")
def list_models(as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Lists every model."""
    with TrainerClient(trainer) as client:
        found = client.models()
    if as_json:
        print_messages(found)
        return
    table = list_table("model", "live", "latest", "versions")
    for model in found:
        table.add_row(model.name, str(model.live_version or "–"), str(model.latest_version), str(model.version_count))
    console.print(table)


@models.command("versions")
def list_versions(
    model: ModelName,
    limit: Annotated[int, typer.Option(help="The most versions to show.", min=1, max=200)] = 20,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Lists a model's newest versions."""
    with TrainerClient(trainer) as client:
        found = client.versions(model, limit)
    if as_json:
        print_messages(found)
        return
    table = list_table("aliases", "accuracy", "data set", "published, UTC", whole=("version", "job", "digest"))
    for version in found:
        manifest = version.manifest
        table.add_row(
            str(version.version),
            manifest.training_job_id,
            version.digest[:DIGEST_SHOWN],
            ", ".join(version.aliases),
            f"{manifest.epochs[-1].test_accuracy:.2%}" if manifest.epochs else "",
            manifest.spec.dataset,
            f"{version.publish_time.ToDatetime():%b %d, %H:%M}",
        )
    console.print(table)


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
    """Shows one version: where it came from and what it learned."""
    with TrainerClient(trainer) as client:
        found = client.version(model, selector(version))
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
    show_origin(found)
    show_learning(console, found.manifest, weights)
    if plot is not None:
        console.print(f"wrote {plot}", highlight=False, markup=False)


def show_origin(found: ModelVersion) -> None:
    """Prints what a version is and where it came from."""
    manifest = found.manifest
    console.print(f"{found.model} version {found.version} ({', '.join(found.aliases) or 'no alias'})", highlight=False)
    fields = {
        "network": architecture_text(manifest.architecture),
        "digest": found.digest,
        "weights": f"{found.weights_size_bytes:,} bytes, SHA-256 {manifest.weights_digest}",
        "data": f"{manifest.spec.dataset}, SHA-256 {manifest.dataset_digest}",
        "job": manifest.training_job_id,
        "libraries": ", ".join(f"{name} {number}" for name, number in sorted(manifest.library_versions.items())),
    }
    said = ("model", "data set", "network")
    recipe = {name: value for name, value in spec_fields(manifest.spec).items() if name not in said}
    print_fields(console, {**fields, **recipe})


@models.command("download")
def download(
    model: ModelName,
    version: Selector = "live",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write it.")] = None,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Downloads a version's weights as a safetensors file, checked against its digest."""
    with TrainerClient(trainer) as client:
        header, weights = fetch(client, model, selector(version))
    path = output or Path(header.file_name)
    path.write_bytes(weights)
    console.print(f"wrote {path}, {len(weights):,} bytes, SHA-256 {header.sha256}", highlight=False)


def fetch(client: TrainerClient, model: str, version: int | str) -> tuple[DownloadModelVersionHeader, bytes]:
    """A version's safetensors file, checked against its digest; exits 1 if it is not what was announced."""
    header, weights = client.download(model, version)
    if hashlib.sha256(weights).hexdigest() != header.sha256:
        errors.print("[red]what arrived does not have the SHA-256 that was announced; try again[/]")
        raise typer.Exit(Exit.FAILED)
    return header, weights
