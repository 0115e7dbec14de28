"""The methods that the polling loop answers, by grpcio's public interface: for a grpcio that the loop does not know.

The same protocols and the same answering, a thread of the pool for each call and no company in a product.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence

import grpc

from inference_service.answering import Answering
from inference_service.callers import Caller, Counts
from inference_service.questions import Protocol
from inference_service.refusing import note, refused
from inference_service.request_log import RequestLog
from shared.grpc_errors import Handler


class PublicCaller(Caller):
    """Who waits in a thread of his own."""

    __slots__ = ("_context",)

    def __init__(self, protocol: Protocol, counts: Counts, context: grpc.ServicerContext) -> None:
        left = context.time_remaining()
        deadline = sys.float_info.max if left is None else time.time() + left
        metadata = [(key, value) for key, value in context.invocation_metadata()]
        super().__init__(protocol.method, counts, metadata, deadline)
        self._context = context

    def waits(self) -> bool:
        """Whether an answer would still reach him."""
        self.has_gone = not self._context.is_active()
        return super().waits()


class PublicMethods(grpc.ServerInterceptor):
    """Answers the methods of `protocols` from their bytes, before any servicer is asked."""

    def __init__(
        self,
        protocols: Sequence[Protocol],
        answering: Answering,
        counts: Callable[[str], Counts],
        request_log: RequestLog,
    ) -> None:
        self._answering = answering
        self._log = request_log
        self._handlers = {protocol.method: self._handler(protocol, counts(protocol.method)) for protocol in protocols}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of a method that is answered here, or whatever follows."""
        return self._handlers.get(handler_call_details.method) or continuation(handler_call_details)

    def _handler(self, protocol: Protocol, counts: Counts) -> Handler:
        """Answers the calls of one method; bytes go in and out."""

        def one(message: bytes, context: grpc.ServicerContext) -> bytes:
            caller = PublicCaller(protocol, counts, context)
            try:
                return self._answering.answer(protocol, message, caller)
            except Exception as error:
                note(caller, error, self._log)
                raise

        def many(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            for message in messages:
                caller = PublicCaller(protocol, counts, context)
                try:
                    yield self._answering.answer(protocol, message, caller)
                except Exception as error:
                    refusal = protocol.refusal(refused(caller, error, self._log).message, message)
                    if refusal is None:
                        raise
                    yield refusal

        if protocol.streaming:
            return grpc.stream_stream_rpc_method_handler(many)
        return grpc.unary_unary_rpc_method_handler(one)
