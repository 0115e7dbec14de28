"""A rollout as the domain sees it: a version that is tried on a share of the requests before it goes live.

Which requests are in the share is decided here, so that every process decides the same way.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

ALL_PERCENT = 100
HASH_BYTES = 8


class RolloutMode(Enum):
    """What becomes of the share's requests: the candidate answers them, or only computes them for comparison."""

    CANARY = "canary"
    SHADOW = "shadow"


@dataclass(frozen=True)
class Rollout:
    """A version that is tried; field meanings are those of `weightcast.v1.ModelRollout`."""

    version: int
    mode: RolloutMode
    percent: float
    etag: str
    actor: str
    reason: str
    create_time: datetime
    update_time: datetime


def place_of(model: str, key: str) -> float:
    """Where a routing key stands among all keys, from 0 to 1: it is in each share that is larger.

    Not the same place for every model, or the same few callers would try every candidate.
    """
    digest = hashlib.blake2b(f"{model}\0{key}".encode(), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "big") / float(2 ** (8 * HASH_BYTES))
