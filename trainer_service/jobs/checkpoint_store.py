"""Checkpoints of running jobs in Redis, where any worker finds them: one hash a job, replaced as a whole or not at all.

Only the run that holds the job's last turn may write one; it is gone when the job has ended.
"""

import json

import numpy as np
import structlog

from shared.store.connection import StoreConnection
from shared.store.keys import JobKeys
from trainer_service.jobs.job_store import Turn
from trainer_service.training.checkpoint import Checkpoint

ARRIVAL_SECONDS = 600
FACTS, TYPES = "facts", "types"
DTYPES: dict[str, np.dtype[np.float32 | np.int64]] = {"float32": np.dtype("<f4"), "int64": np.dtype("<i8")}
log = structlog.get_logger()


class CheckpointStore:
    """Where checkpoints are kept. Every method raises StoreUnavailableError while Redis is away."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._save = connection.script("trainer_service.jobs", "save_checkpoint.lua")

    def save(self, turn: Turn, checkpoint: Checkpoint) -> bool:
        """Replaces a job's checkpoint; False, and nothing is replaced, if `turn` is not the job's last."""
        keys = JobKeys(turn.job_id)
        arriving = keys.arriving_checkpoint(turn.number)
        types = {name: array.dtype.name for name, array in checkpoint.arrays.items()}
        self._redis.command("DEL", arriving)
        self._send(arriving, FACTS, json.dumps(checkpoint.facts))
        self._send(arriving, TYPES, json.dumps(types))
        # Each array alone: together they may be more than one command can carry.
        for name, array in checkpoint.arrays.items():
            self._send(arriving, f"array:{name}", array.astype(DTYPES[types[name]]).tobytes())
        return bool(self._save((keys.job, arriving, keys.checkpoint), (turn.number,)))

    def _send(self, arriving: str, name: str, value: str | bytes) -> None:
        # It expires with each part anew: one that comes late, after all were renamed, must not stay for ever.
        self._redis.commands([("HSET", arriving, name, value), ("EXPIRE", arriving, ARRIVAL_SECONDS)])

    def load(self, job_id: str) -> Checkpoint | None:
        """A job's last checkpoint, if there is one that can be read."""
        key = JobKeys(job_id).checkpoint
        facts, types = self._redis.command("HMGET", key, FACTS, TYPES)
        if facts is None:
            return None
        try:
            arrays = {
                name: np.frombuffer(self._redis.command("HGET", key, f"array:{name}") or b"", DTYPES[dtype])
                for name, dtype in json.loads(types).items()
            }
            return Checkpoint(arrays, json.loads(facts))
        except (TypeError, ValueError, KeyError, AttributeError):
            log.exception("a checkpoint cannot be read", job_id=job_id)
            return None
