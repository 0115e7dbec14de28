"""What was learned, in a terminal: figures, classes, confusions, curves and first-layer weights of one version."""

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape

from client.cli.confusion import confusion_table
from client.cli.first_layer import WeightImages
from client.cli.options import list_table
from client.cli.pictures import images_that_fit, line_chart, resized, signed_images
from client.cli.spec_view import print_fields
from client.cli.watching import epoch_table
from shared.pb.weightcast.v1.model_pb2 import Evaluation, Manifest

LEAST_WIDTH, MOST_WIDTH = 16, 20  # characters a picture of weights takes
WEIGHT_ROWS = 2
IMAGES_READ = 24


def show_learning(console: Console, manifest: Manifest, weights: WeightImages | None) -> None:
    """Prints all that a manifest knows of what was learned; an older one knows the epochs alone."""
    console.print(epoch_table(manifest.epochs, published_epoch(manifest)))
    show_curves(console, manifest)
    if manifest.HasField("evaluation"):
        show_evaluation(console, manifest)
    if weights is not None:
        show_weights(console, weights)


def published_epoch(manifest: Manifest) -> int:
    """The epoch whose weights were published, 0 where there is none."""
    return manifest.published_epoch or (manifest.epochs[-1].epoch if manifest.epochs else 0)


def curves(manifest: Manifest) -> dict[str, dict[str, list[float]]]:
    """The lines of each chart: loss and accuracy, in training, on the part for validation, and held out.

    The losses are all plain cross-entropy, which train_loss need not be: it may be another loss, smoothed, or of
    augmented images. Where older epochs have no train_sample_loss, the line is empty.
    """
    epochs = list(manifest.epochs)
    comparable = any(epoch.train_sample_loss > 0 for epoch in epochs)
    validated = [epoch for epoch in epochs if epoch.HasField("validation_loss")]
    return {
        "loss": {
            "training": [epoch.train_sample_loss for epoch in epochs] if comparable else [],
            "test": [epoch.test_loss for epoch in epochs],
            "validation": [epoch.validation_loss for epoch in validated],
        },
        "accuracy": {
            "training": [epoch.train_accuracy for epoch in epochs],
            "test": [epoch.test_accuracy for epoch in epochs],
            "validation": [epoch.validation_accuracy for epoch in validated],
        },
    }


def show_curves(console: Console, manifest: Manifest) -> None:
    """Prints both charts."""
    if not manifest.epochs:
        return
    for title, lines in curves(manifest).items():
        console.print(f"\n[bold]{title}[/] by epoch")
        console.print(line_chart(lines, marked=published_epoch(manifest), width=max(10, min(56, console.width - 16))))


def confusion_of(evaluation: Evaluation) -> npt.NDArray[np.int64] | None:
    """The confusion counts (classes, classes); None where there are none."""
    classes = len(evaluation.classes)
    if len(evaluation.confusion) != classes**2 or not classes:
        return None
    return np.array(evaluation.confusion, np.int64).reshape(classes, classes)


def show_evaluation(console: Console, manifest: Manifest) -> None:
    """Prints the figures of the published weights on the test split."""
    evaluation = manifest.evaluation
    console.print(f"\n[bold]what was learned[/], on {evaluation.examples:,} test examples", highlight=False)
    print_fields(
        console,
        {
            "accuracy": f"{evaluation.accuracy:.2%}",
            "loss": f"{evaluation.loss:.4f} nats",
            "gap": f"{evaluation.accuracy_gap:+.2%}, training accuracy minus test accuracy",
            "calibration": f"{evaluation.calibration_error:.2%} off: probabilities against shares that are right",
        },
    )
    table = list_table("class")
    for heading in ("precision", "recall", "examples"):
        table.add_column(heading, justify="right")
    for label, score in zip(manifest.class_labels, evaluation.classes, strict=False):
        precision = f"{score.precision:.1%}" if score.HasField("precision") else "–"
        recall = f"{score.recall:.1%}" if score.HasField("recall") else "–"
        table.add_row(escape(label), precision, recall, f"{score.support:,}")
    console.print(table)
    counts = confusion_of(evaluation)
    if counts is not None:
        console.print(confusion_table(counts, manifest.class_labels, console.width))


def show_weights(console: Console, weights: WeightImages) -> None:
    """Draws first-layer weights in rows."""
    width = weights.images.shape[2]
    pictures = resized(weights.images, max(LEAST_WIDTH, min(MOST_WIDTH, width)))
    fit = images_that_fit(console.width, pictures.shape[2])
    shown = min(len(pictures), fit * WEIGHT_ROWS)
    console.print(
        f"\n[bold]first-layer weights[/]: {shown} of {weights.count} {weights.what}, by norm; "
        "[blue]above[/] and [red]below[/] 0",
        highlight=False,
    )
    for start in range(0, shown, fit):
        places = weights.places[start : min(shown, start + fit)]
        console.print(signed_images(pictures[start : start + len(places)], [f"{place}" for place in places]))
