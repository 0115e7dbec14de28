"""A client of the inference service: arrays and image files in, classes and probabilities out."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from client.channel import ServiceClient, select
from client.errors import RpcError, rpc_errors
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import tensor_pb2
from shared.pb.weightcast.v1.inference_service_pb2_grpc import InferenceServiceStub

DATA_TYPES: dict[np.dtype[np.uint8 | np.float32], tensor_pb2.DataType.ValueType] = {
    np.dtype(np.uint8): tensor_pb2.DATA_TYPE_UINT8,
    np.dtype(np.float32): tensor_pb2.DATA_TYPE_FLOAT32,
}

# A batch: an array (rows, …input_shape), or PNG or JPEG files.
Examples = npt.NDArray[np.uint8 | np.float32] | Sequence[bytes]

WAIT_POLL_SECONDS = 0.02
ROUTING_KEY, REQUEST_ID = "weightcast-routing-key", "x-request-id"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a batch was classified as, and by which version.

    Attributes:
        class_ids: (rows, top_k), best first.
        scores: the probability of each of those classes, float32 (rows, top_k).
        class_labels: the name of each class, by class id.
        probabilities: float32 (rows, classes), or None where they were not asked for.
        model, version, digest: what answered.
    """

    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    class_labels: tuple[str, ...]
    probabilities: npt.NDArray[np.float32] | None
    model: str
    version: int
    digest: str

    @property
    def labels(self) -> list[str]:
        """The name of each row's best class."""
        return [self.class_labels[class_id] for class_id in self.class_ids[:, 0]]


class InferenceClient(ServiceClient):
    """Calls to one inference service. Safe to share between threads; close it or use it in a `with`."""

    def __init__(self, address: str = "127.0.0.1:50052", *, timeout: float = 30.0, retry: bool = True) -> None:
        super().__init__(address, timeout=timeout, retry=retry)
        self.stub = InferenceServiceStub(self._channel)

    def classify(
        self,
        model: str,
        examples: Examples,
        *,
        version: int | str | None = None,
        top_k: int = 1,
        include_probabilities: bool = False,
        routing_key: str | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Classifies a batch: an array (rows, …input_shape) of uint8 or float32, or PNG or JPEG files.

        `version` is a number or an alias; None means what is live, or what a rollout tries in its place, which is the
        same for the same `routing_key`, such as a user's id. `request_id` stands in the service's log where the request
        does.

        Raises:
            RpcError: with the service's reason.
            TypeError: if an array is neither uint8 nor float32.
        """
        request = request_for(
            model, examples, version=version, top_k=top_k, include_probabilities=include_probabilities
        )
        metadata = metadata_of(routing_key, request_id)
        with rpc_errors():
            return prediction_of(self.stub.Classify(request, timeout=self._timeout, metadata=metadata))

    def classify_stream(
        self,
        model: str,
        batches: Iterable[Examples],
        *,
        version: int | str | None = None,
        top_k: int = 1,
        include_probabilities: bool = False,
        routing_key: str | None = None,
        request_id: str | None = None,
    ) -> Iterator[Prediction]:
        """Classifies batch after batch on one stream and yields their answers in order, while more are sent.

        For many small batches: each costs a fraction of a `classify`. It has no deadline, and nothing is sent again.
        `routing_key` and `request_id` are the whole stream's.

        Raises:
            RpcError: with the service's reason, where a batch is wrong or the connection is lost; the answers to the
                batches before it have come.
            TypeError: if an array is neither uint8 nor float32; and whatever `batches` raises.
        """
        failure: list[Exception] = []
        form = partial(request_for, model, version=version, top_k=top_k, include_probabilities=include_probabilities)

        def requests() -> Iterator[pb.ClassifyStreamRequest]:
            try:
                for examples in batches:
                    yield pb.ClassifyStreamRequest(request=form(examples))
            except Exception as error:  # noqa: BLE001 - raised here it would be lost in a thread of gRPC's
                failure.append(error)

        with rpc_errors():
            for response in self.stub.ClassifyStream(requests(), metadata=metadata_of(routing_key, request_id)):
                yield prediction_of(response.response)
        if failure:
            raise failure[0]

    def status(self, model: str) -> pb.ModelStatus:
        """What the service serves for one model."""
        with rpc_errors():
            return self.stub.GetModelStatus(pb.GetModelStatusRequest(model=model), timeout=self._timeout).status

    def served_models(self) -> list[pb.ModelStatus]:
        """What the service serves for every model."""
        with rpc_errors():
            return list(self.stub.ListServedModels(pb.ListServedModelsRequest(), timeout=self._timeout).models)

    def wait_for_version(self, model: str, version: int, seconds: float) -> None:
        """Returns when `version`, or a later one, is what answers for the model.

        Raises:
            TimeoutError: if it is not within `seconds`; says why the service refused it, if it did.
        """
        deadline = time.monotonic() + seconds
        why = "not known there yet"
        while time.monotonic() < deadline:
            try:
                status = self.status(model)
            except RpcError as error:
                why = error.message
            else:
                if status.live.version >= version:
                    return
                why = status.failure.message or f"version {status.live.version} is served"
            time.sleep(WAIT_POLL_SECONDS)
        raise TimeoutError(f"version {version} of {model!r} was not served within {seconds:g} s: {why}")


def metadata_of(routing_key: str | None, request_id: str | None) -> tuple[tuple[str, str], ...]:
    """What a call says beside its message."""
    said = ((ROUTING_KEY, routing_key), (REQUEST_ID, request_id))
    return tuple((name, value) for name, value in said if value is not None)


def request_for(
    model: str, examples: Examples, *, version: int | str | None, top_k: int, include_probabilities: bool
) -> pb.ClassifyRequest:
    """A batch as a message.

    Raises:
        TypeError: if an array is neither uint8 nor float32.
    """
    request = pb.ClassifyRequest(model=model, top_k=top_k, include_probabilities=include_probabilities)
    select(request, version)
    if isinstance(examples, np.ndarray):
        request.tensor.CopyFrom(tensor_of(examples))
    else:
        request.images.files.extend(examples)
    return request


def tensor_of(array: npt.NDArray[np.uint8 | np.float32]) -> tensor_pb2.Tensor:
    """An array as a tensor message.

    Raises:
        TypeError: if it is neither uint8 nor float32.
    """
    if array.dtype not in DATA_TYPES:
        raise TypeError(f"got an array of {array.dtype}, expected uint8 or float32; convert it with .astype()")
    return tensor_pb2.Tensor(
        data_type=DATA_TYPES[array.dtype], shape=array.shape, contents=np.ascontiguousarray(array).tobytes()
    )


def array_of(tensor: tensor_pb2.Tensor) -> npt.NDArray[np.uint8 | np.float32]:
    """A tensor message as a read-only array."""
    dtype = next(dtype for dtype, data_type in DATA_TYPES.items() if data_type == tensor.data_type)
    return np.frombuffer(tensor.contents, dtype).reshape(tuple(tensor.shape))


def prediction_of(response: pb.ClassifyResponse) -> Prediction:
    """A response as arrays."""
    shape = (-1, response.top_k)
    probabilities = None
    if response.HasField("probabilities"):
        probabilities = array_of(response.probabilities).astype(np.float32, copy=False)
    return Prediction(
        class_ids=np.array(response.class_ids, np.int64).reshape(shape),
        scores=np.array(response.scores, np.float32).reshape(shape),
        class_labels=tuple(response.class_labels),
        probabilities=probabilities,
        model=response.served_by.model,
        version=response.served_by.version,
        digest=response.served_by.digest,
    )
