"""Checkpoints of running jobs in Redis, where any worker finds them: one hash a job, replaced as a whole or not at all.

Only the run that holds the job's last turn may write one; it is gone when the job has ended.
"""

import json

import numpy as np

from shared.store.connection import StoreConnection
from shared.store.keys import JobKeys
from trainer_service.jobs.job_store import Turn
from trainer_service.training.checkpoint import Checkpoint

ARRIVAL_SECONDS = 600
FACTS, TYPES = "facts", "types"
DTYPES: dict[str, np.dtype[np.float32 | np.int64]] = {"float32": np.dtype("<f4"), "int64": np.dtype("<i8")}


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
        self._redis.command("HSET", arriving, FACTS, json.dumps(checkpoint.facts), TYPES, json.dumps(types))
        self._redis.command("EXPIRE", arriving, ARRIVAL_SECONDS)
        for (
            name,
            array,
        ) in checkpoint.arrays.items():  # each alone: together they may be more than one command can carry
            self._redis.command("HSET", arriving, f"array:{name}", array.astype(DTYPES[types[name]]).tobytes())
        return bool(self._save((keys.job, arriving, keys.checkpoint), (turn.number,)))

    def load(self, job_id: str) -> Checkpoint | None:
        """A job's last checkpoint, if there is one."""
        key = JobKeys(job_id).checkpoint
        facts, types = self._redis.command("HMGET", key, FACTS, TYPES)
        if facts is None:
            return None
        arrays = {
            name: np.frombuffer(self._redis.command("HGET", key, f"array:{name}") or b"", DTYPES[dtype])
            for name, dtype in json.loads(types).items()
        }
        return Checkpoint(arrays, json.loads(facts))
