"""Augmentation: what each change does to images whose outcome is known, and that chance is used as promised."""

import math

import numpy as np
import pytest

from shared.layers import Shape
from shared.recipe import Augmentation
from trainer_service.training.augmentation import Augmenter
from trainer_service.training.augmentation_maps import POOL_BYTES, USES

ALL = Augmentation(shift=2, rotation=15, scale=0.1, elastic_strength=34, elastic_smoothing=4)


def random_images(rows: int, shape: Shape, seed: int = 0) -> np.ndarray:
    """Uint8 (rows, input_size), every pixel random."""
    return np.random.default_rng(seed).integers(0, 256, (rows, math.prod(shape)), np.uint8)


def augmenter(augmentation: Augmentation, shape: Shape, capacity: int, seed: int = 1) -> Augmenter:
    return Augmenter(augmentation, shape, np.random.default_rng(seed), capacity)


def changed(augmentation: Augmentation, images: np.ndarray, shape: Shape, seed: int = 1) -> np.ndarray:
    return augmenter(augmentation, shape, len(images), seed).apply(images, np.empty_like(images))


def moved(image: np.ndarray, *, down: float = 0, right: float = 0, degrees: float = 0, size: float = 1) -> np.ndarray:
    """One image (height, width) or (height, width, channels), changed by exactly these amounts."""
    subject = augmenter(Augmentation(shift=1), image.shape, 1)
    amounts = np.array([[down], [right], [math.radians(degrees)], [size]], np.float32)
    subject._pool._draw = lambda taps, weights: subject._pool.fix(  # type: ignore[method-assign]
        subject._pool.affine_sources(*amounts), taps, weights
    )
    return subject.apply(image.reshape(1, -1), np.empty((1, image.size), np.uint8)).reshape(image.shape)


def rolled(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """`np.roll`, with zeros where it would come back on the other side."""
    padded = np.pad(image, [(20, 20), (20, 20)])
    return np.roll(padded, (down, right), axis=(0, 1))[20:-20, 20:-20]


@pytest.mark.parametrize("shape", [(28, 28), (5, 9), (8, 8, 3), (1, 1)])
def test_no_amount_changes_nothing(shape: Shape) -> None:
    """Every pixel keeps its value to the bit, the brightest and those at the edges too."""
    images = random_images(7, shape)
    images[0] = 255
    assert np.array_equal(changed(Augmentation(), images, shape), images)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, -1), (3, -5), (-16, 16), (-2, 20), (-16, 0), (0, -20)])
def test_whole_pixels_move_an_image_and_leave_zeros_behind(down: int, right: int) -> None:
    """Down and to the right are positive; nothing comes back on the other side, even of an image that leaves."""
    image = random_images(1, (9, 13)).reshape(9, 13)
    assert np.array_equal(moved(image, down=down, right=right), rolled(image, down, right))


def test_half_a_pixel_is_the_mean_of_two() -> None:
    """Interpolated, to the nearest whole value, and beyond the edge with 0."""
    image = np.array([[10, 20, 41]], np.uint8)
    assert moved(image, right=0.5).tolist() == [[5, 15, 31]]


def test_interpolation_is_bilinear() -> None:
    """Between four pixels, each counts by its nearness: here by 9, 3, 3 and 1 sixteenths."""
    image = np.zeros((4, 4), np.uint8)
    image[1:3, 1:3] = [[160, 16], [64, 240]]
    assert moved(image, down=-0.25, right=-0.25)[1, 1] == (9 * 160 + 3 * 16 + 3 * 64 + 240) // 16


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("side", [28, 9])
def test_quarter_turns_are_exact(side: int, quarters: int) -> None:
    """As `np.rot90`: counter-clockwise, about the centre of an even or an odd side."""
    image = random_images(1, (side, side)).reshape(side, side)
    assert np.array_equal(moved(image, degrees=90 * quarters), np.rot90(image, quarters))


def test_scaling_keeps_the_centre_and_moves_the_rest_outwards() -> None:
    """Twice the size, a pixel at distance 2 from the centre stands at distance 4; half the size, at 1."""
    image = np.zeros((11, 11), np.uint8)
    image[5, 5], image[5, 7] = 200, 100
    larger, smaller = moved(image, size=2), moved(image, size=0.5)
    assert (larger[5, 5], larger[5, 9], larger[5, 7]) == (200, 100, 0)
    assert (smaller[5, 5], smaller[5, 6], smaller[5, 7]) == (200, 100, 0)


def test_an_image_is_turned_before_it_is_moved() -> None:
    """What is said to move right moves right, however it is turned."""
    image = random_images(1, (9, 9)).reshape(9, 9)
    assert np.array_equal(moved(image, degrees=90, right=2, down=3), rolled(np.rot90(image), 3, 2))


@pytest.mark.parametrize("augmentation", [ALL, Augmentation(16, 180, 0.5, 64, 1)])
def test_background_stays_zero_and_flat_colour_stays_flat(augmentation: Augmentation) -> None:
    """Nothing is made out of nothing, and inside a flat area no value but its own appears."""
    assert not changed(augmentation, np.zeros((200, 784), np.uint8), (28, 28)).any()
    for value in (1, 255):
        result = changed(augmentation, np.full((200, 784), value, np.uint8), (28, 28))
        assert result.max() == value  # what lies outside is 0, so nothing can be brighter


def test_the_middle_of_a_flat_image_keeps_its_value() -> None:
    """Far from the edges all four neighbours are alike, and their shares add up to one exactly."""
    result = changed(ALL, np.full((500, 784), 253, np.uint8), (28, 28)).reshape(-1, 28, 28)
    assert np.unique(result[:, 11:17, 11:17]).tolist() == [253]


def test_one_seed_gives_the_same_bytes_and_another_gives_others() -> None:
    """Over so many calls that maps are used again and drawn again."""
    images = random_images(64, (28, 28))

    def run(seed: int) -> list[bytes]:
        subject = augmenter(ALL, (28, 28), 64, seed)
        return [subject.apply(images, np.empty_like(images)).tobytes() for _ in range(20)]

    assert run(3) == run(3)
    assert not set(run(3)) & set(run(4))


@pytest.mark.parametrize(
    ("augmentation", "different"),
    [
        (ALL, 128),
        (Augmentation(elastic_strength=34), 128),
        # Two draws of one number may be equal in sixteenths of a pixel everywhere in an image.
        (Augmentation(shift=2), 115),
        (Augmentation(rotation=20), 115),
        (Augmentation(scale=0.2), 90),
    ],
)
def test_every_image_of_a_batch_is_changed_differently(augmentation: Augmentation, different: int) -> None:
    """A batch of one image over and over comes out as so many different ones, whatever the change."""
    images = np.repeat(random_images(1, (28, 28)), 128, axis=0)
    result = changed(augmentation, images, (28, 28))
    assert len({row.tobytes() for row in result}) >= different


def test_maps_are_drawn_anew_after_so_many_uses() -> None:
    """An image that always comes at the same place sees at most USES images' worth of laps of one map."""
    shape, rows = (64, 64), 512  # the pool has 128 maps, so each call goes through it four times
    assert rows == 4 * POOL_BYTES // (16 * 64 * 64)
    image = random_images(1, shape)
    subject = augmenter(Augmentation(shift=3), shape, rows)
    images = np.repeat(image, rows, axis=0)
    laps = [lap for _ in range(USES // 2) for lap in np.split(subject.apply(images, np.empty_like(images)), 4)]
    seen = [[row.tobytes() for row in lap] for lap in laps]
    for place in range(128):
        different = {lap[place] for lap in seen}
        assert 2 <= len(different) <= len(laps) // USES + 1


@pytest.mark.parametrize("augmentation", [Augmentation(shift=3), Augmentation(rotation=9, elastic_strength=20)])
@pytest.mark.parametrize("calls", [0, 1, 17, 18, 40])
def test_another_augmenter_goes_on_from_a_state(augmentation: Augmentation, calls: int) -> None:
    """Byte for byte, in the first lap and after laps in which some maps were drawn anew and others were not."""
    shape, rows = (64, 64), 128  # as many as the pool has maps, so each call is a lap of 16 blocks
    images = random_images(rows, shape)
    first, second = (augmenter(augmentation, shape, rows) for _ in range(2))
    for _ in range(calls):
        first.apply(images, np.empty_like(images))
    first.apply(images[:40], np.empty_like(images[:40]))
    second.restore({name: array.copy() for name, array in first.state().items()})
    for _ in range(18):
        expected = first.apply(images, np.empty_like(images))
        assert np.array_equal(second.apply(images, np.empty_like(images)), expected)


def test_shifts_are_spread_evenly_up_to_the_amount() -> None:
    """The centre of mass of a block moves by up to 3 pixels either way, 0 on average, as uniform chance does."""
    image = np.zeros((28, 28), np.uint8)
    image[12:16, 12:16] = 240
    result = changed(Augmentation(shift=3), np.repeat(image.reshape(1, -1), 600, axis=0), (28, 28))
    weights = result.reshape(-1, 28, 28).astype(np.float64)
    for axis in (1, 2):
        places = (weights.sum(axis=3 - axis) * np.arange(28)).sum(axis=1) / weights.sum(axis=(1, 2)) - 13.5
        assert np.abs(places).max() <= 3 + 1 / 16
        assert np.abs(places).max() > 2.9
        assert abs(places.mean()) < 0.25  # 3.5 standard errors of 3 / √3 / √600
        assert places.std() == pytest.approx(3 / math.sqrt(3), rel=0.1)


def test_elastic_displacements_are_those_of_the_paper() -> None:
    """A sum of uniform values by a Gaussian's weights: mean 0, deviation strength / √3 / (2 · smoothing · √π)."""
    strength, smoothing = 34, 4
    subject = augmenter(Augmentation(elastic_strength=strength, elastic_smoothing=smoothing), (28, 28), 128)
    draws = [subject._pool.displacements().copy().reshape(2, -1, 28, 28) for _ in range(20)]
    fields = np.concatenate(draws, axis=1)  # (2, draws, 28, 28)
    assert np.abs(fields).max() <= strength
    middle = fields[:, :, 14, 14]
    assert middle.std() == pytest.approx(strength / math.sqrt(3) / (2 * smoothing * math.sqrt(math.pi)), rel=0.1)
    assert abs(middle.mean()) < 0.15
    assert abs((middle[0] * middle[1]).mean() / middle.var()) < 0.1  # down and right are independent
    apart = fields[:, :, 14, 14 + smoothing]
    assert (middle * apart).mean() / middle.var() == pytest.approx(
        math.exp(-1 / 4), abs=0.1
    )  # two Gaussians one deviation apart
    assert np.abs(np.diff(fields, axis=-1)).max() < 2  # pixels keep their order, so strokes bend and do not tear


def test_colours_move_together() -> None:
    """Every channel of an image gets the same change, and the next image another."""
    grey = random_images(50, (12, 10))
    colour = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    colour[:, :, 1] //= 2
    result = changed(ALL, colour.reshape(50, -1), (12, 10, 3)).reshape(50, 120, 3)
    alone = changed(ALL, grey, (12, 10))
    assert np.array_equal(result[:, :, 0], alone)
    assert np.array_equal(result[:, :, 2], alone)
    assert np.array_equal(result[:, :, 1], changed(ALL, grey // 2, (12, 10)))


def test_neighbouring_images_do_not_leak_into_each_other() -> None:
    """An image comes out the same whether its neighbours in the batch are black or white."""
    images = random_images(64, (28, 28))
    among_black, among_white = images.copy(), images.copy()
    among_black[1::2], among_white[1::2] = 0, 255
    wild = Augmentation(16, 180, 0.5, 64, 1)
    assert np.array_equal(changed(wild, among_black, (28, 28))[::2], changed(wild, among_white, (28, 28))[::2])


@pytest.mark.parametrize("rows", [0, 1, 31, 100])
def test_only_the_rows_of_out_are_written(rows: int) -> None:
    """The rest of a larger buffer keeps what it held, and the examples do too."""
    images = random_images(rows, (28, 28))
    before = images.copy()
    buffer = np.full((102, 784), 77, np.uint8)
    out = buffer[1 : rows + 1]
    subject = augmenter(ALL, (28, 28), 100)
    assert subject.apply(images, out) is out
    assert np.array_equal(out, changed_by_hand(images))
    assert (buffer[0] == 77).all()
    assert (buffer[rows + 1 :] == 77).all()
    assert np.array_equal(images, before)


def changed_by_hand(images: np.ndarray) -> np.ndarray:
    """The same change into an array of its own, row for row, from an augmenter of the same capacity."""
    return augmenter(ALL, (28, 28), 100).apply(images, np.empty_like(images))


def test_numbers_come_out_as_the_same_values_as_bytes() -> None:
    """Into float32 the values are those of uint8, 0 to 255; and an array may be changed in place."""
    images = random_images(40, (8, 8))
    as_bytes = changed(ALL, images, (8, 8))
    as_numbers = augmenter(ALL, (8, 8), 40).apply(images, np.empty(images.shape, np.float32))
    assert as_numbers.dtype == np.float32
    assert np.array_equal(as_numbers, as_bytes)
    assert np.array_equal(augmenter(ALL, (8, 8), 40).apply(images, images), as_bytes)


def test_what_is_no_image_or_does_not_fit_is_refused() -> None:
    """A flat row has no neighbours; more rows than the capacity, or an `out` of another shape, is a mistake."""
    with pytest.raises(ValueError, match=r"examples are \[784\]"):
        augmenter(ALL, (784,), 8)
    subject = augmenter(ALL, (28, 28), 8)
    with pytest.raises(ValueError, match="up to 8 rows"):
        subject.apply(random_images(9, (28, 28)), np.empty((9, 784), np.uint8))
    with pytest.raises(ValueError, match="two arrays"):
        subject.apply(random_images(8, (28, 28)), np.empty((7, 784), np.uint8))
