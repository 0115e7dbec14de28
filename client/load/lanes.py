"""One connection of a load test: bytes out, bytes back, and a call for each request that has ended, however it did.

A lane has a TCP connection of its own and never sends anything twice.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import grpc

from client.channel import MAX_MESSAGE_BYTES
from client.load.methods import Method

WATCH_SECONDS = 0.05


@dataclass(frozen=True)
class Outcome:
    """How a request ended: at `time.monotonic()` `ended`, with an answer, or with a code and the words to it."""

    ended: float
    answer: bytes = b""
    code: str = ""
    message: str = ""


Done = Callable[[Outcome], None]


class Lane(Protocol):
    """Where requests go."""

    def send(self, request: bytes, timeout: float, done: Done) -> None:
        """Sends; `done` is called once, from another thread, within about `timeout` seconds."""

    def close(self) -> None:
        """Lets go of the connection."""


def open_connection(address: str) -> grpc.Channel:
    """A channel that shares its connection with no other: by default grpc gives channels to one address the same."""
    is_local = address.startswith(("127.", "localhost:", "[::1]:", "unix:"))
    return grpc.insecure_channel(
        address,
        options=[
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", int(not is_local)),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ],
    )


def open_lane(address: str, method: Method, timeout: float) -> Lane:
    """A lane for a method, connected.

    Raises:
        TimeoutError: if there is no connection within `timeout` seconds.
    """
    channel = open_connection(address)
    try:
        grpc.channel_ready_future(channel).result(timeout)
    except grpc.FutureTimeoutError:
        channel.close()
        raise TimeoutError(f"{address} took no connection within {timeout:g} s") from None
    return StreamLane(channel, method.path) if method.streams else UnaryLane(channel, method.path)


class UnaryLane:
    """A call for each request."""

    def __init__(self, channel: grpc.Channel, path: str) -> None:
        self._channel = channel
        self._call: Any = channel.unary_unary(path)  # no serializers: bytes both ways

    def send(self, request: bytes, timeout: float, done: Done) -> None:
        """Begins a call."""

        def ended(call: Any) -> None:  # noqa: ANN401 - grpc's types know no call that is a future too
            now = time.monotonic()
            code = call.code()
            if code is grpc.StatusCode.OK:
                done(Outcome(now, call.result()))
            else:
                done(Outcome(now, code=code.name, message=call.details() or ""))

        self._call.future(request, timeout=timeout).add_done_callback(ended)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()


class StreamLane:
    """All requests on one stream, answered in order; after a failure the next request opens another."""

    def __init__(self, channel: grpc.Channel, path: str) -> None:
        self._channel = channel
        self._call: Any = channel.stream_stream(path)
        self._lock = threading.Lock()
        self._stream: Stream | None = None

    def send(self, request: bytes, timeout: float, done: Done) -> None:
        """Puts a request on the stream."""
        with self._lock:
            if self._stream is None:
                self._stream = Stream(self._call, self._lost)
            self._stream.put(request, time.monotonic() + timeout, done)

    def close(self) -> None:
        """Ends the stream and closes the connection."""
        with self._lock:
            if self._stream is not None:
                self._stream.cancel()
        self._channel.close()

    def _lost(self, stream: "Stream") -> list[Done]:
        with self._lock:  # from here on nothing is put on it
            if self._stream is stream:
                self._stream = None
            return stream.take_waiting()


class Stream:
    """One stream, a thread that reads it, and who waits for its answers. `put` is the lane's, under its lock."""

    def __init__(self, call: Any, lost: Callable[["Stream"], list[Done]]) -> None:  # noqa: ANN401 - as above
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._waiting: deque[tuple[float, Done]] = deque()
        self._lost = lost
        self._late = False
        self._call = call(self._requests())
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def put(self, request: bytes, deadline: float, done: Done) -> None:
        """Sends a request after those before it."""
        self._waiting.append((deadline, done))
        self._outbox.put(request)

    def cancel(self) -> None:
        """Ends it; who still waits is told."""
        self._call.cancel()

    def take_waiting(self) -> list[Done]:
        """Who waits for an answer that will not come."""
        left = [done for _, done in self._waiting]
        self._waiting.clear()
        return left

    def _requests(self) -> Iterator[bytes]:
        while (request := self._outbox.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for answer in self._call:
                now = time.monotonic()
                _, done = self._waiting.popleft()
                done(Outcome(now, answer))
            code, message = "UNKNOWN", "the service ended the stream before it had answered everything"
        except grpc.RpcError:
            code, message = self._call.code().name, self._call.details() or ""
        if self._late:
            code, message = "DEADLINE_EXCEEDED", "no answer on the stream in time"
        now = time.monotonic()
        self._outbox.put(None)  # grpc's thread waits there
        for done in self._lost(self):
            done(Outcome(now, code=code, message=message))

    def _watch(self) -> None:
        """A message on a stream has no deadline of its own; this keeps them."""
        while self._call.is_active():
            time.sleep(WATCH_SECONDS)
            try:
                deadline, _ = self._waiting[0]
            except IndexError:
                continue
            if time.monotonic() > deadline:
                self._late = True
                self._call.cancel()
