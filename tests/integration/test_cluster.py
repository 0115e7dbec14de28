"""Redis as a cluster: the stores work with keys in every slot, and so does rq, whose keys are all in one."""

from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import quote

import pytest
import redis
from redis.cluster import RedisCluster

from shared.errors import StoreUnavailableError
from shared.model_version import StoredSnapshot
from shared.store.connection import StoreConnection
from shared.store.keys import RQ_PREFIX, ModelKeys
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore
from tests.integration import store_round_trips
from tests.integration.redis_topologies import HOST, PASSWORD, Cluster, cluster, wait_until
from trainer_service.jobs import job_queue
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_store import JobStore, Turn

Snapshots = Callable[..., StoredSnapshot]


@pytest.fixture(autouse=True)
def harmless_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers have nothing to train."""
    monkeypatch.setattr(job_queue, "RUN_JOB", store_round_trips.HARMLESS)


@pytest.fixture(scope="module")
def topology() -> Iterator[Cluster]:
    """A cluster that tests leave as it is."""
    with cluster(replica_of=RQ_PREFIX) as started:
        yield started


@pytest.fixture
def cluster_connection(topology: Cluster) -> Iterator[StoreConnection]:
    """A connection to the cluster."""
    with closing(StoreConnection(topology.url)) as connection:
        yield connection


def model_on(topology: Cluster, master: int) -> str:
    """A name whose model lies on one of the masters."""
    names = (f"model-{number}" for number in range(1000))
    return next(name for name in names if topology.master_of(ModelKeys(name).events) is topology.masters[master])


def test_every_store_works_on_the_master_that_has_the_key(
    topology: Cluster, cluster_connection: StoreConnection, snapshot: Snapshots
) -> None:
    """Models lie on different masters; of the addresses that were given, the first does not answer."""
    names = tuple(model_on(topology, master) for master in range(len(topology.masters)))
    for seed, name in enumerate(names):
        store_round_trips.check_models(cluster_connection, name, snapshot(seed=seed))
    for name, master in zip(names, topology.masters, strict=True):
        assert master.ask("EXISTS", ModelKeys(name).weights) == 1
    store_round_trips.check_events(cluster_connection, names, snapshot(seed=9))
    store_round_trips.check_jobs(cluster_connection, "a")
    store_round_trips.check_uploads(cluster_connection, "pets")
    store_round_trips.check_queue(cluster_connection, topology.url, Turn("a", 1))
    keys = {key for master in topology.masters for key in master.ask("KEYS", "*")}
    assert {key for key in keys if not key.startswith(b"weightcast:")} == set()  # rq has none elsewhere
    assert set(topology.master_of(RQ_PREFIX).ask("KEYS", f"{RQ_PREFIX}:*")) == {
        key for key in keys if key.startswith(RQ_PREFIX.encode())
    }


def test_a_quiet_cluster_is_not_an_absent_one(cluster_connection: StoreConnection) -> None:
    """A wait without a publication returns False."""
    events = ModelEvents(cluster_connection)
    events.follow(["tiny", "other"])
    assert events.wait(0.2) is False


def test_one_node_of_a_cluster_is_no_server(topology: Cluster) -> None:
    """Who addresses it as one is told what to say instead, with the first key that another node has."""
    key = ModelKeys(model_on(topology, 1)).events
    url = f"redis://:{quote(PASSWORD, safe='')}@{HOST}:{topology.masters[0].port}"
    refused = pytest.raises(StoreUnavailableError, match=r"say redis\+cluster:// in WEIGHTCAST_REDIS_URL")
    with closing(StoreConnection(url)) as connection, refused:
        connection.command("EXISTS", key)


def test_the_promoted_replica_takes_over(snapshot: Snapshots) -> None:
    """For the models of the master that died, and for the queue; until then both are away, and say so."""
    with cluster(replica_of=RQ_PREFIX) as topology, closing(StoreConnection(topology.url)) as connection:
        lost = topology.master_of(RQ_PREFIX)
        name = model_on(topology, topology.masters.index(lost))
        models, queue = ModelStore(connection), JobQueue(connection)
        first, second = snapshot(seed=1), snapshot(seed=2)
        models.publish(name, first, "before")
        queue.put(Turn("before", 1))
        wait_until(lambda: topology.replica.ask("DBSIZE") == lost.ask("DBSIZE"), "the replica has everything")
        lost.kill()
        with pytest.raises(StoreUnavailableError, match=f"cluster {HOST}:1,{HOST}:") as raised:
            models.aliases(name)
        assert PASSWORD not in raised.value.message
        with pytest.raises(StoreUnavailableError):
            queue.put(Turn("between", 1))
        wait_until(lambda: models.publish(name, second, "after").ref.version == 2, "a publication on the replica")
        wait_until(lambda: Turn("before", 1) in queue.waiting(), "the replica has the queue")
        assert topology.replica.ask("ROLE")[0] == b"master"
        assert models.version(name, 1).snapshot == first
        store_round_trips.check_queue(connection, topology.url, Turn("after", 1))


def test_a_client_does_not_depend_on_the_node_that_it_asks(topology: Cluster) -> None:
    """Where the keys of XREAD are, the client asks one node. When that is gone, it is another's turn."""
    with closing(StoreConnection(topology.url)) as connection:
        client = connection.client
        assert isinstance(client, RedisCluster)
        asked = client.get_default_node()  # type: ignore[no-untyped-call]
        asked.redis_connection.close()
        asked.redis_connection = redis.Redis(HOST, 1)
        wait_until(lambda: JobStore(connection).events_after("nobody", "", 0.01) == [], "an answer of another node")
