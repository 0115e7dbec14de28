"""MNIST: 70,000 handwritten digits of 28 × 28 pixels (LeCun, Cortes and Burges).

Read from `<data dir>/mnist/`, else downloaded once. Whatever its source, a file whose SHA-256 is not the original's is
refused by name: training on altered data is worse than not training.
"""

import gzip
import hashlib
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from shared.errors import WrongStateError
from shared.preprocessing import Preprocessing
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.datasets.download import fetch
from trainer_service.datasets.idx import parse_idx

DESCRIPTION = "70,000 handwritten digits, 28 × 28 grey pixels (LeCun, Cortes and Burges)."
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# SHA-256 of the unpacked files: a .gz may be packed anew, what it holds may not change.
TRAIN_EXAMPLES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_EXAMPLES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
DIGESTS = {
    TRAIN_EXAMPLES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    TEST_EXAMPLES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
UNPACKED_LIMIT = 64 * 2**20  # the largest file unpacks to 47 MB; more than this is no MNIST


def load_mnist(data_dir: Path | None, cache_dir: Path) -> Dataset:
    """MNIST, from `data_dir`/mnist if a data directory is given, else from the cache or a mirror.

    Raises:
        WrongStateError: DATASET_FILE_MISSING or DATASET_FILE_ALTERED, naming the file.
        UnavailableError: if it must be downloaded and no mirror can be reached.
    """
    if data_dir is not None:
        folder = data_dir.expanduser() / "mnist"
        files = {name: unpack(_local_file(folder / name), digest) for name, digest in DIGESTS.items()}
    else:
        folder = cache_dir.expanduser() / "mnist"
        files = {name: fetch(name, folder, MIRRORS, partial(unpack, digest=DIGESTS[name])) for name in DIGESTS}
    arrays = {name: parse_idx(content) for name, content in files.items()}
    return Dataset(
        name="mnist",
        preprocessing=Preprocessing(input_shape=(28, 28), uint8_scale=1 / 255),
        class_labels=tuple("0123456789"),
        train=_split(arrays[TRAIN_EXAMPLES], arrays[TRAIN_LABELS]),
        test=_split(arrays[TEST_EXAMPLES], arrays[TEST_LABELS]),
    )


def unpack(path: Path, digest: str) -> bytes:
    """What a .gz file holds.

    Raises:
        WrongStateError: DATASET_FILE_ALTERED if it is truncated, too large or not the original.
    """
    try:
        with gzip.open(path) as packed:
            data = packed.read(UNPACKED_LIMIT + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _altered(path, f"it cannot be unpacked: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise _altered(path, f"its content has SHA-256 {found}, the original has {digest}")
    return data


def _local_file(path: Path) -> Path:
    if not path.is_file():
        raise WrongStateError(
            f"{path} is missing; put MNIST's four .gz files there, or unset WEIGHTCAST_DATA_DIR to download them",
            reason="DATASET_FILE_MISSING",
        )
    return path


def _altered(path: Path, why: str) -> WrongStateError:
    return WrongStateError(f"{path.name} is not MNIST's: {why}; get it again", reason="DATASET_FILE_ALTERED")


def _split(examples: np.ndarray, labels: np.ndarray) -> Split:
    return Split(examples.reshape(len(examples), -1), labels.astype(np.int64))
