"""The same spec gives the same weights to the last bit, whichever worker process trains it."""

import re
from collections.abc import Iterator

import pytest

from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import network_pb2, training_pb2

CONVOLUTIONS = [
    network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=4, kernel_size=3, padding=1)),
    network_pb2.Layer(max_pool2d=network_pb2.MaxPool2D(size=2)),
    network_pb2.Layer(flatten=network_pb2.Flatten()),
    network_pb2.Layer(dropout=network_pb2.Dropout(rate=0.25)),
]
ELASTIC = training_pb2.Augmentation(shift=1, rotation=5, scale=0.1, elastic_strength=3, elastic_smoothing=2)
SPECS = {
    "a dense network": training_pb2.TrainingSpec(epochs=40),
    "convolutions, dropout, distortion, an average of the weights, a validation split": training_pb2.TrainingSpec(
        epochs=30, layers=CONVOLUTIONS, augmentation=ELASTIC, ema_decay=0.99, validation_fraction=0.2
    ),
}


@pytest.fixture(scope="module", params=["1", "2"])
def two_workers(request: pytest.FixtureRequest) -> Iterator[LocalStack]:
    """A trainer with two workers, each on one thread or on two."""
    with LocalStack({"WEIGHTCAST_TRAINER_WORKERS": "2", "WEIGHTCAST_TRAINER_THREADS": request.param}) as stack:
        yield stack


@pytest.mark.parametrize("name", SPECS)
def test_two_workers_give_one_digest(two_workers: LocalStack, name: str) -> None:
    """Two jobs of one spec, side by side on two workers, end with the same weights; nothing is published."""
    spec = training_pb2.TrainingSpec(model="twice", dataset="digits", seed=7, publish=False)
    spec.MergeFrom(SPECS[name])
    with TrainerClient(two_workers.trainer.address) as trainer:
        waiting = []
        for model in ("once", "twice"):  # jobs of one model would run one after the other
            spec.model = model
            waiting.append(trainer.create_job(spec).id)
        first, second = (trainer.wait(job_id) for job_id in waiting)
        assert (first.version, second.version) == (0, 0)
        assert not trainer.models()
    assert re.fullmatch("[0-9a-f]{64}", first.weights_digest), first.error_message
    assert first.weights_digest == second.weights_digest
    assert first.library_versions == second.library_versions
    # They overlapped, so it was not one worker that ran both.
    assert first.start_time.ToDatetime() < second.end_time.ToDatetime()
    assert second.start_time.ToDatetime() < first.end_time.ToDatetime()


def test_another_seed_gives_another_digest(two_workers: LocalStack) -> None:
    """So the digest says something."""
    with TrainerClient(two_workers.trainer.address) as trainer:
        digests = {
            trainer.wait(
                trainer.create_job(
                    training_pb2.TrainingSpec(model="twice", dataset="digits", seed=seed, epochs=1, publish=False)
                ).id
            ).weights_digest
            for seed in (1, 2)
        }
    assert len(digests) == 2
