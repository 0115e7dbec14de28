"""digits: 1,797 handwritten digits of 8 × 8 pixels that come inside scikit-learn (UCI, Alpaydin and Kaynak, 1998)."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from shared.preprocessing import Preprocessing
from trainer_service.datasets.dataset import Dataset, Split

DESCRIPTION = "1,797 handwritten digits, 8 × 8 grey pixels of 0 to 16; comes with scikit-learn, needs no network."
TRAIN_SIZE, TEST_SIZE = 1437, 360
FILE = "datasets/data/digits.csv.gz"


def load_digits() -> Dataset:
    """The data set, a fifth of it held out; which fifth never changes."""
    table = np.loadtxt(file_in_scikit_learn(), dtype=np.uint8, delimiter=",")  # (1797, 65): pixels, then the digit
    examples, class_ids = table[:, :-1], table[:, -1].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(class_ids))
    train, test = order[TEST_SIZE:], order[:TEST_SIZE]
    return Dataset(
        name="digits",
        preprocessing=Preprocessing(input_shape=(8, 8), uint8_scale=1 / 16),
        class_labels=tuple("0123456789"),
        train=Split(examples[train], class_ids[train]),
        test=Split(examples[test], class_ids[test]),
    )


def file_in_scikit_learn() -> Path:
    """The file, found without loading scikit-learn: that would take each job longer than all of its training.

    Raises:
        FileNotFoundError: if scikit-learn is not installed.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the data set digits comes with scikit-learn, which is not installed")
    return Path(spec.origin).parent / FILE
