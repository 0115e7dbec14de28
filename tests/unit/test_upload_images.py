"""Uploaded .zip files of class folders: what images become, and that a file which cannot be taken is named."""

import struct
import warnings
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.errors import InvalidInputError
from trainer_service.datasets import upload_images
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.upload_images import read_image_zip

ORIENTATION = 0x0112  # an EXIF tag
Members = dict[str, bytes]


def png(value: int, size: tuple[int, int] = (8, 6), mode: str = "L") -> bytes:
    """A PNG of one brightness; the size is width and height."""
    return file_of(Image.new("L", size, value).convert(mode))


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image as a file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pets(mode: str = "L", around: str = "") -> Members:
    """Five images of each of two classes: cats darker than 100, dogs brighter."""
    cats = {f"{around}cat/{index}.png": png(index, mode=mode) for index in range(5)}
    return cats | {f"{around}dog/{index}.png": png(100 + index, mode=mode) for index in range(5)}


def zip_of(members: Members) -> bytes:
    """An archive of these files."""
    file = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of names that stand there twice
        for name, content in members.items():
            archive.writestr(name.removesuffix("|twice"), content)
    return file.getvalue()


def loaded(members: Members) -> Dataset:
    """The data set in an archive of these files."""
    return read_image_zip(BytesIO(zip_of(members)), "pets")


def refusal(content: Members | bytes) -> str:
    """What is said of `chunk`."""
    with pytest.raises(InvalidInputError) as raised:
        read_image_zip(BytesIO(content if isinstance(content, bytes) else zip_of(content)), "pets")
    assert [violation.field for violation in raised.value.violations] == ["chunk"]
    return raised.value.violations[0].description


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claims_to_be(width: int, height: int) -> bytes:
    """A small PNG file that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("around", ["", "my pets/"])
def test_grey_images_become_bytes_of_height_and_width(around: str) -> None:
    """With the folders' names as classes, one folder around them or none."""
    dataset = loaded(pets(around=around))
    assert dataset.class_labels == ("cat", "dog")
    assert dataset.preprocessing.input_shape == (6, 8)
    assert dataset.train.examples.dtype == np.uint8
    assert (dataset.train.class_counts(2), dataset.test.class_counts(2)) == ((4, 4), (1, 1))
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.class_ids, split.examples[:, 0] >= 100)


def test_one_coloured_image_makes_all_coloured() -> None:
    """Red, green and blue last; the grey ones have as much of each."""
    dataset = loaded({**pets(), "dog/red.png": file_of(Image.new("RGB", (8, 6), (200, 10, 0)))})
    assert dataset.preprocessing.input_shape == (6, 8, 3)
    rows = np.concatenate([dataset.train.examples, dataset.test.examples]).reshape(-1, 6, 8, 3)
    corners = rows[:, 5, 7].tolist()
    greys = [[index] * 3 for index in (*range(5), *range(100, 105))]
    assert sorted(corners) == [*greys, [200, 10, 0]]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_every_kind_of_grey_is_grey(mode: str) -> None:
    """Whether it has transparency or sixteen bits."""
    picture = Image.fromarray(np.full((6, 8), 257 * 200, np.uint16)) if mode == "I;16" else None
    members = pets() if picture is None else {**pets(), "dog/16.png": file_of(picture)}
    dataset = loaded({**members, "dog/x.png": png(255, mode="L" if picture else mode)})
    assert dataset.preprocessing.input_shape == (6, 8)
    assert max(dataset.train.examples.max(), dataset.test.examples.max()) == 255
    assert picture is None or 200 in np.concatenate([dataset.train.examples, dataset.test.examples])


def test_an_image_that_was_taken_sideways_is_turned_before_it_is_measured() -> None:
    """6 × 8 pixels that lie on their side are 8 × 6."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    loaded({**pets(), "dog/turned.jpg": file_of(Image.new("L", (6, 8)), "JPEG", exif=exif)})
    assert "is 6 × 8 pixels" in refusal({**pets(), "dog/upright.jpg": file_of(Image.new("L", (6, 8)), "JPEG")})


def test_what_file_managers_leave_behind_is_passed_over() -> None:
    """It changes nothing, at whatever depth."""
    remains = {"__MACOSX/cat/._0.png": b"x", ".DS_Store": b"x", "cat/.hidden": b"x", ".git/a/b/c": b"x", "empty/": b""}
    remains |= {"Thumbs.db": b"x", "cat/Thumbs.db": b"x", "dog/desktop.ini": b"x", "Desktop.ini": b"x"}
    assert loaded({**pets(), **remains}).digest == loaded(pets()).digest


def test_the_order_in_the_archive_does_not_matter() -> None:
    """The same files give the same data set."""
    assert loaded(dict(reversed(pets().items()))).digest == loaded(pets()).digest


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"dog/big.png": png(1, (9, 6))}, "'dog/big.png' is 9 × 6 pixels, 'cat/0.png' 8 × 6; bring all images to one"),
        ({"dog/notes.txt": b"hello"}, "'dog/notes.txt': expected a PNG or JPEG file, got 5 other bytes; replace it"),
        ({"dog/x.gif": file_of(Image.new("L", (8, 6)), "GIF")}, "'dog/x.gif': expected a PNG or JPEG file"),
        ({"dog/cut.png": png(1)[:-25]}, "'dog/cut.png': the image cannot be decoded"),
        ({"readme.txt": b"hello"}, "'readme.txt' lies in no class folder; expected a folder for each class"),
        ({"a/b/c.png": png(1)}, "'a/b/c.png' lies in no class folder"),
        ({"../x.png": png(1)}, "'../x.png' is no plain path; pack the folders"),
        ({"/cat/x.png": png(1)}, "'/cat/x.png' is no plain path"),
        ({"cat//x.png": png(1)}, "'cat//x.png' is no plain path"),
        ({"cat\\x.png": png(1)}, "is no plain path"),
        ({"C:/x.png": png(1)}, "'C:/x.png' is no plain path"),
        ({"cat/0.png|twice": png(1)}, "'cat/0.png' is in the archive twice"),
        ({"bird/0.png": png(1)}, "the class 'bird' has only one example"),
        ({"dog/zeros.png": bytes(2**20)}, "'dog/zeros.png' unpacks 1033 bytes to 1048576, as no image does"),
        ({"dog/huge.png": bytes(8 * 2**20 + 1)}, "'dog/huge.png' has 8388609 bytes, expected at most 8388608"),
        ({"dog/bomb.png": claims_to_be(60_000, 60_000)}, "'dog/bomb.png': got 60000 × 60000 pixels, expected at most"),
        ({"a/0.png": claims_to_be(513, 512)}, "got images of 512 × 513 = 262656 values, expected 1 to 262144; shrink"),
    ],
)
def test_a_file_that_cannot_be_taken_is_named(members: Members, words: str) -> None:
    """Among good ones, with the remedy."""
    assert words in refusal({**pets(), **members})


@pytest.mark.parametrize("around", ["", "my pets/"])
@pytest.mark.parametrize(("first", "second"), [("train", "test"), ("Training", "Validation")])
def test_folders_of_splits_are_refused_with_what_to_do(around: str, first: str, second: str) -> None:
    """The common other layout is known by its names, with a folder around it or none."""
    members = pets(around=f"{around}{first}/") | pets(around=f"{around}{second}/")
    assert refusal(members) == (
        f"'{around}{first}/cat/0.png': train and test folders are not read; give each class one folder with all its "
        "images, a fifth of them is held out by itself"
    )


@pytest.mark.parametrize("members", [{}, {"__MACOSX/x": b""}, {"cat/": b""}])
def test_an_archive_without_images_says_what_is_expected(members: Members) -> None:
    """The layout, by example."""
    assert refusal(members) == (
        "the archive has no images; expected a folder for each class with its images: cat/1.png, dog/1.png"
    )


def test_one_class_is_too_few() -> None:
    """There is nothing to tell apart."""
    assert refusal({"cat/0.png": png(1), "cat/1.png": png(2)}) == "there is 1 class, expected at least 2"


def test_an_encrypted_member_is_refused() -> None:
    """Its flag says so before anything is read."""
    content = bytearray(zip_of(pets()))
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    assert refusal(bytes(content)) == "'cat/0.png' is encrypted; pack it without a password"


def test_all_pixels_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before one of them is decoded."""
    monkeypatch.setattr("trainer_service.datasets.pictures.MAX_DECODED_BYTES", 9 * 48)
    monkeypatch.setattr(upload_images, "decoded", None)
    assert refusal(pets()).startswith("got 10 images of 6 × 8, expected at most 432 bytes in all")


GOOD = zip_of(pets())


@pytest.mark.filterwarnings("ignore:::PIL")  # Pillow warns of broken files by design
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_nearly_good_archive_is_a_data_set_or_a_refusal(data: st.DataObject) -> None:
    """A few changed bytes raise nothing but InvalidInputError."""
    altered = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    try:
        dataset = read_image_zip(BytesIO(bytes(altered)), "pets")
    except InvalidInputError:
        return
    assert dataset.train.examples.dtype == np.uint8
