"""Models and versions for people: what is live and held, where a version came from, what people wrote about it."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from client.cli.layer_text import architecture_text
from client.cli.options import list_table, moment_text
from client.cli.outcome_view import hold_text, verdict_text
from client.cli.rollout_view import rollout_text
from client.cli.spec_view import print_fields, spec_fields
from shared.pb.weightcast.v1.model_pb2 import Model, ModelVersion

DIGEST_SHOWN = 12


def models_table(models: Iterable[Model]) -> Table:
    """Every model, with a mark and the reason where new versions do not go live."""
    table = list_table("live", "latest", "versions", "hold", whole=("model",))
    for model in models:
        held = f"[yellow]held[/] {escape(hold_text(model.hold))}" if model.HasField("hold") else ""
        live = str(model.live_version or "–")
        table.add_row(model.name, live, str(model.latest_version), str(model.version_count), held)
    return table


def versions_table(versions: Iterable[ModelVersion]) -> Table:
    """Versions, newest first; what is pinned says so among its aliases."""
    table = list_table("aliases", "accuracy", "data set", "published, UTC", whole=("version", "job", "digest"))
    for version in versions:
        manifest = version.manifest
        table.add_row(
            str(version.version),
            manifest.training_job_id,
            version.digest[:DIGEST_SHOWN],
            ", ".join([*version.aliases, *["[italic]pinned[/]"] * version.pinned]),
            f"{manifest.epochs[-1].test_accuracy:.2%}" if manifest.epochs else "",
            escape(manifest.spec.dataset),
            moment_text(version.publish_time),
        )
    return table


def show_origin(console: Console, found: ModelVersion, model: Model) -> None:
    """Prints what a version is, whether its model's rollout is about it, where it came from, and what people wrote."""
    manifest = found.manifest
    console.print(f"{found.model} version {found.version} ({', '.join(found.aliases) or 'no alias'})", highlight=False)
    fields = {
        "at publication": verdict_text(found.promotion),
        "rollout": rollout_text(model.rollout) if is_in_rollout(found, model) else "",
        **annotation_fields(found),
        "network": architecture_text(manifest.architecture),
        "digest": found.digest,
        "weights": f"{found.weights_size_bytes:,} bytes, SHA-256 {manifest.weights_digest}",
        "data": f"{manifest.spec.dataset}, SHA-256 {manifest.dataset_digest}",
        "job": manifest.training_job_id,
        "parent": f"version {manifest.parent_version}" if manifest.parent_version else "",
        "libraries": ", ".join(f"{name} {number}" for name, number in sorted(manifest.library_versions.items())),
    }
    said = ("model", "data set", "network", "parent", "promotion")
    recipe = {name: value for name, value in spec_fields(manifest.spec).items() if name not in said}
    print_fields(console, {**fields, **recipe})


def is_in_rollout(version: ModelVersion, model: Model) -> bool:
    """Whether a version is tried, or is the one that another is tried beside."""
    return model.HasField("rollout") and version.version in {model.rollout.version, model.live_version}


def annotation_fields(version: ModelVersion) -> dict[str, str]:
    """What people wrote about a version; empty where they did not."""
    return {
        "pinned": "yes, it is kept whatever its age" if version.pinned else "",
        "labels": ", ".join(f"{name}={value}" for name, value in sorted(version.labels.items())),
        "notes": version.notes,
    }
