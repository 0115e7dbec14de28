"""A Redis that Sentinels watch: the stores work, and go on with the replica when the master has died."""

from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import quote

import pytest

from shared.errors import StoreUnavailableError
from shared.model_version import StoredSnapshot
from shared.store.connection import StoreConnection, patience
from shared.store.keys import ModelKeys
from shared.store.masters import master_client
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore
from tests.integration import store_round_trips
from tests.integration.redis_topologies import (
    HOST,
    PASSWORD,
    SENTINEL_PASSWORD,
    SERVICE,
    WatchedMaster,
    wait_until,
    watched_master,
)
from trainer_service.jobs import job_queue
from trainer_service.jobs.job_queue import JobQueue
from trainer_service.jobs.job_store import Turn

Snapshots = Callable[..., StoredSnapshot]


@pytest.fixture(autouse=True)
def harmless_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers have nothing to train."""
    monkeypatch.setattr(job_queue, "RUN_JOB", store_round_trips.HARMLESS)


@pytest.fixture(scope="module")
def topology() -> Iterator[WatchedMaster]:
    """A master, a replica and a Sentinel that tests leave as they are."""
    with watched_master() as started:
        yield started


@pytest.fixture
def own_topology() -> Iterator[WatchedMaster]:
    """The same for a test that does not."""
    with watched_master() as started:
        yield started


def test_every_store_works_on_the_master(topology: WatchedMaster, snapshot: Snapshots) -> None:
    """Passwords differ between the Sentinel and Redis, and the first address that was given does not answer."""
    with closing(StoreConnection(topology.url)) as connection:
        store_round_trips.check_models(connection, "tiny", snapshot(seed=1))
        store_round_trips.check_events(connection, ("tiny", "other"), snapshot(seed=2))
        store_round_trips.check_jobs(connection, "a")
        store_round_trips.check_uploads(connection, "pets")
        store_round_trips.check_queue(connection, topology.url, Turn("a", 1))
    assert topology.master.ask("EXISTS", ModelKeys("tiny").weights) == 1


def test_the_promoted_replica_takes_over(own_topology: WatchedMaster, snapshot: Snapshots) -> None:
    """Until it does, the store is away and says where it was looked for; then everything goes on as before."""
    master, replica = own_topology.master, own_topology.replica
    with closing(StoreConnection(own_topology.url)) as connection:
        models, queue, events = ModelStore(connection), JobQueue(connection), ModelEvents(connection)
        first, second = snapshot(seed=1), snapshot(seed=2)
        models.publish("tiny", first, "before")
        queue.put(Turn("before", 1))
        events.follow(["tiny"])
        wait_until(lambda: replica.ask("DBSIZE") == master.ask("DBSIZE"), "the replica has everything")
        master.kill()
        with pytest.raises(StoreUnavailableError, match=f"sentinel {SERVICE} via {HOST}:1,{HOST}:") as raised:
            models.ping()
        assert PASSWORD not in raised.value.message
        wait_until(lambda: models.publish("tiny", second, "after").ref.version == 2, "a publication on the replica")
        assert replica.ask("ROLE")[0] == b"master"
        assert models.version("tiny", 1).snapshot == first
        assert events.wait(store_round_trips.WAKE_SECONDS)
        assert queue.waiting() == {Turn("before", 1)}
        store_round_trips.check_queue(connection, own_topology.url, Turn("after", 1))


@pytest.mark.parametrize("command", [("SET", "key", "1"), ("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "key")])
def test_a_master_that_became_a_replica_is_left(own_topology: WatchedMaster, command: tuple[str | int, ...]) -> None:
    """Though the connection to it is well: the command, or script, that it refuses is sent again to the new master."""
    own_topology.sentinel.kill()  # it would undo what follows
    masters = [own_topology.master]
    client = master_client(lambda: (HOST, masters[-1].port), {**patience(), "password": PASSWORD})
    assert client.set("key", "0")
    own_topology.replica.ask("REPLICAOF", "NO", "ONE")
    own_topology.master.ask("REPLICAOF", HOST, own_topology.replica.port)
    masters.append(own_topology.replica)
    assert client.execute_command(*command)  # type: ignore[no-untyped-call]
    assert own_topology.replica.ask("GET", "key") == b"1"
    client.connection_pool.disconnect()


def test_a_replica_that_is_addressed_as_a_server_takes_no_writes(topology: WatchedMaster, snapshot: Snapshots) -> None:
    """Neither by a command nor by a script; both say that the store is away."""
    with closing(StoreConnection(f"redis://:{quote(PASSWORD, safe='')}@{HOST}:{topology.replica.port}")) as connection:
        script = connection.lua("return redis.call('SET', KEYS[1], 1)")
        for write in (lambda: ModelStore(connection).publish("new", snapshot(), "a"), lambda: script(("key",), ())):
            with pytest.raises(StoreUnavailableError, match="read only replica"):
                write()


def test_a_service_that_no_sentinel_knows_is_a_store_that_is_away(topology: WatchedMaster) -> None:
    """The message says so, and holds no password."""
    url = topology.url.replace(f"/{SERVICE}", "/another")
    refused = pytest.raises(StoreUnavailableError, match="nobody says where the master of another is")
    with closing(StoreConnection(url)) as connection, refused as raised:
        connection.command("PING")
    assert PASSWORD not in raised.value.message
    assert SENTINEL_PASSWORD not in raised.value.message
