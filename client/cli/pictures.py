"""Pictures in a terminal: a curve, handwritten digits, a confusion matrix."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table
from rich.text import Text

SHADES = " ·░▒▓█"
EIGHTHS = " ▁▂▃▄▅▆▇█"
GAP = 3


def curve(values: Sequence[float], *, width: int = 64, height: int = 6) -> Text:
    """A column chart of values from 0 to their largest, the last one labelled; wide series are averaged to fit."""
    if not values:
        return Text("")
    columns = [float(np.mean(part)) for part in np.array_split(np.array(values), min(width, len(values)))]
    largest = max(columns) or 1.0
    eighths = [round(value / largest * height * 8) for value in columns]
    lines = []
    for row in reversed(range(height)):
        cells = "".join(EIGHTHS[min(8, max(0, filled - row * 8))] for filled in eighths)
        label = f"{largest:8.3f} ┤" if row == height - 1 else f"{0:8.3f} ┤" if row == 0 else " " * 9 + "│"
        lines.append(f"{label}{cells}" + (f" {values[-1]:.4f}" if row == 0 else ""))
    return Text("\n".join(lines), no_wrap=True)


def images_that_fit(width: int, image_width: int) -> int:
    """How many images stand side by side in a terminal of `width` columns."""
    return max(1, width // (image_width + GAP))


def images(examples: npt.NDArray[np.uint8], captions: Sequence[str]) -> Table:
    """Grey images (rows, height, width) side by side over their captions; a character is one pixel wide, two high."""
    table = Table.grid(padding=(0, GAP))
    brightest = max(1, int(examples.max()))
    pictures = []
    for example in examples:
        pixels = example[: len(example) // 2 * 2].astype(np.float64) / brightest
        halved = (pixels[0::2] + pixels[1::2]) / 2
        shades = np.minimum((halved * len(SHADES)).astype(int), len(SHADES) - 1)
        pictures.append(Text("\n".join("".join(SHADES[shade] for shade in row) for row in shades), no_wrap=True))
    table.add_row(*pictures)
    table.add_row(*captions)
    return table


def confusion_matrix(truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], labels: Sequence[str]) -> Table:
    """How often each class (row) was taken for each class (column); zeros are left out."""
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    table = Table(title="Confusion matrix (row: truth, column: answer)", title_justify="left")
    table.add_column("", style="bold")
    for label in labels:
        table.add_column(escape(label), justify="right")
    table.add_column("recall", justify="right")
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        cells = [
            "" if not count else f"[green]{count}" if index == column else f"[red]{count}"
            for column, count in enumerate(row)
        ]
        table.add_row(escape(label), *cells, f"{row[index] / row.sum():.1%}" if row.any() else "–")
    return table
