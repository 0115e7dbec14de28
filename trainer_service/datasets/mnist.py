"""MNIST and its relatives: four packed IDX files each, of 70,000 grey pictures of 28 × 28 pixels in ten classes.

Read from `<data dir>/<name>/`, else downloaded once. Whatever its source, a file whose SHA-256 is not the original's is
refused by name: training on altered data is worse than not training.
"""

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared.errors import WrongStateError
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.download import fetch
from trainer_service.datasets.idx import parse_idx
from trainer_service.datasets.pictures import flat, picture_preprocessing

TRAIN_EXAMPLES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_EXAMPLES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
TRAIN_SIZE = 60_000
UNPACKED_LIMIT = 64 * 2**20  # the largest file unpacks to 47 MB; more than this is none of them


@dataclass(frozen=True)
class Relative:
    """One of the family, with the SHA-256 of each of its files: as packed, or of what they hold.

    A .gz may be packed anew, what it holds may not change; but of some originals only the packed form's is published.
    """

    name: str
    title: str
    description: str
    class_labels: tuple[str, ...]
    mirrors: tuple[str, ...]
    digests: Mapping[str, str]
    digests_are_of_packed: bool = False


MNIST = Relative(
    name="mnist",
    title="MNIST",
    description="70,000 handwritten digits, 28 × 28 grey pixels (LeCun, Cortes and Burges).",
    class_labels=tuple("0123456789"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    digests={
        TRAIN_EXAMPLES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        TEST_EXAMPLES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)
FASHION_MNIST = Relative(
    name="fashion-mnist",
    title="Fashion-MNIST",
    description="70,000 pieces of clothing, 28 × 28 grey pixels (Zalando: Xiao, Rasul and Vollgraf, 2017).",
    class_labels=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    digests={
        TRAIN_EXAMPLES: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        TRAIN_LABELS: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        TEST_EXAMPLES: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        TEST_LABELS: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    digests_are_of_packed=True,
)  # fmt: skip


def load_relative(relative: Relative, data_dir: Path | None, cache_dir: Path) -> Dataset:
    """The data set, from its folder in `data_dir` if a data directory is given, else from the cache or a mirror.

    Raises:
        WrongStateError: DATASET_FILE_MISSING or DATASET_FILE_ALTERED, naming the file.
        UnavailableError: if it must be downloaded and no mirror can be reached.
    """
    if data_dir is not None:
        folder = data_dir.expanduser() / relative.name
        files = {name: unpack(local_file(folder / name, relative), relative) for name in relative.digests}
    else:
        folder = cache_dir.expanduser() / relative.name
        read = partial(unpack, relative=relative)
        files = {name: fetch(name, folder, relative.mirrors, read) for name in relative.digests}
    arrays = {name: parse_idx(content) for name, content in files.items()}
    return Dataset(
        name=relative.name,
        preprocessing=picture_preprocessing((28, 28)),
        class_labels=relative.class_labels,
        train=flat(arrays[TRAIN_EXAMPLES], arrays[TRAIN_LABELS]),
        test=flat(arrays[TEST_EXAMPLES], arrays[TEST_LABELS]),
    )


def unpack(path: Path, relative: Relative) -> bytes:
    """What a .gz file holds.

    Raises:
        WrongStateError: DATASET_FILE_ALTERED if it is truncated, too large or not the original.
    """
    expected = relative.digests[path.name]
    if relative.digests_are_of_packed:
        with path.open("rb") as file:
            check_digest(path, hashlib.file_digest(file, "sha256").hexdigest(), expected, relative, "it")
    try:
        with gzip.open(path) as packed:
            data = packed.read(UNPACKED_LIMIT + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise altered(path, relative, f"it cannot be unpacked: {error}") from error
    if not relative.digests_are_of_packed:
        check_digest(path, hashlib.sha256(data).hexdigest(), expected, relative, "its content")
    return data


def check_digest(path: Path, found: str, expected: str, relative: Relative, what: str) -> None:
    """Returns if the digests are one; WrongStateError naming the file if not."""
    if found != expected:
        raise altered(path, relative, f"{what} has SHA-256 {found}, the original has {expected}")


def local_file(path: Path, relative: Relative) -> Path:
    """The file in a data directory; WrongStateError naming it if it is not there."""
    if not path.is_file():
        raise WrongStateError(
            f"{path} is missing; put {relative.title}'s four .gz files there, or unset WEIGHTCAST_DATA_DIR to download "
            f"them",
            reason="DATASET_FILE_MISSING",
        )
    return path


def altered(path: Path, relative: Relative, why: str) -> WrongStateError:
    """The refusal of a file that is not the original."""
    return WrongStateError(f"{path.name} is not {relative.title}'s: {why}; get it again", reason="DATASET_FILE_ALTERED")
