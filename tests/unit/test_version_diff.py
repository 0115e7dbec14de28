"""What two versions of a model differ in, computed and shown."""

import io
from typing import Any

import pytest
from rich.console import Console

from client.cli.diffing import change_text, document, figures_table, texts_table
from client.cli.layer_text import layers_of
from client.cli.version_diff import difference
from shared.pb.weightcast.v1.model_pb2 import ClassScore, Evaluation, Manifest, ModelVersion
from shared.pb.weightcast.v1.training_pb2 import EpochMetrics, Promotion, TrainingSpec

LABELS = ("cat", "dog", "owl")


def version(number: int, *, recalls: tuple[float | None, ...] = (0.5, 0.5, 0.5), **manifest: Any) -> ModelVersion:  # noqa: ANN401
    """A version that learned from `pets`; what is given replaces parts of its manifest."""
    spec = TrainingSpec(model="m", dataset="pets", epochs=3, batch_size=8, seed=1, layers=layers_of("dense 4"))
    parts: dict[str, Any] = {
        "spec": spec,
        "class_labels": LABELS,
        "dataset_digest": "d" * 64,
        "weights_digest": f"{number}" * 64,
        "library_versions": {"numpy": "2.4", "python": "3.11"},
        "evaluation": Evaluation(
            accuracy=0.5, loss=0.25, calibration_error=0.125, classes=[ClassScore(recall=recall) for recall in recalls]
        ),
        **manifest,
    }
    return ModelVersion(model="m", version=number, digest=f"{number}" * 64, manifest=Manifest(**parts))


def changed_spec(**fields: Any) -> TrainingSpec:  # noqa: ANN401 - any field
    """The spec of a version with other values."""
    spec = version(1).manifest.spec
    spec.MergeFrom(TrainingSpec(**fields))
    return spec


def rendered(first: ModelVersion, second: ModelVersion) -> str:
    """Both tables at 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    found = difference(first, second)
    console.print(texts_table(found))
    console.print(figures_table(found))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return str(text)


def test_versions_that_are_the_same_differ_in_nothing() -> None:
    """Except in their numbers; the figures are there all the same."""
    one = version(1)
    found = difference(one, version(2, weights_digest=one.manifest.weights_digest))
    assert found.weights_equal
    assert found.same_test
    assert (found.origin, found.spec, found.libraries, found.recalls) == ({}, {}, {}, {})
    assert found.metrics == {"accuracy": (0.5, 0.5), "loss": (0.25, 0.25), "calibration_error": (0.125, 0.125)}


def test_weights_that_nobody_measured_are_not_called_equal() -> None:
    """Two empty digests say nothing."""
    assert not difference(version(1, weights_digest=""), version(2, weights_digest="")).weights_equal


def test_only_what_differs_in_the_spec_is_named() -> None:
    """Epochs, batch size and seed each by itself, a promotion and a network in the words of the options."""
    promotion = Promotion(policy=Promotion.POLICY_IF_BETTER, margin=0.01)
    spec = changed_spec(epochs=9, layers=layers_of("dense 2"), promotion=promotion)
    found = difference(version(1), version(2, spec=spec))
    assert found.spec == {
        "network": ("dense 4 relu", "dense 4 relu, dense 2 relu"),
        "promotion": ("", "if-better, by a margin of 0.01"),
        "epochs": ("3", "9"),
    }
    assert found.origin == {}


def test_data_parent_and_libraries_that_differ_are_named() -> None:
    """Those that only one version has included; other data makes the figures incomparable."""
    second = version(
        2,
        spec=changed_spec(dataset="birds"),
        dataset_digest="e" * 64,
        class_labels=("owl",),
        parent_version=1,
        library_versions={"numpy": "2.5", "threads": "2", "python": "3.11"},
    )
    found = difference(version(1), second)
    assert not found.same_test
    assert found.origin == {
        "parent": ("", "version 1"),
        "data set": ("pets", "birds"),
        "data digest": ("d" * 12, "e" * 12),
        "classes": ("cat, dog, owl", "owl"),
    }
    assert found.libraries == {"numpy": ("2.4", "2.5"), "threads": ("", "2")}


def test_recalls_are_compared_by_label_and_the_largest_change_comes_first() -> None:
    """A class without examples, or that one version does not know, has no change."""
    first = version(1, recalls=(0.9, 0.5, None))
    second = version(2, recalls=(0.7, 0.8, 0.95), class_labels=("dog", "cat", "owl"))
    found = difference(first, second)
    assert found.recalls == {"dog": (0.5, 0.7), "cat": (0.9, 0.8)}
    assert list(found.recalls) == ["dog", "cat"]


def test_a_manifest_without_evaluation_is_compared_by_its_published_epoch() -> None:
    """What it does not know is shown as unknown and has no change."""
    epochs = [EpochMetrics(epoch=1, test_accuracy=0.75, test_loss=0.5), EpochMetrics(epoch=2, test_accuracy=0.25)]
    manifest = Manifest(epochs=epochs, published_epoch=1, class_labels=LABELS)
    first = ModelVersion(model="m", version=1, manifest=manifest)
    assert difference(first, version(2)).metrics == {
        "accuracy": (0.75, 0.5),
        "loss": (0.5, 0.25),
        "calibration_error": (None, 0.125),
    }
    shown = rendered(first, version(2)).splitlines()
    assert [line.split() for line in shown if "calibration" in line] == [["calibration", "error", "–", "12.50%"]]
    empty = ModelVersion(model="m", version=3, manifest=Manifest())
    assert difference(empty, empty).metrics["accuracy"] == (None, None)


@pytest.mark.parametrize(
    ("numbers", "sign", "in_percent", "text"),
    [
        ((0.5, 0.75), 1, True, "[green]+25.00%[/]"),
        ((0.75, 0.5), 1, True, "[red]-25.00%[/]"),
        ((0.5, 0.75), -1, False, "[red]+0.2500[/]"),
        ((0.75, 0.5), -1, False, "[green]-0.2500[/]"),
        ((0.5, 0.5), 1, True, "[dim]+0.00%[/]"),
        ((None, 0.5), 1, True, ""),
    ],
)
def test_a_change_is_green_where_it_is_for_the_better(
    numbers: tuple[float | None, float | None], sign: int, *, in_percent: bool, text: str
) -> None:
    """More accuracy and less loss are; what is not known has no change."""
    assert change_text(numbers, sign, in_percent=in_percent) == text


def test_the_largest_changes_of_many_classes_are_shown_in_80_columns() -> None:
    """The others are counted, labels are text whatever they look like, and a long list of them is cut."""
    labels = tuple(f"[bold]class {index}" for index in range(60))
    first = version(1, class_labels=labels, recalls=(0.5,) * 60)
    second = version(2, class_labels=labels[:-1], recalls=tuple(0.5 + index / 200 for index in range(59)))
    shown = rendered(first, second)
    assert "recall of [bold]class 58" in shown
    assert "recall of [bold]class 53" not in shown
    assert "and 53 classes more" in shown
    assert "class 40" not in shown


def test_the_document_is_for_programs() -> None:
    """Numbers as numbers, pairs in the order in which the versions were named."""
    found = document(difference(version(2), version(1, parent_version=3, recalls=(0.25, 0.5, 0.5))))
    assert found["versions"] == [2, 1]
    assert found["origin"] == {"parent": ("", "version 3")}
    assert found["recalls"] == {"cat": (0.5, 0.25)}
