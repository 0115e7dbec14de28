"""Inference over a real Redis: what is served follows the store, woken or not, and a bad version is never served."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.embedded_redis import EmbeddedRedis
from inference_service.metrics.statistics import Statistics
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.snapshot_disk import SnapshotDisk
from inference_service.versions.snapshot_loader import load_version
from inference_service.versions.watcher import Events, Watcher
from shared.errors import NotFoundError, SnapshotRejectedError, UnavailableError
from shared.model_version import PromotionOutcome, PromotionVerdict, StoredSnapshot
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import RolloutMode
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry

Snapshots = Callable[..., StoredSnapshot]
Until = Callable[..., None]
MANUAL = PromotionVerdict(PromotionOutcome.MANUAL, Promotion(PromotionPolicy.MANUAL), accuracy=0.5)
OFTEN_SECONDS, HARDLY_EVER_SECONDS = 0.05, 60.0


class NoEvents:
    """Events that never wake: only time does."""

    def __init__(self) -> None:
        self._never = threading.Event()

    def follow(self, models: Sequence[str]) -> None:
        """Follows nothing."""

    def wait(self, seconds: float) -> bool:
        """Waits the whole time."""
        return self._never.wait(seconds)


@dataclass
class Serving:
    """A model manager that follows this test's Redis, and what it announced."""

    manager: ModelManager
    watcher: Watcher
    announced: list[tuple[str, bool]] = field(default_factory=list)

    def version(self, model: str = "tiny") -> int:
        """The live version, 0 while there is none."""
        state = self.manager.state(model) if model in self.manager.models() else None
        return state.live.ref.version if state is not None and state.live is not None else 0

    def candidate(self) -> int:
        """The number of the version that is tried, 0 if none is."""
        rollout = self.manager.rollout("tiny")
        return rollout.candidate.ref.version if rollout else 0

    def refusal(self) -> str:
        """Why the newest version was refused, empty if it was not."""
        if "tiny" not in self.manager.models():
            return ""
        failure = self.manager.state("tiny").failure
        return failure.reason if failure else ""


@pytest.fixture
def serve(connect: Callable[[], StoreConnection]) -> Iterator[Callable[..., Serving]]:
    """Starts managers with watchers, with events or without, and stops them."""
    started: list[Serving] = []

    def start(
        *, events: bool, seconds: float, pinned_bytes: int = 2**20, folder: Path | None = None, join: bool = False
    ) -> Serving:
        connection = connect()
        store = ModelStore(connection)
        announced: list[tuple[str, bool]] = []
        manager = ModelManager(
            store,
            pinned_bytes,
            lambda model, state: announced.append((model, state.live is not None)),
            Statistics(),
            SnapshotDisk(folder) if folder else None,
        )
        source: Events = ModelEvents(connection) if events else NoEvents()
        serving = Serving(manager, Watcher(store.model_names, source, manager, seconds), announced)
        started.append(serving)
        if join:
            serving.watcher.catch_up()
        serving.watcher.start()
        return serving

    yield start
    for serving in started:
        serving.watcher.stop()


def test_reconciling_alone_converges(
    serve: Callable[..., Serving], models: ModelStore, snapshot: Snapshots, until: Until
) -> None:
    """Whoever misses every event still serves what is live: the first version, the next, and a model that is new."""
    serving = serve(events=False, seconds=OFTEN_SECONDS)
    for number in (1, 2, 3):
        models.publish("tiny", snapshot(seed=number), str(number))
        until(lambda wanted=number: serving.version() == wanted, f"version {number}")
    models.publish("second", snapshot("second"), "x")
    until(lambda: serving.version("second") == 1, "the second model")
    assert serving.version() == 3
    assert ("second", True) in serving.announced


def test_a_stream_that_was_deleted_is_made_good_by_reconciling(
    serve: Callable[..., Serving],
    connection: StoreConnection,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
) -> None:
    """The store is the truth; the stream may vanish, its ids may begin again, and serving still follows."""
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    models.publish("tiny", snapshot(seed=1), "a")
    until(lambda: serving.version() == 1, "version 1")
    for number in (2, 3):
        connection.command("DEL", ModelKeys("tiny").events)
        models.publish("tiny", snapshot(seed=number), str(number))
        until(lambda wanted=number: serving.version() == wanted, f"version {number}")


def test_events_alone_wake(
    serve: Callable[..., Serving], models: ModelStore, snapshot: Snapshots, until: Until
) -> None:
    """With a reconcile interval of a minute, a publication is served long before it passes, and so is a new model."""
    serving = serve(events=True, seconds=HARDLY_EVER_SECONDS)
    until(lambda: serving.manager.store_contact.reachable, "a first reading")
    for number in (1, 2, 3):
        models.publish("tiny", snapshot(seed=number), str(number))
        until(lambda wanted=number: serving.version() == wanted, f"version {number}", 4.0)


def test_altered_weights_are_refused_and_a_good_version_mends_it(
    serve: Callable[..., Serving],
    connection: StoreConnection,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
) -> None:
    """DIGEST_MISMATCH stands in the state, the old version answers, and the next good one takes over."""
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    models.publish("tiny", snapshot(seed=1), "a")
    until(lambda: serving.version() == 1, "version 1")
    before = serving.manager.serve("tiny", "live")

    other = snapshot(seed=5)  # a whole and well-formed file of weights, only not the one that was published
    models.publish("tiny", snapshot(seed=2), "b", MANUAL)
    connection.command("HSET", ModelKeys("tiny").weights, 2, other.weights)
    connection.command("HSET", ModelKeys("tiny").aliases, "live", 2)
    until(lambda: serving.refusal() == "DIGEST_MISMATCH", "the refusal")
    failure = serving.manager.state("tiny").failure
    assert failure is not None
    assert failure.ref.version == 2
    assert failure.ref.digest in failure.message
    assert failure.retry_time > failure.attempt_time
    assert serving.manager.serve("tiny", "live") is before
    with pytest.raises(SnapshotRejectedError):
        serving.manager.serve("tiny", 2)

    models.publish("tiny", snapshot(seed=3), "c")
    until(lambda: serving.version() == 3, "version 3")
    assert serving.refusal() == ""


def test_a_version_that_does_not_pass_its_own_test_is_never_served(
    serve: Callable[..., Serving], models: ModelStore, snapshot: Snapshots, until: Until
) -> None:
    """Whole bytes whose network answers other than the trainer's did: refused, and the old version stays."""
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    models.publish("tiny", snapshot(seed=1), "a")
    until(lambda: serving.version() == 1, "version 1")
    models.publish("tiny", snapshot(seed=2, wrong_answers=True), "b")
    until(lambda: serving.refusal() == "SELF_TEST_FAILED", "the refusal")
    assert serving.version() == 1
    with pytest.raises(SnapshotRejectedError):
        serving.manager.serve("tiny", 2)


def test_a_refused_version_is_tried_again(
    serve: Callable[..., Serving],
    connection: StoreConnection,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
) -> None:
    """When its bytes are whole again it is served, without a new publication; until then the model is not ready."""
    good = snapshot(seed=1)
    weights = ModelKeys("tiny").weights
    models.publish("tiny", good, "a", MANUAL)
    connection.command("HSET", weights, 1, good.weights[:-1])
    connection.command("HSET", ModelKeys("tiny").aliases, "live", 1)
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    until(lambda: serving.refusal() == "DIGEST_MISMATCH", "the refusal")
    assert serving.announced[-1] == ("tiny", False)
    with pytest.raises(UnavailableError, match="SHA-256") as caught:
        serving.manager.serve("tiny", "live")
    assert caught.value.reason == "NO_MODEL_YET"
    connection.command("HSET", weights, 1, good.weights)
    until(lambda: serving.announced[-1] == ("tiny", True), "version 1")
    assert serving.version() == 1


def test_the_served_version_changes_only_when_live_does(
    serve: Callable[..., Serving], models: ModelStore, snapshot: Snapshots, until: Until
) -> None:
    """A version that is published and not promoted can be named, by number and as `latest`, and is not live."""
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    models.publish("tiny", snapshot(seed=1), "a")
    until(lambda: serving.version() == 1, "version 1")
    models.publish("tiny", snapshot(seed=2), "b", MANUAL)
    until(lambda: serving.manager.state("tiny").aliases["latest"] == 2, "the alias")
    assert serving.manager.serve("tiny", "latest").ref.version == 2
    assert serving.manager.serve("tiny", 2).ref.version == 2
    assert serving.manager.serve("tiny", "live").ref.version == 1
    with pytest.raises(NotFoundError):
        serving.manager.serve("tiny", 3)


def test_pinned_versions_are_bounded(
    serve: Callable[..., Serving], models: ModelStore, snapshot: Snapshots, until: Until
) -> None:
    """Of the versions that requests named the last used are held that fit; one that was let go is loaded again."""
    for number in range(1, 6):
        models.publish("tiny", snapshot(seed=number), str(number))
    size = load_version(models, "tiny", 1).memory_bytes
    serving = serve(events=True, seconds=OFTEN_SECONDS, pinned_bytes=2 * size)
    until(lambda: serving.manager.store_contact.reachable, "the first comparison")
    for number in (1, 2, 1, 3):
        assert serving.manager.serve("tiny", number).ref.version == number
    assert [served.ref.version for served in serving.manager.pinned("tiny")] == [1, 3]
    assert serving.manager.serve("tiny", 2).ref.version == 2
    assert serving.manager.serve("tiny", 5) is serving.manager.serve("tiny", "live")


def test_a_store_that_goes_away_takes_nothing_that_is_loaded(
    serve: Callable[..., Serving],
    redis_server: EmbeddedRedis,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
) -> None:
    """Live and pinned go on, what is not loaded is UNAVAILABLE, and what is published after the return is served."""
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    for number in (1, 2, 3):
        models.publish("tiny", snapshot(seed=number), str(number))
    until(lambda: serving.version() == 3, "version 3")
    pinned = serving.manager.serve("tiny", 1)
    redis_server.stop()
    until(lambda: not serving.manager.store_contact.reachable, "the loss")
    assert serving.manager.serve("tiny", "live").ref.version == 3
    assert serving.manager.serve("tiny", 1) is pinned
    with pytest.raises(UnavailableError):
        serving.manager.serve("tiny", 2)
    redis_server.start()
    until(lambda: serving.manager.store_contact.reachable, "the return")
    models.publish("tiny", snapshot(seed=4), "d")
    until(lambda: serving.version() == 4, "version 4")


def test_a_store_that_was_never_there_is_waited_for(
    serve: Callable[..., Serving],
    redis_server: EmbeddedRedis,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
) -> None:
    """Before the first reading nobody can know what there is: UNAVAILABLE, not NOT_FOUND; then it is served."""
    models.publish("tiny", snapshot(seed=1), "a")
    redis_server.stop()
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    for ask in (lambda: serving.manager.serve("tiny", "live"), lambda: serving.manager.state("tiny")):
        with pytest.raises(UnavailableError) as caught:
            ask()
        assert caught.value.reason == "STORE_UNAVAILABLE"
    redis_server.start()
    until(lambda: serving.version() == 1, "version 1")


def test_a_snapshot_of_another_model_is_refused(
    serve: Callable[..., Serving], models: ModelStore, snapshot: Snapshots, until: Until
) -> None:
    """A snapshot that says it belongs elsewhere is not served under this name."""
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    models.publish("tiny", snapshot("another"), "a")
    until(lambda: serving.refusal() == "WRONG_MODEL", "the refusal")
    assert serving.version() == 0


def test_one_model_that_cannot_be_loaded_does_not_hold_up_another(
    serve: Callable[..., Serving], models: ModelStore, snapshot: Snapshots, until: Until
) -> None:
    """Each model stands for itself."""
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    models.publish("aaa", StoredSnapshot(b"no manifest", b"no weights", "0" * 64), "a")
    models.publish("tiny", snapshot(seed=1), "b")
    until(lambda: serving.version() == 1, "version 1")
    state = serving.manager.state("aaa")
    assert state.failure is not None
    assert state.failure.reason == "DIGEST_MISMATCH"


def test_a_model_whose_record_cannot_be_read_does_not_hold_up_another(
    models: ModelStore, serve: Callable[..., Serving], snapshot: Snapshots, connection: StoreConnection, until: Until
) -> None:
    """Whatever stands in the store under one model's name, the others go on following theirs."""
    models.publish("another", snapshot("another"), "job-0")
    connection.command("HSET", ModelKeys("another").aliases, "live", "no number")
    serving = serve(events=True, seconds=OFTEN_SECONDS)
    for number in (1, 2):
        models.publish("tiny", snapshot(seed=number), f"job-{number}")
        until(lambda number=number: serving.version() == number, f"version {number}")
    assert serving.version("another") == 0


def test_what_the_registry_moves_is_served_at_once(
    serve: Callable[..., Serving],
    connection: StoreConnection,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
) -> None:
    """Events alone bring a promotion, a rollback to an older version, and an alias that moves or goes."""
    registry = ModelRegistry(connection)
    for seed in (1, 2):
        models.publish("tiny", snapshot(seed=seed), str(seed))
    serving = serve(events=True, seconds=HARDLY_EVER_SECONDS)
    until(lambda: serving.version() == 2, "version 2")
    registry.rollback("tiny")
    until(lambda: serving.version() == 1, "the version before", 4.0)
    registry.promote("tiny", 2)
    until(lambda: serving.version() == 2, "the promoted version", 4.0)
    for version in (1, 2):
        registry.set_alias("tiny", "best", version)
        until(lambda at=version: serving.manager.state("tiny").aliases.get("best") == at, f"best at {version}", 4.0)
        assert serving.manager.serve("tiny", "best").ref.version == version
    registry.set_alias("tiny", "best", 0)
    until(lambda: "best" not in serving.manager.state("tiny").aliases, "no alias", 4.0)
    with pytest.raises(NotFoundError):
        serving.manager.serve("tiny", "best")


def test_a_deleted_version_that_is_held_answers_until_it_is_let_go(
    serve: Callable[..., Serving],
    connection: StoreConnection,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
) -> None:
    """Deleting frees the store: it takes nothing from those who are being answered, and nobody new can load it."""
    registry = ModelRegistry(connection)
    for seed in (1, 2, 3, 4):
        models.publish("tiny", snapshot(seed=seed), str(seed))
    size = load_version(models, "tiny", 1).memory_bytes
    serving = serve(events=True, seconds=OFTEN_SECONDS, pinned_bytes=size)
    until(lambda: serving.manager.store_contact.reachable, "the first comparison")
    held = serving.manager.serve("tiny", 1)
    for version in (1, 2):
        registry.delete("tiny", version)
    assert serving.manager.serve("tiny", 1) is held
    with pytest.raises(NotFoundError):
        serving.manager.serve("tiny", 2)
    serving.manager.serve("tiny", 3)
    with pytest.raises(NotFoundError, match="latest is 4"):
        serving.manager.serve("tiny", 1)


def test_a_rollout_is_followed_from_its_beginning_to_its_promotion(
    serve: Callable[..., Serving],
    connection: StoreConnection,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
) -> None:
    """Events alone bring its candidate, another share, its end, and what it is promoted to without another load."""
    registry = ModelRegistry(connection)
    models.publish("tiny", snapshot(seed=1), "a")
    models.publish("tiny", snapshot(seed=2), "b", MANUAL)
    serving = serve(events=True, seconds=HARDLY_EVER_SECONDS)
    until(lambda: serving.version() == 1, "version 1")
    registry.set_rollout("tiny", 2, RolloutMode.SHADOW, 5.0)
    until(lambda: serving.candidate() == 2, "the candidate", 4.0)
    first = serving.manager.rollout("tiny")
    registry.set_rollout("tiny", 2, RolloutMode.CANARY, 50.0)
    until(lambda: serving.manager.rollout("tiny") is not first, "the other share", 4.0)
    second = serving.manager.rollout("tiny")
    assert first is not None
    assert second is not None
    assert (second.rollout.mode, second.rollout.percent) == (RolloutMode.CANARY, 50.0)
    assert second.candidate is first.candidate
    registry.end_rollout("tiny")
    until(lambda: serving.candidate() == 0, "the end", 4.0)
    registry.set_rollout("tiny", 2, RolloutMode.CANARY, 50.0)
    until(lambda: serving.candidate() == 2, "the candidate again", 4.0)
    tried = serving.manager.serve("tiny", 2)
    registry.promote("tiny", 2)
    until(lambda: serving.version() == 2, "its promotion", 4.0)
    assert serving.manager.serve("tiny", "live") is tried
    assert serving.candidate() == 0


def test_a_start_without_the_store_is_answered_from_the_disk(
    *,
    serve: Callable[..., Serving],
    redis_server: EmbeddedRedis,
    models: ModelStore,
    snapshot: Snapshots,
    until: Until,
    tmp_path: Path,
) -> None:
    """By the last good version, with since when the store is away; when it is back, by what is live there."""
    first = serve(events=True, seconds=OFTEN_SECONDS, folder=tmp_path)
    for number in (1, 2):
        models.publish("tiny", snapshot(seed=number), str(number))
    disk = SnapshotDisk(tmp_path)
    until(lambda: disk.models() == ["tiny"] and disk.version("tiny", "live").ref.version == 2, "version 2 on disk")
    first.watcher.stop()
    redis_server.stop()
    lost = datetime.now(UTC)
    second = serve(events=True, seconds=OFTEN_SECONDS, folder=tmp_path, join=True)
    assert second.version() == 2
    assert second.manager.state("tiny").restored
    since = second.manager.store_contact.lost_time
    assert since is not None
    assert since <= lost
    redis_server.start()
    until(lambda: second.manager.store_contact.reachable, "the return")
    assert not second.manager.state("tiny").restored
    models.publish("tiny", snapshot(seed=3), "c")
    until(lambda: second.version() == 3, "version 3")
    until(lambda: disk.version("tiny", "live").ref.version == 3, "version 3 on disk")


def test_a_watcher_that_was_started_without_the_store_finds_the_disk_by_itself(
    *,
    serve: Callable[..., Serving],
    redis_server: EmbeddedRedis,
    models: ModelStore,
    snapshot: Snapshots,
    tmp_path: Path,
    until: Until,
) -> None:
    """Also where nobody let it catch up first."""
    models.publish("tiny", snapshot(), "a")
    SnapshotDisk(tmp_path).keep(models.version("tiny", 1))
    redis_server.stop()
    serving = serve(events=True, seconds=OFTEN_SECONDS, folder=tmp_path)
    until(lambda: serving.version() == 1, "version 1")
