"""Published versions in Redis: append-only, numbered without gaps, found by number or alias.

A version never changes after `publish` returned; only aliases move. Events wake whoever waits, the store is the truth.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from shared.errors import NotFoundError
from shared.model_version import LATEST, LIVE, ModelSummary, PublishedVersion, StoredSnapshot, VersionRef
from shared.store.connection import SOCKET_TIMEOUT_SECONDS, StoreConnection
from shared.store.keys import MODEL_EVENTS, MODELS, ModelKeys

LONGEST_READ_SECONDS = SOCKET_TIMEOUT_SECONDS / 2


class ModelStore:
    """The registry of versions. Every method raises StoreUnavailableError while Redis is away."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._publish = connection.script("shared.store", "publish.lua")

    def publish(self, model: str, snapshot: StoredSnapshot, training_job_id: str, *, promote: bool = True) -> int:
        """Stores a snapshot under the next number, moves `latest` (and `live` if `promote`), and wakes the watchers.

        All of it happens or none. Publishing again for the same job returns the number that it got the first time.
        """
        # Listed before it is published: a name without a version is nobody's model, a version without a name is lost.
        if self._redis.command("SADD", MODELS, model):
            self._redis.command("XADD", MODEL_EVENTS, "MAXLEN", "~", 1000, "*", "model", model)
        keys = ModelKeys(model)
        version: int = self._publish(
            (
                keys.counter,
                keys.versions,
                keys.records,
                keys.manifests,
                keys.weights,
                keys.aliases,
                keys.jobs,
                keys.events,
            ),
            (snapshot.manifest, snapshot.weights, snapshot.digest, training_job_id, "1" if promote else "0"),
        )
        return version

    def version_of_job(self, model: str, training_job_id: str) -> VersionRef | None:
        """What a training job published, or None if it published nothing."""
        number = self._redis.command("HGET", ModelKeys(model).jobs, training_job_id)
        return None if number is None else self.ref(model, int(number))

    def model_names(self) -> list[str]:
        """The name of every model ever published, sorted."""
        return sorted(name.decode() for name in self._redis.command("SMEMBERS", MODELS))

    def model(self, model: str) -> ModelSummary:
        """One model.

        Raises:
            NotFoundError: if nothing was ever published under this name.
        """
        aliases = self.aliases(model)
        if LATEST not in aliases:
            raise NotFoundError(f"there is no model {model!r}; see ListModels", reason="MODEL_NOT_FOUND")
        count = self._redis.command("ZCARD", ModelKeys(model).versions)
        return ModelSummary(model, aliases[LATEST], aliases.get(LIVE, 0), count)

    def aliases(self, model: str) -> dict[str, int]:
        """Every alias of a model with the version it points to; empty where there is no such model."""
        reply = self._redis.command("HGETALL", ModelKeys(model).aliases)
        return {alias.decode(): int(version) for alias, version in reply.items()}

    def ref(self, model: str, version: int) -> VersionRef | None:
        """The number with its digest, or None if there is no such version."""
        record = self._redis.command("HGET", ModelKeys(model).records, version)
        return VersionRef(version, record.split()[0].decode()) if record else None

    def resolve(self, model: str, selector: int | str) -> int:
        """The version number behind a number or an alias.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, VERSION_NOT_FOUND or ALIAS_NOT_FOUND.
        """
        if isinstance(selector, int):
            if self._redis.command("HEXISTS", ModelKeys(model).records, selector):
                return selector
            summary = self.model(model)
            raise NotFoundError(
                f"model {model!r} has no version {selector}; the latest is {summary.latest_version}",
                reason="VERSION_NOT_FOUND",
            )
        aliases = self.aliases(model)
        if selector not in aliases:
            self.model(model)
            raise NotFoundError(
                f"model {model!r} has no alias {selector!r}; it has {', '.join(sorted(aliases))}",
                reason="ALIAS_NOT_FOUND",
            )
        return aliases[selector]

    def version(self, model: str, selector: int | str, *, with_weights: bool = True) -> PublishedVersion:
        """One version by number or alias, its bytes unchecked; without its weights where they are not needed.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, VERSION_NOT_FOUND or ALIAS_NOT_FOUND.
        """
        number = self.resolve(model, selector)
        keys = ModelKeys(model)
        digest, publish_ms, size = self._redis.command("HGET", keys.records, number).decode().split()
        manifest = self._redis.command("HGET", keys.manifests, number) or b""
        weights = (self._redis.command("HGET", keys.weights, number) or b"") if with_weights else b""
        return PublishedVersion(
            model=model,
            ref=VersionRef(number, digest),
            publish_time=datetime.fromtimestamp(int(publish_ms) / 1000, UTC),
            weights_size_bytes=int(size),
            snapshot=StoredSnapshot(manifest, weights, digest),
            aliases=tuple(sorted(alias for alias, version in self.aliases(model).items() if version == number)),
        )

    def version_numbers(self, model: str, *, below: int | None, count: int) -> list[int]:
        """Up to `count` version numbers, newest first, starting below `below` if given.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        self.model(model)
        start = "+inf" if below is None else f"({below}"
        numbers = self._redis.command(
            "ZRANGE", ModelKeys(model).versions, start, "-inf", "BYSCORE", "REV", "LIMIT", 0, count
        )
        return [int(number) for number in numbers]

    def ping(self) -> None:
        """Returns if Redis answers; raises StoreUnavailableError if not."""
        self._redis.command("PING")


class ModelEvents:
    """Waits for publications. Whatever it misses, reading the store makes good: an event only wakes."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._cursors: dict[str, str] = {}

    def follow(self, models: Sequence[str]) -> None:
        """Makes `wait` wake for these models, and for new ones, from now on; read the store after this call."""
        for stream in (MODEL_EVENTS, *(ModelKeys(model).events for model in models)):
            if stream not in self._cursors:
                self._cursors[stream] = self._last_id(stream)

    def wait(self, seconds: float) -> bool:
        """Blocks until something was published since the last call, or `seconds` have passed; True if it was."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            # In short reads, for a reply that stays away longer than the socket's time-out counts as a store away.
            milliseconds = max(1, int(min(left, LONGEST_READ_SECONDS) * 1000))
            reply = self._redis.command(
                "XREAD", "BLOCK", milliseconds, "STREAMS", *self._cursors.keys(), *self._cursors.values()
            )
            for stream, entries in reply or ():
                self._cursors[stream.decode()] = entries[-1][0].decode()
            if reply:
                return True
        return False

    def _last_id(self, stream: str) -> str:
        newest = self._redis.command("XREVRANGE", stream, "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else "0-0"
