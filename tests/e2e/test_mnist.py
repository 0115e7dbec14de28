"""MNIST, all of it, through real processes: the answers are those of a forward pass that shares no code with ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load as load_safetensors

from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import model_pb2, training_pb2

BATCH_ROWS = 1000
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Mnist:
    """A trained and served model, and what its test images are by the independent computation."""

    inference: InferenceClient
    images: npt.NDArray[np.uint8]
    class_ids: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def independent_probabilities(
    manifest: model_pb2.Manifest, weights: bytes, images: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """Float64 (rows, classes), from the downloaded file and the manifest alone."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in load_safetensors(weights).items()}
    outputs = images.reshape(len(images), -1) * float(np.float32(manifest.preprocessing.uint8_scale))
    last = len(manifest.architecture.layers) - 1
    for index in range(last + 1):
        outputs = outputs @ tensors[f"dense_{index}.weight"] + tensors[f"dense_{index}.bias"]
        if index < last:
            outputs = np.where(outputs > 0, outputs, 0.0)
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def mnist(mnist_data_dir: Path) -> Iterator[Mnist]:
    """One epoch on MNIST, served."""
    with (
        LocalStack({"WEIGHTCAST_DATA_DIR": str(mnist_data_dir)}) as stack,
        TrainerClient(stack.trainer.address) as trainer,
        InferenceClient(stack.inference.address) as inference,
    ):
        spec = training_pb2.TrainingSpec(model="mnist", dataset="mnist", epochs=1, seed=3)
        spec.network.hidden_layer_sizes.extend([128, 64])
        job = trainer.wait(trainer.create_job(spec).id)
        assert job.version == 1, job.error_message
        inference.wait_for_version("mnist", 1, 10)
        images, class_ids = trainer.examples("mnist")
        header, weights = trainer.download("mnist")
        expected = independent_probabilities(header.version.manifest, weights, images.astype(np.uint8))
        yield Mnist(inference, images.astype(np.uint8), class_ids, expected)


def classified(mnist: Mnist, examples: npt.NDArray[np.uint8 | np.float32]) -> tuple[np.ndarray, np.ndarray]:
    """Class ids (rows,) and probabilities (rows, classes) by RPC."""
    answers = [
        mnist.inference.classify("mnist", examples[start : start + BATCH_ROWS], include_probabilities=True)
        for start in range(0, len(examples), BATCH_ROWS)
    ]
    probabilities = [answer.probabilities for answer in answers if answer.probabilities is not None]
    return np.concatenate([answer.class_ids[:, 0] for answer in answers]), np.concatenate(probabilities)


def assert_same_classes(mnist: Mnist, class_ids: np.ndarray, rows: int) -> None:
    """The best class is the independent one, except where its lead is smaller than rounding."""
    best_two = np.sort(mnist.probabilities[:rows], axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] >= TOLERANCE
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(class_ids[clear], mnist.probabilities[:rows].argmax(axis=1)[clear])


def test_the_whole_test_set_agrees_with_an_independent_forward_pass(mnist: Mnist) -> None:
    """10,000 images: the same classes, probabilities within 1e-5, and it has learned."""
    assert mnist.images.shape == (10_000, 28, 28)
    class_ids, probabilities = classified(mnist, mnist.images)
    np.testing.assert_allclose(probabilities, mnist.probabilities, atol=TOLERANCE)
    assert_same_classes(mnist, class_ids, 10_000)
    assert (class_ids == mnist.class_ids).mean() > 0.9


def test_float32_and_flat_tensors_give_the_same_classes(mnist: Mnist) -> None:
    """Bytes ÷ 255 as FLOAT32, and rows of 784 instead of 28 × 28, are the same images."""
    features = (mnist.images / 255).astype(np.float32)
    class_ids, probabilities = classified(mnist, features)
    np.testing.assert_allclose(probabilities, mnist.probabilities, atol=TOLERANCE)
    assert_same_classes(mnist, class_ids, 10_000)
    flat, _ = classified(mnist, mnist.images.reshape(10_000, 784))
    assert_same_classes(mnist, flat, 10_000)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_png_images_give_the_same_classes(mnist: Mnist, mode: str) -> None:
    """A PNG of the same pixels, grey or in colour, is the same image."""
    files = []
    for pixels in mnist.images[:500]:
        file = BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, "PNG")
        files.append(file.getvalue())
    answer = mnist.inference.classify("mnist", files, include_probabilities=True)
    assert answer.probabilities is not None
    np.testing.assert_allclose(answer.probabilities, mnist.probabilities[:500], atol=TOLERANCE)
    assert_same_classes(mnist, answer.class_ids[:, 0], 500)


def test_jpeg_images_of_another_size_are_read_too(mnist: Mnist) -> None:
    """Images enlarged twice and packed with loss are resized to the model's input: nearly all stay what they were."""
    files = []
    for pixels in mnist.images[:200]:
        file = BytesIO()
        Image.fromarray(pixels).resize((56, 56)).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    answer = mnist.inference.classify("mnist", files)
    assert (answer.class_ids[:, 0] == mnist.probabilities[:200].argmax(axis=1)).mean() > 0.95
