"""What every server is asked: a 784–256–10 network of random weights, and requests to it as files for h2load.

Promises: a server is only measured after its answer to the very request was compared with NumPy's.
"""

import struct
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.contenders.plain_forward import PlainForward
from benchmarks.publish_to_answer import HIDDEN, MODEL, made_up_dataset, snapshots
from client.channel import open_channel
from client.inference_client import array_of, tensor_of
from client.load.methods import METHODS
from shared import snapshot_codec
from shared.model_version import StoredSnapshot
from shared.pb.inference import open_inference_service_pb2 as open_pb
from shared.pb.weightcast.v1 import inference_service_pb2 as pb

TOLERANCE = 1e-5
SECONDS = 20.0


class WrongServerError(Exception):
    """A server whose answer is not NumPy's."""


@dataclass(frozen=True)
class Body:
    """One kind of request: `method` is a name in METHODS, or "http" for the raw rows."""

    method: str = "classify"
    rows: int = 1
    dtype: str = "float32"

    @property
    def path(self) -> str:
        """Where it goes."""
        return "/classify" if self.method == "http" else METHODS[self.method].path


class Task:
    """The network and the requests, with their files in `folder`."""

    def __init__(self, folder: Path, hidden: Sequence[int] = HIDDEN) -> None:
        rng = np.random.default_rng(0)
        self.snapshot: StoredSnapshot
        (self.snapshot,) = snapshots(1, made_up_dataset(rng), rng, hidden)
        self.weights = folder / "weights.npz"
        views: dict[str, Any] = snapshot_codec.decode(self.snapshot).network.views
        np.savez(self.weights, **views)
        self._forward = PlainForward(self.weights)
        self._folder = folder

    def examples(self, body: Body) -> np.ndarray[Any, Any]:
        """The rows of a request, (rows, 784)."""
        rng = np.random.default_rng(body.rows)
        values = rng.integers(0, 256, (body.rows, 784), dtype=np.uint8)
        return values if body.dtype == "uint8" else values.astype(np.float32) / np.float32(255)

    def message(self, body: Body, *, probabilities: bool = False) -> bytes:
        """A request's bytes as its method has them."""
        examples = self.examples(body)
        if body.method == "http":
            return examples.tobytes()
        request = pb.ClassifyRequest(model=MODEL, tensor=tensor_of(examples), include_probabilities=probabilities)
        encoded = METHODS[body.method].encode(request)
        if not (body.method == "infer" and probabilities):
            return encoded
        asked = open_pb.ModelInferRequest.FromString(encoded)
        del asked.outputs[:]
        asked.outputs.add(name="probabilities")
        return asked.SerializeToString()

    def file(self, body: Body) -> Path:
        """A request as h2load sends it: a gRPC message after its prefix, or the bytes alone."""
        path = self._folder / f"{body.method}-{body.rows}-{body.dtype}"
        if not path.exists():
            message = self.message(body)
            prefix = b"" if body.method == "http" else b"\0" + struct.pack(">I", len(message))
            path.write_bytes(prefix + message)
        return path

    def check(self, address: str, body: Body) -> None:
        """Returns if the server computes what NumPy does.

        Raises:
            WrongServerError: if it does not.
        """
        answer = ask(address, body, self.message(body, probabilities=True))
        match body.method:
            case "http":
                found = np.frombuffer(answer, np.float32).reshape(body.rows, -1)
            case "infer":
                raw = open_pb.ModelInferResponse.FromString(answer).raw_output_contents[0]
                found = np.frombuffer(raw, np.float32).reshape(body.rows, -1)
            case "stream":
                response = pb.ClassifyStreamResponse.FromString(answer).response
                found = array_of(response.probabilities).astype(np.float32)
            case _:
                found = array_of(pb.ClassifyResponse.FromString(answer).probabilities).astype(np.float32)
        expected = self._forward.probabilities(self.examples(body))
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
            raise WrongServerError(f"{address} answers {body} with other probabilities than NumPy does")

    def answer_bytes(self, address: str, body: Body) -> int:
        """How many bytes of data the right answer to a request's file has."""
        return len(ask(address, body, self.message(body))) + (0 if body.method == "http" else 5)


def ask(address: str, body: Body, message: bytes) -> bytes:
    """One answer's bytes, by a client that is not the load's.

    Raises:
        grpc.RpcError, OSError: if there is none.
    """
    if body.method == "http":
        request = urllib.request.Request(f"http://{address}{body.path}", data=message)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS) as response:
            answer: bytes = response.read()
        return answer
    with open_channel(address, retry=False) as channel:
        found: bytes
        if METHODS[body.method].streams:
            stream: Any = channel.stream_stream(body.path)
            (found,) = stream(iter([message]), timeout=SECONDS)
        else:
            call: Any = channel.unary_unary(body.path)
            found = call(message, timeout=SECONDS)
    return found


def is_right(task: Task, address: str, body: Body) -> bool:
    """Whether the server answers already, and rightly."""
    try:
        task.check(address, body)
    except grpc.RpcError:
        return False
    return True
