"""Rollouts on a real Redis: what is tried on which share, what ends that, what is refused, and what many do at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from shared.errors import ConflictError, InvalidInputError, NotFoundError, WeightcastError, WrongStateError
from shared.model_version import PromotionOutcome, PromotionVerdict, StoredSnapshot
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import Rollout, RolloutMode
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry

Snapshots = Callable[..., StoredSnapshot]
Publish = Callable[..., None]
CANARY, SHADOW = RolloutMode.CANARY, RolloutMode.SHADOW
PROMOTED = PromotionVerdict(PromotionOutcome.PROMOTED, Promotion(), accuracy=0.9)
MANUAL = PromotionVerdict(PromotionOutcome.MANUAL, Promotion(PromotionPolicy.MANUAL), accuracy=0.5)
LONG_AGO = datetime.fromtimestamp(1, UTC)
KEYS = ModelKeys("tiny")
ROUNDS, SIDES = 40, 4


@pytest.fixture
def registry(connection: StoreConnection) -> ModelRegistry:
    """What changes the models in this test's Redis."""
    return ModelRegistry(connection)


@pytest.fixture
def publish(models: ModelStore, snapshot: Snapshots) -> Publish:
    """Publishes versions of `tiny`, one for each job that is named, by one verdict."""

    def make(jobs: str, verdict: PromotionVerdict = MANUAL) -> None:
        for job in jobs:
            models.publish("tiny", snapshot(seed=ord(job)), job, verdict)

    return make


@pytest.fixture
def four(publish: Publish) -> None:
    """Four versions, of which 2 is live and 1 was before."""
    publish("ab", PROMOTED)
    publish("cd")


def refused(call: Callable[[], object], kind: type[WeightcastError], reason: str, *words: str) -> None:
    """Asserts that a call is refused with this reason, in a message that has these words."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.reason == reason
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def tried(models: ModelStore) -> Rollout:
    """The rollout, which must be the same however it is read."""
    rollout = models.rollout("tiny")
    assert rollout is not None
    assert rollout == models.model("tiny").rollout
    return rollout


def backdate(connection: StoreConnection) -> None:
    """Makes a rollout look as if it had been set long ago."""
    connection.command("HSET", KEYS.rollout, "created", 1000, "updated", 1000)


@pytest.mark.parametrize("percent", [10, 0.1 + 0.2, 100 / 3, 5e-324, 100.0])
def test_a_rollout_is_kept_as_it_was_set(
    models: ModelStore, registry: ModelRegistry, four: None, percent: float
) -> None:
    """To the last bit of its share, with who, when and why; nothing else of the model changes."""
    before, started = models.model("tiny"), datetime.now(UTC) - timedelta(milliseconds=1)
    actor, reason = "ü" * 64, "'\"\\\n\0{" + "€" * 494
    changed = registry.set_rollout("tiny", 3, SHADOW, percent, etag="0", actor=actor, reason=reason)
    found = tried(models)
    assert found == Rollout(3, SHADOW, percent, "3", actor, reason, found.create_time, found.update_time)
    assert started <= found.create_time == found.update_time <= datetime.now(UTC)
    assert changed == models.model("tiny") == replace(before, rollout=found)


def test_where_nothing_is_tried_there_is_no_rollout(models: ModelStore, four: None) -> None:
    """Nor where there is no such model."""
    assert models.rollout("tiny") is models.model("tiny").rollout is models.rollout("none") is None


def test_a_share_or_mode_that_changes_is_the_same_rollout(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, four: None
) -> None:
    """It keeps when it began; its etag and when it was set change."""
    registry.set_rollout("tiny", 3, SHADOW, 10)
    backdate(connection)
    etags = {tried(models).etag}
    for mode, percent, reason in ((SHADOW, 20.5, ""), (CANARY, 20.5, ""), (CANARY, 20.5, "agreed")):
        registry.set_rollout("tiny", 3, mode, percent, actor="ann", reason=reason)
        found = tried(models)
        assert (found.version, found.mode, found.percent, found.reason) == (3, mode, percent, reason)
        assert found.create_time == LONG_AGO < found.update_time
        assert found.etag not in {*etags, "0"}
        etags.add(found.etag)


def test_another_version_takes_the_place_of_the_one_that_is_tried(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, four: None
) -> None:
    """Its rollout begins then; nothing is left of the other's."""
    registry.set_rollout("tiny", 3, SHADOW, 10, actor="ann", reason="why")
    backdate(connection)
    etag = tried(models).etag
    registry.set_rollout("tiny", 4, SHADOW, 10, etag=etag)
    found = tried(models)
    assert (found.version, found.actor, found.reason) == (4, "", "")
    assert found.create_time == found.update_time > LONG_AGO
    assert found.etag != etag


def test_setting_what_is_set_changes_nothing(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, four: None
) -> None:
    """Neither its etag nor its times, and nobody is woken."""
    events = ModelEvents(connection)
    registry.set_rollout("tiny", 3, CANARY, 1 / 3, actor="ann", reason="why")
    backdate(connection)
    before = models.model("tiny")
    events.follow(["tiny"])
    assert registry.set_rollout("tiny", 3, CANARY, 1 / 3, actor="ann", reason="why") == before
    assert models.model("tiny") == before
    assert not events.wait(0.05)


def test_a_rollout_that_ends_is_gone(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, four: None
) -> None:
    """The model is as it was before, and a new rollout has another etag than any before."""
    before = models.model("tiny")
    registry.set_rollout("tiny", 3, CANARY, 10)
    etag = tried(models).etag
    assert registry.end_rollout("tiny", etag=etag) == models.model("tiny") == before
    assert connection.command("EXISTS", KEYS.rollout) == 0
    refused(lambda: registry.end_rollout("tiny"), WrongStateError, "NO_ROLLOUT", "'tiny'", "SetModelRollout")
    registry.set_rollout("tiny", 3, CANARY, 10)
    assert tried(models).etag not in {etag, "0"}


def test_a_rollout_is_changed_by_compare_and_set(models: ModelStore, registry: ModelRegistry, four: None) -> None:
    """A stale etag changes nothing, and the refusal says what is tried now; aliases are none of it."""
    registry.set_rollout("tiny", 3, SHADOW, 12.5)
    first = tried(models).etag
    registry.set_alias("tiny", "best", 1)
    registry.promote("tiny", 1)
    registry.set_rollout("tiny", 3, CANARY, 12.5, etag=first)
    before = models.model("tiny")
    now = tried(models).etag
    for stale in (first, "0", f"{now} ", "x" * 500):
        for call in (
            partial(registry.set_rollout, "tiny", 4, CANARY, 1, etag=stale),
            partial(registry.end_rollout, "tiny", etag=stale),
        ):
            refused(call, ConflictError, "ETAG_MISMATCH", "version 3 on 12.5 %", "canary", repr(now), "read the model")
    assert models.model("tiny") == before
    registry.end_rollout("tiny", etag=now)
    for call in (
        partial(registry.set_rollout, "tiny", 3, CANARY, 1, etag=now),
        partial(registry.end_rollout, "tiny", etag=now),
    ):
        refused(call, ConflictError, "ETAG_MISMATCH", "none now", "'0'")
    registry.set_rollout("tiny", 3, CANARY, 1, etag="0")


def test_the_etags_of_aliases_are_their_own(models: ModelStore, registry: ModelRegistry, four: None) -> None:
    """A rollout leaves them, and the history of `live` goes on in order."""
    aliases = models.model("tiny").aliases
    registry.set_rollout("tiny", 3, CANARY, 10)
    assert models.model("tiny").aliases == aliases
    registry.promote("tiny", 1, etag=next(alias.etag for alias in aliases if alias.name == "live"))
    registry.set_rollout("tiny", 4, CANARY, 10)
    registry.promote("tiny", 2)
    assert [change.version for change in registry.history("tiny", count=9).changes] == [2, 1, 2, 1]


GOING_LIVE: dict[str, Callable[[ModelRegistry], object]] = {
    "promotion": lambda r: r.promote("tiny", 1),
    "alias": lambda r: r.set_alias("tiny", "live", 1),
    "rollback": lambda r: r.rollback("tiny"),
}


@pytest.mark.parametrize("change", GOING_LIVE)
def test_a_rollout_ends_when_its_version_goes_live(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, four: None, change: str
) -> None:
    """By whatever makes it live, in the same moment, and the watchers are woken once."""
    registry.set_rollout("tiny", 1, SHADOW, 10)
    events = ModelEvents(connection)
    events.follow(["tiny"])
    GOING_LIVE[change](registry)
    model = models.model("tiny")
    assert (model.live_version, model.rollout, models.rollout("tiny")) == (1, None, None)
    assert events.wait(4)
    assert not events.wait(0.05)


def test_a_rollout_goes_on_beside_another_live_version(
    models: ModelStore, registry: ModelRegistry, publish: Publish, four: None
) -> None:
    """What else is published, promoted, rolled back or held is none of it."""
    registry.set_rollout("tiny", 3, SHADOW, 10)
    before = tried(models)
    publish("e", PROMOTED)
    registry.promote("tiny", 4)
    registry.set_hold("tiny", held=True)
    registry.rollback("tiny")
    assert models.model("tiny").live_version == 5
    assert tried(models) == before


def test_what_is_live_is_not_tried(models: ModelStore, registry: ModelRegistry, four: None) -> None:
    """There would be nothing to compare it with; what is tried already stays."""
    registry.set_rollout("tiny", 3, SHADOW, 10)
    before = tried(models)
    call = partial(registry.set_rollout, "tiny", 2, SHADOW, 10, etag=before.etag)
    refused(call, WrongStateError, "VERSION_IS_LIVE", "version 2", "live already")
    assert tried(models) == before


def test_where_nothing_is_live_nothing_is_tried(models: ModelStore, registry: ModelRegistry, publish: Publish) -> None:
    """For something has to answer the rest."""
    publish("ab")
    call = partial(registry.set_rollout, "tiny", 1, SHADOW, 10)
    refused(call, WrongStateError, "NO_LIVE_VERSION", "'tiny'", "PromoteModelVersion")
    assert models.rollout("tiny") is None


def test_a_version_that_is_not_there_is_not_tried(models: ModelStore, registry: ModelRegistry, four: None) -> None:
    """The refusal says what there is."""
    call = partial(registry.set_rollout, "tiny", 5, SHADOW, 10)
    refused(call, NotFoundError, "VERSION_NOT_FOUND", "no version 5", "latest is 4")
    assert models.rollout("tiny") is None


@pytest.mark.parametrize("percent", [0, -1, 100.0000001, float("nan"), float("inf"), float("-inf"), 1e308])
def test_a_share_is_more_than_nothing_and_at_most_all(
    models: ModelStore, registry: ModelRegistry, four: None, percent: float
) -> None:
    """What came stands in the refusal as it came."""
    with pytest.raises(InvalidInputError) as caught:
        registry.set_rollout("tiny", 0, CANARY, percent, actor="x" * 65)
    told = {violation.field: violation.description for violation in caught.value.violations}
    assert set(told) == {"version", "percent", "actor"}
    assert told["percent"] == f"got {percent}, expected more than 0 and at most 100"
    assert models.rollout("tiny") is None


def test_what_is_tried_is_not_removed(models: ModelStore, registry: ModelRegistry, four: None) -> None:
    """Neither by name nor with the old ones; once its rollout has ended it can be."""
    registry.set_rollout("tiny", 3, SHADOW, 10)
    before = models.version("tiny", 3)
    refused(
        lambda: registry.delete("tiny", 3),
        WrongStateError,
        "VERSION_IN_USE",
        "version 3",
        "it is tried by a rollout: end it with EndModelRollout first",
    )
    for dry_run in (True, False):
        assert registry.prune("tiny", 1, dry_run=dry_run).versions == ()
    assert models.version("tiny", 3) == before
    registry.set_rollout("tiny", 4, SHADOW, 10)
    assert registry.prune("tiny", 1, dry_run=False).versions == (3,)
    registry.end_rollout("tiny")
    registry.delete("tiny", 4)


def test_what_another_build_wrote_is_not_guessed_at(
    models: ModelStore, registry: ModelRegistry, connection: StoreConnection, four: None
) -> None:
    """A rollout that cannot be read is told as such."""
    for field, value in {"mode": "sideways", "percent": "ten", "created": "", "updated": "9" * 30}.items():
        registry.set_rollout("tiny", 3, SHADOW, 10)
        connection.command("HSET", KEYS.rollout, field, value)
        with pytest.raises(ValueError, match="stored rollout cannot be read"):
            models.rollout("tiny")
        connection.command("DEL", KEYS.rollout)
    connection.command("HSET", KEYS.rollout, "version", 3)
    with pytest.raises(ValueError, match="stored rollout cannot be read"):
        models.rollout("tiny")


def test_what_is_live_is_never_tried_whoever_is_faster(
    models: ModelStore, four: None, connect: Callable[[], StoreConnection]
) -> None:
    """Many try a version while as many promote it: at every moment, and at the end, it is one or the other."""
    ended = threading.Event()
    begin = threading.Barrier(2 * SIDES)

    def watch(store: ModelStore) -> set[bool]:
        seen = set[bool]()
        while not ended.is_set():
            model = store.model("tiny")
            assert model.rollout is None or model.rollout.version != model.live_version
            seen.add(model.rollout is None)
        return seen

    def change(change_it: Callable[[int], object]) -> list[str]:
        refusals = []
        for turn in range(ROUNDS):
            begin.wait(10)
            try:
                change_it(turn % 4 + 1)
            except WrongStateError as error:
                refusals.append(error.reason)
        return refusals

    registries = [ModelRegistry(connect()) for _ in range(2 * SIDES)]
    setters = [partial(lambda r, version: r.set_rollout("tiny", version, CANARY, 10), r) for r in registries[:SIDES]]
    promoters = [partial(lambda r, version: r.promote("tiny", version), r) for r in registries[SIDES:]]
    with ThreadPoolExecutor(2 * SIDES + 1) as pool:
        watching = pool.submit(watch, ModelStore(connect()))
        try:
            changing = [pool.submit(change, one) for pair in zip(setters, promoters, strict=True) for one in pair]
            refusals = [reason for one in changing for reason in one.result()]
        finally:
            ended.set()
        assert watching.result() == {True, False}
    assert set(refusals) == {"VERSION_IS_LIVE"}
    assert len(refusals) < ROUNDS * SIDES  # each side was first at times
    model = models.model("tiny")
    assert model.rollout is None or model.rollout.version != model.live_version
