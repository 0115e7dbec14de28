"""What two versions differ in: where they came from, what was asked for, what they learned. Values in, values out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from client.cli.learning import published_epoch
from client.cli.spec_view import spec_fields
from shared.pb.weightcast.v1.model_pb2 import Manifest, ModelVersion

DIGEST_SHOWN = 12
SAID_ELSEWHERE = ("model", "data set", "parent", "training")
Text = tuple[str, str]
Number = tuple[float | None, float | None]
Value = TypeVar("Value")


@dataclass(frozen=True)
class VersionDiff:
    """What differs between two versions, each name with both its values; what is the same is left out.

    Attributes:
        weights_equal: whether the weights are the same to the last bit.
        same_test: whether both were tested on the same examples, so that figures can be compared.
        origin: parent, data set, classes.
        spec, libraries: what was asked for, and what the weights depend on besides.
        metrics: accuracy, loss and calibration_error on the test split, the same or not; None where unknown.
        recalls: of each class that both know, by its label, where they are not the same; the largest change first.
    """

    first: ModelVersion
    second: ModelVersion
    weights_equal: bool
    same_test: bool
    origin: dict[str, Text]
    spec: dict[str, Text]
    libraries: dict[str, Text]
    metrics: dict[str, Number]
    recalls: dict[str, tuple[float, float]]


def difference(first: ModelVersion, second: ModelVersion) -> VersionDiff:
    """What two versions differ in."""
    one, other = first.manifest, second.manifest
    return VersionDiff(
        first=first,
        second=second,
        weights_equal=one.weights_digest == other.weights_digest != "",
        same_test=one.dataset_digest == other.dataset_digest,
        origin=differing(origin_of(one), origin_of(other)),
        spec=differing(asked_of(one), asked_of(other)),
        libraries=differing(dict(sorted(one.library_versions.items())), other.library_versions),
        metrics=dict(both(metrics_of(one), metrics_of(other))),
        recalls=recall_changes(recalls_of(one), recalls_of(other)),
    )


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, Text]:
    """The names whose values are not the same."""
    names = dict.fromkeys((*first, *second))
    return {name: texts for name in names if (texts := (first.get(name, ""), second.get(name, "")))[0] != texts[1]}


def both(first: Mapping[str, Value], second: Mapping[str, Value]) -> Iterator[tuple[str, tuple[Value, Value]]]:
    """Each name that both have, with both its values, in the order of the first."""
    return ((name, (value, second[name])) for name, value in first.items() if name in second)


def origin_of(manifest: Manifest) -> dict[str, str]:
    """Where a version came from."""
    return {
        "parent": f"version {manifest.parent_version}" if manifest.parent_version else "",
        "data set": manifest.spec.dataset,
        "data digest": manifest.dataset_digest[:DIGEST_SHOWN],
        "input": "×".join(map(str, manifest.preprocessing.input_shape)),
        "classes": ", ".join(manifest.class_labels),
    }


def asked_of(manifest: Manifest) -> dict[str, str]:
    """The spec that produced a version, by its parts."""
    spec = manifest.spec
    parts = {name: text for name, text in spec_fields(spec).items() if name not in SAID_ELSEWHERE}
    return {**parts, "epochs": str(spec.epochs), "batch size": str(spec.batch_size), "seed": str(spec.seed)}


def metrics_of(manifest: Manifest) -> dict[str, float | None]:
    """What was measured on the test split; of an older manifest, what the published epoch says."""
    if manifest.HasField("evaluation"):
        found = manifest.evaluation
        return {"accuracy": found.accuracy, "loss": found.loss, "calibration_error": found.calibration_error}
    number = published_epoch(manifest)
    epoch = next((epoch for epoch in manifest.epochs if epoch.epoch == number), None)
    return {
        "accuracy": epoch.test_accuracy if epoch else None,
        "loss": epoch.test_loss if epoch else None,
        "calibration_error": None,
    }


def recalls_of(manifest: Manifest) -> dict[str, float]:
    """The recall of each class that has examples, by its label."""
    scores = zip(manifest.class_labels, manifest.evaluation.classes, strict=False)
    return {label: score.recall for label, score in scores if score.HasField("recall")}


def recall_changes(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """The classes whose recall is not the same, the largest change first."""
    changed = [(label, values) for label, values in both(first, second) if values[0] != values[1]]
    return dict(sorted(changed, key=lambda change: -abs(change[1][1] - change[1][0])))
