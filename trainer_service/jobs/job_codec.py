"""Jobs and their events to protobuf messages and back, for the contract and for storage alike."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from shared.pb.weightcast.v1 import trainer_service_pb2, training_pb2
from shared.proto_values import duration, key_of, moment, timestamp
from shared.spec_codec import epoch_from_proto, epoch_to_proto, spec_from_proto, spec_to_proto
from shared.training_spec import EpochMetrics
from shared.verdict_codec import verdict_from_proto, verdict_to_proto
from trainer_service.jobs.job import (
    Attempt,
    AttemptOutcome,
    Heartbeat,
    JobEvent,
    JobState,
    TrainingJob,
    TrainingResult,
)
from trainer_service.training.loop import Progress

STATES = {
    JobState.QUEUED: training_pb2.TrainingJob.STATE_QUEUED,
    JobState.RUNNING: training_pb2.TrainingJob.STATE_RUNNING,
    JobState.SUCCEEDED: training_pb2.TrainingJob.STATE_SUCCEEDED,
    JobState.FAILED: training_pb2.TrainingJob.STATE_FAILED,
    JobState.CANCELLED: training_pb2.TrainingJob.STATE_CANCELLED,
}

OUTCOMES = {
    AttemptOutcome.UNDER_WAY: training_pb2.TrainingAttempt.OUTCOME_UNSPECIFIED,
    AttemptOutcome.ENDED: training_pb2.TrainingAttempt.OUTCOME_ENDED,
    AttemptOutcome.HANDED_BACK: training_pb2.TrainingAttempt.OUTCOME_HANDED_BACK,
    AttemptOutcome.DIED: training_pb2.TrainingAttempt.OUTCOME_DIED,
}


def _optional_timestamp(instant: datetime | None) -> Timestamp | None:
    return None if instant is None else timestamp(instant)


def progress_to_proto(progress: Progress) -> training_pb2.TrainingProgress:
    """A progress as a message."""
    return training_pb2.TrainingProgress(
        epoch=progress.epoch,
        step=progress.step,
        steps_per_epoch=progress.steps_per_epoch,
        train_loss=progress.train_loss,
        samples_per_second=progress.samples_per_second,
        time_left=duration(progress.seconds_left),
    )


def progress_from_proto(proto: training_pb2.TrainingProgress) -> Progress:
    """A progress from a message."""
    return Progress(
        epoch=proto.epoch,
        step=proto.step,
        steps_per_epoch=proto.steps_per_epoch,
        train_loss=proto.train_loss,
        samples_per_second=proto.samples_per_second,
        seconds_left=proto.time_left.ToTimedelta().total_seconds(),
    )


def attempt_to_proto(attempt: Attempt) -> training_pb2.TrainingAttempt:
    """An attempt as a message."""
    return training_pb2.TrainingAttempt(
        worker=attempt.worker,
        start_time=timestamp(attempt.start_time),
        end_time=_optional_timestamp(attempt.end_time),
        outcome=OUTCOMES[attempt.outcome],
        message=attempt.message,
        resumed_update=attempt.resumed_update,
    )


def attempt_from_proto(proto: training_pb2.TrainingAttempt) -> Attempt:
    """An attempt from a message."""
    return Attempt(
        worker=proto.worker,
        start_time=moment(proto.start_time),
        resumed_update=proto.resumed_update,
        end_time=moment(proto.end_time) if proto.HasField("end_time") else None,
        outcome=key_of(OUTCOMES, proto.outcome, "outcome"),
        message=proto.message,
    )


def job_to_proto(job: TrainingJob) -> training_pb2.TrainingJob:
    """A job as a message."""
    return training_pb2.TrainingJob(
        id=job.id,
        spec=spec_to_proto(job.spec),
        state=STATES[job.state],
        create_time=timestamp(job.create_time),
        start_time=_optional_timestamp(job.start_time),
        end_time=_optional_timestamp(job.end_time),
        epochs=[epoch_to_proto(metrics) for metrics in job.epochs],
        progress=None if job.progress is None else progress_to_proto(job.progress),
        version=job.version,
        digest=job.digest,
        error_message=job.error_message,
        weights_digest=job.result.weights_digest if job.result else "",
        dataset_digest=job.dataset_digest,
        library_versions=job.result.library_versions if job.result else None,
        attempts=[attempt_to_proto(attempt) for attempt in job.attempts],
        promotion=None if job.verdict is None else verdict_to_proto(job.verdict),
        schedule=job.schedule,
    )


def job_from_proto(proto: training_pb2.TrainingJob) -> TrainingJob:
    """A job from a message."""
    return TrainingJob(
        id=proto.id,
        spec=spec_from_proto(proto.spec),
        state=key_of(STATES, proto.state, "state"),
        create_time=moment(proto.create_time),
        start_time=moment(proto.start_time) if proto.HasField("start_time") else None,
        end_time=moment(proto.end_time) if proto.HasField("end_time") else None,
        epochs=tuple(epoch_from_proto(epoch) for epoch in proto.epochs),
        progress=progress_from_proto(proto.progress) if proto.HasField("progress") else None,
        version=proto.version,
        digest=proto.digest,
        error_message=proto.error_message,
        dataset_digest=proto.dataset_digest,
        result=TrainingResult(proto.weights_digest, dict(proto.library_versions)) if proto.weights_digest else None,
        attempts=tuple(attempt_from_proto(attempt) for attempt in proto.attempts),
        verdict=verdict_from_proto(proto.promotion) if proto.HasField("promotion") else None,
        schedule=proto.schedule,
    )


def event_to_proto(event: JobEvent | Heartbeat, cursor: str = "") -> trainer_service_pb2.WatchTrainingJobResponse:
    """An event as a message; it is stored without its cursor, which is the store's to give."""
    message = trainer_service_pb2.WatchTrainingJobResponse(cursor=cursor)
    match event:
        case TrainingJob():
            message.job.CopyFrom(job_to_proto(event))
        case Progress():
            message.progress.CopyFrom(progress_to_proto(event))
        case EpochMetrics():
            message.epoch.CopyFrom(epoch_to_proto(event))
        case Heartbeat():
            message.heartbeat.SetInParent()
    return message


def event_from_proto(proto: trainer_service_pb2.WatchTrainingJobResponse) -> JobEvent:
    """An event from a message; ValueError where it holds none this build knows."""
    match proto.WhichOneof("event"):
        case "job":
            return job_from_proto(proto.job)
        case "progress":
            return progress_from_proto(proto.progress)
        case "epoch":
            return epoch_from_proto(proto.epoch)
    raise ValueError("an event of a kind this build does not know")
