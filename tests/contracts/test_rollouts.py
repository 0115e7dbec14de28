"""Rollouts as a client uses them: how one stands is told in every answer, and it ends by itself when it has to."""

from datetime import UTC, datetime

import grpc
import pytest

from client.errors import RpcError
from client.registry_client import actor_or_me
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb
from shared.pb.weightcast.v1 import training_pb2
from shared.pb.weightcast.v1.model_pb2 import Model, ModelRollout

NAME = "tried"


@pytest.fixture(scope="module")
def trained(trainer: TrainerClient) -> TrainerClient:
    """A model of three versions, the first of which is live."""
    manual = training_pb2.Promotion(policy=training_pb2.Promotion.POLICY_MANUAL)
    for promotion in (None, manual, manual):
        spec = training_pb2.TrainingSpec(model=NAME, dataset="digits", epochs=1, seed=1, promotion=promotion)
        job = trainer.wait(trainer.create_job(spec).id)
        assert job.version, job.error_message
    return trainer


@pytest.fixture
def client(trained: TrainerClient) -> TrainerClient:
    """The same, with version 1 live and nothing tried."""
    trained.promote(NAME, 1)
    if trained.model(NAME).HasField("rollout"):
        trained.end_rollout(NAME)
    return trained


def stands(client: TrainerClient) -> Model:
    """The model, which must be the same in the list of all."""
    model = client.model(NAME)
    assert model == next(listed for listed in client.models() if listed.name == NAME)
    return model


def test_a_rollout_is_set_changed_and_ended(client: TrainerClient) -> None:
    """Each answer is the model as it stands then; the etag guards, and when it began stays."""
    before, now = stands(client), datetime.now(UTC)
    begun = client.set_rollout(NAME, 2, 12.5, shadow=True, reason="why", actor="ann", etag="0")
    assert begun == stands(client)
    rollout = begun.rollout
    assert (rollout.version, rollout.mode, rollout.percent) == (2, ModelRollout.MODE_SHADOW, 12.5)
    assert (rollout.actor, rollout.reason) == ("ann", "why")
    assert abs((rollout.create_time.ToDatetime(UTC) - now).total_seconds()) < 60
    assert rollout.update_time == rollout.create_time

    changed = client.set_rollout(NAME, 2, 0.1 + 0.2, etag=rollout.etag)
    assert changed == stands(client)
    assert (changed.rollout.mode, changed.rollout.percent) == (ModelRollout.MODE_CANARY, 0.1 + 0.2)
    assert (changed.rollout.actor, changed.rollout.reason) == (actor_or_me(None), "")
    assert changed.rollout.create_time == rollout.create_time
    assert changed.rollout.etag not in {rollout.etag, "0", ""}
    assert client.set_rollout(NAME, 2, 0.1 + 0.2) == changed

    with pytest.raises(RpcError) as caught:
        client.end_rollout(NAME, etag=rollout.etag)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert client.end_rollout(NAME, etag=changed.rollout.etag) == stands(client) == before


def test_a_rollout_ends_when_its_version_goes_live(client: TrainerClient) -> None:
    """By a promotion, by an alias, by a rollback; another version's promotion leaves it."""
    client.set_rollout(NAME, 2, 10)
    assert client.promote(NAME, 3).rollout.version == 2
    assert not client.promote(NAME, 2).HasField("rollout")
    client.set_rollout(NAME, 3, 10)
    assert not client.rollback(NAME).HasField("rollout")
    client.set_rollout(NAME, 1, 10)
    client.set_alias(NAME, "live", 1)
    assert not stands(client).HasField("rollout")


def test_what_is_tried_is_not_pruned(client: TrainerClient) -> None:
    """Though it is old and nothing else needs it."""
    client.set_alias(NAME, "kept", 3)
    client.set_rollout(NAME, 2, 10)
    assert list(client.prune(NAME, 1, dry_run=True).versions) == []
    client.set_rollout(NAME, 3, 10)
    assert list(client.prune(NAME, 1, dry_run=True).versions) == [2]


def test_what_is_tried_is_promoted(client: TrainerClient) -> None:
    """Its rollout has ended then, a hold is lifted, and the history says who did it and why."""
    client.set_hold(NAME)
    client.set_rollout(NAME, 3, 10)
    model = client.promote_rollout(NAME, reason="it does well", actor="ann")
    assert model == stands(client)
    assert (model.live_version, model.previous_version) == (3, 1)
    assert not model.HasField("rollout")
    assert not model.HasField("hold")
    (change,) = client.live_changes(NAME, 1)
    assert (change.version, change.actor, change.reason) == (3, "ann", "it does well")


def test_where_nothing_is_tried_nothing_is_promoted(client: TrainerClient) -> None:
    """The refusal reads like the service's own."""
    before = stands(client)
    with pytest.raises(RpcError, match="'tried' has no rollout to promote; SetModelRollout") as caught:
        client.promote_rollout(NAME)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_ROLLOUT")
    assert stands(client) == before


def test_a_promotion_whose_answer_gets_lost_is_done_once(
    client: TrainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again as the channel does, it is stopped by its etag, and the caller sees what has become of it."""
    send = client.registry.PromoteModelVersion

    def send_twice(request: pb.PromoteModelVersionRequest, timeout: float) -> pb.PromoteModelVersionResponse:
        send(request, timeout=timeout)
        return send(request, timeout=timeout)

    client.set_rollout(NAME, 2, 10)
    changes = len(client.live_changes(NAME))
    monkeypatch.setattr(client.registry, "PromoteModelVersion", send_twice)
    assert client.promote_rollout(NAME).live_version == 2
    assert len(client.live_changes(NAME)) == changes + 1


def test_a_promotion_is_told_when_something_else_went_live_meanwhile(
    client: TrainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ABORTED, and the rollout goes on."""
    read = client.model

    def read_and_be_overtaken(model: str) -> Model:
        found = read(model)
        client.registry.PromoteModelVersion(pb.PromoteModelVersionRequest(model=model, version=3))
        return found

    client.set_rollout(NAME, 2, 10)
    monkeypatch.setattr(client, "model", read_and_be_overtaken)
    with pytest.raises(RpcError) as caught:
        client.promote_rollout(NAME)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    monkeypatch.undo()
    model = stands(client)
    assert (model.live_version, model.rollout.version) == (3, 2)
