"""`weightcast up`: everything on one machine until it is told to stop, and nothing left behind."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from client.local_stack import LocalStack

WEIGHTCAST = str(Path(sys.executable).with_name("weightcast"))
Shell = Any  # conftest.py's; test folders are no packages to import it from
ShellFor = Callable[..., Any]
LISTEN = [word for name in ("trainer", "inference", "metrics") for word in (f"--{name}-listen", "127.0.0.1:0")]


def start_up(shell: Shell) -> subprocess.Popen[str]:
    """`weightcast up` on free ports."""
    return subprocess.Popen(
        [WEIGHTCAST, "up", *LISTEN],
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_runs_everything_until_it_is_told_to_stop(shell: Shell, number: signal.Signals) -> None:
    """It names both addresses, which work; then it exits 0, and no process and no file is left behind."""
    with start_up(shell) as up:
        assert up.stdout is not None
        told = ""
        while "Ctrl-C" not in told:
            line = up.stdout.readline()
            assert line, f"it ended: {told}"
            told += line
        addresses = dict(re.findall(r"(trainer|inference) +(\S+)", told))
        processes = psutil.Process(up.pid).children(recursive=True)
        told_where = [process.environ().get("WEIGHTCAST_PORT_FILE") for process in processes]
        (folder,) = {Path(file).parent for file in told_where if file}
        assert (folder / "redis.sock").exists()
        assert shell("jobs", "list", "--trainer", addresses["trainer"], "--json").json() == []
        up.send_signal(number)
        assert up.wait(30) == 0
    assert len(processes) >= 4  # Redis, trainer, its worker, inference
    assert [process.pid for process in processes if process.is_running()] == []
    assert not folder.exists()


@dataclass(frozen=True)
class FailedStart:
    """What `weightcast up` with a port that is taken told and left behind."""

    code: int
    told: str
    address: str
    processes: list[psutil.Process]
    folders: set[Path]


def port_file_of(process: psutil.Process) -> str:
    """The file that a service was told to write its port to, empty for other processes and those that are gone."""
    try:
        return str(process.environ().get("WEIGHTCAST_PORT_FILE", ""))
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def failed_start(
    stack: LocalStack, shell_for: ShellFor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FailedStart]:
    """Starts everything where the inference service's port is taken, and notes what was started on the way."""
    started: set[psutil.Process] = set()
    files: set[str] = set()
    listen = (*LISTEN, "--inference-listen", stack.inference.address)
    with subprocess.Popen(
        [WEIGHTCAST, "up", *listen],
        env=shell_for(stack, tmp_path_factory.mktemp("up")).environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as up:
        watched = psutil.Process(up.pid)
        while up.poll() is None:
            with suppress(psutil.NoSuchProcess):  # it may end right now
                started |= set(watched.children(recursive=True))
            files |= {port_file_of(process) for process in started}
            time.sleep(0.01)
        assert up.stderr is not None
        told = up.stderr.read()
    folders = {Path(file).parent for file in files if file}
    yield FailedStart(up.returncode, told, stack.inference.address, list(started), folders)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def test_up_that_cannot_start_says_why_and_leaves_no_process(
    failed_start: FailedStart, until: Callable[..., None]
) -> None:
    """A port that is taken: exit 1 naming the service and the address, and what had started is stopped."""
    told = " ".join(failed_start.told.split())
    assert failed_start.code == 1
    assert "inference_service ended while starting" in told
    assert failed_start.address in told
    assert len(failed_start.processes) >= 3  # Redis, trainer, inference
    # One that was just being started ends as soon as it learns that its supervisor has.
    until(lambda: not any(map(is_alive, failed_start.processes)), "the end of every process")


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs, and does not only wait for somebody to ask how it ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_up_that_cannot_start_leaves_no_files(failed_start: FailedStart) -> None:
    """Its folder is removed: its services told the terminal what went wrong, and no message names the folder."""
    assert len(failed_start.folders) == 1
    (folder,) = failed_start.folders
    assert str(folder) not in failed_start.told
    assert not folder.exists()
