"""Counts the calls that grpcio serves: every method of ours that the fast path does not answer, and health checks.

It stands before everything else that calls pass through, so it sees what the client is told.
"""

import functools
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import grpc

from inference_service.metrics.counted import CODES
from inference_service.metrics.statistics import MethodCounts, Statistics
from shared.grpc_errors import Handler

COUNTED = ("/weightcast.", "/inference.", "/grpc.health.")
OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED = map(CODES.index, ("OK", "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED"))


class CountedMethods(grpc.ServerInterceptor):
    """Counts each call when it ends, before its client knows; methods in `besides` are counted by others."""

    def __init__(self, statistics: Statistics, besides: Collection[str]) -> None:
        self._statistics = statistics
        self._besides = frozenset(besides)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wraps the method's behaviour, whichever of the four kinds it is; an unknown method is not counted."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method in self._besides or not method.startswith(COUNTED):
            return handler
        counts = self._statistics.method(method)
        for kind in ("unary_unary", "stream_unary", "unary_stream", "stream_stream"):
            if (behaviour := getattr(handler, kind)) is not None:
                wrap = counted_stream if handler.response_streaming else counted
                return getattr(grpc, f"{kind}_rpc_method_handler")(  # type: ignore[no-any-return]
                    wrap(behaviour, counts), handler.request_deserializer, handler.response_serializer
                )
        return handler


def counted(behaviour: Callable[..., Any], counts: MethodCounts) -> Callable[..., Any]:
    """A method with one response."""

    @functools.wraps(behaviour)
    def call(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401 - any message
        begin, otherwise = time.perf_counter(), UNKNOWN
        try:
            response = behaviour(request, context)
            otherwise = OK if context.is_active() and context.time_remaining() else code_of_lost(context)
            return response
        finally:
            counts.ended(code_of(context, otherwise), time.perf_counter() - begin)

    return call


def counted_stream(behaviour: Callable[..., Any], counts: MethodCounts) -> Callable[..., Iterator[Any]]:
    """A method with a stream of responses."""

    @functools.wraps(behaviour)
    def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: ANN401 - any message
        begin, otherwise = time.perf_counter(), UNKNOWN
        try:
            yield from behaviour(request, context)
            otherwise = OK if context.is_active() and context.time_remaining() else code_of_lost(context)
        except GeneratorExit:  # nobody takes more of it
            otherwise = code_of_lost(context)
            raise
        finally:
            counts.ended(code_of(context, otherwise), time.perf_counter() - begin)

    return call


def code_of(context: grpc.ServicerContext, otherwise: int) -> int:
    """The number of the code that the method has set, if it has."""
    code: grpc.StatusCode | None = context.code()  # type: ignore[attr-defined]  # which its stubs have forgotten
    return otherwise if code is None else int(code.value[0])


def code_of_lost(context: grpc.ServicerContext) -> int:
    """The number of the code that the client of a call sees that has ended without us."""
    return CANCELLED if context.time_remaining() else DEADLINE_EXCEEDED
