"""What is known of each model, and of the store.

Values that are replaced and never changed, so that a reader needs no lock.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from inference_service.versions.rollouts import ActiveRollout
from inference_service.versions.snapshot_loader import ServedVersion
from shared.model_version import LIVE, VersionRef
from shared.rollout import Rollout

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0
MAX_DOUBLINGS = 10  # far past the longest pause, and far from what a float can hold


def retry_seconds(attempts: int) -> float:
    """Each failed attempt doubles the wait for the next."""
    return float(min(FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, MAX_DOUBLINGS), LONGEST_RETRY_SECONDS))


@dataclass(frozen=True)
class LoadFailure:
    """A version that could not be loaded, why, and when it is tried again; its digest is empty where it is unknown."""

    ref: VersionRef
    reason: str
    message: str
    attempts: int
    attempt_time: datetime

    @property
    def retry_time(self) -> datetime:
        """When it is tried again."""
        return self.attempt_time + timedelta(seconds=retry_seconds(self.attempts))

    def is_of(self, ref: VersionRef) -> bool:
        """Whether it is this version that failed, as far as is known."""
        same_digest = self.ref.digest == ref.digest or not (self.ref.digest and ref.digest)
        return self.ref.version == ref.version and same_digest


@dataclass(frozen=True)
class ModelState:
    """What is known of one model.

    Attributes:
        live: what answers requests that name no version.
        aliases: every alias with its version, as the store last said.
        failure: why the store's live version is not what answers.
        rollout: the candidate that is tried, if it could be loaded.
        rollout_failure: why it could not.
        wanted_rollout: what the store says of a rollout, whether it could be loaded or not.
        restored: whether `live` came from this machine's disk and was not compared with the store since.
    """

    live: ServedVersion | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)
    failure: LoadFailure | None = None
    rollout: ActiveRollout | None = None
    rollout_failure: LoadFailure | None = None
    wanted_rollout: Rollout | None = None
    restored: bool = False

    @property
    def is_followed(self) -> bool:
        """Whether what answers is what the store wants."""
        if self.live is None or self.restored or self.failure is not None:
            return False
        return self.aliases.get(LIVE) == self.live.ref.version

    def named(self, version: int) -> ServedVersion | None:
        """The live version or the candidate, if it has this number."""
        if self.live is not None and self.live.ref.version == version:
            return self.live
        if self.rollout is not None and self.rollout.candidate.ref.version == version:
            return self.rollout.candidate
        return None


UNKNOWN = ModelState()


class ModelStates(dict[str, ModelState]):
    """The state of each known model. Reading needs no lock; whoever changes one goes through `change`."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def change(self, model: str, **fields: Any) -> ModelState:  # noqa: ANN401 - the fields of a state
        """Replaces some fields of a model's state, and returns it. A version is never tried against itself."""
        with self._lock:
            state = replace(self.get(model, UNKNOWN), **fields)
            if state.rollout and state.live and state.rollout.candidate.ref == state.live.ref:
                state = replace(state, rollout=None)
            self[model] = state
            return state

    def forget(self, model: str) -> None:
        """Knows nothing of a model any more."""
        with self._lock:
            self.pop(model, None)


@dataclass(frozen=True)
class StoreContact:
    """Whether the store answered when last asked, when it was last compared with, and since when it does not answer."""

    reachable: bool = False
    reconcile_time: datetime | None = None
    lost_time: datetime | None = None
