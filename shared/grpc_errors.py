"""The one mapping from domain errors to gRPC statuses, as an interceptor around every method of a server.

Every error carries google.rpc.ErrorInfo; bad requests add the fields, what may be retried adds the delay, and what was
not foreseen becomes INTERNAL with an id that the log explains.
"""

import math
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Never, TypeAlias

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from shared.errors import (
    CallerGoneError,
    CapacityError,
    ConflictError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    WeightcastError,
    WrongStateError,
)
from shared.proto_values import request_from

DOMAIN = "weightcast"
MAX_TEXT = 500
MAX_VIOLATIONS = 8
OUR_METHODS = ("/weightcast.", "/inference.")  # not health's and reflection's
CODES: dict[type[Exception], int] = {
    InvalidInputError: code_pb2.INVALID_ARGUMENT,
    NotFoundError: code_pb2.NOT_FOUND,
    WrongStateError: code_pb2.FAILED_PRECONDITION,
    ConflictError: code_pb2.ABORTED,
    CapacityError: code_pb2.RESOURCE_EXHAUSTED,
    UnavailableError: code_pb2.UNAVAILABLE,
    DeadlineExceededError: code_pb2.DEADLINE_EXCEEDED,
    CallerGoneError: code_pb2.CANCELLED,
}
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"  # generic in its stubs only
log = structlog.get_logger()


def packed(message: Message) -> AnyMessage:
    """A message as google.protobuf.Any."""
    container = AnyMessage()
    container.Pack(message)
    return container


def clipped(text: str) -> str:
    """The text, or its beginning: statuses travel in headers, and a header that is too long loses the whole status."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= MAX_TEXT else f"{encoded[:MAX_TEXT].decode(errors='ignore')} …"


def code_of(error: Exception) -> int:
    """The number of the status code that a client gets for `error`."""
    return next((code for kind, code in CODES.items() if isinstance(error, kind)), code_pb2.INTERNAL)


def status_of(error: WeightcastError) -> status_pb2.Status:
    """The status that tells a client of `error`."""
    code = code_of(error)
    details = [packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))]
    if isinstance(error, InvalidInputError):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=clipped(violation.field), description=clipped(violation.description)
            )
            for violation in error.violations[:MAX_VIOLATIONS]
        ]
        details.append(packed(error_details_pb2.BadRequest(field_violations=violations)))
    if isinstance(error, CapacityError | UnavailableError):
        delay = Duration(seconds=math.ceil(error.retry_seconds))
        details.append(packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code, message=clipped(error.message), details=details)


def status_of_unforeseen(error: Exception, method: str) -> status_pb2.Status:
    """INTERNAL with an id; the traceback goes to the log under the same id, never to the client."""
    error_id = uuid.uuid4().hex
    log.error("unforeseen error", method=method, error_id=error_id, exc_info=error)
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"error_id": error_id})
    message = f"something unforeseen went wrong; tell the operator this error id: {error_id}"
    return status_pb2.Status(code=code_pb2.INTERNAL, message=message, details=[packed(info)])


def status_of_any(error: Exception, method: str) -> status_pb2.Status:
    """The status that tells a client of whatever a method raised."""
    if isinstance(error, WeightcastError):
        return status_of(error)
    return status_of_unforeseen(error, method)


class ErrorInterceptor(grpc.ServerInterceptor):
    """Maps whatever a method raises; no servicer does its own."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wraps the method's behaviour, whichever of the four kinds it is, and the reading of its requests."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OUR_METHODS):
            return handler
        for kind in ("unary_unary", "stream_unary", "unary_stream", "stream_stream"):
            if (behaviour := getattr(handler, kind)) is not None:
                wrap = guarded_stream if handler.response_streaming else guarded
                behaviour = reading(behaviour, handler)
                return getattr(grpc, f"{kind}_rpc_method_handler")(  # type: ignore[no-any-return]
                    wrap(behaviour, method), None, handler.response_serializer
                )
        return handler


def reading(behaviour: Callable[..., Any], handler: "grpc.RpcMethodHandler[Any, Any]") -> Callable[..., Any]:
    """The method, given its requests as bytes: what is no message is grpcio's INTERNAL, and our caller's mistake."""
    read = handler.request_deserializer
    if read is None:
        return behaviour

    if handler.request_streaming:
        return lambda messages, context: behaviour((request_from(each, read) for each in messages), context)
    return lambda message, context: behaviour(request_from(message, read), context)


def guarded(behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
    """A method with one response, its errors mapped."""

    def call(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401 - any message
        try:
            return behaviour(request, context)
        except Exception as error:  # noqa: BLE001 - the boundary: nothing may pass it unmapped
            abort(context, error, method)

    return call


def guarded_stream(behaviour: Callable[..., Any], method: str) -> Callable[..., Iterator[Any]]:
    """A method with a stream of responses, its errors mapped wherever in the stream they are raised."""

    def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: ANN401 - any message
        try:
            yield from behaviour(request, context)
        except Exception as error:  # noqa: BLE001 - the boundary: nothing may pass it unmapped
            abort(context, error, method)

    return call


def abort(context: grpc.ServicerContext, error: Exception, method: str) -> Never:
    """Ends the call with the status of `error`."""
    context.abort_with_status(rpc_status.to_status(status_of_any(error, method)))
    raise AssertionError("abort_with_status always raises")
