"""What was learned, as one PNG drawn by matplotlib: curves, confusions, classes and first-layer weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from client.cli.first_layer import WeightImages
from client.cli.learning import confusion_of, curves, published_epoch
from shared.pb.weightcast.v1.model_pb2 import Manifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELLED_CLASSES = 30
COUNTED_CLASSES = 12
WEIGHT_COLUMNS = 12
WIDTH = 13  # inches, as are all of these
CURVES_HEIGHT, EVALUATION_HEIGHT = 4.2, 5.4
WEIGHTS_TITLE_HEIGHT, PLACE_HEIGHT = 0.5, 0.3
MOST_WEIGHT_HEIGHT = 2 * WIDTH / WEIGHT_COLUMNS  # of images that are much higher than wide
DOTS_PER_INCH = 110


class PlotError(Exception):
    """matplotlib is not installed; says how to install it."""


def save_plot(path: Path, title: str, manifest: Manifest, weights: WeightImages | None) -> None:
    """Writes the picture to `path` as a PNG.

    Raises:
        PlotError: if matplotlib is not installed.
        OSError: if the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra; draws without a display
        from matplotlib.figure import Figure  # noqa: PLC0415 - as above
    except ImportError:
        raise PlotError("--plot needs matplotlib; install it with: pip install 'weightcast[plot]'") from None
    figure = Figure(figsize=(WIDTH, sum(heights(manifest, weights))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    draw(figure, manifest, weights)
    figure.savefig(path, dpi=DOTS_PER_INCH, format="png")


def draw(figure: "Figure", manifest: Manifest, weights: WeightImages | None) -> None:
    """Draws what there is, part below part."""
    evaluated = manifest.HasField("evaluation")
    ratios = heights(manifest, weights)
    parts = figure.subfigures(len(ratios), 1, squeeze=False, height_ratios=ratios).flat
    for axes, (name, lines) in zip(next(parts).subplots(1, 2), curves(manifest).items(), strict=True):
        draw_curves(axes, name, lines, published_epoch(manifest))
    if evaluated:
        left, right = next(parts).subplots(1, 2)
        draw_confusion(left, manifest)
        draw_classes(right, manifest)
    if weights is not None:
        draw_weights(next(parts), weights)


def heights(manifest: Manifest, weights: WeightImages | None) -> list[float]:
    """The height of each part: curves, what there is of an evaluation, and as many rows of weights as there are."""
    found = [CURVES_HEIGHT]
    if manifest.HasField("evaluation"):
        found.append(EVALUATION_HEIGHT)
    if weights is not None:
        count, height, width = weights.images.shape
        image_height = min(MOST_WEIGHT_HEIGHT, WIDTH / WEIGHT_COLUMNS * height / width)
        found.append(WEIGHTS_TITLE_HEIGHT + weight_rows(count) * (image_height + PLACE_HEIGHT))
    return found


def weight_rows(count: int) -> int:
    """How many rows this many images of weights take."""
    return -(-count // WEIGHT_COLUMNS)


def draw_curves(axes: Any, name: str, lines: dict[str, list[float]], published: int) -> None:  # noqa: ANN401 - Axes
    """One chart of lines over epochs."""
    for place, (label, values) in enumerate(lines.items()):
        if values:  # the colour is the line's own, so that it means the same in each chart
            axes.plot(np.arange(1, len(values) + 1), values, marker=".", label=label, color=f"C{place}")
    if published:
        axes.axvline(published, color="grey", linestyle=":", label=f"published: {published}")
    axes.set(title=f"{name} by epoch", xlabel="epoch")
    if axes.lines:
        axes.legend()


def draw_confusion(axes: Any, manifest: Manifest) -> None:  # noqa: ANN401 - Axes
    """The confusion matrix, coloured by the square root of each count's share of its class: few are seen too."""
    evaluation = manifest.evaluation
    axes.set_title(
        f"accuracy {evaluation.accuracy:.2%}, gap {evaluation.accuracy_gap:+.2%}, "
        f"calibration error {evaluation.calibration_error:.2%}"
    )
    counts = confusion_of(evaluation)
    if counts is None:
        axes.set_axis_off()
        return
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.25 else "black"  # noqa: PLR2004 - readable on either blue
            axes.text(column, row, f"{count or ''}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(xlabel="answer", ylabel="truth")
    label_classes(axes, manifest, both=True)


def label_classes(axes: Any, manifest: Manifest, *, both: bool) -> None:  # noqa: ANN401 - Axes
    """Names the classes along the axes, where they are few enough to be read."""
    labels = list(manifest.class_labels)
    if len(labels) > LABELLED_CLASSES:
        return
    axes.set_yticks(range(len(labels)), labels)
    if both:
        axes.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, labels)) > 2 else 0)  # noqa: PLR2004


def draw_classes(axes: Any, manifest: Manifest) -> None:  # noqa: ANN401 - Axes
    """Precision and recall of each class; what is undefined is not drawn."""
    scores = manifest.evaluation.classes
    places = np.arange(len(scores))
    axes.barh(places - 0.2, [score.precision for score in scores], 0.4, label="precision")
    axes.barh(places + 0.2, [score.recall for score in scores], 0.4, label="recall")
    axes.set(title="precision and recall", xlim=(0, 1))
    axes.invert_yaxis()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the bars, which may fill all of the axes
    label_classes(axes, manifest, both=False)


def draw_weights(figure: Any, weights: WeightImages) -> None:  # noqa: ANN401 - SubFigure
    """First-layer weights as small images, each on its own scale: red below 0, blue above."""
    figure.suptitle(f"first-layer weights: {len(weights.images)} of {weights.count} {weights.what}")
    all_axes = np.atleast_1d(figure.subplots(weight_rows(len(weights.images)), WEIGHT_COLUMNS)).ravel()
    for axes in all_axes:
        axes.set_axis_off()
    for axes, image, place in zip(all_axes, weights.images, weights.places, strict=False):
        largest = float(np.abs(image).max()) or 1.0
        axes.imshow(image, cmap="RdBu", vmin=-largest, vmax=largest)
        axes.set_title(str(place), fontsize=7)
