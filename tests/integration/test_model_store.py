"""The registry on a real Redis: numbers without gaps whoever publishes, versions that stay, clear refusals."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from client.embedded_redis import EmbeddedRedis
from shared.errors import NotFoundError, StoreUnavailableError
from shared.model_version import (
    Alias,
    ModelSummary,
    PromotionOutcome,
    PromotionVerdict,
    Publication,
    StoredSnapshot,
    VersionRef,
)
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import RolloutMode
from shared.snapshot_codec import decode
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry
from shared.store.version_pages import VersionPage

PUBLISHERS, EACH = 8, 25
MANUAL = PromotionVerdict(PromotionOutcome.MANUAL, Promotion(PromotionPolicy.MANUAL), accuracy=0.5)
Snapshots = Callable[..., StoredSnapshot]


def numbers_of(page: VersionPage) -> list[int]:
    """The numbers on a page."""
    return [version.ref.version for version in page.versions]


def test_what_is_published_is_read_back(models: ModelStore, snapshot: Snapshots) -> None:
    """By number and by alias: the same bytes, digest and size, with the aliases that point to it."""
    first, second = snapshot(seed=1), snapshot(seed=2)
    published_refs = [models.publish("tiny", first, "a").ref, models.publish("tiny", second, "b").ref]
    assert published_refs == [VersionRef(1, first.digest), VersionRef(2, second.digest)]
    for selector in (2, "live", "latest"):
        published = models.version("tiny", selector)
        assert published.snapshot == second
        assert published.ref == VersionRef(2, second.digest)
        assert published.weights_size_bytes == len(second.weights)
        assert published.aliases == ("latest", "live")
    old = models.version("tiny", 1)
    assert (old.snapshot, old.aliases) == (first, ())
    assert old.publish_time <= published.publish_time
    pointed = (Alias("latest", 2, ""), Alias("live", 2, "2"))
    assert models.model("tiny") == ModelSummary("tiny", 2, 2, version_count=2, aliases=pointed, previous_version=1)
    assert models.version("tiny", 1, with_weights=False).snapshot == StoredSnapshot(first.manifest, b"", first.digest)


def test_eight_publishers_at_once_make_versions_without_gap_or_double(
    connect: Callable[[], StoreConnection], models: ModelStore, snapshot: Snapshots
) -> None:
    """Each has its own connection; every number is given once, the aliases end at the highest, all are whole."""
    snapshots = {f"{who}-{turn}": snapshot(seed=who * EACH + turn) for who in range(PUBLISHERS) for turn in range(EACH)}
    stores = [ModelStore(connect()) for _ in range(PUBLISHERS)]

    def publish_all(who: int) -> dict[str, int]:
        jobs = [f"{who}-{turn}" for turn in range(EACH)]
        return {job: stores[who].publish("tiny", snapshots[job], job).ref.version for job in jobs}

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        numbers = {job: number for given in pool.map(publish_all, range(PUBLISHERS)) for job, number in given.items()}
    highest = PUBLISHERS * EACH
    assert sorted(numbers.values()) == list(range(1, highest + 1))
    assert models.aliases("tiny") == {"latest": highest, "live": highest}
    assert numbers_of(models.versions("tiny", count=1000)) == list(range(highest, 0, -1))
    for job, number in numbers.items():
        stored = models.version("tiny", number).snapshot
        assert stored == snapshots[job]
        decode(stored)


def test_one_job_publishes_once(models: ModelStore, snapshot: Snapshots) -> None:
    """A job that is run again, and even trained something else, gets what its first publication got."""
    first = snapshot(seed=1)
    published = models.publish("tiny", first, "job", MANUAL)
    assert published == Publication(VersionRef(1, first.digest), MANUAL)
    models.publish("tiny", snapshot(seed=2), "other")
    before = models.model("tiny")
    assert models.publish("tiny", snapshot(seed=3), "job") == published
    assert models.publication_of_job("tiny", "job") == published
    assert models.publication_of_job("tiny", "none") is None
    assert models.version("tiny", 1).snapshot == first
    assert models.model("tiny") == before


def test_a_version_that_is_not_promoted_is_latest_and_not_live(models: ModelStore, snapshot: Snapshots) -> None:
    """`latest` follows every publication, `live` only those that are promoted."""
    models.publish("tiny", snapshot(seed=1), "a")
    models.publish("tiny", snapshot(seed=2), "b", MANUAL)
    assert models.aliases("tiny") == {"latest": 2, "live": 1}


def test_all_keys_of_a_model_share_its_hash_tag(
    connection: StoreConnection, models: ModelStore, snapshot: Snapshots
) -> None:
    """What one script touches lies in one slot of a cluster; only the list of models and its stream lie elsewhere."""
    registry = ModelRegistry(connection)
    for job in "ab":
        models.publish("tiny", snapshot(), job)
    registry.annotate("tiny", 1, notes="first")
    registry.set_hold("tiny", held=True)
    registry.set_rollout("tiny", 1, RolloutMode.CANARY, 10)
    keys = {key.decode() for key in connection.command("KEYS", "*")}
    own = {key for key in keys if key.startswith("weightcast:{tiny}:")}
    assert keys - own == {"weightcast:models", "weightcast:models:events"}
    receipts = {key for key in own if ":receipt:" in key}
    assert own - receipts == set(ModelKeys("tiny").in_order())
    assert len(own) == 16 + 3
    assert all(0 < connection.command("TTL", key) <= 60 for key in receipts)


@pytest.mark.parametrize(
    ("asked", "reason", "told"),
    [
        (("tiny", 3), "VERSION_NOT_FOUND", "latest is 2"),
        (("tiny", 0), "VERSION_NOT_FOUND", "latest is 2"),
        (("tiny", -1), "VERSION_NOT_FOUND", "latest is 2"),
        (("tiny", "best"), "ALIAS_NOT_FOUND", "latest, live"),
        (("none", 1), "MODEL_NOT_FOUND", "'none'"),
        (("none", "live"), "MODEL_NOT_FOUND", "'none'"),
    ],
)
def test_what_is_not_there_is_refused_saying_what_is(
    models: ModelStore, snapshot: Snapshots, asked: tuple[str, int | str], reason: str, told: str
) -> None:
    """No such model, version and alias are three reasons, each with what there is instead."""
    models.publish("tiny", snapshot(seed=1), "a")
    models.publish("tiny", snapshot(seed=2), "b")
    with pytest.raises(NotFoundError, match=told) as caught:
        models.version(*asked)
    assert caught.value.reason == reason


def test_versions_come_in_pages_newest_first(models: ModelStore, snapshot: Snapshots) -> None:
    """Each page goes on below the last number of the one before, and a publication meanwhile moves nothing."""
    for seed in range(5):
        models.publish("tiny", snapshot(seed=seed), str(seed))
    page = models.versions("tiny", count=2)
    assert (numbers_of(page), page.next_below) == ([5, 4], 4)
    models.publish("tiny", snapshot(seed=9), "new")
    page = models.versions("tiny", count=2, below=page.next_below)
    assert (numbers_of(page), page.next_below) == ([3, 2], 2)
    page = models.versions("tiny", count=2, below=page.next_below)
    assert (numbers_of(page), page.next_below) == ([1], None)
    assert models.versions("tiny", count=1, below=2).next_below is None
    assert models.versions("tiny", count=2, below=1).versions == ()
    with pytest.raises(NotFoundError):
        models.versions("none", count=2)


def test_a_listed_version_is_the_version_without_its_weights(models: ModelStore, snapshot: Snapshots) -> None:
    """A list leaves out nothing else that asking for one version gives."""
    models.publish("tiny", snapshot(seed=1), "a", MANUAL)
    models.publish("tiny", snapshot(seed=2), "b")
    listed = models.versions("tiny", count=2).versions
    assert list(listed) == [models.version("tiny", number, with_weights=False) for number in (2, 1)]


def test_a_store_that_is_away_is_named_and_comes_back(
    redis_server: EmbeddedRedis, models: ModelStore, snapshot: Snapshots
) -> None:
    """StoreUnavailableError with the address and the setting to correct; afterwards the same object works again."""
    first = snapshot(seed=1)
    models.publish("tiny", first, "a")
    redis_server.stop()
    with pytest.raises(StoreUnavailableError, match="WEIGHTCAST_REDIS_URL") as caught:
        models.ping()
    assert redis_server.url.removeprefix("unix://") in caught.value.message
    with pytest.raises(StoreUnavailableError):
        models.publish("tiny", snapshot(seed=2), "b")
    redis_server.start()
    assert models.publish("tiny", snapshot(seed=2), "b").ref.version == 2
    assert models.version("tiny", 1).snapshot == first


@pytest.mark.parametrize("url", ["redis://:hunter2@127.0.0.1:1/0", "redis://user:hunter2@localhost:1"])
def test_a_password_in_the_url_is_never_told(url: str) -> None:
    """The message names host and port, and not the password."""
    store = ModelStore(StoreConnection(url))
    with pytest.raises(StoreUnavailableError) as caught:
        store.ping()
    assert "hunter2" not in caught.value.message
    assert url.rsplit("@", 1)[1].removesuffix("/0") in caught.value.message


def test_a_wrong_password_is_told_without_it(redis_server: EmbeddedRedis, connection: StoreConnection) -> None:
    """A Redis that asks for another password counts as away, and says why."""
    connection.command("CONFIG", "SET", "requirepass", "right")
    wrong = StoreConnection(redis_server.url.replace("unix://", "unix://:hunter2@"))
    with pytest.raises(StoreUnavailableError) as caught:
        wrong.command("PING")
    wrong.close()
    assert "hunter2" not in caught.value.message
    assert "password" in caught.value.message


def test_a_store_that_takes_no_writes_is_one_that_is_away(
    models: ModelStore, connection: StoreConnection, snapshot: Callable[..., StoredSnapshot]
) -> None:
    """A refusal of Redis that time may mend is told as one, so that a finished training is kept and tried again."""
    connection.command("CONFIG", "SET", "min-replicas-to-write", 1)
    with pytest.raises(StoreUnavailableError, match="NOREPLICAS"):
        models.publish("tiny", snapshot(), "job-1")
    connection.command("CONFIG", "SET", "min-replicas-to-write", 0)
    assert models.publish("tiny", snapshot(), "job-1").ref.version == 1
