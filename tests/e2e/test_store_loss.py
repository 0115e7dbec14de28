"""Redis killed under load: what is loaded goes on answering, what needs the store says so, and all of it comes back."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from client.errors import RpcError
from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.traffic import Traffic
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2
from trainer_service.worker import HEARTBEAT_SECONDS

Train = Callable[..., training_pb2.TrainingJob]
Until = Callable[..., None]


def kill_redis(stack: LocalStack) -> None:
    """Ends Redis at once, as a crash does."""
    assert stack.redis.process is not None
    stack.redis.process.send_signal(signal.SIGKILL)
    stack.redis.process.wait()


def answers_since(traffic: Traffic, count: int, until: Until) -> None:
    """Waits for so many more requests."""
    seen = traffic.tally.requests
    until(lambda: traffic.tally.requests >= seen + count, f"{count} more requests")


def test_inference_outlives_its_store(own_stack: Callable[..., LocalStack], train: Train, until: Until) -> None:
    """No request fails while Redis is gone and comes back; the status tells; a later job is published and served."""
    stack = own_stack(append_only=True)
    for seed in (1, 2, 3):
        train(stack, seed=seed)
    with (
        TrainerClient(stack.trainer.address) as trainer,
        InferenceClient(stack.inference.address, retry=False) as inference,
    ):
        inference.wait_for_version("digits", 3, 10)
        examples, _ = trainer.examples("digits")
        pinned = inference.classify("digits", examples, version=1)  # loaded now, and kept
        with Traffic(stack.inference.address, "digits", examples, pause_seconds=0.002) as traffic:
            answers_since(traffic, 50, until)
            kill_redis(stack)
            until(lambda: not inference.status("digits").store_reachable, "the loss of the store")
            answers_since(traffic, 100, until)

            again = inference.classify("digits", examples, version=1)
            assert (again.version, again.digest) == (1, pinned.digest)
            np.testing.assert_array_equal(again.class_ids, pinned.class_ids)
            assert inference.status("digits").live.version == 3
            for unknown in (2, 99):  # published but not loaded, and never published: nobody can tell them apart now
                with pytest.raises(RpcError) as caught:
                    inference.classify("digits", examples, version=unknown)
                assert (caught.value.code, caught.value.reason) == (
                    grpc.StatusCode.UNAVAILABLE,
                    "STORE_UNAVAILABLE",
                )

            stack.redis.start()
            until(lambda: inference.status("digits").store_reachable, "the return of the store")
            assert inference.classify("digits", examples, version=2).version == 2
            job = train(stack, seed=4)
            assert job.version == 4, job.error_message
            traffic.wait_for_version(4, 20)
            answers_since(traffic, 50, until)
    assert traffic.tally.failures == []
    assert traffic.tally.went_back == 0
    assert {version: len(digests) for version, digests in traffic.tally.digests.items()} == {3: 1, 4: 1}


def test_a_job_outlives_a_crash_of_the_store(
    own_stack: Callable[..., LocalStack], spec_of: Callable[..., training_pb2.TrainingSpec], until: Until
) -> None:
    """A job that runs while Redis is away for longer than a heartbeat ends as any other, and so does the one behind it.

    Who watches it sees it end, without asking again.
    """
    stack = own_stack(append_only=True)
    with TrainerClient(stack.trainer.address) as trainer, ThreadPoolExecutor(1) as pool:
        running = trainer.create_job(spec_of(epochs=60, network={"hidden_layer_sizes": [384]}))
        behind = trainer.create_job(spec_of())
        watched = pool.submit(trainer.wait, running.id)
        until(lambda: bool(trainer.job(running.id).epochs), "a first epoch")
        kill_redis(stack)
        with pytest.raises(RpcError) as caught:
            trainer.job(running.id)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        time.sleep(HEARTBEAT_SECONDS + 1)
        stack.redis.start()
        assert watched.result().state == training_pb2.TrainingJob.STATE_SUCCEEDED, watched.result().error_message
        for job in (running, behind):
            ended = trainer.wait(job.id)
            assert ended.state == training_pb2.TrainingJob.STATE_SUCCEEDED, ended.error_message
            assert len(ended.epochs) == job.spec.epochs


def test_services_started_before_redis_become_ready_with_it(idle_stack: LocalStack, train: Train, until: Until) -> None:
    """They come up, say that they are alive and what is missing, and do their work as soon as Redis is there."""
    for service in (idle_stack.trainer, idle_stack.inference):
        service.start()
    for service in (idle_stack.trainer, idle_stack.inference):
        service.wait_until("liveness")
    with InferenceClient(idle_stack.inference.address, retry=False) as inference:
        for ask in (
            lambda: inference.classify("digits", np.zeros((1, 64), np.uint8)),
            lambda: inference.status("digits"),
        ):
            with pytest.raises(RpcError) as caught:
                ask()
            assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        with TrainerClient(idle_stack.trainer.address) as trainer, pytest.raises(RpcError) as caught:
            trainer.jobs(1)
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")

        idle_stack.redis.start()
        idle_stack.trainer.wait_until("")
        job = train(idle_stack)
        assert job.version == 1, job.error_message
        inference.wait_for_version("digits", 1, 20)
        idle_stack.inference.wait_until("")
