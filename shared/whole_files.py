"""Files that other processes read while they are written anew.

Who opens such a file finds the old contents or the new ones, whole.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

UNFINISHED = ".tmp"  # how the names of files end that are not whole yet; they begin with a dot


def write_whole(path: Path, text: str) -> None:
    """Replaces what `path` holds at one moment. One writer at a time: the unfinished file's name is the same."""
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def write_durably(path: Path, parts: Sequence[bytes]) -> None:
    """Replaces what `path` holds by `parts`. Whenever there is a crash, the old contents are there or the new ones.

    Any number of processes may do so at the same time; one of them is the last.

    Raises:
        OSError: if it cannot be written; nothing of it is left then.
    """
    descriptor, name = tempfile.mkstemp(UNFINISHED, f".{path.name}-", path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes what a folder lists survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
