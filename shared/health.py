"""What health checks answer, by the standard protocol: whoever asks is told at once, whoever watches when it changes.

Nobody who changes a state waits for those who watch, and none of these for another: each has a thread of few. (The
servicer of grpcio-health-checking sends under one lock, which a client that does not read holds for ever.)
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

# The health service that is SERVING as long as the process runs; readiness is "", the server as a whole.
LIVENESS = "liveness"
READINESS = ""
MOST_WATCHES = 100
State = int  # a HealthCheckResponse.ServingStatus
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1.Health. A check by name is NOT_SERVING until it is set."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {LIVENESS: SERVING, READINESS: NOT_SERVING}
        self._watches = 0
        self._is_shut_down = self._has_ended = False
        self._changed = threading.Condition()

        def watch(request: HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[HealthCheckResponse]:
            return self._watch(request.service, context)

        # grpcio's way of giving a method threads of its own: those of the server are for who asks.
        watch.experimental_thread_pool = ThreadPoolExecutor(MOST_WATCHES + 1, thread_name_prefix="watch")  # type: ignore[attr-defined]
        self.Watch = watch  # type: ignore[method-assign]

    def set_serving(self, name: str, *, serving: bool) -> None:
        """Changes what a check by `name` answers; who watches it is told when it differs."""
        with self._changed:
            state = SERVING if serving and not self._is_shut_down else NOT_SERVING
            if self._states.get(name) != state:
                self._states[name] = state
                self._changed.notify_all()

    def shut_down(self) -> None:
        """Answers NOT_SERVING to everything from now on."""
        with self._changed:
            self._is_shut_down = True
            self._states = dict.fromkeys(self._states, NOT_SERVING)
            self._changed.notify_all()

    def end_watches(self) -> None:
        """Ends all of them, once they have said the last: a server that stops would wait for them as for any call."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def Check(self, request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:  # noqa: N802
        """Answers what is now; NOT_FOUND for a name that nobody has set."""
        with self._changed:
            state = self._states.get(request.service)
        if state is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"nothing is known of {request.service[:80]!r}")
        return HealthCheckResponse(status=state)

    def _watch(self, name: str, context: grpc.ServicerContext) -> Iterator[HealthCheckResponse]:
        """Tells what is now and each change, until the client hangs up or the server ends."""
        gone = threading.Event()

        def on_gone() -> None:
            gone.set()
            with self._changed:
                self._changed.notify_all()

        with self._changed:
            is_one_too_many = self._watches >= MOST_WATCHES
            self._watches += 1
        try:
            if is_one_too_many:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_WATCHES} watch already; use Check instead")
            if not context.add_callback(on_gone):
                return
            yield from self._states_of(name, gone)
        finally:
            with self._changed:
                self._watches -= 1

    def _states_of(self, name: str, gone: threading.Event) -> Iterator[HealthCheckResponse]:
        last: State | None = None
        is_over = False
        while not is_over:
            with self._changed:
                while not (is_over := self._has_ended or gone.is_set()) and self._state_of(name) == last:
                    self._changed.wait()
                state = self._state_of(name)
            if state != last:
                last = state
                yield HealthCheckResponse(status=state)

    def _state_of(self, name: str) -> State:
        return self._states.get(name, HealthCheckResponse.SERVICE_UNKNOWN)
