"""Calls that are answered in the polling thread, by grpcio's private interface: one with one request, one with many.

The tag of each of their events is an object that knows what to do with it; `polling_loop` brings the events.
"""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from google.rpc.status_pb2 import Status
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave out what is private

from inference_service.answering import Answering
from inference_service.questions import Protocol
from inference_service.recognition import Recognition
from shared.errors import InvalidInputError
from shared.grpc_errors import status_of_any

# Of one stream, taken before the first of them is answered.
WINDOW_MESSAGES, WINDOW_BYTES = 64, 4 * 2**20
NO_FLAGS = 0
STATUS_DETAILS = "grpc-status-details-bin"
# With no metadata and no details, these hold nothing of a call and may be part of many at a time.
HEADERS = cygrpc.SendInitialMetadataOperation((), NO_FLAGS)
OK = cygrpc.SendStatusFromServerOperation((), cygrpc.StatusCode.ok, b"", NO_FLAGS)
Event = Any  # grpcio's private types have none
Call = Any


class Tag:
    """What an event is handed to. `on_event` returns by how many calls more are owed an end."""

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


class _Headers(Tag):
    """A stream's headers have gone out."""

    __slots__ = ()

    def on_event(self, event: Event) -> int:  # noqa: ARG002 - if they did not, whatever follows fails too
        """Nothing."""
        return 0


ENDED, STARTED = _LastWord(), _Headers()


class Route(Tag):
    """One method: a call of it has come.

    `request_another` asks for one more call in its place, and says whether the server still takes any.
    """

    __slots__ = ("_request_another", "answering", "protocol", "recognition")

    def __init__(self, protocol: Protocol, answering: Answering, request_another: Callable[["Route"], bool]) -> None:
        self.protocol = protocol
        self.answering = answering
        self.recognition = Recognition(protocol)
        self._request_another = request_another

    def on_event(self, event: Event) -> int:
        """Begins to read the call's first message."""
        if not event.success:
            return -1  # the server is shutting down, and no call came
        more = int(self._request_another(self))
        (StreamCall if self.protocol.streaming else UnaryCall)(event.call, self)
        return more


class UnaryCall(Tag):
    """A call with one request: it has arrived."""

    __slots__ = ("_call", "_route")

    def __init__(self, call: Call, route: Route) -> None:
        self._call = call
        self._route = route
        call.start_server_batch((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self)

    def on_event(self, event: Event) -> int:
        """Has it answered."""
        message = event.batch_operations[0].message()
        if message is None:
            self.respond(InvalidInputError.of("request", "none came; send exactly one"))
        else:
            self._route.answering.take(self._route.recognition, message, self.respond)
        return 0

    def respond(self, reply: bytes | Exception) -> None:
        """Sends the answer, or the status of what is wrong."""
        if isinstance(reply, bytes):
            operations: tuple[Any, ...] = (HEADERS, cygrpc.SendMessageOperation(reply, NO_FLAGS), OK)
        else:
            operations = (HEADERS, ended_by(status_of_any(reply, self._route.protocol.method)))
        self._call.start_server_batch(operations, ENDED)


class StreamCall(Tag):
    """A call with many requests, the next of which has arrived.

    Their answers go out in their order, whatever order they are ready in; while many wait, no more are read, so that
    the client's own flow control holds it back.
    """

    def __init__(self, call: Call, route: Route) -> None:
        self._call = call
        self._route = route
        self._pending: deque[tuple[bytes, list[bytes | Exception]]] = (
            deque()
        )  # a message, and its answer once it is there
        self._pending_bytes = 0
        self._lock = threading.Lock()
        self._is_sending = self._is_paused = self._is_closed = self._has_ended = False
        self._sent = StreamedAnswer(self)
        call.start_server_batch((HEADERS,), STARTED)
        self._receive()

    def on_event(self, event: Event) -> int:
        """Has it answered, or learns that there are no more."""
        message, answer = event.batch_operations[0].message(), list[bytes | Exception]()
        with self._lock:
            if message is None:
                self._is_closed = True
                self._advance()
                return 0
            self._pending.append((message, answer))
            self._pending_bytes += len(message)
            self._is_paused = len(self._pending) >= WINDOW_MESSAGES or self._pending_bytes >= WINDOW_BYTES
            if not self._is_paused and not self._has_ended:
                self._receive()
        self._route.answering.take(self._route.recognition, message, partial(self._on_answer, answer))
        return 0

    def on_sent(self, *, success: bool) -> None:
        """An answer has gone out, or the client has."""
        with self._lock:
            self._is_sending = False
            if success:
                self._advance()
            else:
                self._end(OK)  # which nobody gets, but a call that is not ended is kept

    def _on_answer(self, answer: list[bytes | Exception], reply: bytes | Exception) -> None:
        with self._lock:
            answer.append(reply)
            self._advance()

    def _advance(self) -> None:
        """Sends the next answer if it is there, and the last word after the last of them."""
        if self._is_sending or self._has_ended:
            return
        if not self._pending:
            if self._is_closed:
                self._end(OK)
            return
        message, answer = self._pending[0]
        if not answer:
            return
        self._pending.popleft()
        self._pending_bytes -= len(message)
        reply: bytes | Exception | None = answer[0]
        if isinstance(reply, Exception):
            status = status_of_any(reply, self._route.protocol.method)
            reply = self._route.protocol.refusal(status.message, message)
            if reply is None:
                self._end(ended_by(status))
                return
        self._is_sending = True
        self._call.start_server_batch((cygrpc.SendMessageOperation(reply, NO_FLAGS),), self._sent)
        if self._is_paused:
            self._is_paused = False
            self._receive()

    def _receive(self) -> None:
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self)

    def _end(self, status: Any) -> None:  # noqa: ANN401 - an operation
        self._has_ended = True
        self._pending.clear()
        self._call.start_server_batch((status,), ENDED)


class StreamedAnswer(Tag):
    """An answer has gone out on a stream."""

    __slots__ = ("_stream",)

    def __init__(self, stream: StreamCall) -> None:
        self._stream = stream

    def on_event(self, event: Event) -> int:
        """Lets the stream send the next."""
        self._stream.on_sent(success=event.success)
        return 0


def ended_by(status: Status) -> Any:  # noqa: ANN401 - an operation
    """What ends a call with an error."""
    details = ((STATUS_DETAILS, status.SerializeToString()),)
    return cygrpc.SendStatusFromServerOperation(details, status.code, status.message, NO_FLAGS)
