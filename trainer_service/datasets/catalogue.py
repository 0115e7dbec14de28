"""The data sets by name: those that come with the trainer, those of openml.org, and uploads.

What is known of one without loading it is asked of the store each time. A loaded one stays in memory, an upload under
its digest too, so that one which was replaced is never given out again.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from shared.errors import NotFoundError
from shared.layers import Shape
from trainer_service.datasets import digits, openml
from trainer_service.datasets.dataset import Dataset, DatasetSource, Description, described
from trainer_service.datasets.mnist import FASHION_MNIST, MNIST, TRAIN_SIZE, load_relative

MAX_LOADED = 4
SHOWN_UPLOADS = 20
LoadedKey = tuple[str, str, tuple[str, ...]]  # name; of an upload also its digest and its columns' names


class Uploads(Protocol):
    """Where uploads are kept, for whoever only reads."""

    def names(self) -> list[str]:
        """Every name, sorted."""

    def find(self, name: str) -> Description | None:
        """What was written down when it came; None if there is no such data set."""

    def load(self, description: Description) -> Dataset:
        """Its examples."""


@dataclass(frozen=True)
class Entry:
    """What is known of a data set without loading it: of an upload all, of one on openml.org no shape."""

    name: str
    description: str
    source: DatasetSource
    input_shape: Shape | None
    class_count: int | None
    train_size: int | None
    known: Description | None = None


BUILT_IN = {
    name: Entry(name, description, DatasetSource.BUILT_IN, shape, 10, train_size)
    for name, description, shape, train_size in (
        ("digits", digits.DESCRIPTION, (8, 8), digits.TRAIN_SIZE),
        (MNIST.name, MNIST.description, (28, 28), TRAIN_SIZE),
        (FASHION_MNIST.name, FASHION_MNIST.description, (28, 28), TRAIN_SIZE),
    )
}


class Catalogue:
    """Every data set this trainer knows. Safe to share between threads."""

    def __init__(self, data_dir: Path | None, cache_dir: Path, uploads: Uploads) -> None:
        self._uploads = uploads
        self._cache_dir = cache_dir
        self._loaders: dict[str, Callable[[], Dataset]] = {
            "digits": digits.load_digits,
            **{
                relative.name: partial(load_relative, relative, data_dir, cache_dir)
                for relative in (MNIST, FASHION_MNIST)
            },
        }
        self._loaded: OrderedDict[LoadedKey, Dataset] = OrderedDict()  # the one used last is last
        self._guard = threading.Lock()
        # One may be downloading for minutes, so each has a lock of its own; uploads share one, and so does openml.org.
        self._locks = {name: threading.Lock() for name in (*BUILT_IN, openml.PREFIX, "")}

    def entries(self) -> list[Entry]:
        """What can be named without knowing it: those that come with the trainer, then uploads by name."""
        found = [self._uploads.find(name) for name in self._uploads.names()]
        return [*BUILT_IN.values(), *(entry_of(description) for description in found if description is not None)]

    def entry(self, name: str) -> Entry:
        """One data set, not loaded.

        Raises:
            NotFoundError: DATASET_NOT_FOUND, listing what there is.
        """
        if name in BUILT_IN:
            return BUILT_IN[name]
        if name.startswith(openml.PREFIX):
            title = openml.checked_name(name)
            return Entry(name, openml.DESCRIPTION.format(title), DatasetSource.OPENML, None, None, None)
        if (description := self._uploads.find(name)) is not None:
            return entry_of(description)
        uploads = self._uploads.names()
        more = " …" if len(uploads) > SHOWN_UPLOADS else ""
        there_are = ", ".join((*BUILT_IN, f"{openml.PREFIX}NAME", *uploads[:SHOWN_UPLOADS]))
        raise NotFoundError(
            f"there is no data set {name[:80]!r}; there are {there_are}{more}", reason="DATASET_NOT_FOUND"
        )

    def describe(self, name: str) -> Description:
        """All that is known of a data set; it is loaded only where that was not written down.

        Raises:
            WeightcastError: as `load`.
        """
        entry = self.entry(name)
        return entry.known or described(self.load(name), entry.description, entry.source)

    def load(self, name: str) -> Dataset:
        """One data set in memory.

        Raises:
            NotFoundError: DATASET_NOT_FOUND.
            WrongStateError: if its files are missing or altered, or it cannot be learned from.
            UnavailableError: if it must be downloaded and cannot be.
        """
        entry = self.entry(name)
        key = (name, entry.known.digest, entry.known.preprocessing.feature_names) if entry.known else (name, "", ())
        lock = "" if entry.known else openml.PREFIX if entry.source is DatasetSource.OPENML else name
        with self._locks[lock]:
            with self._guard:
                if key in self._loaded:
                    self._loaded.move_to_end(key)
                    return self._loaded[key]
            dataset = self._loader(entry)()
            with self._guard:
                self._loaded[key] = dataset
                while len(self._loaded) > MAX_LOADED:
                    self._loaded.popitem(last=False)
            return dataset

    def _loader(self, entry: Entry) -> Callable[[], Dataset]:
        if entry.known is not None:
            return partial(self._uploads.load, entry.known)
        if entry.source is DatasetSource.OPENML:
            return partial(openml.load_openml, entry.name, self._cache_dir)
        return self._loaders[entry.name]


def entry_of(description: Description) -> Entry:
    """The entry of an upload."""
    return Entry(
        name=description.name,
        description=description.sentence,
        source=description.source,
        input_shape=description.preprocessing.input_shape,
        class_count=len(description.class_labels),
        train_size=sum(description.train_class_counts),
        known=description,
    )
