"""The main job through real processes: train, publish, hot-load, classify, and health that says what can be done."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.channel import open_channel
from client.errors import RpcError
from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import inference_service_pb2, training_pb2

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
Train = Callable[..., training_pb2.TrainingJob]
Until = Callable[..., None]
ROWS = np.zeros((2, 8, 8), np.uint8)


class HealthOf:
    """The health service behind an address."""

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address, retry=False)
        self._stub = health_pb2_grpc.HealthStub(self._channel)

    def check(self, service: str) -> int:
        """What a check by this name says, SERVICE_UNKNOWN where there is none."""
        try:
            answer = self._stub.Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(service=service), timeout=10
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return UNKNOWN
        return int(answer.status)

    def watch(self, service: str) -> "queue.Queue[int]":
        """Every status of this name from now on, in order."""
        seen: queue.Queue[int] = queue.Queue()
        stream = self._stub.Watch(health_pb2.HealthCheckRequest(service=service))  # type: ignore[attr-defined]

        def read() -> None:
            try:
                for answer in stream:
                    seen.put(int(answer.status))
            except grpc.RpcError:
                return  # closed

        threading.Thread(target=read, daemon=True).start()
        return seen

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


@pytest.fixture
def health_of() -> Iterator[Callable[[str], HealthOf]]:
    """Opens health checks and closes them."""
    opened: list[HealthOf] = []

    def open_one(address: str) -> HealthOf:
        opened.append(HealthOf(address))
        return opened[-1]

    yield open_one
    for health in opened:
        health.close()


def test_a_model_goes_from_spec_to_answers(stack: LocalStack, train: Train) -> None:
    """Two jobs, two versions: the newest answers, each can be named, and every answer says by whom it is."""
    with InferenceClient(stack.inference.address) as inference, TrainerClient(stack.trainer.address) as trainer:
        first = train(stack, epochs=30, seed=1)
        inference.wait_for_version("digits", first.version, 10)
        second = train(stack, epochs=30, seed=2)
        inference.wait_for_version("digits", second.version, 10)
        assert (first.version, second.version) == (1, 2)
        examples, truth = trainer.examples("digits")
        digests = {1: first.digest, 2: second.digest}
        answers = {}
        for selector, version in {None: 2, "live": 2, "latest": 2, 1: 1, 2: 2}.items():
            answer = inference.classify("digits", examples, version=selector, include_probabilities=True)
            assert (answer.model, answer.version, answer.digest) == ("digits", version, digests[version])
            assert answer.class_labels == tuple("0123456789")
            assert answer.probabilities is not None
            np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, atol=1e-5)
            np.testing.assert_array_equal(answer.probabilities.argmax(axis=1), answer.class_ids[:, 0])
            answers[selector] = answer.probabilities
        assert not np.array_equal(answers[1], answers[2])
        np.testing.assert_array_equal(answers[None], answers[2])
        measured = second.epochs[-1].test_accuracy
        accuracy = (inference.classify("digits", examples).class_ids[:, 0] == truth).mean()
        assert accuracy == pytest.approx(measured, abs=0.005)
        assert accuracy > 0.9

        status = inference.status("digits")
        assert status.state == inference_service_pb2.ModelStatus.STATE_READY
        assert (status.live.version, status.live.digest) == (2, second.digest)
        assert [pinned.version for pinned in status.pinned] == [1]
        assert status.store_reachable
        assert not status.HasField("failure")
        assert list(status.preprocessing.input_shape) == [8, 8]
        assert [served.model for served in inference.served_models()] == ["digits"]


def test_one_batch_answers_as_its_rows_do(stack: LocalStack, train: Train) -> None:
    """Any split of the rows over requests, also many at once, gives the same classes."""
    job = train(stack, "split", epochs=5)
    with InferenceClient(stack.inference.address) as inference, TrainerClient(stack.trainer.address) as trainer:
        inference.wait_for_version("split", job.version, 10)
        examples, _ = trainer.examples("digits")
        whole = inference.classify("split", examples).class_ids[:, 0]
        with ThreadPoolExecutor(8) as pool:
            parts = pool.map(lambda start: inference.classify("split", examples[start : start + 7]), range(0, 360, 7))
            np.testing.assert_array_equal(np.concatenate([part.class_ids[:, 0] for part in parts]), whole)


def test_a_downloaded_version_is_what_was_published(stack: LocalStack, train: Train) -> None:
    """The header names size, SHA-256 and file, and the bytes that follow are those."""
    job = train(stack, "downloaded", network={"hidden_layer_sizes": [1024, 512]})
    with TrainerClient(stack.trainer.address) as trainer:
        header, weights = trainer.download("downloaded")
    assert (header.version.version, header.version.digest) == (job.version, job.digest)
    assert header.file_name == "downloaded-1.safetensors"
    assert len(weights) == header.size_bytes > 2 * 2**20  # so more than one chunk
    assert hashlib.sha256(weights).hexdigest() == header.sha256 == header.version.manifest.weights_digest


def test_inference_is_ready_when_a_model_can_answer(
    own_stack: Callable[..., LocalStack], train: Train, health_of: Callable[[str], HealthOf]
) -> None:
    """Alive from the start; NOT_SERVING and NO_MODEL_YET before the first model, then SERVING, and a watch sees it."""
    stack = own_stack()
    health = health_of(stack.inference.address)
    readiness, model = health.watch(""), health.watch("models/digits")
    assert (health.check("liveness"), health.check("")) == (SERVING, NOT_SERVING)
    assert health.check("models/digits") == UNKNOWN
    assert (readiness.get(timeout=10), model.get(timeout=10)) == (NOT_SERVING, UNKNOWN)
    with InferenceClient(stack.inference.address, retry=False) as inference:
        with pytest.raises(RpcError) as caught:
            inference.classify("digits", ROWS)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        job = train(stack)
        inference.wait_for_version("digits", job.version, 10)
        assert readiness.get(timeout=10) == SERVING
        status = model.get(timeout=10)
        if status == NOT_SERVING:  # known a moment before it could answer
            status = model.get(timeout=10)
        assert status == SERVING
        assert (health.check(""), health.check("models/digits")) == (SERVING, SERVING)
        assert health.check("models/other") == UNKNOWN
        assert inference.classify("digits", ROWS).version == 1


def test_the_trainers_readiness_follows_the_store(
    own_stack: Callable[..., LocalStack], train: Train, health_of: Callable[[str], HealthOf], until: Until
) -> None:
    """NOT_SERVING while Redis is away, though alive, and SERVING again when it is back; inference stays ready."""
    stack = own_stack(append_only=True)
    train(stack)
    health, inference = health_of(stack.trainer.address), health_of(stack.inference.address)
    until(lambda: inference.check("") == SERVING, "a served model")
    watched = health.watch("")
    assert watched.get(timeout=10) == SERVING
    stack.redis.stop()
    assert watched.get(timeout=20) == NOT_SERVING
    assert health.check("liveness") == SERVING
    assert inference.check("") == SERVING
    stack.redis.start()
    assert watched.get(timeout=20) == SERVING
    assert train(stack).version == 2
