"""What the end-to-end tests share: stacks of their own settings, training by RPC, and waiting with a deadline."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

POLL_SECONDS = 0.02


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
