"""SIGTERM under load: health says so first, what was taken is answered, the rest may be sent again; exit 0."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.channel import open_channel
from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.traffic import Traffic
from shared.pb.weightcast.v1 import training_pb2

SOAK = bool(os.environ.get("WEIGHTCAST_SOAK"))
Train = Callable[..., training_pb2.TrainingJob]
Until = Callable[..., None]
ROWS = np.zeros((200, 64), np.uint8)
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class HealthWatch:
    """Watches whether a service is ready, and notes how many requests had failed when it said that it is not."""

    def __init__(self, address: str, failures: list[str]) -> None:
        self._channel = open_channel(address, retry=False)
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        self._answers: Iterator[Any] = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        self._failures = failures
        self.failures_before: int | None = None
        self.was_ended = False
        self.first = next(self._answers).status
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for answer in self._answers:
                if answer.status == NOT_SERVING and self.failures_before is None:
                    self.failures_before = len(self._failures)
            self.was_ended = True
        except grpc.RpcError:
            return  # the service is gone

    def close(self) -> None:
        """Ends it."""
        self._thread.join(20)
        self._channel.close()


def answered_lines(stack: LocalStack) -> int:
    """How many requests the service says that it has answered."""
    assert stack.inference.log_path is not None
    lines = stack.inference.log_path.read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line).get("event") == "answered" for line in lines if line.startswith("{"))


@pytest.mark.parametrize("processes", [1, 2] if SOAK else [1])
@pytest.mark.timeout(600)
def test_told_to_stop_under_load_it_answers_all_that_it_took(
    own_stack: Callable[..., LocalStack], train: Train, until: Until, processes: int
) -> None:
    """Each time: what clients got as answers is what the service says it answered, and nothing else failed for good."""
    told = {
        "WEIGHTCAST_LOG_LEVEL": "DEBUG",
        "WEIGHTCAST_INFERENCE_DRAIN_SECONDS": "0.3",
        "WEIGHTCAST_INFERENCE_PROCESSES": str(processes),
    }
    stack = own_stack(told)
    train(stack)
    for number in range(20 if SOAK else 1):
        if number:
            stack.inference.start()
            stack.inference.wait_until("liveness")
        with InferenceClient(stack.inference.address) as client:
            client.wait_for_version("digits", 1, 20)
        before = answered_lines(stack)
        with Traffic(stack.inference.address, "digits", ROWS, threads=6, batch_rows=10) as traffic:
            tally = traffic.tally
            until(lambda tally=tally: tally.requests > 200, "requests")
            watch = HealthWatch(stack.inference.address, tally.failures)
            assert watch.first == health_pb2.HealthCheckResponse.SERVING
            assert stack.inference.stop() == 0
            until(lambda tally=tally: bool(tally.failures), "a refusal")
        watch.close()
        assert watch.failures_before == 0
        assert watch.was_ended  # or the service waited for it, and not for requests alone
        refused = [failure.split(":", 1)[0] for failure in tally.failures]
        # CANCELLED is gRPC's own word for a call that reached a server in the moment in which it shut down.
        assert set(refused) <= {"UNAVAILABLE", "CANCELLED"}
        assert answered_lines(stack) - before == tally.requests - len(refused)


def test_one_that_nobody_asks_stops_at_once(own_stack: Callable[..., LocalStack], train: Train) -> None:
    """However long it would let requests come."""
    stack = own_stack({"WEIGHTCAST_INFERENCE_DRAIN_SECONDS": "3600"})
    train(stack)
    with InferenceClient(stack.inference.address) as client:
        client.wait_for_version("digits", 1, 20)
        client.classify("digits", ROWS[:1])
    assert stack.inference.stop() == 0
