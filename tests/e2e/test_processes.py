"""Processes that are killed, told to stop, or cannot start: what becomes of jobs and requests, and what is said."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from client.errors import RpcError
from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.traffic import Traffic
from client.trainer_client import TrainerClient
from shared import snapshot_codec
from shared.model_version import Manifest, Provenance, SelfTest
from shared.network import Architecture, Network
from shared.pb.weightcast.v1 import training_pb2
from shared.preprocessing import Preprocessing
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec

STATES = training_pb2.TrainingJob
Train = Callable[..., training_pb2.TrainingJob]
Spec = Callable[..., training_pb2.TrainingSpec]
Until = Callable[..., None]
START_SECONDS = 30
LONG = {"epochs": 1000, "network": {"hidden_layer_sizes": [1024, 512]}}  # minutes


def process_of(stack: LocalStack, service: str) -> psutil.Process:
    """The running process of `trainer` or `inference`."""
    process = getattr(stack, service).process
    assert process is not None
    return psutil.Process(process.pid)


def worker_of(stack: LocalStack) -> psutil.Process:
    """The trainer's one worker."""
    (worker,) = process_of(stack, "trainer").children()
    return worker


def start_long_job(trainer: TrainerClient, spec_of: Spec, until: Until) -> str:
    """Creates a job that takes minutes, and returns its id when it trains."""
    job = trainer.create_job(spec_of(**LONG))
    until(lambda: bool(trainer.job(job.id).epochs), "a first epoch")
    return job.id


def test_a_job_whose_process_is_killed_fails_and_the_next_succeeds(
    stack: LocalStack, train: Train, spec_of: Spec, until: Until
) -> None:
    """FAILED, naming the signal, and the stream that watches it ends; the same worker runs the next job."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        worker = worker_of(stack)
        (training,) = worker.children()
        training.send_signal(signal.SIGKILL)
        job = trainer.wait(job_id)
        assert job.state == STATES.STATE_FAILED
        assert "SIGKILL" in job.error_message
        assert "again" in job.error_message
        assert (job.version, job.HasField("end_time")) == (0, True)
        assert trainer.models() == []
    assert train(stack).state == STATES.STATE_SUCCEEDED
    assert worker_of(stack).pid == worker.pid


def test_a_worker_that_is_killed_is_replaced_and_its_job_fails(
    stack: LocalStack, train: Train, spec_of: Spec, until: Until
) -> None:
    """The job's own process notices that nobody watches over it any more, says so and ends; a new worker goes on."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        killed = worker_of(stack)
        (training,) = killed.children()
        killed.send_signal(signal.SIGKILL)
        job = trainer.wait(job_id)
        assert job.state == STATES.STATE_FAILED
        assert "worker" in job.error_message
        until(lambda: not training.is_running(), "the end of the job's process")
    assert train(stack).state == STATES.STATE_SUCCEEDED
    assert worker_of(stack).pid != killed.pid


def test_workers_do_not_outlive_a_trainer_that_is_killed(own_stack: Callable[..., LocalStack], until: Until) -> None:
    """Whoever starts the trainer again gets its workers, not those of the last one too."""
    stack = own_stack()
    worker = worker_of(stack)
    process_of(stack, "trainer").kill()
    until(lambda: not worker.is_running(), "the end of the worker")


def test_a_running_job_that_is_cancelled_makes_room_for_the_next(
    stack: LocalStack, train: Train, spec_of: Spec, until: Until
) -> None:
    """CANCELLED by RPC at its next minibatch, and the worker goes on."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        assert trainer.cancel(job_id).state == STATES.STATE_RUNNING
        assert trainer.wait(job_id).state == STATES.STATE_CANCELLED
    assert train(stack).state == STATES.STATE_SUCCEEDED


def test_a_trainer_that_is_told_to_stop_ends_its_job_and_itself(
    own_stack: Callable[..., LocalStack], spec_of: Spec, until: Until
) -> None:
    """Exit code 0, no process left, the job FAILED saying why, its watch ended; what was queued runs after a start."""
    stack = own_stack()
    with TrainerClient(stack.trainer.address) as trainer, ThreadPoolExecutor(1) as pool:
        job_id = start_long_job(trainer, spec_of, until)
        queued = trainer.create_job(spec_of())
        started = process_of(stack, "trainer").children(recursive=True)
        assert len(started) == 2
        watched = pool.submit(trainer.wait, job_id)
        until(watched.running, "the watch")
        assert stack.trainer.stop() == 0
        assert watched.result(20).state == STATES.STATE_FAILED
        assert [process for process in started if process.is_running()] == []
    stack.trainer.start()
    stack.trainer.wait_until("")
    with TrainerClient(stack.trainer.address) as trainer:
        job = trainer.job(job_id)
        assert job.state == STATES.STATE_FAILED
        assert "worker was stopped" in job.error_message
        assert trainer.wait(queued.id).state == STATES.STATE_SUCCEEDED


def publish_slow_model(stack: LocalStack) -> None:
    """A model that takes seconds for a large batch."""
    architecture = Architecture.dense(64, (2048, 2048), 10)
    network = Network(architecture, np.zeros(architecture.parameter_count, np.float32))
    manifest = Manifest(
        model="slow",
        architecture=architecture,
        preprocessing=Preprocessing(input_shape=(8, 8), uint8_scale=1 / 16),
        class_labels=tuple("0123456789"),
        epochs=(),
        provenance=Provenance(TrainingSpec("slow", "made", 0), "job", "0" * 64, datetime.now(UTC), {}),
        self_test=SelfTest(np.zeros((1, 64), np.uint8), np.full((1, 10), 0.1, np.float32)),
    )
    connection = StoreConnection(stack.redis.url)
    ModelStore(connection).publish("slow", snapshot_codec.encode(manifest, network), "job")
    connection.close()


def test_an_inference_service_that_is_told_to_stop_answers_what_it_accepted(
    own_stack: Callable[..., LocalStack], until: Until
) -> None:
    """A request under way is answered after SIGTERM, later ones are refused as safe to send again; exit code 0."""
    stack = own_stack()
    publish_slow_model(stack)
    rows = np.zeros((10_000, 64), np.uint8)
    process = process_of(stack, "inference")
    with InferenceClient(stack.inference.address, retry=False) as client, ThreadPoolExecutor(2) as pool:
        client.wait_for_version("slow", 1, 20)
        before = process.cpu_times().user
        accepted = pool.submit(client.classify, "slow", rows)
        until(lambda: process.cpu_times().user > before + 0.1, "work on the request")
        assert not accepted.done()
        stopping = pool.submit(stack.inference.stop)
        answer = accepted.result(60)
        assert (answer.version, len(answer.class_ids)) == (1, 10_000)
        assert stopping.result(30) == 0
        with pytest.raises(RpcError) as caught:
            client.classify("slow", rows[:1])
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_stopping_under_load_refuses_only_what_may_be_sent_again(
    own_stack: Callable[..., LocalStack], train: Train, until: Until
) -> None:
    """While requests keep coming, each is answered, or refused because the service stops; exit code 0."""
    stack = own_stack()
    train(stack)
    rows = np.zeros((500, 64), np.uint8)
    with InferenceClient(stack.inference.address) as client:
        client.wait_for_version("digits", 1, 20)
    with Traffic(stack.inference.address, "digits", rows, threads=4, pause_seconds=0.001) as traffic:
        until(lambda: traffic.tally.requests > 50, "50 requests")
        assert stack.inference.stop() == 0
        until(lambda: bool(traffic.tally.failures), "a refusal")
    # CANCELLED is gRPC's own word for a call that arrived in the very moment of the shutdown and was never begun.
    assert {failure.split(":", 1)[0] for failure in traffic.tally.failures} <= {"UNAVAILABLE", "CANCELLED"}
    assert any(failure.startswith("UNAVAILABLE") for failure in traffic.tally.failures)


@pytest.mark.parametrize("service", ["trainer", "inference"])
def test_a_port_that_is_taken_is_named(stack: LocalStack, service: str) -> None:
    """The service ends with an error code and the address it could not have."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run(
            [sys.executable, "-m", f"{service}_service"],
            env={f"WEIGHTCAST_{service.upper()}_LISTEN": address, "WEIGHTCAST_REDIS_URL": stack.redis.url},
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
    assert result.returncode not in (0, -signal.SIGKILL)
    assert address in result.stderr


@pytest.mark.parametrize("service", ["trainer", "inference"])
def test_every_setting_that_cannot_be_used_is_told_at_once(service: str) -> None:
    """Exit code 2 and one message that lists them all, with what came."""
    wrong = {"WEIGHTCAST_LOG_LEVEL": "LOUD", f"WEIGHTCAST_{service.upper()}_LISTEN": "nowhere"}
    result = subprocess.run(
        [sys.executable, "-m", f"{service}_service"],
        env=wrong,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert result.returncode == 2
    for name, value in wrong.items():
        assert name in result.stderr
        assert repr(value) in result.stderr
    assert "Traceback" not in result.stderr
