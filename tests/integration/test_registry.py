"""The registry's rules on a real Redis: what moves, what is refused, what is written down, and what is left."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis

from shared.errors import ConflictError, InvalidInputError, NotFoundError, WeightcastError, WrongStateError
from shared.model_version import (
    Alias,
    Annotations,
    Cause,
    Hold,
    LiveChange,
    PromotionOutcome,
    PromotionVerdict,
    Publication,
    StoredSnapshot,
    VersionFilter,
    VersionRef,
)
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import RolloutMode
from shared.store.connection import Argument, StoreConnection
from shared.store.keys import MODELS, ModelKeys
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry

Snapshots = Callable[..., StoredSnapshot]
Publish = Callable[..., list[int]]
MANUAL = PromotionVerdict(PromotionOutcome.MANUAL, Promotion(PromotionPolicy.MANUAL), accuracy=0.5)
PROMOTED = PromotionVerdict(PromotionOutcome.PROMOTED, Promotion(), accuracy=0.9)
IF_BETTER = Promotion(PromotionPolicy.IF_BETTER, margin=0.01)
KEYS = ModelKeys("tiny")


@pytest.fixture
def registry(connection: StoreConnection) -> ModelRegistry:
    """What changes the models in this test's Redis."""
    return ModelRegistry(connection)


@pytest.fixture
def publish(models: ModelStore, snapshot: Snapshots) -> Publish:
    """Publishes versions of `tiny`, one for each job that is named, by one verdict; returns their numbers."""

    def make(jobs: str, verdict: PromotionVerdict = PROMOTED) -> list[int]:
        return [models.publish("tiny", snapshot(seed=ord(job)), job, verdict).ref.version for job in jobs]

    return make


def refused(call: Callable[[], object], kind: type[WeightcastError], reason: str, *words: str) -> None:
    """Asserts that a call is refused with this reason, in a message that has these words."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.reason == reason
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def etag_of(models: ModelStore, alias: str) -> str:
    """An alias's etag, as a client reads it."""
    return next((pointed.etag for pointed in models.model("tiny").aliases if pointed.name == alias), "0")


def changes(registry: ModelRegistry) -> list[tuple[int, int, Cause]]:
    """The history, newest first, without who, when and why."""
    return [
        (change.version, change.previous_version, change.cause)
        for change in registry.history("tiny", count=200).changes
    ]


def test_a_promotion_moves_live_and_is_written_down(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """Live, where a rollback leads, the etag and the history: all of one moment, and told at once."""
    publish("ab", MANUAL)
    started = datetime.now(UTC) - timedelta(milliseconds=1)
    promoted = registry.promote("tiny", 1, actor="ann", reason="the better one")
    assert (promoted.live_version, promoted.previous_version, promoted.latest_version) == (1, 0, 2)
    assert promoted.aliases == (Alias("latest", 2, ""), Alias("live", 1, "1"))
    again = registry.promote("tiny", 2, etag="1", actor="bob")
    assert again == models.model("tiny")
    assert (again.live_version, again.previous_version) == (2, 1)
    assert again.aliases == (Alias("latest", 2, ""), Alias("live", 2, "2"))
    newest, oldest = registry.history("tiny", count=5).changes
    assert oldest == LiveChange(1, 0, oldest.change_time, Cause.PROMOTED, "ann", "the better one")
    assert newest == LiveChange(2, 1, newest.change_time, Cause.PROMOTED, "bob", "")
    assert started <= oldest.change_time <= newest.change_time <= datetime.now(UTC)


def test_a_publication_that_goes_live_is_written_down(registry: ModelRegistry, publish: Publish) -> None:
    """The job is who did it."""
    publish("ab")
    newest, oldest = registry.history("tiny", count=5).changes
    assert (newest.version, newest.previous_version, newest.cause, newest.actor) == (2, 1, Cause.PUBLISHED, "job b")
    assert (oldest.version, oldest.previous_version, oldest.cause, oldest.actor) == (1, 0, Cause.PUBLISHED, "job a")


def test_promoting_what_is_live_changes_nothing_but_lifts_the_hold(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """No history, no new etag, no way back to itself."""
    publish("ab")
    before = models.model("tiny")
    registry.set_hold("tiny", held=True, actor="ann")
    assert registry.promote("tiny", 2) == before
    assert len(changes(registry)) == 2


def test_a_rollback_goes_back_and_back_again_and_holds(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """To what was live before, then before that; what it came from is not come back to; the hold says who and why."""
    publish("abc")
    registry.promote("tiny", 1)  # 1 2 3 1
    back = registry.rollback("tiny", actor="ann", reason="3 was right")
    assert (back.live_version, back.previous_version) == (3, 2)
    assert back.hold is not None
    assert back.hold == Hold("ann", "3 was right", back.hold.create_time)
    again = registry.rollback("tiny", actor="bob", reason="or 2")
    assert (again.live_version, again.previous_version) == (2, 1)
    assert again.hold is not None
    assert (again.hold.actor, again.hold.reason) == ("bob", "or 2")
    assert registry.rollback("tiny").live_version == 1
    assert changes(registry)[:3] == [(1, 2, Cause.ROLLED_BACK), (2, 3, Cause.ROLLED_BACK), (3, 1, Cause.ROLLED_BACK)]
    assert registry.history("tiny", count=2).changes[1].actor == "bob"
    before = models.model("tiny")
    refused(lambda: registry.rollback("tiny"), WrongStateError, "NO_PREVIOUS_VERSION", "PromoteModelVersion")
    assert models.model("tiny") == before


def test_a_rollback_that_leads_nowhere_puts_no_hold(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """What is refused changes nothing."""
    publish("a")
    refused(lambda: registry.rollback("tiny"), WrongStateError, "NO_PREVIOUS_VERSION")
    assert models.model("tiny").hold is None


def test_a_promotion_after_a_rollback_can_be_rolled_back(registry: ModelRegistry, publish: Publish) -> None:
    """What is promoted puts what was live on top of the way back."""
    publish("abc")
    registry.rollback("tiny")  # 2, before it 1
    assert registry.promote("tiny", 3).previous_version == 2
    assert registry.rollback("tiny").live_version == 2
    assert registry.rollback("tiny").live_version == 1


def test_a_rollback_sent_twice_with_its_etag_goes_back_once(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """The second is refused, saying what live is now."""
    publish("abc")
    etag = etag_of(models, "live")
    registry.rollback("tiny", etag=etag)
    now = etag_of(models, "live")
    refused(
        lambda: registry.rollback("tiny", etag=etag), ConflictError, "ETAG_MISMATCH", "version 2", repr(now), "read"
    )
    assert models.model("tiny").live_version == 2


def test_a_promotion_with_a_stale_etag_changes_nothing(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """Whoever read before somebody else's change must read again."""
    publish("abc")
    registry.set_hold("tiny", held=True)
    etag, before = etag_of(models, "live"), models.model("tiny")
    for stale in ("0", "1", f"{etag} ", "x" * 500):
        call = partial(registry.promote, "tiny", 1, etag=stale)
        refused(call, ConflictError, "ETAG_MISMATCH", "version 3")
    assert models.model("tiny") == before
    registry.promote("tiny", 1, etag=etag)
    refused(lambda: registry.promote("tiny", 2, etag=etag), ConflictError, "ETAG_MISMATCH", "version 1")


def test_where_nothing_is_live_the_etag_is_0(models: ModelStore, registry: ModelRegistry, publish: Publish) -> None:
    """So that the first promotion can be made only if nobody else made one."""
    publish("ab", MANUAL)
    assert registry.promote("tiny", 1, etag="0").live_version == 1
    refused(lambda: registry.promote("tiny", 2, etag="0"), ConflictError, "ETAG_MISMATCH")
    refused(lambda: registry.set_alias("tiny", "best", 1, etag="1"), ConflictError, "ETAG_MISMATCH", "not exist", "'0'")


def test_while_a_model_is_held_nothing_goes_live_by_itself(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """PROMOTED becomes HELD, and is stored so; other verdicts stay; lifted, the next goes live."""
    publish("a")
    held = registry.set_hold("tiny", held=True, actor="ann", reason="an incident")
    assert held.hold is not None
    assert (held.hold.actor, held.hold.reason) == ("ann", "an incident")
    assert publish("b") == [2]
    publish("c", MANUAL)
    assert (models.aliases("tiny"), changes(registry)) == ({"latest": 3, "live": 1}, [(1, 0, Cause.PUBLISHED)])
    outcomes = [version.verdict.outcome for version in models.versions("tiny", count=2).versions if version.verdict]
    assert outcomes == [PromotionOutcome.MANUAL, PromotionOutcome.HELD]
    assert models.publication_of_job("tiny", "b") == Publication(
        models.version("tiny", 2).ref, models.version("tiny", 2).verdict
    )
    assert registry.set_hold("tiny", held=True, actor="bob").hold == models.model("tiny").hold
    assert registry.set_hold("tiny", held=False).hold is None
    publish("d")
    assert models.aliases("tiny") == {"latest": 4, "live": 4}


def test_a_promotion_lifts_a_hold(models: ModelStore, registry: ModelRegistry, publish: Publish) -> None:
    """Somebody decided, so that the next job may go live again."""
    publish("ab")
    registry.rollback("tiny")
    assert registry.promote("tiny", 2).hold is None
    publish("c")
    assert models.model("tiny").live_version == 3


def test_a_comparison_with_what_is_no_longer_live_is_made_again(
    models: ModelStore, registry: ModelRegistry, publish: Publish, snapshot: Snapshots
) -> None:
    """Nothing is published until the verdict is about what is live; it is so even where it would not go live."""
    publish("ab")
    for outcome in (PromotionOutcome.PROMOTED, PromotionOutcome.NOT_BETTER):
        for compared_with in (0, 1, 3):
            verdict = PromotionVerdict(outcome, IF_BETTER, 0.9, compared_with, 0.8 if compared_with else None)
            refused(
                partial(models.publish, "tiny", snapshot(), "c", verdict),
                ConflictError,
                "LIVE_VERSION_CHANGED",
                "version 2",
            )
    assert models.model("tiny").version_count == 2
    assert models.publication_of_job("tiny", "c") is None
    verdict = PromotionVerdict(PromotionOutcome.PROMOTED, IF_BETTER, 0.1 + 0.2, 2, 1 / 3)
    assert models.publish("tiny", snapshot(), "c", verdict).verdict == verdict
    assert models.version("tiny", "live").verdict == verdict
    assert models.model("tiny").live_version == 3


def test_the_first_version_is_better_than_none(models: ModelStore, snapshot: Snapshots) -> None:
    """Where none was live and none is, the verdict stands."""
    verdict = PromotionVerdict(PromotionOutcome.PROMOTED, IF_BETTER, 0.9)
    assert models.publish("tiny", snapshot(), "a", verdict).verdict == verdict
    assert models.model("tiny").live_version == 1


def test_a_verdict_says_what_was_live_then(models: ModelStore, publish: Publish) -> None:
    """Not what was live when the job looked, where that did not matter."""
    publish("ab")
    publish("c", MANUAL)
    publish("d")
    live = [version.verdict.live_version for version in models.versions("tiny", count=9).versions if version.verdict]
    assert live == [2, 2, 1, 0]


def test_a_job_that_was_struck_off_publishes_nothing(models: ModelStore, publish: Publish, snapshot: Snapshots) -> None:
    """Not even the first version of a model; who had published before is not struck off."""
    assert models.strike_off("tiny", "z") is None
    assert models.strike_off("tiny", "z") is None
    refused(lambda: publish("z"), WrongStateError, "JOB_ENDED", "job z")
    assert models.publication_of_job("tiny", "z") is None
    refused(lambda: models.model("tiny"), NotFoundError, "MODEL_NOT_FOUND")
    published = models.publish("tiny", snapshot(), "early", MANUAL)
    assert models.strike_off("tiny", "early") == published
    assert models.publish("tiny", snapshot(), "early") == published
    assert models.model("tiny").version_count == 1


def test_a_job_that_is_forgotten_leaves_nothing_behind(
    models: ModelStore, connection: StoreConnection, publish: Publish
) -> None:
    """Its version stays."""
    publish("a")
    models.strike_off("tiny", "b")
    for job in "ab":
        models.forget_job("tiny", job)
        assert models.publication_of_job("tiny", job) is None
    assert connection.command("EXISTS", KEYS.jobs) == 0
    assert models.version("tiny", 1).ref.version == 1


def test_a_job_whose_version_was_deleted_does_not_publish_again(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """It gets what it got, though nothing is there any more."""
    publish("ab")
    published = models.publication_of_job("tiny", "a")
    assert published is not None
    registry.delete("tiny", 1)
    assert publish("a") == [1]
    assert models.publication_of_job("tiny", "a") == models.strike_off("tiny", "a") == published
    assert [version.ref.version for version in models.versions("tiny", count=9).versions] == [2]


def test_an_alias_is_pointed_by_compare_and_set(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, publish: Publish
) -> None:
    """Each time it is pointed anew its etag changes; removed, it is as if it had never been."""
    publish("ab")
    first = registry.set_alias("tiny", "best", 1, etag="0")
    assert (first, models.aliases("tiny")["best"]) == (etag_of(models, "best"), 1)
    assert registry.set_alias("tiny", "best", 1, etag=first) == first
    second = registry.set_alias("tiny", "best", 2, etag=first)
    assert second not in {first, "0"}
    refused(
        lambda: registry.set_alias("tiny", "best", 1, etag=first), ConflictError, "ETAG_MISMATCH", "version 2", second
    )
    refused(lambda: registry.set_alias("tiny", "best", 0, etag=first), ConflictError, "ETAG_MISMATCH")
    refused(lambda: registry.set_alias("tiny", "best", 1, etag="0"), ConflictError, "ETAG_MISMATCH")
    assert models.aliases("tiny") == {"best": 2, "latest": 2, "live": 2}
    assert registry.set_alias("tiny", "best", 0, etag=second) == "0"
    assert (etag_of(models, "best"), models.aliases("tiny")) == ("0", {"latest": 2, "live": 2})
    assert connection.command("HKEYS", KEYS.revisions) == [b"live"]
    refused(lambda: registry.set_alias("tiny", "best", 0), NotFoundError, "ALIAS_NOT_FOUND", "'best'")
    third = registry.set_alias("tiny", "best", 1)
    assert third not in {first, second, "0"}
    assert models.version("tiny", "best").aliases == ("best",)
    refused(lambda: registry.set_alias("tiny", "best", 7), NotFoundError, "VERSION_NOT_FOUND", "latest is 2")
    assert etag_of(models, "best") == third


def test_aliases_know_nothing_of_each_other(models: ModelStore, registry: ModelRegistry, publish: Publish) -> None:
    """Moving one leaves the etags of the others."""
    publish("ab")
    best, live = registry.set_alias("tiny", "best", 1), etag_of(models, "live")
    registry.set_alias("tiny", "worst", 2)
    assert (etag_of(models, "best"), etag_of(models, "live")) == (best, live)
    registry.promote("tiny", 1, etag=live)
    assert etag_of(models, "best") == best


def test_pointing_live_is_a_promotion(models: ModelStore, registry: ModelRegistry, publish: Publish) -> None:
    """By its etag, with its history, lifting a hold; and it cannot be removed."""
    publish("ab")
    registry.set_hold("tiny", held=True)
    etag = etag_of(models, "live")
    new = registry.set_alias("tiny", "live", 1, etag=etag, actor="ann")
    assert new == etag_of(models, "live") != etag
    model = models.model("tiny")
    assert (model.live_version, model.previous_version, model.hold) == (1, 2, None)
    (change,) = registry.history("tiny", count=1).changes
    assert (change.cause, change.actor, change.reason) == (Cause.PROMOTED, "ann", "")
    refused(lambda: registry.set_alias("tiny", "live", 2, etag=etag), ConflictError, "ETAG_MISMATCH")
    refused(lambda: registry.set_alias("tiny", "live", 0), InvalidInputError, "INVALID_INPUT", "version", "live")
    assert models.model("tiny") == model


def test_a_model_has_so_many_aliases_and_no_more(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, publish: Publish
) -> None:
    """A thousand, for a model is sent with all of them; those that are there can be pointed anew."""
    publish("ab")
    connection.command("HSET", KEYS.aliases, *[word for number in range(997) for word in (f"a{number}", 1)])
    registry.set_alias("tiny", "last", 1)
    refused(lambda: registry.set_alias("tiny", "more", 1), WrongStateError, "TOO_MANY_ALIASES", "1000", "SetModelAlias")
    registry.set_alias("tiny", "last", 2)
    registry.promote("tiny", 1)
    registry.set_alias("tiny", "last", 0)
    registry.set_alias("tiny", "more", 1)
    assert len(models.model("tiny").aliases) == 1000


@pytest.mark.parametrize("alias", ["a", "best", "canary-2", "a" * 63, "x0-"])
def test_a_name_that_may_be_an_alias(registry: ModelRegistry, publish: Publish, alias: str) -> None:
    """It can be pointed, and leads to the version."""
    publish("a")
    assert registry.set_alias("tiny", alias, 1) == "2"


BAD: dict[str, tuple[Callable[[ModelRegistry], object], tuple[str, ...], tuple[str, ...]]] = {
    "an alias that is a number": (
        lambda r: r.set_alias("tiny", "7", 1),
        ("alias",),
        ("'7'", "version's number", "letter"),
    ),
    "an alias that begins like one": (lambda r: r.set_alias("tiny", "7a", 1), ("alias",), ("'7a'", "letter")),
    "no alias": (lambda r: r.set_alias("tiny", "", 1), ("alias",), ("required",)),
    "capitals": (lambda r: r.set_alias("tiny", "Best", 1), ("alias",), ("'Best'", "a-z")),
    "64 letters": (lambda r: r.set_alias("tiny", "a" * 64, 1), ("alias",), ("63",)),
    "a line's end": (lambda r: r.set_alias("tiny", "best\n", 1), ("alias",), ("a-z",)),
    "latest": (lambda r: r.set_alias("tiny", "latest", 1), ("alias",), ("'latest'", "store")),
    "a negative version": (lambda r: r.set_alias("tiny", "best", -1), ("version",), ("-1", "0 to remove")),
    "many": (lambda r: r.set_alias("tiny", "7", -1, actor="x" * 65), ("alias", "version", "actor"), ("65", "64")),
    "promoting no version": (lambda r: r.promote("tiny", 0), ("version",), ("0", "1 or more")),
    "deleting no version": (lambda r: r.delete("tiny", 0), ("version",), ("0", "1 or more")),
    "annotating no version": (lambda r: r.annotate("tiny", -3, notes=""), ("version",), ("-3",)),
    "who and why": (
        lambda r: r.promote("tiny", 1, actor="ü" * 65, reason="x" * 501),
        ("actor", "reason"),
        ("65", "64", "501", "500"),
    ),
    "why back": (lambda r: r.rollback("tiny", reason="x" * 501), ("reason",), ("501", "500")),
    "trying no version": (
        lambda r: r.set_rollout("tiny", 0, RolloutMode.CANARY, 10),
        ("version",),
        ("0", "1 or more"),
    ),
    "why try": (
        lambda r: r.set_rollout("tiny", 1, RolloutMode.CANARY, 10, reason="x" * 501),
        ("reason",),
        ("501", "500"),
    ),
    "why hold": (lambda r: r.set_hold("tiny", held=True, reason="x" * 501), ("reason",), ("501", "500")),
    "notes": (lambda r: r.annotate("tiny", 1, notes="x" * 4001), ("notes",), ("4001", "4000")),
    "a label's name": (lambda r: r.annotate("tiny", 1, labels={"Team": ""}), ("labels['Team']",), ("a-z",)),
    "no label's name": (lambda r: r.annotate("tiny", 1, labels={"": "x"}), ("labels['']",), ("1 to 63",)),
    "a label's value": (lambda r: r.annotate("tiny", 1, labels={"a": "x" * 201}), ("labels['a']",), ("201", "200")),
    "labels": (
        lambda r: r.annotate("tiny", 1, labels={f"a{number}": "" for number in range(33)}),
        ("labels",),
        ("33", "32"),
    ),
    "keeping none": (lambda r: r.prune("tiny", 0, dry_run=True), ("keep_newest",), ("0", "1 or more")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_words_are_refused_by_name(
    models: ModelStore, registry: ModelRegistry, publish: Publish, name: str
) -> None:
    """Every bad field with what came and what is expected; nothing is changed."""
    call, fields, words = BAD[name]
    publish("ab")
    before = models.model("tiny"), models.version("tiny", 1)
    with pytest.raises(InvalidInputError) as caught:
        call(registry)
    assert tuple(violation.field for violation in caught.value.violations) == fields
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message
    assert (models.model("tiny"), models.version("tiny", 1)) == before


def test_the_longest_words_are_kept_whole(models: ModelStore, registry: ModelRegistry, publish: Publish) -> None:
    """As characters, not bytes; whatever is in them."""
    publish("ab")
    actor, reason = "ü" * 64, "'\"\\\n\0{" + "€" * 494
    assert registry.rollback("tiny", actor=actor, reason=reason).hold == models.model("tiny").hold
    (change,) = registry.history("tiny", count=1).changes
    assert (change.actor, change.reason) == (actor, reason)
    labels = {("a._-9" * 13)[:63]: "€" * 200, **{f"n{number}": "\x00\n\"'" for number in range(31)}}
    notes = "\x00{}" + "😀" * 3997
    assert registry.annotate("tiny", 1, notes=notes, labels=labels).annotations == Annotations(notes, labels)
    assert models.versions("tiny", count=1, below=2).versions[0].annotations == Annotations(notes, labels)


def test_what_is_written_about_a_version_changes_by_itself(
    models: ModelStore, registry: ModelRegistry, publish: Publish
) -> None:
    """Each of notes, labels and pin, all labels at once, of that version alone; the version itself stays."""
    publish("ab")
    before = models.version("tiny", 1)
    assert before.annotations == Annotations()
    assert registry.annotate("tiny", 1, notes="good").annotations == Annotations("good")
    labels = {"team": "a", "x": ""}
    assert registry.annotate("tiny", 1, labels=labels).annotations == Annotations("good", labels)
    assert registry.annotate("tiny", 1, pinned=True).annotations == Annotations("good", labels, pinned=True)
    written = registry.annotate("tiny", 1, notes="", labels={"y": "b"})
    assert written.annotations == Annotations("", {"y": "b"}, pinned=True)
    assert registry.annotate("tiny", 1, labels={}, pinned=False).annotations == Annotations()
    assert models.version("tiny", 1) == before
    assert models.version("tiny", 2).annotations == Annotations()


@pytest.mark.parametrize(
    ("need", "words"),
    [
        (lambda r: r.promote("tiny", 1), ("live", "promote another")),
        (lambda r: r.set_alias("tiny", "best", 1), ("'best'", "SetModelAlias")),
        (lambda r: r.annotate("tiny", 1, pinned=True), ("pinned", "UpdateModelVersion")),
    ],
)
def test_a_version_that_something_needs_is_not_deleted(
    models: ModelStore,
    registry: ModelRegistry,
    publish: Publish,
    need: Callable[[ModelRegistry], Any],
    words: tuple[str],
) -> None:
    """The refusal names what needs it and what to do; the version stays whole."""
    publish("ab")
    need(registry)
    before = models.version("tiny", 1)
    refused(lambda: registry.delete("tiny", 1), WrongStateError, "VERSION_IN_USE", "version 1", *words)
    assert models.version("tiny", 1) == before


def test_a_refused_deletion_names_all_that_need_the_version(registry: ModelRegistry, publish: Publish) -> None:
    """So that nobody has to try again for each."""
    publish("a")
    for alias in ("best", "canary"):
        registry.set_alias("tiny", alias, 1)
    registry.annotate("tiny", 1, pinned=True)
    refused(lambda: registry.delete("tiny", 1), WrongStateError, "VERSION_IN_USE", "live", "'best', 'canary'", "pinned")
    publish("b")
    registry.set_rollout("tiny", 1, RolloutMode.SHADOW, 10)
    refused(
        lambda: registry.delete("tiny", 1), WrongStateError, "VERSION_IN_USE", "'best', 'canary'", "pinned", "tried"
    )


def test_of_a_deleted_version_nothing_is_left(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, publish: Publish
) -> None:
    """Neither its bytes nor what was decided or written about it; and it says so when it is asked for."""
    publish("ab")
    registry.annotate("tiny", 1, notes="x", labels={"a": "b"}, pinned=True)
    registry.annotate("tiny", 1, pinned=False)
    registry.delete("tiny", 1)
    for key in (KEYS.records, KEYS.manifests, KEYS.weights, KEYS.verdicts):
        assert connection.command("HKEYS", key) == [b"2"]
    assert connection.command("ZRANGE", KEYS.versions, 0, -1) == [b"2"]
    assert connection.command("EXISTS", KEYS.annotations) == 0
    for call in (
        lambda: models.version("tiny", 1),
        lambda: registry.delete("tiny", 1),
        lambda: registry.promote("tiny", 1),
        lambda: registry.annotate("tiny", 1, notes="y"),
        lambda: registry.set_alias("tiny", "best", 1),
    ):
        refused(call, NotFoundError, "VERSION_NOT_FOUND", "no version 1", "latest is 2")
    assert connection.command("EXISTS", KEYS.annotations) == 0


def test_a_number_is_never_used_again(models: ModelStore, registry: ModelRegistry, publish: Publish) -> None:
    """`latest` moves to the highest that is left, or vanishes; the next publication gets the next number."""
    publish("abc", MANUAL)
    registry.delete("tiny", 3)
    assert (models.aliases("tiny"), models.version("tiny", "latest").ref.version) == ({"latest": 2}, 2)
    registry.delete("tiny", 1)
    assert models.aliases("tiny") == {"latest": 2}
    registry.delete("tiny", 2)
    model = models.model("tiny")
    assert (model.latest_version, model.version_count, model.aliases) == (0, 0, ())
    refused(lambda: models.version("tiny", 3), NotFoundError, "VERSION_NOT_FOUND", "none at all")
    refused(lambda: models.version("tiny", "latest"), NotFoundError, "ALIAS_NOT_FOUND", "none")
    assert models.versions("tiny", count=5).versions == ()
    assert publish("d") == [4]
    assert models.aliases("tiny") == {"latest": 4, "live": 4}


def test_no_rollback_leads_to_a_deleted_version(models: ModelStore, registry: ModelRegistry, publish: Publish) -> None:
    """Nor to what is live already, nor twice to the same, where it stood between."""
    publish("abc")
    for version in (1, 2, 1, 3):
        registry.promote("tiny", version)  # back: 1 2 1 3 2 1
    registry.delete("tiny", 2)
    assert models.model("tiny").previous_version == 1
    assert [registry.rollback("tiny").live_version for _ in range(3)] == [1, 3, 1]
    refused(lambda: registry.rollback("tiny"), WrongStateError, "NO_PREVIOUS_VERSION")
    registry.promote("tiny", 3)
    registry.promote("tiny", 1)
    registry.delete("tiny", 3)
    assert models.model("tiny").previous_version == 0


def test_an_alias_that_moves_while_it_is_read_is_read_again(
    models: ModelStore, registry: ModelRegistry, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though what it pointed to is deleted at once: whoever asks for `live` gets a version."""
    publish("abc")
    read = models.aliases

    def read_and_move(model: str) -> dict[str, int]:
        aliases = read(model)
        if aliases["live"] > 1:
            registry.promote(model, aliases["live"] - 1)
            registry.delete(model, aliases["live"])
        return aliases

    monkeypatch.setattr(models, "aliases", read_and_move)
    assert models.version("tiny", "live").ref.version == 1


def test_what_is_pruned_is_what_nothing_needs(
    models: ModelStore, registry: ModelRegistry, publish: Publish, connection: StoreConnection
) -> None:
    """The newest stay, and what is live, was live before, has an alias or is pinned; a dry run only says so."""
    publish("abcdefghijkl", MANUAL)
    registry.promote("tiny", 2)
    registry.promote("tiny", 4)
    registry.set_alias("tiny", "best", 6)
    registry.annotate("tiny", 7, pinned=True)
    registry.annotate("tiny", 8, notes="not pinned", pinned=False)
    before = models.versions("tiny", count=20).versions
    size = sum(version.weights_size_bytes for version in before if version.ref.version in {1, 3, 5, 8, 9})
    for dry_run in (True, False):
        assert models.versions("tiny", count=20).versions == before
        pruned = registry.prune("tiny", 3, dry_run=dry_run)
        assert (pruned.versions, pruned.size_bytes, pruned.kept_count) == ((1, 3, 5, 8, 9), size, 7)
    left = [version for version in before if version.ref.version not in pruned.versions]
    assert models.versions("tiny", count=20).versions == tuple(left)
    assert connection.command("HLEN", KEYS.weights) == connection.command("HLEN", KEYS.records) == 7
    for _ in range(2):
        again = registry.prune("tiny", 3, dry_run=False)
        assert (again.versions, again.size_bytes, again.kept_count) == ((), 0, 7)
    assert [registry.rollback("tiny").live_version] == [2]
    assert registry.prune("tiny", 1000, dry_run=False).versions == ()
    refused(lambda: registry.prune("none", 3, dry_run=False), NotFoundError, "MODEL_NOT_FOUND")


def test_pruning_leaves_one_way_back(registry: ModelRegistry, publish: Publish) -> None:
    """Of those that were live before, the one that a rollback leads to is kept; none leads to one that went."""
    publish("abcde")
    assert registry.prune("tiny", 1, dry_run=False).versions == (1, 2, 3)
    assert registry.rollback("tiny").live_version == 4
    refused(lambda: registry.rollback("tiny"), WrongStateError, "NO_PREVIOUS_VERSION")


def test_a_thousand_versions_are_pruned_at_once_and_the_rest_by_another_call(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection
) -> None:
    """Oldest first; past any number that are pinned; and the same for a dry run."""
    for number in range(1, 1501):
        models.publish("tiny", StoredSnapshot(b"", b"w", "d"), str(number), MANUAL)
    for number in range(1, 251):  # more than one script looks at
        registry.annotate("tiny", number, pinned=True)
    for dry_run in (True, False):
        first = registry.prune("tiny", 10, dry_run=dry_run)
        assert (first.versions, first.size_bytes, first.kept_count) == (tuple(range(251, 1251)), 1000, 500)
    assert connection.command("HLEN", KEYS.weights) == 500
    second = registry.prune("tiny", 10, dry_run=False)
    assert (second.versions, second.kept_count) == (tuple(range(1251, 1491)), 260)
    assert registry.prune("tiny", 10, dry_run=False).versions == ()


def test_the_way_back_is_a_hundred_versions_long(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, publish: Publish
) -> None:
    """The oldest are forgotten."""
    publish("".join(chr(ord("a") + number) for number in range(110)))
    assert connection.command("LLEN", KEYS.previous) == 100
    lived = [registry.rollback("tiny").live_version for _ in range(100)]
    assert lived == list(range(109, 9, -1))
    refused(lambda: registry.rollback("tiny"), WrongStateError, "NO_PREVIOUS_VERSION")
    assert models.model("tiny").live_version == 10


def test_the_history_comes_in_pages_and_keeps_ten_thousand_changes(
    registry: ModelRegistry, connection: StoreConnection, publish: Publish
) -> None:
    """Newest first; a change meanwhile moves nothing; the oldest go."""
    publish("ab")
    for _ in range(2):
        registry.promote("tiny", 1)
        registry.promote("tiny", 2)
    found, below = [], None
    while True:
        page = registry.history("tiny", count=2, below=below)
        found += [change.version for change in page.changes]
        if (below := page.next_below) is None:
            break
        registry.promote("tiny", 1)
        registry.promote("tiny", 2)
    assert found == [2, 1, 2, 1, 2, 1]
    assert registry.history("tiny", count=2, below=0).changes == ()
    refused(lambda: registry.history("none", count=2), NotFoundError, "MODEL_NOT_FOUND")
    fields: tuple[Argument, ...] = (
        "version",
        1,
        "previous",
        2,
        "time",
        0,
        "cause",
        "promoted",
        "actor",
        "",
        "reason",
        "",
    )
    revision = int(connection.command("GET", KEYS.revision))
    connection.commands([("XADD", KEYS.history, f"{revision + number}-0", *fields) for number in range(1, 10_001)])
    connection.command("INCRBY", KEYS.revision, 10_000)
    registry.promote("tiny", 1, actor="last")
    assert connection.command("XLEN", KEYS.history) == 10_000
    assert registry.history("tiny", count=1).changes[0].actor == "last"


def test_a_list_can_be_of_those_that_something_holds_for(
    models: ModelStore, registry: ModelRegistry, publish: Publish, connection: StoreConnection
) -> None:
    """Labels with a value or any, data set, job, pinned or not; all of it at once; what cannot be read is left out."""
    publish("abcd")
    registry.annotate("tiny", 1, labels={"team": "a", "stage": "x"}, pinned=True)
    registry.annotate("tiny", 2, labels={"team": "b"}, pinned=False)
    registry.annotate("tiny", 3, labels={"team": "a"}, pinned=True)
    expected = [
        (VersionFilter(), [4, 3, 2, 1]),
        (VersionFilter(labels={"team": "a"}), [3, 1]),
        (VersionFilter(labels={"team": ""}), [3, 2, 1]),
        (VersionFilter(labels={"team": "", "stage": "x"}), [1]),
        (VersionFilter(labels={"team": "", "none": ""}), []),
        (VersionFilter(pinned=True), [3, 1]),
        (VersionFilter(pinned=False), [4, 2]),
        (VersionFilter(dataset="made"), [4, 3, 2, 1]),
        (VersionFilter(dataset="mnist"), []),
        (VersionFilter(training_job_id=f"job-{ord('b')}"), [2]),
        (VersionFilter(labels={"team": "a"}, dataset="made", training_job_id=f"job-{ord('c')}", pinned=True), [3]),
        (VersionFilter(labels={"team": "a"}, training_job_id=f"job-{ord('b')}"), []),
    ]

    def listed(wanted: VersionFilter) -> list[int]:
        page = models.versions("tiny", count=10, wanted=wanted)
        assert page.next_below is None
        return [version.ref.version for version in page.versions]

    assert [listed(wanted) for wanted, _ in expected] == [numbers for _, numbers in expected]
    connection.command("HSET", KEYS.manifests, 2, b"\xff\xff")
    assert listed(VersionFilter(dataset="made")) == [4, 3, 1]
    assert listed(VersionFilter(pinned=False)) == [4, 2]


def test_a_filter_looks_at_so_many_versions_and_goes_on_with_the_next_page(
    models: ModelStore, registry: ModelRegistry
) -> None:
    """A page may be short, or empty, and not the last; together the pages have each that is wanted once."""
    for number in range(1, 1101):
        models.publish("tiny", StoredSnapshot(b"", b"", "d"), str(number), MANUAL)
    for number in (1, 2, 50, 51, 52, 1100):
        registry.annotate("tiny", number, pinned=True)
    pages, below = [], None
    while True:
        page = models.versions("tiny", count=3, below=below, wanted=VersionFilter(pinned=True))
        pages.append([version.ref.version for version in page.versions])
        if (below := page.next_below) is None:
            break
    assert pages == [[1100], [], [52, 51, 50], [2, 1]]


def publish_as_before(connection: StoreConnection, snapshot: StoredSnapshot, job: str) -> None:
    """What an earlier build wrote when it published: no verdict, no revision, no digest with the job."""
    connection.command("SADD", MODELS, "tiny")
    version = connection.command("INCR", KEYS.counter)
    connection.command("HSET", KEYS.manifests, version, snapshot.manifest)
    connection.command("HSET", KEYS.weights, version, snapshot.weights)
    connection.command("HSET", KEYS.records, version, f"{snapshot.digest} 1700000000000 {len(snapshot.weights)}")
    connection.command("ZADD", KEYS.versions, version, version)
    connection.command("HSET", KEYS.jobs, job, version)
    connection.command("HSET", KEYS.aliases, "latest", version, "live", version)


def test_what_an_earlier_build_published_is_a_version_like_any_other(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, snapshot: Snapshots
) -> None:
    """It is read, listed, promoted, annotated and deleted; its job does not publish again; its live has an etag."""
    snapshots = [snapshot(seed=seed) for seed in range(4)]
    for seed in range(3):
        publish_as_before(connection, snapshots[seed], str(seed))
    model = models.model("tiny")
    assert (model.live_version, model.latest_version, model.version_count, model.previous_version) == (3, 3, 3, 0)
    assert model.aliases == (Alias("latest", 3, ""), Alias("live", 3, "v3"))
    old = models.version("tiny", 2)
    assert (old.snapshot, old.verdict, old.annotations) == (snapshots[1], None, Annotations())
    assert [version.verdict for version in models.versions("tiny", count=9).versions] == [None] * 3
    assert models.publish("tiny", snapshots[3], "1") == Publication(VersionRef(2, snapshots[1].digest), None)
    assert models.publication_of_job("tiny", "1") == models.strike_off("tiny", "1") != None  # noqa: E711 - of three
    assert registry.history("tiny", count=9).changes == ()
    refused(lambda: registry.rollback("tiny"), WrongStateError, "NO_PREVIOUS_VERSION")
    refused(lambda: registry.promote("tiny", 2, etag="0"), ConflictError, "ETAG_MISMATCH", "'v3'")
    assert registry.promote("tiny", 2, etag="v3").previous_version == 3
    refused(lambda: registry.promote("tiny", 1, etag="v3"), ConflictError, "ETAG_MISMATCH")
    assert changes(registry) == [(2, 3, Cause.PROMOTED)]
    assert registry.annotate("tiny", 1, notes="old").annotations.notes == "old"
    verdict = PromotionVerdict(PromotionOutcome.PROMOTED, IF_BETTER, 0.9, 2, 0.8)
    assert models.publish("tiny", snapshots[3], "3", verdict).ref.version == 4
    assert [registry.rollback("tiny").live_version for _ in range(2)] == [2, 3]
    registry.delete("tiny", 2)
    assert models.publication_of_job("tiny", "1") == Publication(VersionRef(2, ""), None)


WAKES: dict[str, Callable[[ModelRegistry], object]] = {
    "promotion": lambda r: r.promote("tiny", 1),
    "rollback": lambda r: r.rollback("tiny"),
    "hold": lambda r: r.set_hold("tiny", held=True),
    "rollout": lambda r: r.set_rollout("tiny", 1, RolloutMode.CANARY, 10),
    "rollout of another": lambda r: r.set_rollout("tiny", 4, RolloutMode.SHADOW, 10),
    "share": lambda r: r.set_rollout("tiny", 4, RolloutMode.CANARY, 20),
    "rollout's end": lambda r: r.end_rollout("tiny"),
    "alias": lambda r: r.set_alias("tiny", "best", 1),
    "no alias": lambda r: r.set_alias("tiny", "worst", 0),
    "deletion": lambda r: r.delete("tiny", 3),
    "pruning": lambda r: r.prune("tiny", 1, dry_run=False),
}


@pytest.mark.parametrize("change", WAKES)
def test_each_change_wakes_the_watchers(
    registry: ModelRegistry, connection: StoreConnection, publish: Publish, change: str
) -> None:
    """Once, by the model's own stream."""
    publish("ab")
    publish("cd", MANUAL)
    registry.set_alias("tiny", "worst", 1)
    registry.set_rollout("tiny", 4, RolloutMode.CANARY, 10)
    events = ModelEvents(connection)
    events.follow(["tiny"])
    WAKES[change](registry)
    assert events.wait(4)
    assert not events.wait(0.05)


def test_a_change_whose_answer_was_lost_is_made_once(
    models: ModelStore,
    registry: ModelRegistry,
    connection: StoreConnection,
    publish: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client of Redis sends it again by itself; it gets the answer that it missed."""
    publish("abcdef")
    registry.promote("tiny", 5)
    registry.promote("tiny", 6)
    registry.rollback("tiny")  # every script is known to Redis now, so that each change below is one command
    registry.set_alias("tiny", "best", 1)
    registry.set_alias("tiny", "best", 0)
    registry.delete("tiny", 4)
    registry.prune("tiny", 100, dry_run=True)
    registry.set_rollout("tiny", 2, RolloutMode.CANARY, 10)
    registry.end_rollout("tiny")
    lost: list[Any] = []
    read = redis.Redis.parse_response

    def read_and_lose(client: redis.Redis, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's
        answer = read(client, *arguments, **options)  # type: ignore[no-untyped-call]
        if not lost:
            lost.append(answer)
            raise redis.ConnectionError("the answer was lost on the way")
        return answer

    monkeypatch.setattr(redis.Redis, "parse_response", read_and_lose)

    def losing(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it returns
        lost.clear()
        answer = call()
        assert len(lost) == 1
        return answer

    live = etag_of(models, "live")
    assert losing(lambda: registry.rollback("tiny", etag=live)).live_version == 6
    assert models.model("tiny").previous_version == 5
    assert losing(lambda: registry.promote("tiny", 1, etag=etag_of(models, "live"))).live_version == 1
    assert losing(lambda: registry.set_alias("tiny", "best", 2, etag="0")) == etag_of(models, "best")
    assert losing(lambda: registry.set_alias("tiny", "best", 0)) == "0"
    tried = losing(lambda: registry.set_rollout("tiny", 2, RolloutMode.CANARY, 10, etag="0"))
    assert tried == models.model("tiny")
    assert (
        losing(lambda: registry.end_rollout("tiny", etag=tried.rollout.etag)).rollout is models.rollout("tiny") is None
    )
    losing(lambda: registry.delete("tiny", 6))
    refused(lambda: models.version("tiny", 6), NotFoundError, "VERSION_NOT_FOUND")
    publish("ghi", MANUAL)
    registry.set_alias("tiny", "best", 7)
    before = models.model("tiny").version_count
    pruned = losing(lambda: registry.prune("tiny", 1, dry_run=False))
    assert pruned.versions == (2, 3, 8)
    assert models.model("tiny").version_count == before - 3


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.promote("none", 1),
        lambda r: r.rollback("none"),
        lambda r: r.set_hold("none", held=True),
        lambda r: r.set_rollout("none", 1, RolloutMode.CANARY, 10, etag="1"),
        lambda r: r.end_rollout("none", etag="1"),
        lambda r: r.set_alias("none", "best", 1),
        lambda r: r.set_alias("none", "live", 1),
        lambda r: r.annotate("none", 1, notes="x"),
        lambda r: r.delete("none", 1),
        lambda r: r.history("none", count=1),
        lambda r: r.prune("none", 1, dry_run=True),
    ],
)
def test_a_model_that_is_not_there_is_not_made(
    registry: ModelRegistry, connection: StoreConnection, call: Callable[[ModelRegistry], object]
) -> None:
    """Nothing but a publication makes a model."""
    refused(lambda: call(registry), NotFoundError, "MODEL_NOT_FOUND", "'none'")
    assert connection.command("KEYS", "*") == []
