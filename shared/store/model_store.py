"""Published versions in Redis: append-only, numbered without gaps, found by number or alias.

A version never changes after `publish` returned; only aliases move, and what people wrote about it. Events wake whoever
waits, the store is the truth. `shared.store.registry` moves the aliases and removes versions.
"""

from shared.errors import ConflictError, NotFoundError, WrongStateError
from shared.model_version import (
    ModelSummary,
    PromotionOutcome,
    PromotionVerdict,
    Publication,
    PublishedVersion,
    StoredSnapshot,
    VersionFilter,
    VersionRef,
)
from shared.recipe import Promotion
from shared.rollout import Rollout
from shared.store.connection import StoreConnection
from shared.store.keys import MODEL_EVENTS, MODELS, ModelKeys
from shared.store.records import (
    aliases_from,
    annotation_fields,
    pairs,
    publication_from,
    rollout_from,
    summary_from,
    verdict_words,
    version_from,
)
from shared.store.scripts import ModelScript
from shared.store.version_pages import EVERY, VersionPage, VersionPages

LIVE_AT_ONCE = PromotionVerdict(PromotionOutcome.PROMOTED, Promotion(), accuracy=0.0)


class ModelStore:
    """The published versions. Every method raises StoreUnavailableError while Redis is away."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._publish, self._strike_off, self._summary = (
            ModelScript(connection, name) for name in ("publish", "strike_off", "summary")
        )
        self._pages = VersionPages(connection)

    def publish(
        self,
        model: str,
        snapshot: StoredSnapshot,
        training_job_id: str,
        verdict: PromotionVerdict = LIVE_AT_ONCE,
        *,
        turn: int = 1,
    ) -> Publication:
        """Stores a snapshot under the next number, moves `latest`, and `live` by the verdict, and wakes the watchers.

        All of it happens or none. A hold on the model turns PROMOTED into HELD. Publishing again for the same job
        changes nothing and returns what came of the first time.

        Raises:
            WrongStateError: JOB_ENDED, if the job was struck off in this turn or a later one.
            ConflictError: LIVE_VERSION_CHANGED, if a comparison with the live version decided, and another is live now.
        """
        # Listed before it is published: a name without a version is nobody's model, a version without a name is lost.
        if self._redis.command("SADD", MODELS, model):
            self._redis.command("XADD", MODEL_EVENTS, "MAXLEN", "~", 1000, "*", "model", model)
        given = (snapshot.manifest, snapshot.weights, snapshot.digest)
        word, reply = self._publish(model, *given, training_job_id, turn, *verdict_words(verdict))
        if word == b"conflict":
            raise ConflictError(
                f"version {reply} of {model!r} is live now, not {verdict.live_version}; compare with that one",
                reason="LIVE_VERSION_CHANGED",
            )
        if (publication := self._publication(model, reply)) is None:
            raise WrongStateError(
                f"job {training_job_id} has ended and may publish nothing any more", reason="JOB_ENDED"
            )
        return publication

    def publication_of_job(self, model: str, training_job_id: str) -> Publication | None:
        """What a training job published, or None if it published nothing."""
        return self._publication(model, self._redis.command("HGET", ModelKeys(model).jobs, training_job_id))

    def strike_off(self, model: str, training_job_id: str, *, turn: int = 1) -> Publication | None:
        """Forbids a job to publish in this turn of it, or an earlier one, whoever still runs it.

        One that has published already is left alone, and that is returned.
        """
        return self._publication(model, self._strike_off(model, training_job_id, turn))

    def forget_job(self, model: str, training_job_id: str) -> None:
        """Forgets what a job published, or that it must not: for a job whose record is gone."""
        self._redis.command("HDEL", ModelKeys(model).jobs, training_job_id)

    def model_names(self) -> list[str]:
        """The name of every model ever published, sorted."""
        return sorted(name.decode() for name in self._redis.command("SMEMBERS", MODELS))

    def model(self, model: str) -> ModelSummary:
        """One model, as it stood at one moment.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, if nothing was ever published under this name.
        """
        if not (reply := self._summary(model)):
            raise no_model(model)
        return summary_from(model, reply)

    def aliases(self, model: str) -> dict[str, int]:
        """Every alias of a model with the version it points to; empty where there is no such model."""
        return aliases_from(self._redis.command("HGETALL", ModelKeys(model).aliases))

    def rollout(self, model: str) -> Rollout | None:
        """The version that is tried on a share of the requests; None where none is, or there is no such model.

        Raises:
            ValueError: if what is stored cannot be read.
        """
        return rollout_from(pairs(self._redis.command("HGETALL", ModelKeys(model).rollout)))

    def ref(self, model: str, version: int) -> VersionRef | None:
        """The number with its digest, or None if there is no such version."""
        record = self._redis.command("HGET", ModelKeys(model).records, version)
        return VersionRef(version, record.split()[0].decode()) if record else None

    def version(self, model: str, selector: int | str, *, with_weights: bool = True) -> PublishedVersion:
        """One version by number or alias, its bytes unchecked; without its weights where they are not needed.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, VERSION_NOT_FOUND or ALIAS_NOT_FOUND.
        """
        tried = None
        while (number := self._resolve(model, selector)) != tried:
            if found := self._read(model, number, with_weights=with_weights):
                return found
            tried = number  # an alias may have moved on, and what it pointed to have been removed
        raise self.no_version(model, number)

    def versions(
        self, model: str, *, count: int, below: int | None = None, wanted: VersionFilter = EVERY
    ) -> VersionPage:
        """A page of up to `count` versions without weights, newest first, beginning below `below` if given.

        It may be shorter than that, and even empty, and not be the last.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        if (page := self._pages.read(model, below, count, wanted)) is None:
            raise no_model(model)
        return page

    def ping(self) -> None:
        """Returns if Redis answers; raises StoreUnavailableError if not."""
        self._redis.command("PING")

    def no_version(self, model: str, number: int) -> NotFoundError:
        """The answer for a number that no version has: says what there is."""
        try:
            summary = self.model(model)
        except NotFoundError as error:
            return error
        latest = f"the latest is {summary.latest_version}" if summary.version_count else "it has none at all"
        return NotFoundError(f"model {model!r} has no version {number}; {latest}", reason="VERSION_NOT_FOUND")

    def _publication(self, model: str, entry: bytes | None) -> Publication | None:
        publication = publication_from(entry)
        if publication and not publication.ref.digest:  # an earlier build's
            return Publication(self.ref(model, publication.ref.version) or publication.ref, None)
        return publication

    def _resolve(self, model: str, selector: int | str) -> int:
        if isinstance(selector, int):
            return selector
        aliases = self.aliases(model)
        if selector not in aliases:
            self.model(model)
            raise NotFoundError(
                f"model {model!r} has no alias {selector!r}; it has {', '.join(sorted(aliases)) or 'none'}",
                reason="ALIAS_NOT_FOUND",
            )
        return aliases[selector]

    def _read(self, model: str, number: int, *, with_weights: bool) -> PublishedVersion | None:
        keys = ModelKeys(model)
        # The record comes last: where it is still there, everything before it was too.
        *weights, aliases, verdict, annotations, manifest, record = self._redis.commands(
            [
                *([("HGET", keys.weights, number)] if with_weights else []),
                ("HGETALL", keys.aliases),
                ("HGET", keys.verdicts, number),
                ("HMGET", keys.annotations, *annotation_fields(number)),
                ("HGET", keys.manifests, number),
                ("HGET", keys.records, number),
            ]
        )
        if record is None:
            return None
        return version_from(model, number, aliases_from(aliases), (record, verdict, *annotations, manifest, *weights))


def no_model(model: str) -> NotFoundError:
    """The answer for a name that no model has."""
    return NotFoundError(f"there is no model {model!r}; see ListModels", reason="MODEL_NOT_FOUND")
