"""Pictures in a terminal: bars, curves, images and the weights of a layer."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

FloatArray = npt.NDArray[np.float64]
SHADES = " ·░▒▓█"
EIGHTHS = " ▁▂▃▄▅▆▇█"
BAR_EIGHTHS = " ▏▎▍▌▋▊▉█"
GAP = 3
MARKS = ("●", "○", "△")
COLOURS = ("green", "yellow", "cyan")
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601: how bright red, green and blue are


def bar(share: float, *, width: int = 30) -> str:
    """A bar of `width` characters for 1, in eighths of a character."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    part = BAR_EIGHTHS[eighths % 8] if eighths % 8 else ""
    return "█" * (eighths // 8) + part


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


def line_chart(series: Mapping[str, Sequence[float]], *, marked: int = 0, width: int = 56, height: int = 8) -> Text:
    """Lines over epochs counted from 1, each with a mark of its own, named below; `marked` is an epoch to point at.

    Values that are no finite numbers are left out. Where lines meet, the later one is seen.
    """
    values = {name: np.array(line, float) for name, line in series.items() if len(line)}
    finite = np.concatenate([line[np.isfinite(line)] for line in values.values()] or [np.empty(0)])
    if not finite.size:
        return Text("")
    low, high = float(finite.min()), float(finite.max())
    epochs = max(len(line) for line in values.values())
    columns = min(width, max(2, 6 * epochs))
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    # By its place in the series, so that a line has the same mark in each chart, whichever others are empty.
    styles = dict(zip(series, zip(MARKS, COLOURS, strict=True), strict=False))
    for name, line in values.items():
        places = np.linspace(0, len(line) - 1, columns) if len(line) > 1 else np.zeros(1)
        heights = (np.interp(places, np.arange(len(line)), line) - low) / ((high - low) or 1.0) * (height - 1)
        for column, row in enumerate(heights):
            if np.isfinite(row):
                cells[round(float(row)), column] = styles[name]
    chart = Text(no_wrap=True)
    for row in reversed(range(height)):
        label = f"{high:8.4f} ┤" if row == height - 1 else f"{low:8.4f} ┤" if row == 0 else " " * 9 + "│"
        chart.append(label)
        for column in range(columns):
            chart.append(*cells.get((row, column), (" ", "")))
        chart.append("\n")
    axis = ["─"] * columns
    if 1 <= marked <= epochs:
        axis[round((marked - 1) / max(1, epochs - 1) * (columns - 1))] = "▲"
    chart.append(" " * 9 + "└" + "".join(axis) + f" {epochs}\n" + " " * 10)
    for name in values:
        chart.append(f"{styles[name][0]} {name}   ", styles[name][1])
    if 1 <= marked <= epochs:
        chart.append(f"▲ published: epoch {marked}")
    return chart


def brightness(images: npt.NDArray[np.generic]) -> FloatArray:
    """Images (rows, height, width), or (rows, height, width, 3) in red, green and blue, as grey ones of that range."""
    grey = images.astype(np.float64)
    return grey @ LUMA if grey.ndim == 4 else grey  # noqa: PLR2004 - the fourth dimension is the colours


def resized(images: FloatArray, width: int) -> FloatArray:
    """Images (rows, height, width) brought near to `width`: averaged by a whole number, or repeated by one."""
    rows, height, own_width = images.shape
    if own_width <= width:
        times = max(1, width // own_width)
        return images.repeat(times, axis=1).repeat(times, axis=2)
    side = -(-own_width // width)
    high, wide = max(1, height // side), own_width // side
    tall = min(side, height)
    cut = images[:, : high * tall, : wide * side]
    averaged: FloatArray = cut.reshape(rows, high, tall, wide, side).mean(axis=(2, 4))
    return averaged


def images_that_fit(width: int, image_width: int) -> int:
    """How many images stand side by side in a terminal of `width` columns."""
    return max(1, width // (image_width + GAP))


def images(examples: npt.NDArray[np.generic], captions: Sequence[str]) -> Table:
    """Grey images (rows, height, width), 0 or more, side by side over their captions."""
    grey = examples.astype(np.float64)
    shades = halved(grey / max(grey.max(), 1e-12))
    return side_by_side([Text("\n".join(map(shaded, picture)), no_wrap=True) for picture in shades], captions)


def signed_images(weights: FloatArray, captions: Sequence[str]) -> Table:
    """Images (rows, height, width) of weights, side by side: the larger, the darker; red below 0 and blue above.

    Each has a scale of its own.
    """
    pictures = []
    for weight in halved(weights):
        picture = Text(no_wrap=True)
        largest = max(float(np.abs(weight).max()), 1e-12)
        for row in weight:
            for value in row:
                picture.append(shaded([abs(value) / largest]), "red" if value < 0 else "blue")
            picture.append("\n")
        picture.rstrip()
        pictures.append(picture)
    return side_by_side(pictures, captions)


def halved(pictures: FloatArray) -> FloatArray:
    """Images (rows, height, width) at half their height: a character is one pixel wide and two high."""
    even = pictures[:, : max(2, pictures.shape[1] // 2 * 2)]
    averaged: FloatArray = (even[:, 0::2] + even[:, 1::2]) / 2 if even.shape[1] > 1 else even
    return averaged


def shaded(shares: Sequence[float] | FloatArray) -> str:
    """A character for each number from 0 to 1."""
    return "".join(SHADES[min(int(share * len(SHADES)), len(SHADES) - 1)] for share in shares)


def side_by_side(pictures: Sequence[Text], captions: Sequence[str]) -> Table:
    """Pictures in a row over their captions."""
    table = Table.grid(padding=(0, GAP))
    table.add_row(*pictures)
    table.add_row(*captions)
    return table
