"""Processes that are killed, told to stop, or cannot start: what becomes of jobs and requests, and what is said."""

import os
import signal
import socket
import subprocess
import sys
import time
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
from client.trainer_client import TrainerClient
from shared import snapshot_codec
from shared.model_version import Manifest, Provenance, SelfTest
from shared.network import Architecture, Network
from shared.pb.weightcast.v1 import trainer_service_pb2, training_pb2
from shared.preprocessing import Preprocessing
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from tests.e2e.suspension import suspend
from trainer_service.jobs.job import JobState
from trainer_service.jobs.job_store import JobStore

STATES = training_pb2.TrainingJob
Train = Callable[..., training_pb2.TrainingJob]
Spec = Callable[..., training_pb2.TrainingSpec]
Until = Callable[..., None]
START_SECONDS = 30
RESUME_SECONDS = 15
AWAY_SECONDS = 60 if os.environ.get("WEIGHTCAST_SOAK") else 3
PLAIN = {"network": {"hidden_layer_sizes": [512]}, "augmentation": {}}
LONG = {"epochs": 1000, "batch_size": 8, **PLAIN}  # a minute
# Long enough epochs to be killed in: minibatches of two.
FIVE_EPOCHS = {"epochs": 5, "seed": 3, "batch_size": 2, **PLAIN}


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
    until(lambda: bool(trainer.job(job.id).epochs), "a first epoch, of which there is a checkpoint")
    return job.id


def continued(trainer: TrainerClient, job_id: str, until: Until) -> training_pb2.TrainingJob:
    """The job when another run has taken it over from a checkpoint and has got further."""

    def is_further() -> bool:
        job = trainer.job(job_id)
        return len(job.attempts) == 2 and job.attempts[1].resumed_update > 0 and job.progress.epoch > len(epochs)

    epochs = trainer.job(job_id).epochs
    until(is_further, "the job to go on", RESUME_SECONDS)
    return trainer.job(job_id)


def end(trainer: TrainerClient, job_id: str) -> None:
    """Makes room for the next job of the model."""
    trainer.cancel(job_id)
    assert trainer.wait(job_id).state == STATES.STATE_CANCELLED


def test_a_job_whose_process_is_killed_goes_on(stack: LocalStack, train: Train, spec_of: Spec, until: Until) -> None:
    """In another process of the same worker, from its checkpoint; the job names the signal, and says how far it was."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        worker = worker_of(stack)
        (training,) = worker.children()
        training.send_signal(signal.SIGKILL)
        job = continued(trainer, job_id, until)
        assert job.state == STATES.STATE_RUNNING
        assert job.attempts[0].outcome == training_pb2.TrainingAttempt.OUTCOME_DIED
        assert "SIGKILL" in job.attempts[0].message
        assert [epoch.epoch for epoch in job.epochs] == list(range(1, len(job.epochs) + 1))
        end(trainer, job_id)
        assert trainer.models() == []
    assert train(stack).state == STATES.STATE_SUCCEEDED
    assert worker_of(stack).pid == worker.pid


def test_a_worker_that_is_killed_is_replaced_and_its_job_goes_on(
    stack: LocalStack, train: Train, spec_of: Spec, until: Until
) -> None:
    """The job's own process notices that nobody watches over it any more, and gives the job to the new worker."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        killed = worker_of(stack)
        (training,) = killed.children()
        killed.send_signal(signal.SIGKILL)
        job = continued(trainer, job_id, until)
        assert job.attempts[0].worker.endswith(f":{killed.pid}")
        assert job.attempts[1].worker.endswith(f":{worker_of(stack).pid}")
        until(lambda: not training.is_running(), "the end of the job's process")
        end(trainer, job_id)
    assert train(stack).state == STATES.STATE_SUCCEEDED


def test_a_worker_killed_together_with_its_job_is_missed(stack: LocalStack, spec_of: Spec, until: Until) -> None:
    """Nobody is left to give the job back, but its heartbeat stays away."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        worker = worker_of(stack)
        for process in (worker, *worker.children()):
            suspend(process)
        for process in (*worker.children(), worker):
            process.send_signal(signal.SIGKILL)
        job = continued(trainer, job_id, until)
        assert job.attempts[0].outcome == training_pb2.TrainingAttempt.OUTCOME_DIED
        assert "no sign of life" in job.attempts[0].message
        end(trainer, job_id)


def test_a_trainer_that_is_killed_takes_no_job_with_it(
    own_stack: Callable[..., LocalStack], spec_of: Spec, until: Until
) -> None:
    """Its workers end too, so that whoever starts it again has no others; the new ones go on with the job."""
    stack = own_stack()
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
    worker = worker_of(stack)
    stack.trainer.kill()
    until(lambda: not worker.is_running(), "the end of the worker")
    stack.trainer.start()
    stack.trainer.wait_until("")
    with TrainerClient(stack.trainer.address) as trainer:
        assert continued(trainer, job_id, until).state == STATES.STATE_RUNNING
        end(trainer, job_id)


def test_a_running_job_that_is_cancelled_makes_room_for_the_next(
    stack: LocalStack, train: Train, spec_of: Spec, until: Until
) -> None:
    """CANCELLED by RPC at a minibatch, still readable, and the worker goes on; cancelling it again is told so."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        assert trainer.cancel(job_id).state == STATES.STATE_RUNNING
        assert trainer.wait(job_id).state == STATES.STATE_CANCELLED
        with pytest.raises(RpcError) as caught:
            trainer.cancel(job_id)
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_ENDED")
    assert train(stack).state == STATES.STATE_SUCCEEDED


def test_a_trainer_that_is_told_to_stop_hands_its_job_on(
    own_stack: Callable[..., LocalStack], spec_of: Spec, until: Until
) -> None:
    """Exit code 0, no process left, the job QUEUED with a checkpoint; after a start it goes on, and it was no death."""
    stack = own_stack()
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        started = process_of(stack, "trainer").children(recursive=True)
        assert len(started) == 2
        events = trainer.stub.WatchTrainingJob(trainer_service_pb2.WatchTrainingJobRequest(job_id=job_id))
        next(events)
        assert stack.trainer.stop() == 0
        with pytest.raises(grpc.RpcError) as caught:
            list(events)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # whoever watches asks another replica, or again
        assert [process for process in started if process.is_running()] == []
    connection = StoreConnection(stack.redis.url)
    assert JobStore(connection).get(job_id).state is JobState.QUEUED
    connection.close()
    stack.trainer.start()
    stack.trainer.wait_until("")
    with TrainerClient(stack.trainer.address) as trainer:
        job = continued(trainer, job_id, until)
        assert job.attempts[0].outcome == training_pb2.TrainingAttempt.OUTCOME_HANDED_BACK
        end(trainer, job_id)


@pytest.mark.soak
def test_redis_may_restart_and_be_away_while_a_job_runs(
    own_stack: Callable[..., LocalStack], spec_of: Spec, until: Until
) -> None:
    """The run goes on meanwhile, nobody takes it for dead, and it reports again when the store is back."""
    stack = own_stack(append_only=True)
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = start_long_job(trainer, spec_of, until)
        stack.redis.kill()
        time.sleep(AWAY_SECONDS)
        stack.redis.start()
        stack.trainer.wait_until("")
        epochs = len(trainer.job(job_id).epochs)
        until(lambda: len(trainer.job(job_id).epochs) > epochs + 1, "further epochs")
        assert len(trainer.job(job_id).attempts) == 1
        end(trainer, job_id)


@pytest.mark.parametrize("epoch", [1, 2, 3, 4, 5])
def test_killed_in_any_epoch_a_job_ends_with_the_same_weights(
    stack: LocalStack, spec_of: Spec, undisturbed: str, epoch: int
) -> None:
    """SIGKILL while the epoch is under way; the digest is that of a run that nobody disturbed."""
    with TrainerClient(stack.trainer.address) as trainer:
        job_id = trainer.create_job(spec_of(f"killed-{epoch}", **FIVE_EPOCHS)).id
        for event in trainer.watch(job_id):
            if event.epoch.epoch == epoch - 1 and (epoch > 1 or event.job.state == STATES.STATE_RUNNING):
                (training,) = worker_of(stack).children()
                training.send_signal(signal.SIGKILL)
                break
        job = trainer.wait(job_id)
        assert job.state == STATES.STATE_SUCCEEDED, job.error_message
        assert len(job.attempts) == 2
        assert (job.attempts[1].resumed_update > 0) == (epoch > 1)
        assert job.weights_digest == undisturbed


@pytest.fixture(scope="module")
def undisturbed(stack: LocalStack, train: Train) -> str:
    """The digest of the weights of FIVE_EPOCHS."""
    job = train(stack, "undisturbed", **FIVE_EPOCHS)
    assert len(job.attempts) == 1
    return job.weights_digest


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
