"""Calls with one request that are answered in the polling thread, by grpcio's private interface.

The tag of each of their events is an object that knows what to do with it; `polling_loop` brings the events. Calls with
many requests are in `fast_streams`.
"""

import time
from collections.abc import Callable
from typing import Any

from google.rpc.status_pb2 import Status
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave out what is private

from inference_service.answering import Answering
from inference_service.callers import Caller, Counts
from inference_service.questions import Protocol
from inference_service.recognition import Recognition
from inference_service.refusing import refused, tell
from inference_service.request_log import RequestLog
from shared.errors import InvalidInputError
from shared.grpc_errors import status_of_any

NO_FLAGS = 0
STATUS_DETAILS = "grpc-status-details-bin"
# With no metadata and no details, these hold nothing of a call and may be part of many at a time.
HEADERS = cygrpc.SendInitialMetadataOperation((), NO_FLAGS)
OK = cygrpc.SendStatusFromServerOperation((), cygrpc.StatusCode.ok, b"", NO_FLAGS)
Event = Any  # grpcio's private types have none
Call = Any


class Tag:
    """What an event is handed to. `on_event` returns by how many more ends of calls, and of watches, are owed."""

    __slots__ = ()

    def on_event(self, event: Event) -> int:
        """Goes on from what has happened."""
        raise NotImplementedError


class _LastWord(Tag):
    """The end of a call has gone out."""

    __slots__ = ()

    def on_event(self, event: Event) -> int:  # noqa: ARG002 - gone out or not, it was the last
        """One call less."""
        return -1


ENDED = _LastWord()


class Closed(Tag):
    """A call is over for its client: it was answered, or he has hung up."""

    __slots__ = ("_on_gone",)

    def __init__(self, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone

    def on_event(self, event: Event) -> int:
        """Says so to who cares; one watch less."""
        if event.batch_operations[0].cancelled():
            self._on_gone()
        return -1


class Farewell:
    """What is said to many who are turned away for the same reason, written once."""

    def __init__(self, error: Exception, method: str) -> None:
        status = status_of_any(error, method)
        self.error = error
        self.code = status.code
        self._said = words_of(status)

    def operation(self) -> Any:  # noqa: ANN401 - an operation, which is one call's
        """Ends a call."""
        return cygrpc.SendStatusFromServerOperation(*self._said, NO_FLAGS)


class Route(Tag):
    """One method: a call of it has come.

    Args:
        protocol: the method.
        answering: what answers.
        counts: where its requests are counted.
        log: where those that are not answered are told of.
        on_call: is told of each call that came, so that another is asked for in its place.
        begin: takes up a call that came; returns as `Tag.on_event` does.
    """

    __slots__ = (
        "_begin",
        "_farewell",
        "_on_call",
        "answering",
        "counts",
        "log",
        "method",
        "protocol",
        "recognition",
    )

    def __init__(
        self,
        protocol: Protocol,
        answering: Answering,
        counts: Counts,
        log: RequestLog,
        *,
        on_call: Callable[["Route"], None],
        begin: "Callable[[Event, Route], int]",
    ) -> None:
        self.protocol = protocol
        self.method = protocol.method
        self.answering = answering
        self.counts = counts
        self.log = log
        self.recognition = Recognition(protocol)
        self._on_call = on_call
        self._begin = begin
        self._farewell: Farewell | None = None

    def on_event(self, event: Event) -> int:
        """Takes the call up, or turns it away before its message is read where there are enough."""
        if not event.success:
            return -1  # the server is shutting down, and no call came
        self._on_call(self)
        if self.answering.turns_away:
            self._turn_away(event)
            return 0
        return self._begin(event, self)

    def _turn_away(self, event: Event) -> None:
        """Costs as little as can be: whoever has too much to do does this most."""
        error = self.answering.why_not()
        if self._farewell is None or self._farewell.error is not error:
            self._farewell = Farewell(error, self.method)
        farewell = self._farewell
        event.call.start_server_batch((HEADERS, farewell.operation()), ENDED)
        self.counts.failed(farewell.code, 0.0)
        if self.log.has_room():
            caller = Caller(self.method, self.counts, event.invocation_metadata, 0.0)
            tell(caller, farewell.code, error, self.log)
        self.answering.on_turned_away()


class UnaryCall(Tag, Caller):
    """A call with one request: it has arrived."""

    __slots__ = ("_call", "_route", "_watches")

    def __init__(self, event: Event, route: Route) -> None:
        self.method, self.counts = route.method, route.counts  # not by the base's constructor, which is a call more
        self.metadata, self.deadline = event.invocation_metadata, event.call_details.deadline
        self.has_gone, self._watches = False, 0
        self._call = call = event.call
        self._route = route
        call.start_server_batch((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self)

    def on_event(self, event: Event) -> int:
        """Has it answered."""
        message = event.batch_operations[0].message()
        if message is None:
            self.arrived = time.perf_counter()
            self.respond(InvalidInputError.of("request", "none came; send exactly one"))
        else:
            self._route.answering.take(self._route.recognition, message, self)
        return self._watches

    def respond(self, reply: bytes | Exception) -> None:
        """Sends the answer, or the status of what is wrong."""
        if isinstance(reply, bytes):
            operations: tuple[Any, ...] = (HEADERS, cygrpc.SendMessageOperation(reply, NO_FLAGS), OK)
        else:
            operations = (HEADERS, ended_by(refused(self, reply, self._route.log)))
        self._call.start_server_batch(operations, ENDED)

    def watch(self) -> None:
        """Learns when he hangs up; costs an event, so not for those who are answered at once."""
        self._watches += 1
        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),), Closed(self._hung_up))

    def _hung_up(self) -> None:
        self.has_gone = True


def begin_unary(event: Event, route: Route) -> int:
    """Begins to read a call's one message."""
    UnaryCall(event, route)
    return 0


def ended_by(status: Status) -> Any:  # noqa: ANN401 - an operation
    """What ends a call with an error."""
    return cygrpc.SendStatusFromServerOperation(*words_of(status), NO_FLAGS)


def words_of(status: Status) -> tuple[tuple[tuple[str, bytes], ...], int, str]:
    """What such an operation is made of: metadata, code, message."""
    return ((STATUS_DETAILS, status.SerializeToString()),), status.code, status.message
