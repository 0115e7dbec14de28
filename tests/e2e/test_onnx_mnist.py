"""MNIST, all of it, by ONNX Runtime and by RPC: a version that was downloaded answers as the one that is served."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import model_registry_service_pb2, training_pb2

SOAK = bool(os.environ.get("WEIGHTCAST_SOAK"))  # read now: no test sees the developer's own settings
BATCH_ROWS = 1000
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def mnist_stack(mnist_data_dir: Path) -> Iterator[LocalStack]:
    """The product, with MNIST at hand."""
    with LocalStack({"WEIGHTCAST_DATA_DIR": str(mnist_data_dir)}) as running:
        yield running


@pytest.fixture(scope="module")
def trainer(mnist_stack: LocalStack) -> Iterator[TrainerClient]:
    """A client of its trainer."""
    with TrainerClient(mnist_stack.trainer.address) as client:
        yield client


@pytest.fixture(scope="module")
def inference(mnist_stack: LocalStack) -> Iterator[InferenceClient]:
    """A client of its inference service."""
    with InferenceClient(mnist_stack.inference.address) as client:
        yield client


def served_probabilities(inference: InferenceClient, model: str, images: np.ndarray) -> np.ndarray:
    """What `Classify` answers, float32 (rows, classes)."""
    answers = [
        inference.classify(model, images[start : start + BATCH_ROWS], include_probabilities=True).probabilities
        for start in range(0, len(images), BATCH_ROWS)
    ]
    return np.concatenate([probabilities for probabilities in answers if probabilities is not None])


LONG = (pytest.mark.soak, pytest.mark.skipif(not SOAK, reason="takes long; WEIGHTCAST_SOAK=1 runs it"))


@pytest.mark.parametrize("preset", ["mlp", pytest.param("lenet", marks=LONG)])
def test_the_whole_test_set_is_classified_alike_outside_and_inside(
    trainer: TrainerClient, inference: InferenceClient, preset: str
) -> None:
    """10,000 images as bytes: the same classes, probabilities within 1e-5, and it has learned."""
    spec = training_pb2.TrainingSpec(model=preset, dataset="mnist", preset=preset, epochs=1, seed=3)
    job = trainer.wait(trainer.create_job(spec).id)
    assert job.version == 1, job.error_message
    header, contents = trainer.download(preset, 1, format=model_registry_service_pb2.DOWNLOAD_FORMAT_ONNX)
    assert (header.file_name, header.size_bytes) == (f"{preset}-1.onnx", len(contents))
    assert header.sha256 == hashlib.sha256(contents).hexdigest()

    examples, truths = trainer.examples("mnist")
    images = examples.astype(np.uint8)
    assert images.shape == (10_000, 28, 28)
    session = ort.InferenceSession(contents, providers=["CPUExecutionProvider"])
    probabilities, class_ids = session.run(["probabilities", "class_ids"], {"examples": images})
    inference.wait_for_version(preset, 1, 10)
    served = served_probabilities(inference, preset, images)

    np.testing.assert_allclose(probabilities, served, rtol=0, atol=TOLERANCE)
    best_two = np.sort(served, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > TOLERANCE
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(class_ids[clear], served.argmax(axis=1)[clear])
    assert (class_ids == truths).mean() > 0.9
    assert session.get_modelmeta().custom_metadata_map["digest"] == job.digest
