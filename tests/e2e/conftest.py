"""What the end-to-end tests share: stacks of their own settings, training by RPC, waiting, the command in a shell."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

POLL_SECONDS = 0.02
WEIGHTCAST = str(Path(sys.executable).with_name("weightcast"))
COMMAND_SECONDS = 60


class Training(Protocol):
    """Trains on `digits` by RPC."""

    def __call__(self, stack: LocalStack, model: str = "digits", **spec: Any) -> training_pb2.TrainingJob:  # noqa: ANN401
        """The job in its final state; small unless `spec` says otherwise."""


def digits_spec(model: str = "digits", **spec: Any) -> training_pb2.TrainingSpec:  # noqa: ANN401 - any field
    """A spec that trains in a fraction of a second."""
    return training_pb2.TrainingSpec(**{"model": model, "dataset": "digits", "epochs": 2, **spec})


def train_by_rpc(stack: LocalStack, model: str = "digits", **spec: Any) -> training_pb2.TrainingJob:  # noqa: ANN401
    """Creates a job and waits for its end."""
    with TrainerClient(stack.trainer.address) as trainer:
        return trainer.wait(trainer.create_job(digits_spec(model, **spec)).id)


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Returns when `holds` does; fails naming `what` if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(POLL_SECONDS)


@pytest.fixture(scope="session")
def train() -> Training:
    """Trains: `train_by_rpc`."""
    return train_by_rpc


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., training_pb2.TrainingSpec]:
    """Makes specs: `digits_spec`."""
    return digits_spec


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Waits with a deadline: `wait_until`."""
    return wait_until


@pytest.fixture
def own_stack() -> Iterator[Callable[..., LocalStack]]:
    """Starts the product for one test alone; its files stay if the test fails while it runs."""
    started: list[LocalStack] = []

    def start(environment: dict[str, str] | None = None, *, append_only: bool = False) -> LocalStack:
        stack = LocalStack(environment, append_only=append_only)
        started.append(stack)
        stack.start()
        return stack

    yield start
    for stack in started:
        stack.stop()
        stack.remove_files()


@pytest.fixture
def idle_stack() -> Iterator[LocalStack]:
    """The product with nothing started yet."""
    stack = LocalStack()
    yield stack
    stack.stop()
    stack.remove_files()


@dataclass(frozen=True)
class Result:
    """What a run of the command gave."""

    code: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - any document
        """Standard output as one JSON document; nothing may have gone wrong."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def refused(self, code: int, *words: str) -> None:
        """Checks that it was refused with this exit code and told so, in words and not in a traceback."""
        told = " ".join(self.err.split())
        assert self.code == code, told
        assert "Traceback" not in told
        assert [word for word in words if word not in told] == [], told


@dataclass(frozen=True)
class Shell:
    """A shell whose settings name a stack."""

    environment: dict[str, str]
    folder: Path

    def __call__(self, *arguments: str, width: int | None = 200) -> Result:
        """Runs the command with nothing attached to it."""
        environment = {**self.environment, **({"COLUMNS": str(width)} if width else {})}
        done = subprocess.run(
            [WEIGHTCAST, *arguments],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


def environment_for(stack: LocalStack) -> dict[str, str]:
    """What a user's shell would have, with the services where this stack runs them."""
    plain = {
        name: value
        for name, value in os.environ.items()
        if name not in {"COLUMNS", "FORCE_COLOR"} and not name.startswith("WEIGHTCAST_")
    }
    addresses = {
        "WEIGHTCAST_TRAINER_ADDRESS": stack.trainer.address,
        "WEIGHTCAST_INFERENCE_ADDRESS": stack.inference.address,
    }
    return {**plain, **addresses}


@pytest.fixture(scope="session")
def shell_for() -> Callable[[LocalStack, Path], Shell]:
    """Makes a shell for a stack, in a folder."""
    return lambda stack, folder: Shell(environment_for(stack), folder)


@pytest.fixture
def shell(stack: LocalStack, tmp_path: Path) -> Shell:
    """A shell for the module's stack, in a folder of this test's own."""
    return Shell(environment_for(stack), tmp_path)
