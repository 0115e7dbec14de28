"""How the processes that answer on one port know of each other: each writes small files in a folder that all read.

A file is whole or absent, and says nothing that is not true yet. It belongs to a process: whoever watches over them
removes a dead one's. A process alone has a board without a folder: it reads nothing and writes nothing.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from shared.whole_files import write_whole

STANDING = "standing"


@dataclass(frozen=True)
class HeldVersion:
    """What is told of a version that a process can answer by; `restored` if its disk gave it, and not the store."""

    version: int
    digest: str
    publish_time: datetime
    load_time: datetime
    restored: bool = False


@dataclass(frozen=True)
class Standing:
    """What one process can answer: for each model it knows, its live version, or None while it has none."""

    live: Mapping[str, HeldVersion | None] = field(default_factory=dict)
    listening: bool = False


class Board:
    """One process's place on the board: its own standing, and what the others said last."""

    def __init__(self, folder: Path | None = None, pid: int | None = None) -> None:
        self._folder = folder
        self._pid = os.getpid() if pid is None else pid
        self._is_orphaned = False
        self._joined = False
        self._written: Standing | None = None
        self._lock = threading.Lock()
        self.own = Standing()

    @property
    def is_shared(self) -> bool:
        """Whether there may be others."""
        return self._folder is not None

    def post(self, model: str, live: HeldVersion | None) -> bool:
        """Says by what this process answers since just before; False if that is what it said last.

        Raises:
            OSError: if it cannot be written; `repeat` tries again.
        """
        with self._lock:
            if model in self.own.live and self.own.live[model] == live:
                return False
            self.own = replace(self.own, live={**self.own.live, model: live})
            self._write()
            return True

    def repeat(self) -> None:
        """Writes what could not be written when it was said."""
        with self._lock:
            self._write()

    def join(self) -> None:
        """Lets the others see this process's standing, from now on."""
        with self._lock:
            self._joined = True
            self._write()

    def say_listening(self) -> None:
        """Says that requests reach this process."""
        with self._lock:
            self.own = replace(self.own, listening=True)
            self._write()

    def others(self) -> list[Standing]:
        """The standing of each other process that has joined."""
        return [standing_from(text) for text in self._texts(STANDING)]

    def orphan(self) -> None:
        """Notes that the supervisor is gone, who would remove the folder at the end."""
        self._is_orphaned = True

    def leave(self) -> None:
        """Takes this process off the board; the last orphan removes the folder too."""
        with self._lock:
            self._joined = False  # so that nothing is written any more
        if self._folder is not None:
            remove_files_of(self._folder, self._pid)
            if self._is_orphaned and not standings_in(self._folder):
                shutil.rmtree(self._folder, ignore_errors=True)  # also what was counted, which nobody adds up any more

    def _write(self) -> None:
        if self._folder is not None and self._joined and self._written != self.own:
            write_whole(self._folder / name_of(STANDING, self._pid), text_of(self.own))
            self._written = self.own

    def _texts(self, kind: str) -> Iterator[str]:
        return texts_in(self._folder, kind, besides=self._pid) if self._folder is not None else iter(())


def standings_in(folder: Path) -> list[Standing]:
    """The standing of every process on a board."""
    return [standing_from(text) for text in texts_in(folder, STANDING)]


def remove_files_of(folder: Path, pid: int) -> None:
    """Takes a process off a board, also with what it left unfinished."""
    for name in (name_of(STANDING, pid), f".{name_of(STANDING, pid)}.tmp"):
        (folder / name).unlink(missing_ok=True)


def texts_in(folder: Path, kind: str, besides: int | None = None) -> Iterator[str]:
    """Every process's file of one kind."""
    for path in folder.glob(name_of(kind, "*")):
        if besides is None or path.name != name_of(kind, besides):
            with suppress(FileNotFoundError):  # it was taken off in between
                yield path.read_text(encoding="utf-8")


def name_of(kind: str, pid: int | str) -> str:
    """A file's name."""
    return f"{kind}-{pid}.json"


def text_of(standing: Standing) -> str:
    """A standing as a file's text."""
    live = {
        model: None
        if held is None
        else [held.version, held.digest, held.publish_time.isoformat(), held.load_time.isoformat(), held.restored]
        for model, held in standing.live.items()
    }
    return json.dumps({"listening": standing.listening, "live": live})


def standing_from(text: str) -> Standing:
    """The standing in a file's text."""
    said = json.loads(text)
    live = {
        model: None
        if held is None
        else HeldVersion(held[0], held[1], datetime.fromisoformat(held[2]), datetime.fromisoformat(held[3]), held[4])
        for model, held in said["live"].items()
    }
    return Standing(live, said["listening"])
