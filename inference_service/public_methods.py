"""The methods that the polling loop answers, by grpcio's public interface: for a grpcio that the loop does not know.

The same protocols and the same answering, a thread of the pool for each call and no company in a product.
"""

from collections.abc import Callable, Iterator, Sequence

import grpc

from inference_service.answering import Answering
from inference_service.questions import Protocol
from shared.grpc_errors import Handler, status_of_any


class PublicMethods(grpc.ServerInterceptor):
    """Answers the methods of `protocols` from their bytes, before any servicer is asked."""

    def __init__(self, protocols: Sequence[Protocol], answering: Answering) -> None:
        self._handlers = {protocol.method: handler(protocol, answering) for protocol in protocols}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of a method that is answered here, or whatever follows."""
        return self._handlers.get(handler_call_details.method) or continuation(handler_call_details)


def handler(protocol: Protocol, answering: Answering) -> Handler:
    """Answers the calls of one method; bytes go in and out."""

    def one(message: bytes, _context: grpc.ServicerContext) -> bytes:
        return answering.answer(protocol, message)

    def many(messages: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for message in messages:
            try:
                yield answering.answer(protocol, message)
            except Exception as error:
                refusal = protocol.refusal(status_of_any(error, protocol.method).message, message)
                if refusal is None:
                    raise
                yield refusal

    if protocol.streaming:
        return grpc.stream_stream_rpc_method_handler(many)
    return grpc.unary_unary_rpc_method_handler(one)
