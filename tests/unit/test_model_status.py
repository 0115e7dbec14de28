"""What `GetModelStatus` and `ListServedModels` say: limits, the store, what was restored, rollouts with figures."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import grpc
import pytest

from inference_service.board import Board
from inference_service.joint_status import JointStatus
from inference_service.limits import Limits
from inference_service.metrics.statistics import Statistics
from inference_service.servicer import InferenceServicer
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.snapshot_disk import SnapshotDisk
from shared.errors import StoreUnavailableError
from shared.model_version import LIVE, StoredSnapshot
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import model_pb2
from shared.proto_values import timestamp
from shared.rollout import RolloutMode
from tests.unit.shelf import NEW_YEAR, Shelf, cut, rollout_of

NO_CALL = cast("grpc.ServicerContext", None)  # no method looks at it


class Service:
    """A servicer over a shelf, with version 1 live and version 2 published."""

    def __init__(self, make_snapshot: Callable[..., StoredSnapshot], folder: Path) -> None:
        self.shelf, self.statistics = Shelf(), Statistics()
        self.shelf.put(1, make_snapshot(seed=1))
        self.shelf.put(2, make_snapshot(seed=2), live=False)
        self.disk = SnapshotDisk(folder)
        joint = JointStatus(Board(), lambda _name, _serving: None)
        self.manager = ModelManager(self.shelf, 2**20, joint.announce, self.statistics, self.disk)
        limits = Limits(max_rows=10, max_message_bytes=2**20, max_in_flight=4, max_waiting_bytes=2**21)
        self._servicer = InferenceServicer(  # type: ignore[abstract]  # what it lacks is answered elsewhere
            self.manager, joint, limits, self.statistics
        )

    def status(self) -> pb.ModelStatus:
        """What both methods say."""
        status = self._servicer.GetModelStatus(pb.GetModelStatusRequest(model="tiny"), NO_CALL).status
        assert list(self._servicer.ListServedModels(pb.ListServedModelsRequest(), NO_CALL).models) == [status]
        return status


@pytest.fixture
def service(make_snapshot: Callable[..., StoredSnapshot], tmp_path: Path) -> Service:
    """One that has followed the store."""
    made = Service(make_snapshot, tmp_path)
    made.manager.reconcile(["tiny"])
    return made


def test_what_is_served_is_told_with_its_limits(service: Service) -> None:
    """Whatever a client has to know before it sends something."""
    service.manager.serve("tiny", 2)
    status = service.status()
    assert (status.state, status.live.version) == (pb.ModelStatus.STATE_READY, 1)
    assert [pinned.version for pinned in status.pinned] == [2]
    assert (status.max_batch_rows, status.max_message_bytes, status.max_in_flight) == (10, 2**20, 4)
    assert (status.store_reachable, status.restored) == (True, False)
    assert status.HasField("reconcile_time")
    assert {field.name for field, _ in status.ListFields()}.isdisjoint({"store_lost_time", "rollout", "failure"})


def test_a_lost_store_is_told_with_its_time(service: Service) -> None:
    """Until it answers again."""
    service.manager.store_lost()
    status = service.status()
    assert not status.store_reachable
    assert status.store_lost_time.ToDatetime(UTC) == service.manager.store_contact.lost_time
    service.manager.reconcile(["tiny"])
    assert not service.status().HasField("store_lost_time")


def test_what_was_restored_is_told(service: Service) -> None:
    """With when it was last compared; that comparison was another process's."""
    service.disk.keep(service.shelf.version("tiny", LIVE))
    service.manager = ModelManager(
        service.shelf, 2**20, service._servicer._joint.announce, service.statistics, service.disk
    )
    service._servicer._manager = service.manager
    service.shelf.away = True
    with pytest.raises(StoreUnavailableError):
        service.manager.reconcile(["tiny"])
    service.manager.store_lost()
    service.manager.restore()
    status = service.status()
    assert (status.state, status.live.version, status.restored) == (pb.ModelStatus.STATE_READY, 1, True)
    assert status.store_lost_time.ToDatetime(UTC) <= datetime.now(UTC)
    assert not status.HasField("reconcile_time")


def test_a_rollout_is_told_with_its_figures(service: Service) -> None:
    """As the store says it, with what was counted of it under its mode."""
    service.shelf.rollouts["tiny"] = rollout_of(2, 12.5, RolloutMode.SHADOW)
    service.manager.reconcile(["tiny"])
    count = service.statistics
    count.rollout_computed("tiny", 2, "shadow", "live", requests=4, rows=40, seconds=0.5)
    count.rollout_computed("tiny", 2, "shadow", "candidate", requests=1, rows=10, seconds=0.25)
    count.rollout_computed("tiny", 2, "canary", "candidate", requests=9, rows=9, seconds=9)
    count.rollout_compared("tiny", 2, "shadow", rows=10, agreed=9)
    count.rollout_dropped("tiny", 2, "shadow", requests=3)
    status = service.status().rollout
    assert status.state == pb.RolloutStatus.STATE_ACTIVE
    assert not status.HasField("failure")
    assert status.rollout == model_pb2.ModelRollout(
        version=2,
        mode=model_pb2.ModelRollout.MODE_SHADOW,
        percent=12.5,
        etag="2-12.5",
        actor="someone",
        create_time=timestamp(NEW_YEAR),
        update_time=timestamp(NEW_YEAR),
    )
    assert (status.live.requests, status.live.rows) == (4, 40)
    assert status.live.mean_compute_time.ToTimedelta().total_seconds() == 0.5
    assert (status.candidate.requests, status.candidate.rows) == (1, 10)
    assert status.candidate.mean_compute_time.ToTimedelta().total_seconds() == 0.25
    assert (status.compared_rows, status.agreed_rows, status.dropped_requests) == (10, 9, 3)


def test_a_rollout_of_which_nothing_was_counted_yet(service: Service) -> None:
    """All figures are 0."""
    service.shelf.rollouts["tiny"] = rollout_of(2)
    service.manager.reconcile(["tiny"])
    status = service.status().rollout
    assert status.live == status.candidate == pb.RolloutFigures()
    assert status.state == pb.RolloutStatus.STATE_ACTIVE


def test_a_candidate_that_cannot_be_loaded_is_told(
    service: Service, make_snapshot: Callable[..., StoredSnapshot]
) -> None:
    """Beside the rollout, and not as a failure of what is live."""
    service.shelf.put(2, cut(make_snapshot(seed=2)), live=False)
    service.shelf.rollouts["tiny"] = rollout_of(2)
    service.manager.reconcile(["tiny"])
    status = service.status()
    assert not status.HasField("failure")
    assert (status.rollout.state, status.rollout.rollout.version) == (pb.RolloutStatus.STATE_FAILED, 2)
    assert (status.rollout.failure.version, status.rollout.failure.reason) == (2, "DIGEST_MISMATCH")


def test_a_rollout_that_cannot_be_read_is_told(service: Service) -> None:
    """Nobody knows what it says, but that it is there."""
    service.shelf.rollouts["tiny"] = ValueError("no such mode")
    service.manager.reconcile(["tiny"])
    status = service.status().rollout
    assert not status.HasField("rollout")
    assert (status.state, status.failure.reason) == (pb.RolloutStatus.STATE_FAILED, "MALFORMED_RECORD")
