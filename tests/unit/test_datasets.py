"""The data sets themselves: what they hold, that it never changes, and that an altered file is refused by name."""

import gzip
import hashlib
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.errors import NotFoundError, WrongStateError
from shared.store.connection import StoreConnection
from trainer_service.datasets import mnist
from trainer_service.datasets.catalogue import BUILT_IN, Catalogue
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.datasets.mnist import FASHION_MNIST, MNIST, load_relative
from trainer_service.datasets.upload_store import UploadStore

DIGITS_DIGEST = "7aa55f724304130dd6928cfc66c2a0b0ef5a6c808fc0d2eec992fea35b3e071f"
MNIST_DIGEST = "1ae7d201ddab753ecf76bcb9c4b939c3d100a426a0deb52c2299d495829efbd1"


@pytest.fixture(scope="module")
def real_mnist(mnist_data_dir: Path) -> Dataset:
    """The real MNIST."""
    return load_relative(MNIST, mnist_data_dir, Path("never-used"))


@pytest.fixture
def folder(tmp_path: Path, mnist_data_dir: Path) -> Path:
    """A data directory of this test's own whose files are links to the real ones."""
    (tmp_path / "mnist").mkdir()
    for file in (mnist_data_dir / "mnist").iterdir():
        (tmp_path / "mnist" / file.name).symlink_to(file.resolve())
    return tmp_path


def replace_file(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_digits_has_its_sizes_and_range(digits: Dataset) -> None:
    """1,797 pictures of 8 × 8 pixels from 0 to 16, a fifth held out, every class in both splits."""
    assert (digits.train.examples.shape, digits.test.examples.shape) == ((1437, 64), (360, 64))
    for split in (digits.train, digits.test):
        assert split.examples.dtype == np.uint8
        assert (split.examples.min(), split.examples.max()) == (0, 16)
        assert len(split) == len(split.examples) == len(split.class_ids)
        assert set(split.class_ids.tolist()) == set(range(10))
    assert digits.preprocessing.uint8_max == 16


def test_digits_is_split_without_overlap(digits: Dataset) -> None:
    """Together the splits are the whole data set: what measures was never learned from."""
    from sklearn.datasets import load_digits as load_original  # noqa: PLC0415 - slow, and only this test needs it

    def rows(examples: np.ndarray, class_ids: np.ndarray) -> list[bytes]:
        return sorted(bytes([*example, class_id]) for example, class_id in zip(examples, class_ids, strict=True))

    original = load_original()
    both = np.concatenate([digits.train.examples, digits.test.examples])
    labels = np.concatenate([digits.train.class_ids, digits.test.class_ids])
    assert rows(both, labels) == rows(original.data.astype(np.uint8), original.target)


def test_digits_never_changes(digits: Dataset) -> None:
    """The same pictures in the same split, on every machine and in every build."""
    assert digits.digest == DIGITS_DIGEST


def test_mnist_has_its_shapes_and_first_labels(real_mnist: Dataset) -> None:
    """60,000 and 10,000 pictures of 28 × 28 pixels that begin as the original does."""
    assert (real_mnist.train.examples.shape, real_mnist.test.examples.shape) == ((60000, 784), (10000, 784))
    assert real_mnist.train.class_ids[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert real_mnist.test.class_ids[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert real_mnist.train.examples.max() == real_mnist.preprocessing.uint8_max == 255


def test_mnist_pictures_are_upright(real_mnist: Dataset) -> None:
    """The first test picture is a 7: its upper half holds the bar, and its right half the stem below it."""
    seven = real_mnist.test.examples[0].reshape(28, 28).astype(int)
    assert seven[7:10, 6:16].mean() > 100
    assert seven[18:27, :10].sum() == 0


def test_mnist_never_changes(real_mnist: Dataset) -> None:
    """The digest that versions record."""
    assert real_mnist.digest == MNIST_DIGEST


def test_a_missing_file_is_named(folder: Path) -> None:
    """With what to do about it."""
    (folder / "mnist" / mnist.TEST_LABELS).unlink()
    with pytest.raises(WrongStateError, match=rf"{mnist.TEST_LABELS} is missing; put .* or unset") as raised:
        load_relative(MNIST, folder, folder)
    assert raised.value.reason == "DATASET_FILE_MISSING"


@pytest.mark.parametrize("name", [mnist.TRAIN_LABELS, mnist.TEST_EXAMPLES])
def test_a_truncated_file_is_refused_by_name(folder: Path, name: str) -> None:
    """As an interrupted copy leaves it."""
    path = folder / "mnist" / name
    replace_file(path, path.read_bytes()[:-100])
    with pytest.raises(WrongStateError, match=f"{name} is not MNIST's: it cannot be unpacked") as raised:
        load_relative(MNIST, folder, folder)
    assert raised.value.reason == "DATASET_FILE_ALTERED"


def test_a_file_with_one_other_pixel_is_refused_by_name(folder: Path) -> None:
    """It unpacks well and parses well, and still is not MNIST."""
    path = folder / "mnist" / mnist.TEST_EXAMPLES
    altered = bytearray(gzip.decompress(path.read_bytes()))
    altered[5000] ^= 1
    replace_file(path, gzip.compress(altered, 1))
    with pytest.raises(WrongStateError, match=f"{mnist.TEST_EXAMPLES} is not MNIST's: its content has SHA-256"):
        load_relative(MNIST, folder, folder)


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", b"\x1f\x8b" + bytes(50)])
def test_a_file_that_is_no_archive_is_refused_by_name(folder: Path, content: bytes) -> None:
    """Such as a web page that was saved under its name."""
    replace_file(folder / "mnist" / mnist.TEST_LABELS, content)
    with pytest.raises(WrongStateError, match=f"{mnist.TEST_LABELS} is not MNIST's"):
        load_relative(MNIST, folder, folder)


def test_a_file_packed_anew_is_accepted(folder: Path, real_mnist: Dataset) -> None:
    """What counts is the content, not how it was packed."""
    path = folder / "mnist" / mnist.TEST_LABELS
    replace_file(path, gzip.compress(gzip.decompress(path.read_bytes()), 1))
    assert load_relative(MNIST, folder, folder).digest == real_mnist.digest


def test_a_gzip_bomb_is_not_unpacked_whole(tmp_path: Path) -> None:
    """Half a gigabyte in a small file is refused without ever being in memory."""
    path = tmp_path / mnist.TEST_LABELS
    path.write_bytes(gzip.compress(bytes(2**24), 1) * 32)
    tracemalloc.start()
    try:
        with pytest.raises(WrongStateError, match=f"{mnist.TEST_LABELS} is not MNIST's"):
            mnist.unpack(path, MNIST)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * mnist.UNPACKED_LIMIT


@pytest.mark.parametrize(
    ("rows", "count", "expected"),
    [(10, 4, [0, 3, 6, 9]), (10, 10, list(range(10))), (10, 99, list(range(10))), (10, 1, [0]), (9, 4, [0, 3, 6])],
)
def test_a_sample_is_taken_at_even_distances(rows: int, count: int, expected: list[int]) -> None:
    """At most as many as asked for, from the first example on to the end."""
    split = Split(np.arange(2 * rows, dtype=np.uint8).reshape(rows, 2), np.arange(rows))
    sample = split.sample(count)
    assert sample.class_ids.tolist() == expected
    np.testing.assert_array_equal(sample.examples, split.examples[expected])
    assert np.shares_memory(sample.examples, split.examples)


@pytest.mark.parametrize("change", ["example", "label", "names", "split", "type", "shape"])
def test_the_digest_covers_everything_that_training_sees(make_dataset: Callable[..., Dataset], change: str) -> None:
    """One pixel, one label, one class's name, one example on the other side, or how rows are read: another digest."""
    good, other = make_dataset(5), make_dataset(5)
    train, test, labels, preprocessing = other.train, other.test, other.class_labels, other.preprocessing
    if change == "example":
        train.examples[0, 0] ^= 1
    elif change == "label":
        test.class_ids[0] = (test.class_ids[0] + 1) % 3
    elif change == "names":
        labels = ("ant", "bee", "cow")
    elif change == "type":
        train = Split(train.examples.view(np.int8).astype(np.float32), train.class_ids)
    elif change == "shape":
        preprocessing = replace(preprocessing, input_shape=(3, 2))
    else:
        examples = np.concatenate([train.examples, test.examples])
        class_ids = np.concatenate([train.class_ids, test.class_ids])
        train, test = Split(examples[:6], class_ids[:6]), Split(examples[6:], class_ids[6:])
    assert make_dataset(5).digest == good.digest
    assert Dataset("made", preprocessing, labels, train, test).digest != good.digest


def test_fashion_mnist_is_known_by_the_bytes_of_its_files(folder: Path) -> None:
    """MNIST's files in its folder are good files and still not it, and the message says whose they should be."""
    (folder / "mnist").rename(folder / "fashion-mnist")
    with pytest.raises(WrongStateError, match=f"{mnist.TRAIN_EXAMPLES} is not Fashion-MNIST's: it has SHA-256"):
        load_relative(FASHION_MNIST, folder, folder)


def test_fashion_mnist_is_read_like_mnist(folder: Path) -> None:
    """The same four files from a folder of its own, with the names of its classes."""
    (folder / "mnist").rename(folder / "fashion-mnist")
    digests = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (folder / "fashion-mnist").iterdir()
    }
    dataset = load_relative(replace(FASHION_MNIST, digests=digests), folder, folder)
    assert (dataset.name, dataset.preprocessing.input_shape) == ("fashion-mnist", (28, 28))
    assert dataset.train.examples.shape == (60000, 784)
    assert (dataset.class_labels[0], dataset.class_labels[9]) == ("T-shirt/top", "Ankle boot")


@pytest.fixture
def catalogue(connection: StoreConnection, tmp_path: Path) -> Catalogue:
    """A catalogue without data directory and without uploads."""
    return Catalogue(None, tmp_path, UploadStore(connection))


def test_the_catalogue_loads_a_data_set_once(catalogue: Catalogue) -> None:
    """The second time it is the same object."""
    assert catalogue.load("digits") is catalogue.load("digits")


def test_what_is_said_of_a_built_in_data_set_before_it_is_loaded_is_true(digits: Dataset, real_mnist: Dataset) -> None:
    """Its shape and its number of classes."""
    for dataset in (digits, real_mnist):
        entry = BUILT_IN[dataset.name]
        assert (entry.input_shape, entry.class_count) == (dataset.preprocessing.input_shape, len(dataset.class_labels))


@pytest.mark.parametrize("name", ["mnits", "", "MNIST", "x" * 10_000, "openml", "a{b}:c"])
def test_an_unknown_data_set_is_refused_with_what_there_is(catalogue: Catalogue, name: str) -> None:
    """The message names the one asked for, shortened, and those that exist."""
    there_are = "there are digits, mnist, fashion-mnist, openml:NAME"
    with pytest.raises(NotFoundError, match=f"there is no data set '{name[:80]}'; {there_are}") as raised:
        catalogue.load(name)
    assert raised.value.reason == "DATASET_NOT_FOUND"
