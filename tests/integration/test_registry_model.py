"""The registry against a plain Python model: whatever is done in whatever order, and by many at once, both agree."""

import os
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from client.embedded_redis import EmbeddedRedis
from shared.errors import ConflictError, NotFoundError, WeightcastError, WrongStateError
from shared.model_version import (
    LATEST,
    LIVE,
    Alias,
    Annotations,
    Cause,
    LiveChange,
    PromotionOutcome,
    PromotionVerdict,
    Publication,
    StoredSnapshot,
    VersionRef,
)
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import RolloutMode
from shared.snapshot_codec import snapshot_digest, verify_digest
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry

SOAK = bool(os.environ.get("WEIGHTCAST_SOAK"))  # read now: no test sees the developer's own settings
MODEL = "tiny"
ALIASES = ("best", "canary")
ALWAYS, IF_BETTER, MANUAL = (Promotion(policy) for policy in PromotionPolicy)
STALE = "stale"
REFUSALS = (
    "ALIAS_NOT_FOUND",
    "ETAG_MISMATCH",
    "JOB_ENDED",
    "NO_ROLLOUT",
    "LIVE_VERSION_CHANGED",
    "NO_PREVIOUS_VERSION",
    "VERSION_IN_USE",
    "VERSION_IS_LIVE",
    "VERSION_NOT_FOUND",
)
WORKERS, TURNS = 6, 150
ACTS = ("publish", "promote", "rollback", "rollout", "end", "alias", "delete", "prune", "pin")


def snapshot_of(number: int) -> StoredSnapshot:
    """A snapshot that no other number has."""
    manifest, weights = b"manifest %d" % number, b"weights %d" % number * 3
    return StoredSnapshot(manifest, weights, snapshot_digest(manifest, weights))


@dataclass
class PlainVersion:
    """What must be stored of a version."""

    snapshot: StoredSnapshot
    verdict: PromotionVerdict
    annotations: Annotations = field(default_factory=Annotations)


@dataclass
class PlainModel:
    """The registry's rules over Python's own lists and dictionaries."""

    versions: dict[int, PlainVersion] = field(default_factory=dict)
    counter: int = 0
    revision: int = 0
    pointed: dict[str, int] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    formerly: list[int] = field(default_factory=list)
    history: list[tuple[int, int, Cause, str, str]] = field(default_factory=list)
    hold: tuple[str, str] | None = None
    rollout: tuple[int, RolloutMode, float, str] | None = None
    jobs: dict[str, Publication | None] = field(default_factory=dict)

    @property
    def live(self) -> int:
        """What is live, 0 for nothing."""
        return self.pointed.get(LIVE, 0)

    @property
    def tried(self) -> int:
        """What the rollout tries, 0 for nothing."""
        return self.rollout[0] if self.rollout else 0

    def aliases(self) -> dict[str, int]:
        """Every alias with its version."""
        return {**self.pointed, **({LATEST: max(self.versions)} if self.versions else {})}

    def point(self, alias: str, version: int) -> None:
        """Points an alias to another version."""
        self.revision += 1
        self.pointed[alias], self.etags[alias] = version, str(self.revision)

    def make_live(self, version: int, cause: Cause, actor: str, reason: str) -> None:
        """Moves `live`, and ends a rollout that has served its purpose."""
        if self.tried == version:
            self.rollout = None
        if version != self.live:
            if self.live and cause is not Cause.ROLLED_BACK:
                self.formerly.append(self.live)
            self.history.append((version, self.live, cause, actor, reason))
            self.point(LIVE, version)

    def publish(self, job: str, snapshot: StoredSnapshot, verdict: PromotionVerdict) -> Publication:
        """Publishes a version that may be published."""
        self.counter += 1
        if verdict.outcome is PromotionOutcome.PROMOTED and self.hold:
            verdict = replace(verdict, outcome=PromotionOutcome.HELD)
        verdict = replace(verdict, live_version=self.live)
        self.versions[self.counter] = PlainVersion(snapshot, verdict)
        if verdict.outcome is PromotionOutcome.PROMOTED:
            self.make_live(self.counter, Cause.PUBLISHED, f"job {job}", "")
        publication = Publication(VersionRef(self.counter, snapshot.digest), verdict)
        self.jobs[job] = publication
        return publication

    def is_needed(self, version: int) -> bool:
        """Whether a version must not be deleted."""
        return version in {*self.pointed.values(), self.tried} or self.versions[version].annotations.pinned

    def delete(self, version: int) -> None:
        """Deletes a version that may be."""
        del self.versions[version]
        kept: list[int] = []
        for former in self.formerly:
            if former != version and former not in kept[-1:]:
                kept.append(former)
        if kept[-1:] == [self.live]:
            kept.pop()
        self.formerly = kept

    def prunable(self, keep_newest: int) -> list[int]:
        """What pruning removes."""
        old = sorted(self.versions)[: -keep_newest or None]
        return [version for version in old if version not in self.formerly[-1:] and not self.is_needed(version)]


def given(etag: str, kind: str) -> str:
    """No etag, this one, or another one."""
    return {"": "", "fresh": etag, STALE: f"{etag}0"}[kind]


class RegistryMachine(RuleBasedStateMachine):
    """Does the same to the registry and to the plain model, and compares the two after each step."""

    connection: StoreConnection

    def __init__(self) -> None:
        super().__init__()
        self.plain = PlainModel()
        self.models, self.registry = ModelStore(self.connection), ModelRegistry(self.connection)
        self.snapshots = 0

    @initialize()
    def begin(self) -> None:
        """Begins with an empty store and one version."""
        self.connection.command("FLUSHALL")  # it is this test's own
        self.publish("first", ALWAYS, is_better=True, compared=0)

    @rule(
        job=st.sampled_from("abcdefghijklmnopqrstuvwxyz"),
        policy=st.sampled_from((ALWAYS, IF_BETTER, MANUAL)),
        is_better=st.booleans(),
        compared=st.sampled_from((0, 0, 0, 1, -1)),
    )
    def publish(self, job: str, policy: Promotion, *, is_better: bool, compared: int) -> None:
        """Publishes for a job that may have published or been struck off, by a comparison that may be stale."""
        self.snapshots += 1
        snapshot = snapshot_of(self.snapshots)
        outcome = PromotionOutcome.PROMOTED if is_better else PromotionOutcome.NOT_BETTER
        if policy is not IF_BETTER:
            outcome = PromotionOutcome.PROMOTED if policy is ALWAYS else PromotionOutcome.MANUAL
        live = max(0, self.plain.live + compared)
        verdict = PromotionVerdict(outcome, policy, self.snapshots / 7, live, 0.5 if policy is IF_BETTER else None)
        if job in self.plain.jobs:
            expected: Publication | str = self.plain.jobs[job] or "JOB_ENDED"
        elif policy is IF_BETTER and live != self.plain.live:
            expected = "LIVE_VERSION_CHANGED"
        else:
            expected = self.plain.publish(job, snapshot, verdict)
        self.agree(expected, lambda: self.models.publish(MODEL, snapshot, job, verdict))

    @rule(job=st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    def strike_off(self, job: str) -> None:
        """Strikes a job off, which may have published."""
        assert self.models.strike_off(MODEL, job) == self.plain.jobs.setdefault(job, None)

    @rule(data=st.data(), etag=st.sampled_from(("", "fresh", STALE)))
    def promote(self, data: st.DataObject, etag: str) -> None:
        """Promotes a version that may be gone."""
        version, given, expected = self.any_version(data), self.etag(LIVE, etag), None
        if version not in self.plain.versions:
            expected = "VERSION_NOT_FOUND"
        elif etag == STALE:
            expected = "ETAG_MISMATCH"
        else:
            self.plain.make_live(version, Cause.PROMOTED, "ann", f"{version}!")
            self.plain.hold = None
        self.agree(
            expected, lambda: self.registry.promote(MODEL, version, etag=given, actor="ann", reason=f"{version}!")
        )

    @rule(etag=st.sampled_from(("", "fresh", STALE)))
    def rollback(self, etag: str) -> None:
        """Rolls back, if there is a way back."""
        given, expected = self.etag(LIVE, etag), None
        if etag == STALE:
            expected = "ETAG_MISMATCH"
        elif not self.plain.formerly:
            expected = "NO_PREVIOUS_VERSION"
        else:
            self.plain.make_live(self.plain.formerly.pop(), Cause.ROLLED_BACK, "bob", "")
            self.plain.hold = ("bob", "")
        self.agree(expected, lambda: self.registry.rollback(MODEL, etag=given, actor="bob"))

    @rule(held=st.booleans(), reason=st.sampled_from(("", "why")))
    def set_hold(self, *, held: bool, reason: str) -> None:
        """Puts a hold or lifts it."""
        self.plain.hold = ("eve", reason) if held else None
        self.agree(None, lambda: self.registry.set_hold(MODEL, held=held, actor="eve", reason=reason))

    @rule(
        data=st.data(),
        mode=st.sampled_from(RolloutMode),
        percent=st.sampled_from((1 / 3, 100.0)),
        etag=st.sampled_from(("", "fresh", STALE)),
    )
    def set_rollout(self, data: st.DataObject, mode: RolloutMode, percent: float, etag: str) -> None:
        """Tries a version, or the same one otherwise, or not otherwise."""
        version, given, expected = self.any_version(data), self.rollout_etag(etag), None
        if version not in self.plain.versions:
            expected = "VERSION_NOT_FOUND"
        elif etag == STALE:
            expected = "ETAG_MISMATCH"
        elif version == self.plain.live:
            expected = "VERSION_IS_LIVE"
        elif not self.plain.rollout or self.plain.rollout[:3] != (version, mode, percent):
            self.plain.revision += 1
            self.plain.rollout = (version, mode, percent, str(self.plain.revision))
        self.agree(expected, lambda: self.registry.set_rollout(MODEL, version, mode, percent, etag=given))

    @precondition(lambda self: self.plain.tried)
    @rule()
    def promote_what_is_tried(self) -> None:
        """Promotes a candidate."""
        version = self.plain.tried
        self.plain.make_live(version, Cause.PROMOTED, "ann", "")
        self.plain.hold = None
        self.agree(None, lambda: self.registry.promote(MODEL, version, actor="ann"))

    @rule(etag=st.sampled_from(("", "fresh", STALE)))
    def end_rollout(self, etag: str) -> None:
        """Ends a rollout, if there is one."""
        given, expected = self.rollout_etag(etag), None
        if etag == STALE:
            expected = "ETAG_MISMATCH"
        elif not self.plain.rollout:
            expected = "NO_ROLLOUT"
        self.plain.rollout = self.plain.rollout if expected else None
        self.agree(expected, lambda: self.registry.end_rollout(MODEL, etag=given))

    @rule(data=st.data(), alias=st.sampled_from(ALIASES), etag=st.sampled_from(("", "fresh", STALE)))
    def set_alias(self, data: st.DataObject, alias: str, etag: str) -> None:
        """Points an alias or removes it."""
        version = data.draw(st.sampled_from((0, *range(1, self.plain.counter + 2))))
        given, expected = self.etag(alias, etag), None
        if version and version not in self.plain.versions:
            expected = "VERSION_NOT_FOUND"
        elif etag == STALE:
            expected = "ETAG_MISMATCH"
        elif version == 0 and alias not in self.plain.pointed:
            expected = "ALIAS_NOT_FOUND"
        elif version == 0:
            del self.plain.pointed[alias], self.plain.etags[alias]
        elif self.plain.pointed.get(alias) != version:
            self.plain.point(alias, version)
        self.agree(
            expected or self.plain.etags.get(alias, "0"),
            lambda: self.registry.set_alias(MODEL, alias, version, etag=given),
        )

    @rule(data=st.data(), notes=st.none() | st.text(max_size=5), pinned=st.none() | st.booleans())
    def annotate(self, data: st.DataObject, notes: str | None, *, pinned: bool | None) -> None:
        """Writes about a version."""
        version = self.any_version(data)
        labels = data.draw(st.none() | st.dictionaries(st.sampled_from("xyz"), st.text(max_size=3)))
        given = {"notes": notes, "labels": labels, "pinned": pinned}
        if stored := self.plain.versions.get(version):
            changed = {name: value for name, value in given.items() if value is not None}
            stored.annotations = replace(stored.annotations, **changed)  # type: ignore[arg-type]
        self.agree(
            None if stored else "VERSION_NOT_FOUND",
            lambda: self.registry.annotate(MODEL, version, notes=notes, labels=labels, pinned=pinned),
        )

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Deletes a version that something may need."""
        version, expected = self.any_version(data), None
        if version not in self.plain.versions:
            expected = "VERSION_NOT_FOUND"
        elif self.plain.is_needed(version):
            expected = "VERSION_IN_USE"
        else:
            self.plain.delete(version)
        self.agree(expected, lambda: self.registry.delete(MODEL, version))

    @rule(keep_newest=st.integers(1, 6), dry_run=st.booleans())
    def prune(self, keep_newest: int, *, dry_run: bool) -> None:
        """Prunes, or asks what would go."""
        gone = self.plain.prunable(keep_newest)
        size = sum(len(self.plain.versions[version].snapshot.weights) for version in gone)
        pruned = self.registry.prune(MODEL, keep_newest, dry_run=dry_run)
        kept = len(self.plain.versions) - len(gone)
        assert (pruned.versions, pruned.size_bytes, pruned.kept_count) == (tuple(gone), size, kept)
        for version in gone if not dry_run else ():
            self.plain.delete(version)

    @precondition(lambda self: self.plain.counter)
    @invariant()
    def live_names_a_complete_version(self) -> None:
        """It is there, and its bytes are those that were published."""
        live = self.models.version(MODEL, LIVE)
        verify_digest(live.snapshot)
        assert live.snapshot == self.plain.versions[self.plain.live].snapshot

    @precondition(lambda self: self.plain.counter)
    @invariant()
    def the_model_is_what_it_must_be(self) -> None:
        """Aliases with their etags, the way back, the hold, the rollout, the count."""
        model, plain = self.models.model(MODEL), self.plain
        assert (model.live_version, model.latest_version) == (plain.live, max(plain.versions))
        assert model.version_count == len(plain.versions)
        assert model.previous_version == (plain.formerly or [0])[-1]
        assert (model.hold and (model.hold.actor, model.hold.reason)) == plain.hold
        assert self.models.rollout(MODEL) == (tried := model.rollout)
        assert (tried and (tried.version, tried.mode, tried.percent, tried.etag)) == plain.rollout
        etags = {**plain.etags, LATEST: ""}
        assert model.aliases == tuple(Alias(name, at, etags[name]) for name, at in sorted(plain.aliases().items()))
        stored = self.connection.command("LRANGE", ModelKeys(MODEL).previous, 0, -1)
        assert [int(version) for version in stored] == plain.formerly[::-1]

    @precondition(lambda self: self.plain.counter)
    @invariant()
    def the_versions_and_the_history_are_what_they_must_be(self) -> None:
        """Every version with its verdict and what was written; nothing else in any key; every change in order."""
        listed = self.models.versions(MODEL, count=200).versions
        assert [version.ref.version for version in listed] == sorted(self.plain.versions, reverse=True)
        for version in listed:
            plain = self.plain.versions[version.ref.version]
            assert (version.ref.digest, version.snapshot.manifest) == (plain.snapshot.digest, plain.snapshot.manifest)
            assert (version.verdict, version.annotations) == (plain.verdict, plain.annotations)
            pointing = [name for name, at in self.plain.aliases().items() if at == version.ref.version]
            assert version.aliases == tuple(sorted(pointing))
        keys = ModelKeys(MODEL)
        for key in (keys.records, keys.manifests, keys.weights, keys.verdicts):
            assert self.connection.command("HLEN", key) == len(self.plain.versions)
        changes = self.registry.history(MODEL, count=200).changes
        assert [
            (change.version, change.previous_version, change.cause, change.actor, change.reason)
            for change in reversed(changes)
        ] == self.plain.history

    def any_version(self, data: st.DataObject) -> int:
        """A version that is there, was there, or will be."""
        return data.draw(st.integers(1, self.plain.counter + 1))

    def etag(self, alias: str, kind: str) -> str:
        """No etag, the one that a client reads now, or another one."""
        pointed = {found.name: found.etag for found in self.models.model(MODEL).aliases}
        return given(pointed.get(alias, "0"), kind)

    def rollout_etag(self, kind: str) -> str:
        """The same for the rollout."""
        rollout = self.models.rollout(MODEL)
        return given(rollout.etag if rollout else "0", kind)

    def agree(self, expected: object, call: Callable[[], object]) -> None:
        """Asserts that a call is refused with the reason that is expected, or returns what is; None stands for any."""
        if expected not in REFUSALS:
            answer = call()
            assert expected in (None, answer)
            return
        with pytest.raises(WeightcastError) as caught:
            call()
        assert caught.value.reason == expected


@pytest.fixture(scope="module")
def own_connection() -> Iterator[StoreConnection]:
    """A Redis for all runs of the machine, which writes nothing to disk."""
    with tempfile.TemporaryDirectory(prefix="wc-", dir="/tmp") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        connection = StoreConnection(server.url)
        yield connection
        connection.close()
        server.stop()


@pytest.mark.soak
def test_the_registry_does_what_the_plain_model_does(own_connection: StoreConnection) -> None:
    """Whatever the order: the same answers, the same refusals, the same state after each step."""
    machine = type("Machine", (RegistryMachine,), {"connection": own_connection})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=200 if SOAK else 12,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@dataclass
class Worker:
    """Does random things to one model through its own connection, and notes what it published."""

    models: ModelStore
    registry: ModelRegistry
    number: int
    published: list[int] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def work(self, turns: int) -> None:
        """Does so many things; refusals are to be expected."""
        choose = random.Random(self.number)  # noqa: S311 - a test's choices
        for turn in range(turns):
            with suppress(ConflictError, WrongStateError, NotFoundError):
                name = choose.choice(("publish", *ACTS))
                self.act(name, turn, choose)
                self.done[name] += 1

    def act(self, name: str, turn: int, choose: random.Random) -> None:
        """Does one thing."""
        newest = self.models.model(MODEL).latest_version
        version = choose.randint(max(1, newest - 15), newest)
        etag = next(alias.etag for alias in self.models.model(MODEL).aliases if alias.name == LIVE)
        match name:
            case "publish":
                job = f"{self.number}-{turn}"
                policy = choose.choice((ALWAYS, IF_BETTER))
                live = self.models.aliases(MODEL)[LIVE]
                verdict = PromotionVerdict(PromotionOutcome.PROMOTED, policy, 0.5, live)
                snapshot = snapshot_of(self.number * 1_000_000 + turn)
                self.published.append(self.models.publish(MODEL, snapshot, job, verdict).ref.version)
            case "promote":
                self.registry.promote(MODEL, version, etag=choose.choice(("", etag)))
            case "rollback":
                self.registry.rollback(MODEL, etag=choose.choice(("", etag)))
                self.registry.set_hold(MODEL, held=False)
            case "rollout":
                self.registry.set_rollout(MODEL, version, choose.choice(list(RolloutMode)), 10)
            case "end":
                self.registry.end_rollout(MODEL)
            case "alias":
                self.registry.set_alias(MODEL, choose.choice(ALIASES), choose.choice((0, version)))
            case "delete":
                self.registry.delete(MODEL, version)
            case "prune":
                self.registry.prune(MODEL, choose.randint(5, 20), dry_run=False)
            case "pin":
                self.registry.annotate(MODEL, version, pinned=choose.random() < 0.3)


def test_many_at_once_leave_one_consistent_model(connect: Callable[[], StoreConnection]) -> None:
    """`live` is complete and never what is tried; at the end no number is missing or double, and all fits."""
    connection = connect()
    models, registry = ModelStore(connection), ModelRegistry(connection)
    models.publish(MODEL, snapshot_of(0), "first")
    workers = [
        Worker(ModelStore(each), ModelRegistry(each), number + 1)
        for number, each in enumerate([connect() for _ in range(WORKERS)])
    ]
    ended = threading.Event()

    def watch(store: ModelStore) -> int:
        looks = 0
        while not ended.is_set() or looks == 0:
            verify_digest(store.version(MODEL, LIVE).snapshot)
            model = store.model(MODEL)
            assert model.rollout is None or model.rollout.version != model.live_version
            looks += 1
        return looks

    with ThreadPoolExecutor(WORKERS + 2) as pool:
        watchers = [pool.submit(watch, ModelStore(connect())) for _ in range(2)]
        try:
            for work in [pool.submit(worker.work, TURNS) for worker in workers]:
                work.result()
        finally:
            ended.set()
        assert min(watcher.result() for watcher in watchers) > TURNS
    assert set(sum((worker.done for worker in workers), Counter())) == set(ACTS)
    published = sorted(number for worker in workers for number in worker.published)
    assert published == list(range(2, len(published) + 2))
    check_that_all_fits(connection, models, registry)


def check_that_all_fits(connection: StoreConnection, models: ModelStore, registry: ModelRegistry) -> None:
    """Asserts that every key knows the same versions, and that the history is one line that ends at what is live."""
    keys, model = ModelKeys(MODEL), models.model(MODEL)
    stored = {int(version) for version in connection.command("ZRANGE", keys.versions, 0, -1)}
    for key in (keys.records, keys.manifests, keys.weights, keys.verdicts):
        assert {int(version) for version in connection.command("HKEYS", key)} == stored
    for version in stored:
        verify_digest(models.version(MODEL, version).snapshot)
    assert {alias.version for alias in model.aliases} <= stored
    assert model.rollout is None or model.rollout.version in stored
    assert model.latest_version == max(stored)
    annotated = {int(name.partition(b":")[0]) for name in connection.command("HKEYS", keys.annotations)}
    assert annotated <= stored
    back = [int(version) for version in connection.command("LRANGE", keys.previous, 0, -1)]
    assert set(back) <= stored
    assert all(one != other for one, other in zip([model.live_version, *back], back, strict=False))
    changes: list[LiveChange] = []
    below = None
    while True:
        page = registry.history(MODEL, count=200, below=below)
        changes += page.changes
        if (below := page.next_below) is None:
            break
    assert [change.version for change in changes[1:]] == [change.previous_version for change in changes[:-1]]
    assert (changes[0].version, changes[-1].previous_version) == (model.live_version, 0)
