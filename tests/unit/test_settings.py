"""Settings: defaults that work on one machine, and one message that lists every bad variable and no secret."""

from pathlib import Path

import pytest

from shared.errors import StoreUnavailableError
from shared.settings import InferenceSettings, Settings, TrainerSettings, load
from shared.store.connection import StoreConnection


def refusal(kind: type[Settings], capsys: pytest.CaptureFixture[str]) -> str:
    """What stands on standard error when the process ends."""
    with pytest.raises(SystemExit) as raised:
        load(kind)
    assert raised.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_nothing_needs_to_be_set() -> None:
    """Both services find a Redis on this machine and listen on it only."""
    trainer, inference = load(TrainerSettings), load(InferenceSettings)
    assert trainer.redis_url == inference.redis_url == "redis://127.0.0.1:6379/0"
    assert trainer.trainer_listen == "127.0.0.1:50051"
    assert inference.inference_listen == "127.0.0.1:50052"
    assert (trainer.trainer_workers, trainer.data_dir, trainer.log_level) == (1, None, "INFO")


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the field's name with the prefix."""
    monkeypatch.setenv("WEIGHTCAST_DATA_DIR", "/data")
    monkeypatch.setenv("WEIGHTCAST_TRAINER_WORKERS", "3")
    settings = load(TrainerSettings)
    assert (settings.data_dir, settings.trainer_workers) == (Path("/data"), 3)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As docker compose passes on what nobody set."""
    monkeypatch.setenv("WEIGHTCAST_DATA_DIR", "")
    monkeypatch.setenv("WEIGHTCAST_TRAINER_WORKERS", "")
    settings = load(TrainerSettings)
    assert (settings.data_dir, settings.trainer_workers) == (None, 1)


def test_one_message_lists_every_bad_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with what came, so that one look mends them all."""
    bad = {
        "WEIGHTCAST_INFERENCE_LISTEN": "nowhere",
        "WEIGHTCAST_INFERENCE_METRICS_LISTEN": "on",
        "WEIGHTCAST_INFERENCE_THREADS": "many",
        "WEIGHTCAST_INFERENCE_MAX_BATCH_ROWS": "0",
        "WEIGHTCAST_INFERENCE_RECONCILE_SECONDS": "-1",
        "WEIGHTCAST_LOG_LEVEL": "LOUD",
        "WEIGHTCAST_SHUTDOWN_GRACE_SECONDS": "nan",
    }
    for name, value in bad.items():
        monkeypatch.setenv(name, value)
    first, *lines = refusal(InferenceSettings, capsys).splitlines()
    assert first == "These settings cannot be used:"
    assert len(lines) == len(bad)
    for name, value in bad.items():
        (line,) = (line for line in lines if line.startswith(f"  {name}: "))
        assert value in line


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("INFERENCE_PROCESSES", 1, 64),
        ("INFERENCE_THREADS", 1, 256),
        ("INFERENCE_MAX_BATCH_ROWS", 1, 1_000_000),
        ("INFERENCE_MAX_MESSAGE_BYTES", 2**16, 2**30),
        ("INFERENCE_PINNED_BYTES", 0, 2**40),
        ("INFERENCE_MAX_IN_FLIGHT", 1, 100_000),
        ("INFERENCE_MAX_CONNECTION_CALLS", 1, 100_000),
        ("INFERENCE_DRAIN_SECONDS", 0, 3600),
    ],
)
def test_numbers_are_kept_within_their_limits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, smallest: int, largest: int
) -> None:
    """Both ends are taken, and one beyond either is not."""
    for value in (smallest, largest):
        monkeypatch.setenv(f"WEIGHTCAST_{name}", str(value))
        assert getattr(load(InferenceSettings), name.lower()) == value
    for value in (smallest - 1, largest + 1):
        monkeypatch.setenv(f"WEIGHTCAST_{name}", str(value))
        assert f"WEIGHTCAST_{name}" in refusal(InferenceSettings, capsys)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "0.0.0.0:50051", "[::]:50051", "trainer.example:65535"])
def test_an_address_is_a_host_and_a_port(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """By name or number, of either family."""
    monkeypatch.setenv("WEIGHTCAST_TRAINER_LISTEN", address)
    assert load(TrainerSettings).trainer_listen == address


def test_metrics_may_be_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or at an address like any other."""
    for value in ("off", "[::]:0", "127.0.0.1:50053"):
        monkeypatch.setenv("WEIGHTCAST_INFERENCE_METRICS_LISTEN", value)
        assert load(InferenceSettings).inference_metrics_listen == value


@pytest.mark.parametrize("address", ["50051", ":50051", "127.0.0.1", "127.0.0.1:", "::1:50051", "a:x", "a:65536"])
def test_what_is_no_address_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    """Not when the server tries to listen."""
    monkeypatch.setenv("WEIGHTCAST_TRAINER_LISTEN", address)
    assert "WEIGHTCAST_TRAINER_LISTEN" in refusal(TrainerSettings, capsys)


@pytest.mark.parametrize(
    "url",
    [
        "redis.example:6379",
        "http://:hunter2@redis.example",
        "redis://:hunter2@redis.example:port/0",
        "redis://:hun#ter2@h",
    ],
)
def test_a_redis_url_that_is_none_is_refused_at_start_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """The variable is named and what it holds is not shown."""
    monkeypatch.setenv("WEIGHTCAST_REDIS_URL", url)
    message = refusal(TrainerSettings, capsys)
    assert "WEIGHTCAST_REDIS_URL" in message
    assert "hun" not in message


def test_the_password_of_a_good_url_is_not_shown_beside_a_bad_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what is wrong is shown."""
    monkeypatch.setenv("WEIGHTCAST_REDIS_URL", "redis://user:hunter2@redis.example:6379/0")
    monkeypatch.setenv("WEIGHTCAST_TRAINER_WORKERS", "-1")
    assert "hunter2" not in refusal(TrainerSettings, capsys)


def test_a_store_that_is_away_is_named_without_its_password() -> None:
    """Nobody listens on port 1; the message says where Redis was looked for and which setting says so."""
    connection = StoreConnection("redis://user:hunter2@127.0.0.1:1/0")
    with pytest.raises(StoreUnavailableError) as raised:
        connection.command("PING")
    connection.close()
    assert "Redis at 127.0.0.1:1 is not available" in raised.value.message
    assert "WEIGHTCAST_REDIS_URL" in raised.value.message
    assert "hunter2" not in raised.value.message
