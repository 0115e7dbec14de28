"""Redis killed under load: what is loaded goes on answering, what needs the store says so, and all of it comes back."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from client.errors import RpcError
from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.traffic import Traffic
from client.trainer_client import TrainerClient
from inference_service.versions.snapshot_disk import SnapshotDisk
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import training_pb2
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_store import ModelStore
from tests.e2e.inference_pids import listening_pids
from tests.e2e.zeros import ROWS, snapshot_of_zeros
from trainer_service.worker import HEARTBEAT_SECONDS

SOAK = bool(os.environ.get("WEIGHTCAST_SOAK"))  # read now: no test sees the developer's own settings
MODEL = "kept"
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


class Keeping:
    """An inference service that keeps its snapshots in a folder, with a store that versions are published to."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self.stack = stack
        self.disk = SnapshotDisk(folder)

    def publish(self, *numbers: int) -> None:
        """Publishes versions."""
        with closing(StoreConnection(self.stack.redis.url)) as connection:
            for number in numbers:
                assert (
                    ModelStore(connection).publish(MODEL, snapshot_of_zeros(MODEL, number), f"job-{number}").ref.version
                    == number
                )

    def wait_until_kept(self, version: int, until: Until) -> None:
        """Returns when the version answers and lies on the disk."""
        with InferenceClient(self.stack.inference.address) as client:
            client.wait_for_version(MODEL, version, 20)
        until(lambda: (ref := self.disk.ref(MODEL)) is not None and ref.version == version, "the snapshot on disk")

    def status(self) -> pb.ModelStatus:
        """What is served."""
        with InferenceClient(self.stack.inference.address, retry=False) as client:
            return client.status(MODEL)

    def traffic(self) -> Traffic:
        """Requests, each of which has to be answered."""
        return Traffic(self.stack.inference.address, MODEL, ROWS, pause_seconds=0.002)


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[[int], Keeping]]:
    """Starts Redis and an inference service of so many processes; nobody trains."""
    started: list[LocalStack] = []

    def start(processes: int) -> Keeping:
        told = {
            "WEIGHTCAST_INFERENCE_SNAPSHOT_DIR": str(tmp_path / "snapshots"),
            "WEIGHTCAST_INFERENCE_PROCESSES": str(processes),
        }
        stack = LocalStack(told, append_only=True)
        started.append(stack)
        stack.redis.start()
        stack.inference.start()
        stack.inference.wait_until("liveness")
        return Keeping(stack, tmp_path / "snapshots")

    yield start
    for stack in started:
        stack.stop()
        stack.remove_files()


@contextmanager
def no_failures(service: Keeping, until: Until) -> Iterator[Traffic]:
    """Traffic of which no request may fail and none be answered by an older version than the one before."""
    with service.traffic() as traffic:
        answers_since(traffic, 20, until)
        yield traffic
        answers_since(traffic, 20, until)
    assert traffic.tally.failures == []
    assert traffic.tally.went_back == 0


def start_without_store(service: Keeping, seconds: float, until: Until) -> None:
    """Redis is away for so long; in the middle of that the service is killed and started again; then all comes back."""
    stack = service.stack
    begin = datetime.now(UTC)
    service.publish(1, 2)
    service.wait_until_kept(2, until)
    with no_failures(service, until):
        stack.redis.kill()
        lost = datetime.now(UTC)
        until(lambda: service.status().HasField("store_lost_time"), "the loss of the store")
        status = service.status()
        assert (status.restored, status.store_reachable) == (False, False)
        assert lost <= status.store_lost_time.ToDatetime(UTC) <= datetime.now(UTC)
        time.sleep(seconds / 2)
    stack.inference.kill()
    stack.inference.start()
    stack.inference.wait_until("")
    with no_failures(service, until) as traffic:
        status = service.status()
        assert (status.live.version, status.restored, status.store_reachable) == (2, True, False)
        assert status.live.digest == service.disk.version(MODEL, "live").ref.digest
        assert begin <= status.store_lost_time.ToDatetime(UTC) <= lost
        assert not status.HasField("reconcile_time")
        time.sleep(seconds / 2)
        stack.redis.start()
        service.publish(3)
        traffic.wait_for_version(3, 20)
        until(lambda: service.status().live.version == 3, "that it is live in every process")
        status = service.status()
        assert (status.restored, status.store_reachable) == (False, True)
        assert not status.HasField("store_lost_time")
    assert set(traffic.tally.digests) == {2, 3}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_service_that_starts_without_its_store_serves_what_it_kept(
    keep: Callable[[int], Keeping], processes: int, until: Until
) -> None:
    """The last good version, saying since when the store is away; and what is published later, without a gap."""
    start_without_store(keep(processes), 0.5, until)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="takes minutes; WEIGHTCAST_SOAK=1 runs it")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("processes", [1, 2])
def test_soak_of_a_minute_without_the_store(keep: Callable[[int], Keeping], processes: int, until: Until) -> None:
    """The same for as long as an operator needs to come."""
    start_without_store(keep(processes), 60.0, until)


def test_a_process_of_several_starts_again_while_the_live_snapshot_is_corrupt(
    keep: Callable[[int], Keeping], until: Until
) -> None:
    """It answers by what the disk has kept, as the others do by what they have loaded, and says what is wrong."""
    service = keep(2)
    service.publish(1)
    service.wait_until_kept(1, until)
    before = listening_pids(service.stack)
    assert len(before) == 2
    with closing(StoreConnection(service.stack.redis.url)) as connection:
        weights = ModelKeys(MODEL).weights
        whole = connection.command("HGET", weights, 1)
        connection.command("HSET", weights, 1, whole[:-1])
        psutil.Process(min(before)).kill()
        until(lambda: len(listening_pids(service.stack) - before) == 1, "another process")
        with no_failures(service, until):
            status = service.status()
            assert (status.live.version, status.restored, status.store_reachable) == (1, True, True)
