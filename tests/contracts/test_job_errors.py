"""What jobs and schedules refuse, by real calls: code, reason, the field or what to do, and that nothing is queued."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from client.local_stack import LocalStack, ServiceProcess
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import network_pb2, training_pb2
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
WRONG_STATE, FULL = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED
Reader = Callable[[grpc.RpcError], Any]
SPEC: dict[str, Any] = {"model": "digits", "dataset": "digits", "epochs": 1}
WIDE = network_pb2.Layer(dense=network_pb2.Dense(units=99))


@dataclass(frozen=True)
class Bad:
    """A spec or a schedule that must be refused: with which code and reason, and with which words."""

    name: str
    given: dict[str, Any]
    code: grpc.StatusCode
    reason: str
    words: tuple[str, ...]


PROMOTION = training_pb2.Promotion
SPECS = [
    Bad(
        "an unknown parent", {"parent": "9"}, NOT_FOUND, "VERSION_NOT_FOUND", ("spec.parent", "no version 9", "latest")
    ),
    Bad(
        "an unknown alias", {"parent": "best"}, NOT_FOUND, "ALIAS_NOT_FOUND", ("spec.parent", "'best'", "latest, live")
    ),
    Bad(
        "a parent of no model",
        {"parent": "1", "model": "nobody"},
        NOT_FOUND,
        "MODEL_NOT_FOUND",
        ("spec.parent", "'nobody'", "ListModels"),
    ),
    Bad(
        "a parent of another shape",
        {"parent": "1", "dataset": "mnist"},
        INVALID,
        "INVALID_INPUT",
        ("spec.parent", "[8, 8]", "[28, 28]"),
    ),
    Bad(
        "a parent of other layers",
        {"parent": "1", "layers": [WIDE]},
        INVALID,
        "INVALID_INPUT",
        ("spec.parent", "other hidden layers", "leave out"),
    ),
    Bad(
        "a margin out of range",
        {"promotion": PROMOTION(policy=PROMOTION.POLICY_IF_BETTER, margin=2)},
        INVALID,
        "INVALID_INPUT",
        ("spec.promotion.margin", "got 2", "0 to 1"),
    ),
    Bad(
        "a margin that says nothing",
        {"promotion": PROMOTION(margin=0.5)},
        INVALID,
        "INVALID_INPUT",
        ("spec.promotion.margin", "POLICY_IF_BETTER"),
    ),
    Bad(
        "an unknown policy",
        {"promotion": PROMOTION(policy=77)},  # type: ignore[arg-type]
        INVALID,
        "INVALID_INPUT",
        ("spec.promotion.policy", "77"),
    ),
]


@pytest.mark.parametrize("bad", SPECS, ids=lambda bad: bad.name)
@pytest.mark.usefixtures("trained")
def test_a_job_that_cannot_be_is_refused(trainer: TrainerClient, refusal_of: Reader, bad: Bad) -> None:
    """Before it is queued, naming the field."""
    before = len(trainer.jobs(200))
    request = pb.CreateTrainingJobRequest(spec=training_pb2.TrainingSpec(**{**SPEC, **bad.given}))
    check(lambda: trainer.stub.CreateTrainingJob(request), refusal_of, bad)
    assert len(trainer.jobs(200)) == before


CRON = {"cron": "0 3 * * *"}
SCHEDULES = [
    Bad(
        "a cron line that is not one", {"cron": "often"}, INVALID, "INVALID_INPUT", ("schedule.cron", '"often"', "0 3")
    ),
    Bad("a minute that is none", {"cron": "61 * * * *"}, INVALID, "INVALID_INPUT", ("schedule.cron", "61")),
    Bad("a day that never comes", {"cron": "0 0 30 2 *"}, INVALID, "INVALID_INPUT", ("schedule.cron", "0 0 30 2 *")),
    Bad("too often", {"every": Duration(seconds=59)}, INVALID, "INVALID_INPUT", ("schedule.every", "59")),
    Bad("no timing", {}, INVALID, "INVALID_INPUT", ("schedule.",)),
    Bad("no name", {"name": "", **CRON}, INVALID, "INVALID_INPUT", ("schedule.name", "required")),
    Bad(
        "a spec that is bad",
        {"spec": training_pb2.TrainingSpec(**{**SPEC, "epochs": 0}), **CRON},
        INVALID,
        "INVALID_INPUT",
        ("schedule.spec.epochs", "got 0"),
    ),
    Bad(
        "no such data set",
        {"spec": training_pb2.TrainingSpec(model="m", dataset="nope"), **CRON},
        NOT_FOUND,
        "DATASET_NOT_FOUND",
        ("spec.dataset", "nope"),
    ),
]


@pytest.mark.parametrize("bad", SCHEDULES, ids=lambda bad: bad.name)
def test_a_schedule_that_cannot_be_is_refused(trainer: TrainerClient, refusal_of: Reader, bad: Bad) -> None:
    """When it is created, not when it is due; nothing is stored."""
    given = {"name": "bad", "spec": training_pb2.TrainingSpec(**SPEC), **bad.given}
    request = pb.CreateTrainingScheduleRequest(schedule=pb.TrainingSchedule(**given))
    check(lambda: trainer.stub.CreateTrainingSchedule(request), refusal_of, bad)
    assert list(trainer.stub.ListTrainingSchedules(pb.ListTrainingSchedulesRequest()).schedules) == []


def check(call: Callable[[], object], refusal_of: Reader, bad: Bad) -> None:
    """Makes a call that must be refused as it says."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason, refusal.domain) == (bad.code, bad.reason, "weightcast"), refusal
    said = " ".join((refusal.message, *refusal.violations, *refusal.violations.values()))
    assert [word for word in bad.words if word not in said] == [], said


@pytest.fixture(scope="module")
def small() -> Iterator[TrainerClient]:
    """A trainer without workers that takes two jobs."""
    with (
        LocalStack({"WEIGHTCAST_TRAINER_WORKERS": "0", "WEIGHTCAST_TRAINER_MAX_JOBS": "2"}) as stack,
        TrainerClient(stack.trainer.address) as trainer,
    ):
        yield trainer


def test_too_many_jobs_are_refused_with_a_word_when_to_come_again(small: TrainerClient, refusal_of: Reader) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo; what was accepted is untouched, and room is made by an end."""
    request = pb.CreateTrainingJobRequest(spec=training_pb2.TrainingSpec(**SPEC))
    first, _ = (small.stub.CreateTrainingJob(request).job for _ in range(2))
    with pytest.raises(grpc.RpcError) as caught:
        small.stub.CreateTrainingJob(request)
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == (FULL, "QUEUE_FULL")
    assert refusal.retry_seconds >= 1
    assert "2 jobs" in refusal.message
    small.cancel(first.id)
    assert small.stub.CreateTrainingJob(request).job.state == training_pb2.TrainingJob.STATE_QUEUED


def test_only_a_job_that_has_ended_can_be_removed(small: TrainerClient, refusal_of: Reader) -> None:
    """FAILED_PRECONDITION before, gone after, and its version stays where it has one."""
    (job, *_) = small.jobs(10)
    request = pb.DeleteTrainingJobRequest(job_id=job.id)
    with pytest.raises(grpc.RpcError) as caught:
        small.stub.DeleteTrainingJob(request)
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == (WRONG_STATE, "JOB_NOT_ENDED")
    small.cancel(job.id)
    small.stub.DeleteTrainingJob(request)
    for gone in (
        lambda: small.stub.DeleteTrainingJob(request),
        lambda: small.stub.GetTrainingJob(pb.GetTrainingJobRequest(job_id=job.id)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            gone()
        assert refusal_of(caught.value).reason == "JOB_NOT_FOUND"


def test_a_watch_of_a_job_that_waits_is_told_that_it_is_alive(small: TrainerClient) -> None:
    """Heartbeats come by themselves, with the cursor that is already known."""
    job = small.jobs(10)[0]
    events = small.stub.WatchTrainingJob(pb.WatchTrainingJobRequest(job_id=job.id), timeout=60)
    first = next(event for event in events if event.HasField("job"))
    beats = [next(events), next(events)]
    assert [(beat.WhichOneof("event"), beat.cursor) for beat in beats] == [("heartbeat", first.cursor)] * 2
    events.cancel()


def test_any_replica_answers_for_a_job(stack: LocalStack, trained: training_pb2.TrainingJob) -> None:
    """A second trainer service on the same store replays the same history, and goes on from the first one's cursor."""
    folder = stack.folder / "replica"
    folder.mkdir(exist_ok=True)
    told = {"WEIGHTCAST_REDIS_URL": stack.redis.url, "WEIGHTCAST_TRAINER_LISTEN": "127.0.0.1:0"}
    replica = ServiceProcess("trainer_service", folder, {**told, "WEIGHTCAST_TRAINER_WORKERS": "0"}, log_to_file=True)
    replica.start()
    try:
        replica.wait_until("")
        with TrainerClient(stack.trainer.address) as one, TrainerClient(replica.address) as other:
            history = list(one.watch(trained.id))
            assert list(other.watch(trained.id)) == history
            assert list(other.watch(trained.id, history[2].cursor)) == history[3:]
    finally:
        replica.stop()
