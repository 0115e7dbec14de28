"""digits: 1,797 handwritten digits of 8 × 8 pixels that come inside scikit-learn (UCI, Alpaydin and Kaynak, 1998)."""

import numpy as np

from shared.preprocessing import Preprocessing
from trainer_service.datasets.dataset import Dataset, Split

DESCRIPTION = "1,797 handwritten digits, 8 × 8 grey pixels of 0 to 16; comes with scikit-learn, needs no network."
TRAIN_SIZE, TEST_SIZE = 1437, 360


def load_digits() -> Dataset:
    """The data set, a fifth of it held out; which fifth never changes."""
    from sklearn.datasets import load_digits as load_from_scikit_learn  # noqa: PLC0415 - slow, and few need it

    bunch = load_from_scikit_learn()
    examples, class_ids = bunch.data.astype(np.uint8), bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(class_ids))
    train, test = order[TEST_SIZE:], order[:TEST_SIZE]
    return Dataset(
        name="digits",
        preprocessing=Preprocessing(input_shape=(8, 8), uint8_scale=1 / 16),
        class_labels=tuple("0123456789"),
        train=Split(examples[train], class_ids[train]),
        test=Split(examples[test], class_ids[test]),
    )
