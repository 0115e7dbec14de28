"""Runs `tests/clients` against the whole product, with an interpreter that has foreign clients and nothing of ours.

It trains and publishes two versions, writes down what our own client is told by both, and ends with an exit code of 0
only if every file of tests passed; each runs in a process of its own, for the clients' generated code cannot be shared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

REPOSITORY = Path(__file__).resolve().parents[1]
DATA_DIR = Path(os.environ.get("WEIGHTCAST_DATA_DIR") or REPOSITORY.parent / "shared" / "data").resolve()
TESTS = REPOSITORY / "tests" / "clients"
BATCH_ROWS = 1000
LOAD_SECONDS = 20.0
NO_TESTS = 5  # pytest's exit code


def main() -> int:
    """Starts the product, prepares the versions and the answers, runs the tests."""
    parser = argparse.ArgumentParser(description="Uses the product with foreign clients; other options go to pytest.")
    parser.add_argument("--python", type=Path, required=True, help="the interpreter of their environment")
    options, pytest_options = parser.parse_known_args()
    dataset = "mnist" if (DATA_DIR / "mnist").is_dir() else "digits"
    if dataset == "digits":
        print(f"no MNIST in {DATA_DIR / 'mnist'}; the clients classify digits instead", file=sys.stderr)  # noqa: T201
    with (
        tempfile.TemporaryDirectory(prefix="weightcast-clients-") as folder,
        LocalStack({"WEIGHTCAST_DATA_DIR": str(DATA_DIR)}) as stack,
    ):
        publish_two_versions(stack.trainer.address, dataset)
        write_answers(stack, dataset, Path(folder))
        return run_tests(options.python, pytest_options, stack.inference.address, folder)


def publish_two_versions(trainer_address: str, dataset: str) -> None:
    """Trains twice from different seeds; the second becomes live, the alias `first` stays on the first.

    Raises:
        RuntimeError: if a job does not publish.
    """
    with TrainerClient(trainer_address) as trainer:
        for version in (1, 2):
            spec = training_pb2.TrainingSpec(model=dataset, dataset=dataset, epochs=1, seed=version)
            spec.network.hidden_layer_sizes.extend([64])
            job = trainer.wait(trainer.create_job(spec).id)
            if job.version != version:
                raise RuntimeError(f"job {job.id} published no version {version}: {job.error_message}")
        trainer.set_alias(dataset, "first", 1)


def write_answers(stack: LocalStack, dataset: str, folder: Path) -> None:
    """Writes the test images, and what each version makes of them when our own client asks."""
    with TrainerClient(stack.trainer.address) as trainer, InferenceClient(stack.inference.address) as inference:
        inference.wait_for_version(dataset, 2, LOAD_SECONDS)
        images, _ = trainer.examples(dataset)
        digests = {}
        for version in (1, 2):
            probabilities, digests[version] = classify_all(inference, dataset, images, version)
            np.save(folder / f"probabilities-{version}.npy", probabilities)
        np.save(folder / "images.npy", images)
        status = inference.status(dataset)
        facts = {
            "model": dataset,
            "live": status.live.version,
            "digests": digests,
            "class_labels": list(status.class_labels),
            "uint8_scale": status.preprocessing.uint8_scale,
            "max_batch_rows": status.max_batch_rows,
        }
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def classify_all(
    inference: InferenceClient, model: str, images: npt.NDArray[np.uint8 | np.float32], version: int
) -> tuple[npt.NDArray[np.float32], str]:
    """Float32 (rows, classes) by `Classify`, and the version's digest."""
    answers = [
        inference.classify(model, images[start : start + BATCH_ROWS], version=version, include_probabilities=True)
        for start in range(0, len(images), BATCH_ROWS)
    ]
    probabilities = [answer.probabilities for answer in answers if answer.probabilities is not None]
    return np.concatenate(probabilities), answers[0].digest


def run_tests(python: Path, pytest_options: list[str], address: str, folder: str) -> int:
    """Runs each file of tests; 0 if all passed, else the first exit code that says otherwise."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WEIGHTCAST_", "PYTHON"))}
    environment |= {
        "WEIGHTCAST_INFERENCE_ADDRESS": address,
        "WEIGHTCAST_CLIENTS_FOLDER": folder,
        "no_grpc_proxy": "127.0.0.1",  # a proxy is for the way out
    }
    # Not resolved: that would be the Python that the environment was made with, without what was installed there.
    command = [str(python.absolute()), "-m", "pytest", f"--confcutdir={TESTS}", *pytest_options]
    codes = [
        subprocess.run([*command, str(tests)], cwd=REPOSITORY, env=environment, check=False).returncode  # noqa: S603
        for tests in sorted(TESTS.glob("test_*.py"))
    ]
    fine = {0, NO_TESTS} if pytest_options else {0}  # an option may have chosen tests of one file
    return next((code for code in codes if code not in fine), 0)


if __name__ == "__main__":
    sys.exit(main())
