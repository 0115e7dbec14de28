"""Pictures in a terminal: what they show, and that they fit."""

import numpy as np
import pytest
from rich.console import Console

from client.cli.confusion import confusion_table, counts_of
from client.cli.pictures import bar, brightness, images, line_chart, resized, signed_images

WIDTH = 80


def drawn(picture: object, width: int = WIDTH) -> list[str]:
    """The lines a terminal of this width shows."""
    console = Console(width=width, color_system=None, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(picture)
    return capture.get().splitlines()


@pytest.mark.parametrize(("share", "shown"), [(0.0, ""), (0.5, "██"), (1.0, "████"), (2.0, "████"), (9 / 32, "█▏")])
def test_a_bar_is_as_long_as_its_share(share: float, shown: str) -> None:
    """In eighths of a character, and never longer than all of it."""
    assert bar(share, width=4) == shown


def test_an_image_is_darkest_where_it_is_brightest() -> None:
    """A character is two pixels; white is a full block, black nothing."""
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, :2, 1] = 255
    top, bottom, caption = drawn(images(image, ["one"]))
    assert (top.rstrip(), bottom.strip(), caption.strip()) == (" █", "", "one")


def test_colours_are_drawn_by_their_brightness() -> None:
    """(rows, height, width, 3) becomes (rows, height, width); green is brighter than blue; grey stays as it is."""
    colours = np.zeros((1, 1, 3, 3), np.uint8)
    colours[0, 0] = [[0, 255, 0], [0, 0, 255], [255, 255, 255]]
    ((green, blue, white),) = brightness(colours)[0]
    assert blue < green < white == pytest.approx(255)
    grey = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    assert np.array_equal(brightness(grey), grey)


@pytest.mark.parametrize(
    ("shape", "width", "expected"),
    [
        ((1, 5, 5), 10, (1, 10, 10)),
        ((1, 28, 28), 20, (1, 14, 14)),
        ((2, 3, 90), 40, (2, 1, 30)),
        ((1, 8, 8), 8, (1, 8, 8)),
    ],
)
def test_images_are_brought_near_to_a_width(shape: tuple[int, ...], width: int, expected: tuple[int, ...]) -> None:
    """Repeated or averaged by whole numbers, so that their mean stays."""
    grey = np.random.default_rng(0).random(shape)
    small = resized(grey, width)
    assert small.shape == expected
    assert small.shape[2] <= width
    if shape[1:] != (3, 90):
        assert small.mean() == pytest.approx(grey.mean())


@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 9, 1), (1, 1, 1), (3, 2, 2)])
def test_images_of_any_size_are_drawn(shape: tuple[int, int, int]) -> None:
    """Also those of a single row or column."""
    assert "█" in "".join(drawn(images(np.ones(shape), ["x"] * shape[0])))
    assert "█" in "".join(drawn(signed_images(-np.ones(shape), ["x"] * shape[0])))


def test_a_chart_rises_where_its_values_do() -> None:
    """The first value stands at the bottom left, the last at the top right; both ends of the scale are named."""
    lines = drawn(line_chart({"accuracy": [0.1, 0.2, 0.9]}, marked=2, height=4))
    assert lines[0].startswith("  0.9000 ┤")
    assert lines[0].rstrip().endswith("●")
    assert lines[3].startswith("  0.1000 ┤●")
    assert "▲" in lines[4]
    assert "published: epoch 2" in lines[5]


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, 1.0], [float("nan"), 1.0, float("inf")], [float("nan")], list(np.arange(1000.0))]
)
def test_a_chart_of_any_values_fits(values: list[float]) -> None:
    """None, one, equal ones, ones that are no numbers, and many."""
    lines = drawn(line_chart({"training": values, "test": values[:1]}, marked=1))
    assert all(len(line) <= WIDTH for line in lines)


def labels_and_counts(classes: int, label: str) -> tuple[list[str], np.ndarray]:
    """Class names, and counts with one confusion that is the most frequent: the first class taken for the last."""
    truth = np.repeat(np.arange(classes), 30)
    predicted = truth.copy()
    predicted[:7] = classes - 1
    predicted[30] = 0
    return [f"{label}{index}" for index in range(classes)], counts_of(truth, predicted, classes)


def test_counts_say_what_was_taken_for_what() -> None:
    """The row is the truth, the column the answer."""
    counts = counts_of(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    assert counts.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("classes", "label", "title"),
    [
        (10, "", "Confusion matrix"),
        (10, "sneaker no. ", "Confusion matrix"),
        (20, "", "Confusions"),
        (26, "", "Confusions"),
        (200, "a rather long name ", "Confusions"),
    ],
)
def test_confusions_fit_a_terminal_whatever_the_classes(classes: int, label: str, title: str) -> None:
    """A whole matrix where it fits 80 columns, with numbered columns if need be; else the most frequent confusions."""
    labels, counts = labels_and_counts(classes, label)
    lines = drawn(confusion_table(counts, labels, WIDTH))
    assert lines[0].startswith(title)
    assert all(len(line) <= WIDTH for line in lines)
    assert not any("…" in line for line in lines)
    if title == "Confusions":
        assert "8 of 8 mistakes" in lines[0]
        first = next(line for line in lines if "│" in line)
        assert labels[0] in first
        assert labels[-1] in first
        assert "7" in first


def test_a_matrix_without_mistakes_has_no_confusions() -> None:
    """Nothing is listed where nothing was mistaken."""
    counts = np.eye(30, dtype=np.int64)
    assert "0 of 0 mistakes" in drawn(confusion_table(counts, [str(index) for index in range(30)], WIDTH))[0]
