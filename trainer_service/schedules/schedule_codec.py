"""Training schedules to protobuf messages and back, for the contract and for storage alike."""

from datetime import timedelta

from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1 import training_pb2
from shared.proto_values import duration, moment, timestamp
from trainer_service.presets import SpecRequest
from trainer_service.schedules.schedule import Schedule
from trainer_service.schedules.timing import Timing
from trainer_service.spec_request import spec_request

MAX_SECONDS = 315_576_000_000  # of a valid google.protobuf.Duration, which fits a timedelta; others may not


def schedule_to_proto(schedule: Schedule) -> pb.TrainingSchedule:
    """A schedule as a message."""
    message = pb.TrainingSchedule(
        name=schedule.name,
        spec=training_pb2.TrainingSpec.FromString(schedule.spec),
        paused=schedule.paused,
        create_time=timestamp(schedule.create_time),
        next_time=None if schedule.next_time is None else timestamp(schedule.next_time),
        last_time=None if schedule.last_time is None else timestamp(schedule.last_time),
        last_job_id=schedule.last_job_id,
        skipped_count=schedule.skipped_count,
        error_message=schedule.error_message,
    )
    if schedule.timing.every is None:
        message.cron = schedule.timing.cron
    else:
        message.every.CopyFrom(duration(schedule.timing.every.total_seconds()))
    return message


def schedule_from_proto(proto: pb.TrainingSchedule) -> Schedule:
    """A schedule from a message that `schedule_to_proto` made."""
    return Schedule(
        name=proto.name,
        spec=spec_bytes(proto.spec),
        timing=timing_from_proto(proto),
        create_time=moment(proto.create_time),
        next_time=moment(proto.next_time) if proto.HasField("next_time") else None,
        last_time=moment(proto.last_time) if proto.HasField("last_time") else None,
        last_job_id=proto.last_job_id,
        skipped_count=proto.skipped_count,
        error_message=proto.error_message,
    )


def timing_from_proto(proto: pb.TrainingSchedule) -> Timing:
    """The timing of a message, whatever a client may have put there."""
    if not proto.HasField("every"):
        return Timing(cron=proto.cron)
    seconds = max(-MAX_SECONDS, min(MAX_SECONDS, proto.every.seconds))
    return Timing(every=timedelta(seconds=seconds, microseconds=proto.every.nanos // 1000))


def given_spec(proto: training_pb2.TrainingSpec) -> bytes:
    """A client's spec as it is kept, without fields that this build does not know and could not limit."""
    known = training_pb2.TrainingSpec()
    known.CopyFrom(proto)
    known.DiscardUnknownFields()
    return spec_bytes(known)


def spec_bytes(proto: training_pb2.TrainingSpec) -> bytes:
    """A spec as bytes, the same ones for the same spec."""
    return proto.SerializeToString(deterministic=True)


def request_of(spec: bytes) -> SpecRequest:
    """What a kept spec asks for, in the words of jobs."""
    return spec_request(training_pb2.TrainingSpec.FromString(spec))
