"""What a service refused, with the reason, the fields and the delay that its status carries."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class RpcError(Exception):
    """A call that a service refused or that did not reach one.

    Attributes:
        code: the gRPC status code.
        message: the service's words.
        reason: UPPER_SNAKE_CASE, empty where the answer did not come from a Weightcast service.
        violations: each bad field with what is wrong with it.
        retry_seconds: when it may be sent again, where the service says so.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        violations: dict[str, str] | None = None,
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.violations = violations or {}
        self.retry_seconds = retry_seconds

    @classmethod
    def of(cls, error: grpc.RpcError) -> "RpcError":
        """The error behind a failed call."""
        reason, retry_seconds = "", None
        violations: dict[str, str] = {}
        status = rpc_status.from_call(error) if isinstance(error, grpc.Call) else None
        details: list[AnyMessage] = [] if status is None else list(status.details)
        for detail in details:
            info, request, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(request):
                violations = {violation.field: violation.description for violation in request.field_violations}
            elif detail.Unpack(retry):
                retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
        return cls(error.code(), error.details() or "", reason, violations, retry_seconds)


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Turns grpc's errors in this block into RpcError."""
    try:
        yield
    except grpc.RpcError as error:
        raise RpcError.of(error) from error
