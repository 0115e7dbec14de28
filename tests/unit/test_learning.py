"""What was learned, drawn: which numbers make the curves, and a picture whose parts fit what is in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from client.cli.first_layer import WeightImages
from client.cli.learning import curves, show_learning
from client.cli.learning_plot import DOTS_PER_INCH, draw_classes, save_plot
from shared.pb.weightcast.v1.model_pb2 import ClassScore, Evaluation, Manifest
from shared.pb.weightcast.v1.training_pb2 import EpochMetrics


def manifest_of(*sample_losses: float) -> Manifest:
    """A manifest of as many epochs, whose train_loss is 9."""
    return Manifest(
        epochs=[
            EpochMetrics(epoch=number, train_loss=9, train_sample_loss=loss, test_loss=0.75, test_accuracy=0.5)
            for number, loss in enumerate(sample_losses, start=1)
        ]
    )


def shown(manifest: Manifest) -> str:
    """What a terminal shows of it."""
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        show_learning(console, manifest, None)
    return capture.get()


def weights_of(count: int, height: int = 3, width: int = 3) -> WeightImages:
    """Weights of as many filters."""
    return WeightImages(np.ones((count, height, width)), np.arange(count), count, "filters")


def test_the_losses_of_a_chart_can_be_compared() -> None:
    """The training loss is that of the sample, never train_loss, which may be of another kind; the table has that."""
    lines = curves(manifest_of(0.5, 0.0))["loss"]
    assert (lines["training"], lines["test"]) == ([0.5, 0.0], [0.75, 0.75])
    text = shown(manifest_of(0.5, 0.25))
    assert text.index("9.0000") < text.index("loss by epoch")
    chart = text[text.index("loss by epoch") : text.index("accuracy by epoch")]
    assert "0.7500 ┤" in chart
    assert "0.2500 ┤" in chart
    assert "● training   ○ test" in chart


def test_an_older_version_has_no_training_loss_to_compare_with() -> None:
    """Its chart has the test loss alone, with the mark that it has in the other chart."""
    assert curves(manifest_of(0, 0))["loss"]["training"] == []
    text = shown(manifest_of(0, 0))
    loss, accuracy = text[text.index("loss by epoch") :].split("accuracy by epoch")
    assert "training" not in loss
    assert "○ test" in loss
    assert "● training   ○ test" in accuracy


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_picture_is_as_high_as_what_is_in_it(tmp_path: Path, *, evaluated: bool) -> None:
    """A row of small filters adds little, two rows add more, an evaluation more than that."""
    pytest.importorskip("matplotlib")
    manifest = manifest_of(0.5)
    if evaluated:
        manifest.class_labels.append("only")
        manifest.evaluation.classes.add(precision=1, recall=1, support=3)
        manifest.evaluation.confusion.append(3)
    inches = []
    for weights in (None, weights_of(6), weights_of(24), weights_of(1, height=90, width=1)):
        save_plot(tmp_path / "learned.png", "m", manifest, weights)
        with Image.open(tmp_path / "learned.png") as picture:
            inches.append(picture.height / DOTS_PER_INCH)
    none, few, many, high = inches
    assert none == pytest.approx(9.6 if evaluated else 4.2, abs=0.02)
    assert 1 < few - none < 2.5
    assert few + 1 < many < none + 5
    assert high < none + 4


def test_the_legend_of_precision_and_recall_covers_no_bar() -> None:
    """Though every bar reaches the end."""
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    scores = [ClassScore(precision=1, recall=1, support=1)] * 10
    figure = Figure(layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    draw_classes(axes, Manifest(class_labels=list("0123456789"), evaluation=Evaluation(classes=scores)))
    canvas.draw()
    legend = axes.get_legend().get_window_extent()
    assert not any(legend.overlaps(bar.get_window_extent()) for bar in axes.patches)
    assert legend.x1 <= figure.bbox.x1
