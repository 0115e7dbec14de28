"""Answers the methods that have to be fast in the very thread that polls for them; the rest is left to grpcio.

grpcio's own server hands each call from its polling thread to a pool and back, which costs more than a small
product. This drives the same completion queue by grpcio's private interface: it takes calls as they come, lets
everything that has arrived be answered together, and passes every other event on to grpcio's own machinery on the same
port. `why_not` says whether the grpcio that is installed is one that this was tested with and looks as expected.
"""

import inspect
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog
from grpc import _server as private
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave out what is private

from inference_service.answering import Answering
from inference_service.callers import Counts
from inference_service.fast_calls import Event, Route, Tag, begin_unary
from inference_service.fast_streams import begin_stream
from inference_service.questions import Protocol
from inference_service.request_log import RequestLog

TESTED_VERSIONS = ("1.85.",)
OUTSTANDING = 128  # calls of each method that are taken without another look
# After so many others are asked for in their place, all at once: after each, that was a fortieth of the whole way there
# and back of one request alone.
MOST_TAKEN = 32
# Taken together where many come, before the first is looked at: what each step runs is in the processor's cache then.
MOST_EVENTS = 64
AT_ONCE = 0.0  # a deadline in the past: return what is there
# To be woken takes longer than to answer one row (measured: a fifth of the whole way there and back), so after an
# answer that came soon after another, the thread looks for the next request this long before it sleeps.
BRISK_SECONDS, AWAKE_SECONDS = 600e-6, 250e-6
EXPECTED = {
    private._Server: ("_state", "start"),  # noqa: SLF001
    private._ServerStage: ("STARTED", "STOPPED"),  # noqa: SLF001
    private: ("_process_event_and_continue", "_request_call", "_request_registered_call", "_stop_serving"),
    cygrpc.Server: ("request_registered_call", "start"),
    cygrpc.CompletionQueue: ("poll",),
    cygrpc.Call: ("start_server_batch",),
    cygrpc: (
        "ReceiveCloseOnServerOperation",
        "ReceiveMessageOperation",
        "SendInitialMetadataOperation",
        "SendMessageOperation",
        "SendStatusFromServerOperation",
    ),
}
log = structlog.get_logger()


def is_tested() -> bool:
    """Whether the grpcio that is installed is one that this was tested with."""
    return grpc.__version__.startswith(TESTED_VERSIONS)


def why_not(server: grpc.Server) -> str | None:
    """Why the loop cannot serve for `server`; None if it can."""
    if not is_tested():
        return f"grpcio {grpc.__version__} is not one it was tested with ({', '.join(TESTED_VERSIONS)}*)"
    for owner, names in EXPECTED.items():
        for name in names:
            if not hasattr(owner, name) and name not in getattr(owner, "__annotations__", {}):
                return f"grpcio has no {getattr(owner, '__name__', owner)}.{name}"
    if not isinstance(server, private._Server):  # noqa: SLF001
        return f"the server is a {type(server).__name__}"
    state = server._state  # noqa: SLF001
    missing = {"completion_queue", "due", "lock", "registered_method_handlers", "server", "stage"} - set(vars(state))
    if missing:
        return f"grpcio's server state has no {', '.join(sorted(missing))}"
    parameters = list(inspect.signature(private._process_event_and_continue).parameters)  # noqa: SLF001
    return None if parameters == ["state", "event"] else f"events are processed from {parameters}"


class PollingLoop:
    """Serves `protocols` by `answering`, and everything else by what is registered with the server.

    `counts` gives where the requests of a method are counted.
    """

    def __init__(
        self,
        protocols: Sequence[Protocol],
        answering: Answering,
        counts: Callable[[str], Counts],
        request_log: RequestLog,
    ) -> None:
        self._protocols = protocols
        self._answering = answering
        self._counts = counts
        self._log = request_log
        self._comes_in_numbers = False
        self._taken: list[Route] = []  # for each call that came, until another is asked for in its place
        self._answered = self._awake_until = 0.0  # times of time.perf_counter

    def start(self, server: Any) -> None:  # noqa: ANN401 - a grpc.Server that `why_not` has nothing against
        """Begins to serve, in place of the server's own `start`."""
        state = server._state  # noqa: SLF001
        ours = {protocol.method for protocol in self._protocols}
        with state.lock:
            state.server.start()
            state.stage = private._ServerStage.STARTED  # noqa: SLF001
            for method in state.registered_method_handlers:
                if method not in ours:
                    private._request_registered_call(state, method)  # noqa: SLF001
            private._request_call(state)  # noqa: SLF001
            for protocol in self._protocols:
                request_calls(state, [self._route(protocol)] * OUTSTANDING)
            state.due.add(self)  # the server does not stop before the last call of ours
        threading.Thread(target=self._run, args=(state,), name="polling", daemon=True).start()

    def _route(self, protocol: Protocol) -> Route:
        begin_call = begin_stream if protocol.streaming else begin_unary
        counts = self._counts(protocol.method)
        return Route(protocol, self._answering, counts, self._log, on_call=self._taken.append, begin=begin_call)

    def _run(self, state: Any) -> None:  # noqa: ANN401
        try:
            self._serve(state)
        except BaseException:
            log.exception("nothing can be answered any more; ending the process, so that it is started again")
            os._exit(1)

    def _serve(self, state: Any) -> None:  # noqa: ANN401
        poll, answering = state.completion_queue.poll, self._answering
        owed = OUTSTANDING * len(self._protocols)  # calls that did not come or have not ended, and watches over some
        while owed or not self._has_stopped(state):
            if self._comes_in_numbers or answering.has_collected:
                events = self._taken_together(poll)
            elif time.perf_counter() < self._awake_until:
                events = [poll(AT_ONCE)]
            else:
                answering.rest()
                events = [poll(None)]
            for event in events:
                tag = event.tag
                try:
                    if tag is None:
                        self._on_nothing_more()
                    elif isinstance(tag, Tag):
                        owed += tag.on_event(event)
                    elif not private._process_event_and_continue(state, event):  # noqa: SLF001
                        return
                except Exception:
                    log.exception("an event could not be processed; going on with the next")
            if len(self._taken) >= MOST_TAKEN:
                owed += request_calls(state, self._taken)
                self._taken.clear()
            events, event, tag = [], None, None  # a call that is kept until the next event would keep its connection

    def _taken_together(self, poll: Callable[[float], Event]) -> list[Event]:
        """All that has come, but no more than so much, up to an event without a tag, which says that it is all."""
        events = [poll(AT_ONCE)]
        while events[-1].tag is not None and len(events) < MOST_EVENTS:
            events.append(poll(AT_ONCE))
        self._comes_in_numbers = len(events) > 1
        return events

    def _on_nothing_more(self) -> None:
        """Answers what has come; where requests follow each other closely, stays awake a moment for the next."""
        if not self._answering.has_collected:
            os.sched_yield()  # awake, but not at the cost of anybody who has something to do
            return
        self._answering.on_nothing_more()
        before, self._answered = self._answered, time.perf_counter()
        is_brisk = self._answered - before < BRISK_SECONDS
        self._awake_until = self._answered + AWAKE_SECONDS if is_brisk else 0.0

    def _has_stopped(self, state: Any) -> bool:  # noqa: ANN401
        """Lets the server stop, now that nothing of ours is left, and says whether it has."""
        with state.lock:
            state.due.discard(self)
            return bool(private._stop_serving(state))  # noqa: SLF001


def request_calls(state: Any, routes: Sequence[Route]) -> int:  # noqa: ANN401
    """Asks for one more call of each of these methods; returns how many may come, 0 if the server is shutting down."""
    with state.lock:
        if state.stage is not private._ServerStage.STARTED:  # noqa: SLF001
            return 0
        server, queue = state.server, state.completion_queue
        for route in routes:
            server.request_registered_call(queue, queue, route.method, route)
    return len(routes)


def begin(loop: PollingLoop, polling: str, server: grpc.Server) -> None:
    """Serves by the loop where it is wanted and can, and by grpcio's public interface otherwise, which is slower."""
    reason = why_not(server) if polling == "auto" else f"WEIGHTCAST_INFERENCE_POLLING is {polling}"
    if reason is None:
        loop.start(server)
    else:
        log.warning("serving by grpcio's public interface, at a fraction of the speed", reason=reason)
        server.start()
