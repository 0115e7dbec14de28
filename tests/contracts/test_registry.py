"""The registry as a client uses it: what is promoted and rolled back is what answers, and it is told who did it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from client.inference_client import InferenceClient
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import model_pb2, training_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb

CAUSES, OUTCOMES = model_pb2.LiveChange, training_pb2.PromotionVerdict
SERVED_SECONDS = 10.0
Train = Callable[..., training_pb2.TrainingJob]


@pytest.fixture
def train(trainer: TrainerClient) -> Train:
    """Trains a version of a model and returns its job."""

    def run(model: str, **more: Any) -> training_pb2.TrainingJob:  # noqa: ANN401 - any field
        spec = training_pb2.TrainingSpec(model=model, dataset="digits", epochs=1, seed=1, **more)
        job = trainer.wait(trainer.create_job(spec).id)
        assert job.version, job.error_message
        return job

    return run


def answering(inference: InferenceClient, model: str) -> int:
    """The version that answers."""
    return inference.classify(model, np.zeros((1, 8, 8), np.uint8)).version


def wait_until_it_answers(inference: InferenceClient, model: str, version: int) -> None:
    """Returns when this very version answers, be it older than the one before."""
    deadline = time.monotonic() + SERVED_SECONDS
    while answering(inference, model) != version:
        assert time.monotonic() < deadline, f"version {version} does not answer"
        time.sleep(0.01)


def model_of(trainer: TrainerClient, name: str) -> model_pb2.Model:
    """A model as it stands."""
    return trainer.registry.GetModel(pb.GetModelRequest(model=name)).model


def etag_of(model: model_pb2.Model, name: str) -> str:
    """An alias's etag."""
    return next(alias.etag for alias in model.aliases if alias.alias == name)


def test_what_is_promoted_and_rolled_back_is_what_answers(
    trainer: TrainerClient, inference: InferenceClient, train: Train
) -> None:
    """Back to an older version as to a new one; while the model is held a new one waits; all of it is written down."""
    name, registry = "swung", trainer.registry
    jobs = [train(name) for _ in range(2)]
    inference.wait_for_version(name, 2, SERVED_SECONDS)
    assert [job.promotion.outcome for job in jobs] == [OUTCOMES.OUTCOME_PROMOTED] * 2

    etag = etag_of(model_of(trainer, name), "live")
    back = registry.RollbackModel(pb.RollbackModelRequest(model=name, etag=etag, actor="ann", reason="worse")).model
    assert (back.live_version, back.previous_version, back.latest_version, back.version_count) == (1, 0, 2, 2)
    assert (back.hold.actor, back.hold.reason, back.hold.HasField("create_time")) == ("ann", "worse", True)
    wait_until_it_answers(inference, name, 1)

    assert train(name).promotion.outcome == OUTCOMES.OUTCOME_HELD
    assert answering(inference, name) == 1
    request = pb.PromoteModelVersionRequest(model=name, version=3, actor="bob", reason="fixed")
    ahead = registry.PromoteModelVersion(request).model
    assert (ahead.live_version, ahead.previous_version, ahead.HasField("hold")) == (3, 1, False)
    wait_until_it_answers(inference, name, 3)

    changes = registry.ListLiveChanges(pb.ListLiveChangesRequest(model=name)).changes
    assert [(change.version, change.previous_version, change.cause) for change in changes] == [
        (3, 1, CAUSES.CAUSE_PROMOTED),
        (1, 2, CAUSES.CAUSE_ROLLED_BACK),
        (2, 1, CAUSES.CAUSE_PUBLISHED),
        (1, 0, CAUSES.CAUSE_PUBLISHED),
    ]
    told = [(change.actor, change.reason) for change in changes]
    assert told == [("bob", "fixed"), ("ann", "worse"), (f"job {jobs[1].id}", ""), (f"job {jobs[0].id}", "")]
    first = registry.ListLiveChanges(pb.ListLiveChangesRequest(model=name, page_size=3))
    rest = registry.ListLiveChanges(pb.ListLiveChangesRequest(model=name, page_token=first.next_page_token))
    assert ([*first.changes, *rest.changes], rest.next_page_token) == (list(changes), "")


def test_what_is_written_about_a_version_is_read_and_found_again(trainer: TrainerClient, train: Train) -> None:
    """Notes, labels, the pin, aliases and the verdict stand in every answer, and lists can ask for them."""
    name, registry = "described", trainer.registry
    manual = training_pb2.Promotion(policy=training_pb2.Promotion.POLICY_MANUAL)
    first, second = train(name, promotion=manual), train(name, promotion=manual)
    mask = FieldMask(paths=["notes", "labels", "pinned"])
    labels = {"team": "a", "stage": "x"}
    updated = registry.UpdateModelVersion(
        pb.UpdateModelVersionRequest(model=name, version=1, notes="good", labels=labels, pinned=True, update_mask=mask)
    ).version
    assert (updated.notes, dict(updated.labels), updated.pinned) == ("good", labels, True)
    assert updated.promotion == first.promotion
    assert updated.promotion.outcome == OUTCOMES.OUTCOME_MANUAL
    alias = registry.SetModelAlias(pb.SetModelAliasRequest(model=name, alias="best", version=1, etag="0"))
    read = registry.GetModelVersion(pb.GetModelVersionRequest(model=name, alias="best")).version
    assert list(read.aliases) == ["best"]
    updated.aliases.append("best")
    assert read == updated
    only_notes = FieldMask(paths=["notes"])
    request = pb.UpdateModelVersionRequest(model=name, version=1, notes="better", update_mask=only_notes)
    assert dict(registry.UpdateModelVersion(request).version.labels) == labels

    def listed(**wanted: Any) -> list[int]:  # noqa: ANN401 - any field
        versions = registry.ListModelVersions(
            pb.ListModelVersionsRequest(model=name, filter=pb.VersionFilter(**wanted))
        ).versions
        return [version.version for version in versions]

    assert listed() == [2, 1]
    assert listed(pinned=True) == listed(labels={"team": "a"}) == listed(labels={"stage": ""}) == [1]
    assert listed(pinned=False) == listed(training_job_id=second.id) == [2]
    assert (listed(dataset="digits"), listed(dataset="mnist")) == ([2, 1], [])

    held = registry.SetModelHold(pb.SetModelHoldRequest(model=name, held=True, actor="eve", reason="why")).model
    assert (held.hold.actor, held.hold.reason) == ("eve", "why")
    assert held == model_of(trainer, name)
    assert [(pointed.alias, pointed.version, pointed.etag) for pointed in held.aliases] == [
        ("best", 1, alias.etag),
        ("latest", 2, ""),
    ]
    lifted = registry.SetModelHold(pb.SetModelHoldRequest(model=name, held=False)).model
    assert not lifted.HasField("hold")
    assert registry.SetModelAlias(pb.SetModelAliasRequest(model=name, alias="best", etag=alias.etag)).etag == "0"


def test_what_nobody_needs_can_be_removed(trainer: TrainerClient, train: Train) -> None:
    """One by one, or all that are old; a dry run says which, and how many bytes that is."""
    name, registry = "removed", trainer.registry
    manual = training_pb2.Promotion(policy=training_pb2.Promotion.POLICY_MANUAL)
    for _ in range(4):
        train(name, promotion=manual)
    size = registry.GetModelVersion(pb.GetModelVersionRequest(model=name, version=1)).version.weights_size_bytes
    registry.DeleteModelVersion(pb.DeleteModelVersionRequest(model=name, version=4))
    assert [(alias.alias, alias.version) for alias in model_of(trainer, name).aliases] == [("latest", 3)]
    for dry_run in (True, False):
        request = pb.PruneModelVersionsRequest(model=name, keep_newest=1, dry_run=dry_run)
        pruned = registry.PruneModelVersions(request)
        assert (list(pruned.versions), pruned.size_bytes, pruned.kept_count) == ([1, 2], 2 * size, 1)
    versions = registry.ListModelVersions(pb.ListModelVersionsRequest(model=name)).versions
    assert [version.version for version in versions] == [3]
    assert train(name).version == 5
