"""WEIGHTCAST_REDIS_URL: one server, Sentinels or a cluster; anything else is refused at start, without its password."""

from urllib.parse import quote

import pytest

from shared.errors import StoreUnavailableError
from shared.settings import InferenceSettings, TrainerSettings, load
from shared.store.address import SCHEMES, Topology, parse
from shared.store.connection import StoreConnection, options_of
from shared.store.model_store import ModelStore

USER, PASSWORD = "user", "hun#ter/2?@"
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"


@pytest.mark.parametrize(
    ("url", "topology", "name"),
    [
        ("redis://h", Topology.SERVER, "h:6379"),
        (f"rediss://{LOGIN}h:1/2", Topology.SERVER, "h:1"),
        ("unix:///run/redis%20a.sock", Topology.SERVER, "/run/redis a.sock"),
        (f"redis+sentinel://{LOGIN}h/main", Topology.SENTINEL, "sentinel main via h:26379"),
        ("rediss+sentinel://h:1,[::1]:2/my-master.2/3", Topology.SENTINEL, "sentinel my-master.2 via h:1,::1:2"),
        (f"redis+cluster://{LOGIN}h,i:7000", Topology.CLUSTER, "cluster h:6379,i:7000"),
        ("rediss+cluster://[::1]/", Topology.CLUSTER, "cluster ::1:6379"),
    ],
)
@pytest.mark.parametrize("settings", [TrainerSettings, InferenceSettings])
def test_each_form_is_taken_and_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
    settings: type[TrainerSettings] | type[InferenceSettings],
    url: str,
    topology: Topology,
    name: str,
) -> None:
    """By both services; a port that is not given is the usual one."""
    monkeypatch.setenv("WEIGHTCAST_REDIS_URL", url)
    address = parse(load(settings).redis_url)
    assert (address.topology, address.name) == (topology, name)
    assert topology is Topology.SERVER or "host" not in options_of(address)
    assert "hun" not in repr(address)


def test_of_several_servers_each_is_told_what_stands_in_the_url() -> None:
    """As in one server's URL; the Sentinels have a password of their own."""
    address = parse(
        f"rediss+sentinel://{LOGIN}h:1,i:2/main/3?sentinel_password=other%23&ssl_ca_certs=ca.pem&socket_timeout=9"
    )
    options = options_of(address)
    assert (address.nodes, address.service) == ((("h", 1), ("i", 2)), "main")
    assert (options["username"], options["password"], options["db"]) == (USER, PASSWORD, 3)
    assert (options["sentinel_password"], options["ssl"], options["ssl_ca_certs"]) == ("other#", True, "ca.pem")
    assert options["socket_timeout"] == 9.0


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+sentinel://h:26379", "SERVICE"),
        ("redis+sentinel://h:26379/", "SERVICE"),
        ("redis+sentinel://h/main/two", "SERVICE"),
        ("redis+sentinel://h:port/main", "SERVICE"),
        ("redis+sentinel://h:0/main", "SERVICE"),
        ("redis+sentinel://h,/main", "SERVICE"),
        ("redis+sentinel://user:12/hunter2@h/main", "SERVICE"),
        ("redis+sentinel://user:hunt#er2@h/main", "SERVICE"),
        ("redis+cluster://", "without a database"),
        ("redis+cluster://h/1", "without a database"),
        ("redis+cluster://h:1,i:70000", "without a database"),
        ("redis+cluster://hunt#er2@h", "without a database"),
        ("redis://hunt#er2@h", "redis://[user:password@]host"),
        ("unix://", "unix:///path"),
        ("redis+unix:///hunter2", "redis+cluster://"),
        ("hunter2", "redis+sentinel://"),
    ],
)
def test_what_has_no_known_form_is_refused_at_start_saying_which_it_should_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, expected: str
) -> None:
    """The message shows no part of the URL."""
    monkeypatch.setenv("WEIGHTCAST_REDIS_URL", url)
    with pytest.raises(SystemExit):
        load(TrainerSettings)
    message = capsys.readouterr().err
    assert "WEIGHTCAST_REDIS_URL" in message
    assert expected in message
    assert "hun" not in message


def test_an_unknown_scheme_is_answered_with_those_that_are_known() -> None:
    """All of them."""
    with pytest.raises(ValueError, match="expected one of") as raised:
        parse("http://h")
    assert all(f" {scheme}://" in str(raised.value) for scheme in SCHEMES)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"redis+sentinel://{LOGIN}127.0.0.1:1/main?sentinel_password=hunter3", "sentinel main via 127.0.0.1:1"),
        (f"redis+cluster://{LOGIN}127.0.0.1:1", "cluster 127.0.0.1:1"),
    ],
)
def test_a_store_of_several_servers_may_be_away_and_is_named_without_its_passwords(url: str, name: str) -> None:
    """At the start too: only what needs it fails. Nobody listens on port 1."""
    connection = StoreConnection(url)
    models = ModelStore(connection)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError) as raised:
            models.ping()
        assert f"Redis at {name} is not available" in raised.value.message
        assert "hun" not in raised.value.message
    with pytest.raises(StoreUnavailableError), connection.translated():
        connection.queue_client.ping()
    connection.close()
