"""The registry on a Redis cluster: every change and every list of it works wherever a model's keys lie."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from shared.errors import ConflictError, NotFoundError
from shared.model_version import Cause, PromotionOutcome, PromotionVerdict, StoredSnapshot, VersionFilter
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import RolloutMode
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry
from tests.integration.redis_topologies import Cluster, cluster

Snapshots = Callable[..., StoredSnapshot]
MANUAL = PromotionVerdict(PromotionOutcome.MANUAL, Promotion(PromotionPolicy.MANUAL), accuracy=0.5)


@pytest.fixture(scope="module")
def topology() -> Iterator[Cluster]:
    """A cluster of three masters."""
    with cluster(replica_of=ModelKeys("tiny").events) as started:
        yield started


@pytest.mark.parametrize("master", range(3))
def test_the_registry_works_on_the_master_that_has_the_model(
    topology: Cluster, snapshot: Snapshots, master: int
) -> None:
    """All keys of a model lie on one, and all that the registry does of it happens there."""
    names = (f"model-{number}" for number in range(1000))
    name = next(name for name in names if topology.master_of(ModelKeys(name).events) is topology.masters[master])
    with closing(StoreConnection(topology.url)) as connection:
        models, registry = ModelStore(connection), ModelRegistry(connection)
        for seed in range(4):
            models.publish(name, snapshot(seed=seed), str(seed))
        models.publish(name, snapshot(seed=4), "4", MANUAL)
        models.strike_off(name, "5")

        back = registry.rollback(name, actor="ann", reason="worse")
        assert (back.live_version, back.previous_version) == (3, 2)
        assert back == models.model(name)
        etag = registry.set_alias(name, "best", 1, etag="0")
        with pytest.raises(ConflictError):
            registry.set_alias(name, "best", 2, etag="0")
        written = registry.annotate(name, 1, notes="good", labels={"team": "a"}, pinned=True)
        assert models.version(name, "best", with_weights=False) == written
        registry.set_rollout(name, 1, RolloutMode.SHADOW, 10)
        tried = registry.set_rollout(name, 4, RolloutMode.SHADOW, 10).rollout
        assert tried is not None
        assert tried.version == 4
        assert models.rollout(name) == tried
        assert registry.end_rollout(name, etag=tried.etag).rollout is models.rollout(name) is None
        registry.set_rollout(name, 4, RolloutMode.CANARY, 10, etag="0")
        assert registry.promote(name, 4).live_version == 4
        assert models.rollout(name) is None
        assert [change.cause for change in registry.history(name, count=2).changes] == [
            Cause.PROMOTED,
            Cause.ROLLED_BACK,
        ]

        (found,) = models.versions(name, count=9, wanted=VersionFilter(labels={"team": "a"})).versions
        assert found == written
        assert registry.set_alias(name, "best", 0, etag=etag) == "0"
        registry.annotate(name, 3, pinned=True)
        registry.delete(name, 2)
        assert registry.prune(name, 1, dry_run=False).versions == ()
        with pytest.raises(NotFoundError, match="latest is 5"):
            models.version(name, 2)
        assert models.versions(name, count=2).next_below == 4
        registry.set_hold(name, held=True)
        assert models.publish(name, snapshot(seed=6), "6").ref.version == 6
        assert models.aliases(name) == {"live": 4, "latest": 6}
