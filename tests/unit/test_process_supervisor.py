"""Supervised processes: started again when they die, never in a tight loop, and ended at the end."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import process_supervisor
from shared.process_supervisor import ProcessSupervisor

# A shell that says in a file who it is and then does what it was told.
SCRIPT = 'echo $$ >> "$0"; {}'
SLEEP = "exec sleep 1000"
SECONDS = 10


def command(log: Path, what: str) -> tuple[str, ...]:
    """A command that notes its pid in `log`."""
    return ("/bin/sh", "-c", SCRIPT.format(what), str(log))


def pids_in(log: Path) -> list[int]:
    """Who was started, in order."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def until(holds: Callable[[], bool]) -> None:
    """Returns when it does."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_dies_is_started_again_and_what_lives_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked is told the pid of the dead before another takes its place; all end at the end."""
    monkeypatch.setattr(process_supervisor, "RESTART_SECONDS", 0.0)
    logs = [tmp_path / "0", tmp_path / "1"]
    told: list[tuple[int, int]] = []
    supervisor = ProcessSupervisor(
        "test", [command(log, SLEEP) for log in logs], ended=lambda pid: told.append((pid, len(pids_in(logs[0]))))
    )
    supervisor.start()
    until(lambda: all(len(pids_in(log)) == 1 for log in logs))
    (first,), (other,) = map(pids_in, logs)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(pids_in(logs[0])) == 2)
    assert told == [(first, 1)]
    assert is_running(other)
    second = pids_in(logs[0])[1]
    supervisor.stop(SECONDS)
    assert not is_running(second)
    assert not is_running(other)
    assert {pid for pid, _ in told} == {first, second, other}
    assert [len(pids_in(log)) for log in logs] == [2, 1]


def test_what_cannot_start_is_not_started_in_a_tight_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It rests between two starts, and stopping does not wait for that."""
    monkeypatch.setattr(process_supervisor, "RESTART_SECONDS", 1000.0)
    ended: list[int] = []
    supervisor = ProcessSupervisor("test", [command(tmp_path / "log", "exit 3")], ended=ended.append)
    supervisor.start()
    until(lambda: bool(ended))
    time.sleep(0.2)  # a hundred starts, if nothing stood against it
    supervisor.stop(SECONDS)
    assert pids_in(tmp_path / "log") == ended
    assert len(ended) == 1


def test_what_does_not_obey_is_ended(tmp_path: Path) -> None:
    """When the grace period is over."""
    log = tmp_path / "log"
    supervisor = ProcessSupervisor("test", [command(log, "trap '' TERM; echo ready; read line; sleep 1000")])
    supervisor.start()
    until(lambda: bool(pids_in(log)))
    time.sleep(0.1)  # to set its trap
    supervisor.stop(0.1)
    assert not is_running(pids_in(log)[0])


def test_its_own_environment_and_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process is told what this one knows, and what it was given for them."""
    monkeypatch.setenv("WEIGHTCAST_LOG_LEVEL", "ERROR")
    answer = tmp_path / "answer"
    script = f'echo "$WEIGHTCAST_LOG_LEVEL $WEIGHTCAST_PORT_FILE" > {answer}.new; mv {answer}.new {answer}; {SLEEP}'
    supervisor = ProcessSupervisor(
        "test", [command(tmp_path / "log", script)], environment={"WEIGHTCAST_PORT_FILE": "/p"}
    )
    supervisor.start()
    until(answer.exists)
    supervisor.stop(SECONDS)
    assert answer.read_text() == "ERROR /p\n"


def test_no_processes_are_none(tmp_path: Path) -> None:
    """A supervisor of nothing starts and stops."""
    supervisor = ProcessSupervisor("test", [])
    supervisor.start()
    supervisor.stop(SECONDS)
    assert list(tmp_path.iterdir()) == []
