"""A labelled data set as training sees it: raw examples, class ids, and how examples become features."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shared.preprocessing import Preprocessing, Rows


class DatasetSource(Enum):
    """Where a data set comes from."""

    BUILT_IN = "built_in"
    OPENML = "openml"
    UPLOADED = "uploaded"


@dataclass(frozen=True, eq=False)
class Split:
    """Examples, flattened as stored, uint8 or float32 (rows, input_size), and the class of each, int64 (rows,).

    Images are stored as bytes, the rows of a table as numbers.
    """

    examples: Rows
    class_ids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_ids)

    def sample(self, count: int) -> "Split":
        """At most `count` examples at even distances, so that a split sorted by class is sampled fairly. No copy."""
        stride = -(-len(self) // count)
        return Split(self.examples[::stride], self.class_ids[::stride])

    def class_counts(self, class_count: int) -> tuple[int, ...]:
        """Examples of each class, by class id."""
        return tuple(np.bincount(self.class_ids, minlength=class_count).tolist())


@dataclass(frozen=True)
class Column:
    """One feature of a table: its values over the training split, and the empty cells of both splits."""

    name: str
    is_integer: bool
    missing_count: int
    minimum: float
    maximum: float
    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Dataset:
    """What training learns from (`train`) and what measures it (`test`); `columns` describe a table's features."""

    name: str
    preprocessing: Preprocessing
    class_labels: tuple[str, ...]
    train: Split
    test: Split
    columns: Sequence[Column] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shapes, types, labels' names, examples and labels of both splits, lower-case hex."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            examples = split.examples
            digest.update(
                repr((examples.shape, examples.dtype.name, self.preprocessing.input_shape, self.class_labels)).encode()
            )
            digest.update(np.ascontiguousarray(examples, dtype=examples.dtype.newbyteorder("<")).data)
            digest.update(np.ascontiguousarray(split.class_ids, dtype="<i8").data)
        return digest.hexdigest()

    @property
    def size_bytes(self) -> int:
        """The size of examples and labels in memory."""
        return sum(split.examples.nbytes + split.class_ids.nbytes for split in (self.train, self.test))


@dataclass(frozen=True, eq=False)
class Description:
    """All that is known of a data set without its examples; `create_time` is an upload's."""

    name: str
    sentence: str
    source: DatasetSource
    preprocessing: Preprocessing
    class_labels: tuple[str, ...]
    train_class_counts: tuple[int, ...]
    test_class_counts: tuple[int, ...]
    is_bytes: bool
    columns: Sequence[Column]
    size_bytes: int
    digest: str
    create_time: datetime | None = None


def described(
    dataset: Dataset, sentence: str, source: DatasetSource, create_time: datetime | None = None
) -> Description:
    """The description of a data set in memory."""
    class_count = len(dataset.class_labels)
    return Description(
        name=dataset.name,
        sentence=sentence,
        source=source,
        preprocessing=dataset.preprocessing,
        class_labels=dataset.class_labels,
        train_class_counts=dataset.train.class_counts(class_count),
        test_class_counts=dataset.test.class_counts(class_count),
        is_bytes=dataset.train.examples.dtype == np.uint8,
        columns=dataset.columns,
        size_bytes=dataset.size_bytes,
        digest=dataset.digest,
        create_time=create_time,
    )
