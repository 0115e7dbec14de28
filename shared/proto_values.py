"""From bytes to a request's message, and the small values that messages are made of: moments, tensors, enum words."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from shared.errors import InvalidInputError
from shared.model_version import LIVE
from shared.pb.weightcast.v1 import inference_service_pb2, model_registry_service_pb2, tensor_pb2

Key = TypeVar("Key", bound=Enum)
Request = TypeVar("Request", bound=Message)
SelectingRequest = (
    inference_service_pb2.ClassifyRequest
    | model_registry_service_pb2.GetModelVersionRequest
    | model_registry_service_pb2.DownloadModelVersionRequest
)


def request_from(message: bytes, read: Callable[[bytes], Request]) -> Request:
    """What `read` makes of a request's bytes.

    Raises:
        InvalidInputError: if they are none of its messages.
    """
    try:
        return read(message)
    except DecodeError as error:
        raise InvalidInputError.of("request", f"these bytes are not the method's message: {error}") from error


def key_of(table: Mapping[Key, int], value: int, field: str) -> Key:
    """The domain's word for an enum value.

    Raises:
        ValueError: if the table has no such value.
    """
    for key, known in table.items():
        if known == value:
            return key
    raise ValueError(f"{field} has the value {value}, which this build does not know")


def timestamp(moment: datetime) -> Timestamp:
    """A protobuf timestamp, to the microsecond."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def moment(message: Timestamp) -> datetime:
    """An aware datetime in UTC."""
    return message.ToDatetime(tzinfo=UTC)


def duration(seconds: float) -> Duration:
    """A protobuf duration, to the microsecond."""
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def tensor_to_proto(array: np.ndarray) -> tensor_pb2.Tensor:
    """A uint8 or float32 array as a tensor."""
    kind = tensor_pb2.DATA_TYPE_UINT8 if array.dtype == np.uint8 else tensor_pb2.DATA_TYPE_FLOAT32
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return tensor_pb2.Tensor(data_type=kind, shape=array.shape, contents=little_endian.tobytes())


def tensor_from_proto(tensor: tensor_pb2.Tensor) -> npt.NDArray[np.uint8 | np.float32]:
    """A tensor of our own as a read-only array; ValueError where type, shape and bytes disagree."""
    shape = tuple(tensor.shape)
    if tensor.data_type == tensor_pb2.DATA_TYPE_UINT8:
        return np.frombuffer(tensor.contents, np.uint8).reshape(shape)
    return np.frombuffer(tensor.contents, "<f4").reshape(shape)


def selector_of(request: SelectingRequest) -> int | str:
    """The version's number or alias; `live` where the request names neither."""
    match request.WhichOneof("selector"):
        case "version":
            return request.version
        case "alias":
            return request.alias
        case _:
            return LIVE
