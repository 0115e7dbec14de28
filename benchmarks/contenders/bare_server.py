"""grpcio as its tutorial shows it: a thread pool of ten, the same contract and network, a forward pass in NumPy.

With "echo" it computes nothing and gives everything the same answer: no server of that kind can be faster.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from benchmarks.contenders.plain_forward import PlainForward, own_forward, tell_port
from shared.blas import running_kernel
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import tensor_pb2
from shared.pb.weightcast.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)

DTYPES = {tensor_pb2.DATA_TYPE_UINT8: np.uint8, tensor_pb2.DATA_TYPE_FLOAT32: np.float32}
WORKERS = 10


class Bare(InferenceServiceServicer):
    """Classify alone, without a check of what came."""

    def __init__(self, forward: PlainForward) -> None:
        self._forward = forward

    def Classify(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:  # noqa: ARG002, N802
        """The best class of each row."""
        tensor = request.tensor
        rows = np.frombuffer(tensor.contents, DTYPES[tensor.data_type]).reshape(tensor.shape[0], -1)
        probabilities = self._forward.probabilities(rows)
        response = pb.ClassifyResponse(
            class_ids=probabilities.argmax(axis=1).tolist(), scores=probabilities.max(axis=1).tolist(), top_k=1
        )
        if request.include_probabilities:
            response.probabilities.data_type = tensor_pb2.DATA_TYPE_FLOAT32
            response.probabilities.shape.extend(probabilities.shape)
            response.probabilities.contents = probabilities.tobytes()
        return response


class Echo(InferenceServiceServicer):
    """Classify that answers without looking."""

    def __init__(self) -> None:
        self._answer = pb.ClassifyResponse(class_ids=[1], scores=[1.0], top_k=1)

    def Classify(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:  # noqa: ARG002, N802
        """Always the same."""
        return self._answer


def main() -> None:
    """Serves until it is ended."""
    servicer = Echo() if sys.argv[1:] == ["echo"] else Bare(own_forward())  # type: ignore[abstract]
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=[("grpc.max_receive_message_length", -1)])
    add_InferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"blas_kernel={running_kernel()}", flush=True)
    tell_port(port)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
