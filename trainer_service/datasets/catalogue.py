"""The data sets by name. A loaded one stays in memory, so that examples and descriptions are read from disk once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared.errors import NotFoundError
from trainer_service.datasets import digits, mnist
from trainer_service.datasets.dataset import Dataset


@dataclass(frozen=True)
class Entry:
    """A data set that can be loaded."""

    name: str
    description: str
    load: Callable[[], Dataset]


class Catalogue:
    """Every data set this trainer knows."""

    def __init__(self, data_dir: Path | None, cache_dir: Path) -> None:
        entries = (
            Entry("digits", digits.DESCRIPTION, digits.load_digits),
            Entry("mnist", mnist.DESCRIPTION, partial(mnist.load_mnist, data_dir, cache_dir)),
        )
        self.entries = {entry.name: entry for entry in entries}
        self._loaded: dict[str, Dataset] = {}
        self._locks = {name: threading.Lock() for name in self.entries}  # one may be downloading for minutes

    def entry(self, name: str) -> Entry:
        """One data set, not loaded.

        Raises:
            NotFoundError: DATASET_NOT_FOUND, listing what there is.
        """
        if name not in self.entries:
            raise NotFoundError(
                f"there is no data set {name[:80]!r}; there are {', '.join(self.entries)}", reason="DATASET_NOT_FOUND"
            )
        return self.entries[name]

    def load(self, name: str) -> Dataset:
        """One data set in memory.

        Raises:
            NotFoundError: DATASET_NOT_FOUND.
            WrongStateError: if its files are missing or altered.
            UnavailableError: if it must be downloaded and cannot be.
        """
        entry = self.entry(name)
        with self._locks[name]:
            if name not in self._loaded:
                self._loaded[name] = entry.load()
            return self._loaded[name]
