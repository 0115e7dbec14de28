"""The one mapping from domain errors to gRPC statuses, alone and around the methods of a real server."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from structlog.testing import capture_logs

from shared import errors
from shared.errors import FieldViolation, InvalidInputError, NotFoundError, StoreUnavailableError, WeightcastError
from shared.grpc_errors import ErrorInterceptor, status_of, status_of_unforeseen

CODES = {
    errors.InvalidInputError: code_pb2.INVALID_ARGUMENT,
    errors.NotFoundError: code_pb2.NOT_FOUND,
    errors.WrongStateError: code_pb2.FAILED_PRECONDITION,
    errors.SnapshotRejectedError: code_pb2.FAILED_PRECONDITION,
    errors.ConflictError: code_pb2.ABORTED,
    errors.CapacityError: code_pb2.RESOURCE_EXHAUSTED,
    errors.UnavailableError: code_pb2.UNAVAILABLE,
    errors.StoreUnavailableError: code_pb2.UNAVAILABLE,
    errors.DeadlineExceededError: code_pb2.DEADLINE_EXCEEDED,
    errors.CallerGoneError: code_pb2.CANCELLED,
}
NEVER_SENT = {errors.WeightcastError, errors.CancelledError}  # the root, and what stays inside a worker
SECRET = "password=hunter2"  # noqa: S105 - made up; it must not come out


def detail_of(status: status_pb2.Status, kind: type[Message]) -> Any:  # noqa: ANN401 - of that type
    """The status's one detail of a type; None if it has none."""
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    assert len(found) <= 1
    return found[0] if found else None


def made(kind: type[WeightcastError]) -> WeightcastError:
    """An error of a class."""
    return InvalidInputError.of("field", "why") if kind is InvalidInputError else kind("why")


def test_every_error_of_the_tree_has_a_code() -> None:
    """Whoever adds a class is reminded to decide on its code."""
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WeightcastError)}
    assert defined == set(CODES) | NEVER_SENT


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_each_error_has_its_code_reason_and_message(kind: type[WeightcastError]) -> None:
    """The code of the design's table, and ErrorInfo in this product's domain."""
    error = made(kind)
    status = status_of(error)
    info = detail_of(status, error_details_pb2.ErrorInfo)
    assert status.code == CODES[kind]
    assert status.message == error.message
    assert (info.reason, info.domain) == (kind.reason, "weightcast")
    assert info.reason.replace("_", "").isupper()


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_what_may_be_sent_again_says_after_how_long(kind: type[WeightcastError]) -> None:
    """RetryInfo stands where a retry can help, and nowhere else."""
    retry = detail_of(status_of(made(kind)), error_details_pb2.RetryInfo)
    if CODES[kind] in (code_pb2.RESOURCE_EXHAUSTED, code_pb2.UNAVAILABLE):
        assert retry.retry_delay.seconds >= 1
    else:
        assert retry is None


def test_a_bad_request_names_every_field() -> None:
    """In BadRequest for programs and in the message for people."""
    status = status_of(InvalidInputError(FieldViolation("spec.epochs", "got 0"), FieldViolation("spec.seed", "got -1")))
    request = detail_of(status, error_details_pb2.BadRequest)
    named = [(violation.field, violation.description) for violation in request.field_violations]
    assert named == [("spec.epochs", "got 0"), ("spec.seed", "got -1")]
    assert status.message == "spec.epochs: got 0; spec.seed: got -1"


def test_an_errors_own_reason_stands_before_its_classes() -> None:
    """MODEL_NOT_FOUND rather than NOT_FOUND."""
    status = status_of(NotFoundError("no such model", reason="MODEL_NOT_FOUND"))
    assert detail_of(status, error_details_pb2.ErrorInfo).reason == "MODEL_NOT_FOUND"


def test_what_was_not_foreseen_gets_an_id_and_tells_nothing() -> None:
    """The client gets the id; the error, with the same id, goes to the log."""
    error = ValueError(SECRET)
    with capture_logs() as logs:
        status = status_of_unforeseen(error, "/weightcast.v1.X/Y")
    error_id = detail_of(status, error_details_pb2.ErrorInfo).metadata["error_id"]
    assert status.code == code_pb2.INTERNAL
    assert len(error_id) == 32
    assert error_id in status.message
    assert SECRET.encode() not in status.SerializeToString()
    assert [(log["error_id"], log["exc_info"]) for log in logs] == [(error_id, error)]


def test_two_unforeseen_errors_have_two_ids() -> None:
    """So that each is found in the log."""
    with capture_logs():
        first, second = (status_of_unforeseen(ValueError(), "/m") for _ in range(2))
    assert first.message != second.message


def one(behaviour: Callable[[], None]) -> Callable[[Any, grpc.ServicerContext], bytes]:
    """A method with one response that does this first."""

    def method(_request: object, _context: grpc.ServicerContext) -> bytes:
        behaviour()
        return b"done"

    return method


def stream(behaviour: Callable[[], None]) -> Callable[[Any, grpc.ServicerContext], Iterator[bytes]]:
    """A method that answers once and then does this."""

    def method(_request: object, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        behaviour()

    return method


def answer_of(response: bytes | Iterator[bytes]) -> bytes:
    """One response, or a stream's responses together."""
    return response if isinstance(response, bytes) else b"".join(response)


@pytest.fixture
def call() -> Iterator[Callable[..., grpc.RpcError]]:
    """Calls a method of each of the four kinds that raises an error, over a real socket; gives what the client gets."""
    current: list[Exception] = []

    def fail() -> None:
        raise current[-1]

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "unary_unary": grpc.unary_unary_rpc_method_handler(one(fail)),
        "stream_unary": grpc.stream_unary_rpc_method_handler(one(fail)),
        "unary_stream": grpc.unary_stream_rpc_method_handler(stream(fail)),
        "stream_stream": grpc.stream_stream_rpc_method_handler(stream(fail)),
    }
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[ErrorInterceptor()])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("weightcast.v1.Test", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def error_of(kind: str, error: Exception) -> grpc.RpcError:
        current.append(error)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            method = getattr(channel, kind)(f"/weightcast.v1.Test/{kind}")
            request = iter([b""]) if kind.startswith("stream") else b""
            with pytest.raises(grpc.RpcError) as raised:
                answer_of(method(request, timeout=10))
            return raised.value

    yield error_of
    server.stop(None).wait()


KINDS = ["unary_unary", "stream_unary", "unary_stream", "stream_stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_kind_of_method_raises_it_is_mapped(call: Callable[..., Any], kind: str) -> None:
    """A stream after its first response too."""
    error = call(kind, StoreUnavailableError("Redis is away"))
    status = rpc_status.from_call(error)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "Redis is away")
    assert detail_of(status, error_details_pb2.ErrorInfo).reason == "STORE_UNAVAILABLE"


@pytest.mark.parametrize("kind", KINDS)
def test_no_method_lets_an_unforeseen_error_out(call: Callable[..., Any], kind: str) -> None:
    """Neither its text, nor its class, nor a traceback."""
    with capture_logs() as logs:
        error = call(kind, ValueError(SECRET))
    status = rpc_status.from_call(error)
    assert error.code() is grpc.StatusCode.INTERNAL
    for text in (SECRET, "ValueError", "Traceback"):
        assert text not in error.details()
        assert text.encode() not in status.SerializeToString()
    assert [log["error_id"] for log in logs] == [detail_of(status, error_details_pb2.ErrorInfo).metadata["error_id"]]


@pytest.fixture
def garbage() -> Iterator[Callable[[str, str], grpc.RpcError]]:
    """Sends bytes that are no message to a method of one of the four kinds; gives what the client gets."""

    def last(requests: Any, _context: grpc.ServicerContext) -> bytes:  # noqa: ANN401 - one message or a stream of them
        messages: list[Message] = list(requests) if isinstance(requests, Iterator) else [requests]
        return messages[-1].SerializeToString()

    def each(requests: Any, context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: ANN401 - as above
        yield last(requests, context)

    server = grpc.server(ThreadPoolExecutor(2), interceptors=[ErrorInterceptor()])
    for service in ("weightcast.v1.Test", "inference.Test", "another.Test"):
        handlers = {
            kind: getattr(grpc, f"{kind}_rpc_method_handler")(
                each if kind.endswith("stream") else last, status_pb2.Status.FromString, None
            )
            for kind in KINDS
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def error_of(service: str, kind: str) -> grpc.RpcError:
        good, bad = status_pb2.Status(code=3).SerializeToString(), b"\xff"
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            method = getattr(channel, kind)(f"/{service}/{kind}")
            is_stream = kind.startswith("stream")
            assert answer_of(method(iter([good, good]) if is_stream else good, timeout=10)) == good
            with pytest.raises(grpc.RpcError) as raised:
                answer_of(method(iter([good, bad]) if is_stream else bad, timeout=10))
            return raised.value

    yield error_of
    server.stop(None).wait()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", ["weightcast.v1.Test", "inference.Test"])
def test_bytes_that_are_no_message_are_the_callers_mistake(
    garbage: Callable[..., Any], service: str, kind: str
) -> None:
    """Of either protocol, in a stream after good ones too; grpcio by itself would call them INTERNAL."""
    error = garbage(service, kind)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
    bad = detail_of(rpc_status.from_call(error), error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["request"]


def test_the_methods_of_others_are_left_alone(garbage: Callable[..., Any]) -> None:
    """Health and reflection answer as they do everywhere."""
    assert garbage("another.Test", "unary_unary").code() is grpc.StatusCode.INTERNAL
