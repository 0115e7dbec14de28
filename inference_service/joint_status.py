"""What can be said of all processes that answer on one port: whether every one of them can answer, and by what.

A version is live once every process was seen to answer by it at one look, and until the next such look: who waits for
a version and then asks again gets it, or a later one, from whichever process he reaches.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from inference_service.board import Board, HeldVersion, Standing
from inference_service.versions.model_state import ModelState
from inference_service.versions.snapshot_loader import ServedVersion

LOOK_SECONDS = 0.1
JOIN_PAUSE_SECONDS = 0.1
READINESS = ""
log = structlog.get_logger()


def held(served: ServedVersion, *, restored: bool = False) -> HeldVersion:
    """What is told of a version that this process holds."""
    return HeldVersion(served.ref.version, served.ref.digest, served.publish_time, served.load_time, restored)


class JointStatus:
    """Speaks for this process and the others on its board; `set_serving` is told what health checks shall answer."""

    def __init__(self, board: Board, set_serving: Callable[[str, bool], None]) -> None:
        self._board = board
        self._set_serving = set_serving
        self._agreed: dict[str, HeldVersion] = {}
        self._lock = threading.Lock()  # what was seen later is not undone by who looked earlier
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="joint-status", daemon=True)

    def announce(self, model: str, state: ModelState) -> None:
        """Says by what this process answers for a model since just before, if it can."""
        try:
            if self._board.post(model, held(state.live, restored=state.restored) if state.live else None):
                self.look([model])
        except OSError:  # such as a full disk; the other models must be served all the same
            log.exception("the other processes cannot be told; trying again", model=model)

    def live(self, model: str) -> HeldVersion | None:
        """The version by which every process answers; while they differ, the one that is being replaced.

        None while there is a process that cannot answer. It is restored if it is in one process.
        """
        with self._lock:
            return self._live(model, [self._board.own, *self._board.others()])

    def look(self, models: Iterable[str] | None = None) -> None:
        """Brings the health checks of these models, or of all, and readiness up to date with what everybody says."""
        with self._lock:
            standings = [self._board.own, *self._board.others()]
            for model in self._board.own.live if models is None else models:
                self._set_serving(f"models/{model}", self._live(model, standings) is not None)
            self._set_serving(READINESS, all(any(standing.live.values()) for standing in standings))

    def join(self, read_store: Callable[[], bool]) -> None:
        """Returns when this process may be reached, having told the others that it may.

        `read_store` loads what the store says, and returns whether the store answered. Where others can answer for a
        model, this process waits until it can too, and by what they answer by as far as it cannot ask the store: nobody
        shall get worse answers because a process was started again.
        """
        told = False
        while True:
            answered = read_store()
            if not (lacking := self._lacking(is_up_to_date=answered)):
                break
            if not told:
                log.warning("waiting until this process can answer what others can", models=lacking)
                told = True
            time.sleep(JOIN_PAUSE_SECONDS)
        self._board.join()
        if answered:
            read_store()  # for the others may have agreed on a version just before they could know of this process

    def start(self) -> None:
        """Begins to follow the others."""
        self._board.say_listening()
        if self._board.is_shared:
            self._thread.start()

    def stop(self) -> None:
        """Ends that, and takes this process off the board."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._board.leave()

    def _live(self, model: str, standings: Sequence[Standing]) -> HeldVersion | None:
        said = [standing.live.get(model) for standing in standings]
        versions = [version for version in said if version is not None]
        if not versions or len(versions) < len(said):
            return None
        if len({(version.version, version.digest) for version in versions}) == 1:
            last = max(versions, key=lambda version: version.load_time)  # when the last one had it
            self._agreed[model] = replace(last, restored=any(version.restored for version in versions))
        return self._agreed.get(model) or min(versions, key=lambda version: version.load_time)

    def _lacking(self, *, is_up_to_date: bool) -> list[str]:
        """Models for which others can answer and this process cannot, or only by a version that none of them has."""
        theirs: dict[str, set[tuple[int, str]]] = {}
        for standing in self._board.others():
            for model, live in standing.live.items():
                if live is not None:
                    theirs.setdefault(model, set()).add((live.version, live.digest))
        own = self._board.own.live
        return sorted(
            model
            for model, versions in theirs.items()
            if (live := own.get(model)) is None or not (is_up_to_date or (live.version, live.digest) in versions)
        )

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look()
                self._board.repeat()
            except Exception:
                log.exception("the other processes' standing cannot be told; trying again")
