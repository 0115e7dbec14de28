"""Images of a request: PNG and JPEG of any kind become upright grey rows, and what is none is refused quickly."""

import struct
import time
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference_service.images import rows_of_images
from shared.errors import InvalidInputError
from shared.image_files import MAX_IMAGE_BYTES
from shared.preprocessing import Preprocessing

SQUARE = Preprocessing(input_shape=(8, 8), uint8_scale=1 / 16)
COLOURED = Preprocessing(input_shape=(8, 8, 3), uint8_scale=1 / 255)
WIDE = Preprocessing(input_shape=(2, 6), uint8_scale=1 / 255)
GREY = (np.arange(64, dtype=np.uint8) * 4).reshape(8, 8)
ORIENTATION, IMAGE_WIDTH, X_RESOLUTION = 0x0112, 0x0100, 0x011A  # EXIF tags


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image as a file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PNG, JPEG = file_of(Image.fromarray(GREY)), file_of(Image.fromarray(GREY), "JPEG", quality=95)


def pixels_of(*files: bytes, preprocessing: Preprocessing = SQUARE) -> np.ndarray:
    """What the classifier gets, (files, height, width), 0 to 255."""
    rows = rows_of_images(files, preprocessing)
    assert rows.dtype == np.float32
    return rows.reshape(len(files), *preprocessing.input_shape) * 255


def refusal(*files: bytes, preprocessing: Preprocessing = SQUARE) -> str:
    """The message of the refusal: "field: description"."""
    with pytest.raises(InvalidInputError) as raised:
        rows_of_images(files, preprocessing)
    assert len(raised.value.violations) == 1
    return raised.value.message


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claims_to_be(width: int, height: int) -> bytes:
    """A small PNG file that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def exif_of(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block of these entries: tag, type (2 text, 3 short, 5 fraction), count, value."""
    packed = b"".join(struct.pack(">HHI4s", *entry) for entry in entries)
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + packed + bytes(4)


def with_exif(exif: bytes) -> bytes:
    """The PNG with this EXIF chunk in it."""
    return PNG[:33] + chunk(b"eXIf", exif) + PNG[33:]


def test_a_grey_png_becomes_its_pixels() -> None:
    """White is 1 and black is 0, in rows from the top."""
    np.testing.assert_allclose(pixels_of(PNG)[0], GREY, atol=1e-3)


def test_a_jpeg_becomes_nearly_its_pixels() -> None:
    """JPEG loses a little."""
    np.testing.assert_allclose(pixels_of(JPEG)[0], GREY, atol=12)


def test_images_keep_their_order() -> None:
    """One row for each file."""
    black, white = (file_of(Image.new("L", (8, 8), value)) for value in (0, 255))
    assert pixels_of(white, black, white).mean(axis=(1, 2)).round().tolist() == [255, 0, 255]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_every_kind_of_png_becomes_the_same_grey(mode: str) -> None:
    """Grey stays grey whichever way a file says it."""
    np.testing.assert_allclose(pixels_of(file_of(Image.fromarray(GREY).convert(mode)))[0], GREY, atol=1)


def test_black_and_white_png_becomes_black_and_white() -> None:
    """One bit a pixel."""
    picture = Image.fromarray(GREY).point(lambda value: 255 * (value > 100), mode="1")
    np.testing.assert_allclose(pixels_of(file_of(picture))[0], np.where(GREY > 100, 255, 0), atol=1e-3)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_is_read(mode: str) -> None:
    """A mid grey stays one."""
    picture = Image.new("L", (8, 8), 128).convert(mode)
    np.testing.assert_allclose(pixels_of(file_of(picture, "JPEG")), 128, atol=2)


def test_colours_become_grey_by_their_brightness() -> None:
    """Green is brighter than red, red than blue (ITU-R 601-2)."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    red, green, blue = pixels_of(*(file_of(Image.new("RGB", (8, 8), colour)) for colour in colours))[:, 0, 0]
    assert (red, green, blue) == (pytest.approx(76, abs=1), pytest.approx(150, abs=1), pytest.approx(29, abs=1))


def test_a_model_of_coloured_images_gets_red_green_and_blue() -> None:
    """In that order, last, whichever kind of file says it; grey is as much of each."""
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    files = [file_of(Image.fromarray(red)), file_of(Image.fromarray(red).convert("RGBA")), PNG]
    pixels = pixels_of(*files, preprocessing=COLOURED)
    np.testing.assert_allclose(pixels[:2], [red, red], atol=1)
    np.testing.assert_allclose(pixels[2], np.repeat(GREY[..., None], 3, axis=2), atol=1)


def test_transparent_parts_are_black() -> None:
    """What cannot be seen is background, half-transparent white is half as bright, and its hidden colour counts not."""
    picture = np.full((8, 8, 4), 255, np.uint8)
    picture[:4, :, 3] = 0
    picture[4:6, :, 3] = 128
    rows = pixels_of(file_of(Image.fromarray(picture)))[0].mean(axis=1)
    np.testing.assert_allclose(rows, [0] * 4 + [128] * 2 + [255] * 2, atol=1)


def test_a_transparent_colour_of_a_palette_is_black() -> None:
    """Transparency that is told beside the pixels counts too."""
    picture = Image.new("L", (8, 8), 255).convert("P")
    np.testing.assert_allclose(pixels_of(file_of(picture, transparency=255)), 0, atol=1)


@pytest.mark.parametrize("size", [(80, 80), (3, 3), (16, 4)])
def test_another_size_is_resized(size: tuple[int, int]) -> None:
    """Left black and right white stay left and right."""
    picture = Image.new("L", size, 0)
    picture.paste(255, (size[0] // 2 + size[0] % 2, 0, size[0], size[1]))
    pixels = pixels_of(file_of(picture))[0]
    assert pixels.shape == (8, 8)
    assert pixels[:, :2].max() < 20
    assert pixels[:, -2:].min() > 235


def test_height_and_width_are_not_confused() -> None:
    """A model of 2 × 6 takes pictures of 2 rows and 6 columns."""
    picture = np.arange(12, dtype=np.uint8).reshape(2, 6) * 20
    np.testing.assert_allclose(pixels_of(file_of(Image.fromarray(picture)), preprocessing=WIDE)[0], picture, atol=1e-3)


@pytest.mark.parametrize(
    ("orientation", "turned"), [(3, np.rot90(GREY, 2)), (6, np.rot90(GREY, 3)), (8, np.rot90(GREY))]
)
def test_a_picture_that_was_taken_sideways_is_turned_upright(orientation: int, turned: np.ndarray) -> None:
    """As every viewer shows it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    np.testing.assert_allclose(pixels_of(file_of(Image.fromarray(GREY), exif=exif))[0], turned, atol=1e-3)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (128 * 257, 128), (65535, 255)])
def test_a_16_bit_png_keeps_its_brightness(value: int, expected: int) -> None:
    """65,535 is white there, so the middle stays grey."""
    picture = Image.fromarray(np.full((8, 8), value, np.uint16))
    np.testing.assert_allclose(pixels_of(file_of(picture)), expected, atol=1)


def test_features_lie_in_the_range_of_training() -> None:
    """Black is the smallest feature value and white the largest, whatever they are."""
    shifted = Preprocessing(input_shape=(8, 8), uint8_scale=1 / 255, feature_min=-1, feature_max=1)
    black, white = (file_of(Image.new("L", (8, 8), value)) for value in (0, 255))
    np.testing.assert_allclose(rows_of_images([black, white], shifted), [[-1] * 64, [1] * 64], atol=1e-6)


@pytest.mark.parametrize(
    ("width", "height", "shown"),
    [(60_000, 60_000, "60000 × 60000"), (10_000, 10_000, "10000 × 10000"), (4001, 4000, "4001 × 4000")],
)
def test_an_image_bomb_is_refused_quickly_with_its_size(width: int, height: int, shown: str) -> None:
    """A small file that says it is huge is refused by its header, before a pixel is made."""
    started = time.perf_counter()
    message = refusal(claims_to_be(width, height))
    assert time.perf_counter() - started < 1
    assert message == f"images.files[0]: got {shown} pixels, expected at most 16000000 in all"


def test_images_that_are_too_much_together_are_refused() -> None:
    """Each is within its limit, all of them are not."""
    large = file_of(Image.new("1", (4000, 4000)))
    assert refusal(*[large] * 5) == "images.files: the images have more than 64000000 pixels together; split the batch"


def test_a_file_over_the_limit_is_refused() -> None:
    """Before anything of it is read."""
    message = refusal(PNG, bytes(MAX_IMAGE_BYTES + 1))
    assert message == "images.files[1]: got 8388609 bytes, expected at most 8388608"


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"no image at all",
        file_of(Image.fromarray(GREY), "GIF"),
        file_of(Image.fromarray(GREY), "BMP"),
        file_of(Image.fromarray(GREY), "TIFF"),
        PNG[:20],
        JPEG[:3],
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        claims_to_be(0, 0),
    ],
    ids=["empty", "text", "GIF", "BMP", "TIFF", "cut PNG header", "cut JPEG header", "zeros", "no pixels"],
)
def test_what_is_no_png_or_jpeg_is_refused_with_its_place(file: bytes) -> None:
    """The bad file among good ones is named."""
    assert refusal(PNG, file, JPEG) == f"images.files[1]: expected a PNG or JPEG file, got {len(file)} other bytes"


@pytest.mark.parametrize("file", [PNG[:-30], JPEG[:-20]], ids=["PNG", "JPEG"])
def test_a_truncated_image_is_refused_with_its_place(file: bytes) -> None:
    """Its header is good and its pixels are not."""
    assert refusal(JPEG, file).startswith("images.files[1]: the image cannot be decoded: ")


@pytest.mark.filterwarnings("ignore:::PIL")  # Pillow warns of broken EXIF by design; the answer is what counts here
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II",
        b"XX*\0\x08\0\0\0",
        b"II*\0\xff\xff\xff\xff",
        exif_of((ORIENTATION, 5, 1, b"\0\0\0\x1a")),
        exif_of((ORIENTATION, 2, 4, b"abc\0")),
        exif_of((ORIENTATION, 3, 999, b"\0\0\xff\xff")),
        exif_of((ORIENTATION, 3, 1, b"\0\6\0\0"), (IMAGE_WIDTH, 2, 3, b"abc\0")),
        exif_of((ORIENTATION, 3, 1, b"\0\6\0\0"), (X_RESOLUTION, 2, 3, b"abc\0")),
    ],
    ids=[
        "empty",
        "cut",
        "no TIFF",
        "offset",
        "orientation as a fraction",
        "orientation as text",
        "orientation too long",
        "turned, with a width of text",
        "turned, with a resolution of text",
    ],
)
def test_bad_exif_spoils_nothing(exif: bytes) -> None:
    """Broken notes beside good pixels end in an answer or a refusal, never in another error."""
    with suppress(InvalidInputError):
        assert pixels_of(with_exif(exif)).shape == (1, 8, 8)


def test_a_model_that_takes_no_images_says_what_it_takes() -> None:
    """Its input has no height and width."""
    flat = Preprocessing(input_shape=(64,), uint8_scale=1)
    message = refusal(PNG, preprocessing=flat)
    assert message == "images: this model takes no images: its input shape is [64]; send a tensor"


@pytest.mark.filterwarnings("ignore:::PIL")  # as above
@given(st.binary(max_size=200), st.sampled_from([b"", PNG[:8], PNG[:33], JPEG[:2], JPEG[:20]]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_an_image_or_a_refusal(data: bytes, start: bytes) -> None:
    """Behind a good beginning too."""
    with suppress(InvalidInputError):
        pixels_of(start + data)


@pytest.mark.filterwarnings("ignore:::PIL")  # as above
@pytest.mark.parametrize(
    "good", [PNG, JPEG, with_exif(exif_of((ORIENTATION, 3, 1, b"\0\6\0\0")))], ids=["PNG", "JPEG", "EXIF"]
)
@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_nearly_good_image_is_an_image_or_a_refusal(good: bytes, data: st.DataObject) -> None:
    """A few changed bytes raise nothing but InvalidInputError."""
    altered = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InvalidInputError):
        pixels_of(bytes(altered))
