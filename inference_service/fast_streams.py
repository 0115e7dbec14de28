"""Calls with many requests that are answered in the polling thread, by grpcio's private interface.

Their answers go out in their order, whatever order they are ready in; while many wait, no more are read, so that the
client's own flow control holds it back.
"""

import threading
from collections import deque
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave out what is private

from inference_service.callers import Caller
from inference_service.fast_calls import ENDED, HEADERS, NO_FLAGS, OK, Closed, Event, Route, Tag, ended_by
from inference_service.refusing import refused

# Of one stream, taken before the first of them is answered.
WINDOW_MESSAGES, WINDOW_BYTES = 64, 4 * 2**20


class StreamedRequest(Caller):
    """One message of a stream, and its answer once it is there."""

    __slots__ = ("_stream", "message", "reply", "size")

    holds_back = True

    def __init__(self, stream: "StreamCall", message: bytes) -> None:
        route = stream.route
        super().__init__(route.method, route.counts, stream.metadata, stream.deadline)
        self._stream = stream
        self.message = message
        self.size = len(message)
        self.reply: bytes | Exception | None = None

    def respond(self, reply: bytes | Exception) -> None:
        """Sends it after those before it."""
        self._stream.on_answer(self, reply)

    def let_go(self) -> None:
        """Keeps nothing of it: an error leads to the frames that it was raised in, and these to the message."""
        self.message, self.reply = b"", None


class _Headers(Tag):
    """A stream's headers have gone out."""

    __slots__ = ()

    def on_event(self, event: Event) -> int:  # noqa: ARG002 - if they did not, whatever follows fails too
        """Nothing."""
        return 0


STARTED = _Headers()


class StreamCall(Tag):
    """A call with many requests, the next of which has arrived."""

    def __init__(self, event: Event, route: Route) -> None:
        self.route = route
        self.metadata = event.invocation_metadata
        self.deadline = event.call_details.deadline
        self._call = event.call
        self._pending: deque[StreamedRequest] = deque()
        self._pending_bytes = 0
        self._lock = threading.Lock()
        self._is_sending = self._is_paused = self._is_closed = self._is_gone = self._has_ended = False
        self._call.start_server_batch((HEADERS,), STARTED)
        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),), Closed(self._hung_up))
        self._receive()

    def on_event(self, event: Event) -> int:
        """Has it answered, or learns that there are no more."""
        message = event.batch_operations[0].message()
        with self._lock:
            if message is None or self._has_ended:
                self._is_closed = True
                self._advance()
                return 0
            request = StreamedRequest(self, message)
            request.has_gone = self._is_gone
            self._pending.append(request)
            self._pending_bytes += len(message)
            is_far_ahead = len(self._pending) >= WINDOW_MESSAGES or self._pending_bytes >= WINDOW_BYTES
            self._is_paused = is_far_ahead or self.route.answering.turns_away
            if not self._is_paused:
                self._receive()
        self.route.answering.take(self.route.recognition, message, request)
        return 0

    def on_sent(self, *, success: bool) -> None:
        """An answer has gone out, or the client has."""
        with self._lock:
            self._is_sending = False
            if success:
                self._advance()
            else:
                self._end(OK)  # which nobody gets, but a call that is not ended is kept

    def on_answer(self, request: StreamedRequest, reply: bytes | Exception) -> None:
        """A request was answered, perhaps before others that came before it."""
        with self._lock:
            if self._has_ended:
                return
            request.reply = reply
            if isinstance(reply, bytes):
                request.message = b""  # of which only a refusal may say something
            self._advance()

    def _advance(self) -> None:
        """Sends the next answer if it is there, and the last word after the last of them."""
        if self._is_sending or self._has_ended:
            return
        if not self._pending:
            if self._is_closed:
                self._end(OK)
            return
        request = self._pending[0]
        message, reply = request.message, request.reply
        if reply is None:
            return
        self._pending.popleft()
        self._pending_bytes -= request.size
        request.let_go()
        if isinstance(reply, Exception):
            status = refused(request, reply, self.route.log)
            reply = self.route.protocol.refusal(status.message, message)
            if reply is None:
                self._end(ended_by(status))
                return
        self._is_sending = True
        self._call.start_server_batch((cygrpc.SendMessageOperation(reply, NO_FLAGS),), StreamedAnswer(self))
        if self._is_paused:
            self._is_paused = False
            self._receive()

    def _receive(self) -> None:
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self)

    def _end(self, status: Any) -> None:  # noqa: ANN401 - an operation
        self._has_ended = True
        for request in self._pending:
            request.has_gone = True  # for whom nothing need be computed
            request.let_go()
        self._pending.clear()
        self._call.start_server_batch((status,), ENDED)

    def _hung_up(self) -> None:
        with self._lock:
            self._is_gone = True
            for request in self._pending:
                request.has_gone = True


class StreamedAnswer(Tag):
    """An answer has gone out on a stream."""

    __slots__ = ("_stream",)

    def __init__(self, stream: StreamCall) -> None:
        self._stream = stream

    def on_event(self, event: Event) -> int:
        """Lets the stream send the next."""
        self._stream.on_sent(success=event.success)
        return 0


def begin_stream(event: Event, route: Route) -> int:
    """Begins to read a call's messages; its end is watched from the start."""
    StreamCall(event, route)
    return 1
