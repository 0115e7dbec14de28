"""Classify against anything: whatever a request holds, it is answered or refused with a reason, and never breaks."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import grpc
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from client.inference_client import InferenceClient
from shared.pb.weightcast.v1 import inference_service_pb2, tensor_pb2, training_pb2

EXPECTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)


def encoded(image_format: str) -> bytes:
    """A good image file."""
    file = BytesIO()
    Image.effect_noise((9, 7), 90).save(file, image_format)
    return file.getvalue()


FILES = (encoded("PNG"), encoded("JPEG"))


@st.composite
def damaged(draw: st.DrawFn, files: tuple[bytes, ...]) -> bytes:
    """An image file with a part overwritten or its end cut off."""
    file = draw(st.sampled_from(files))
    start = draw(st.integers(0, len(file)))
    if draw(st.booleans()):
        return file[:start]
    patch = draw(st.binary(max_size=8))
    return file[:start] + patch + file[start + len(patch) :]


@st.composite
def right_tensors(draw: st.DrawFn) -> tensor_pb2.Tensor:
    """A tensor that the model takes."""
    rows = draw(st.integers(1, 3))
    values = draw(st.lists(st.integers(0, 16), min_size=64 * rows, max_size=64 * rows))
    shape = draw(st.sampled_from([(rows, 64), (rows, 8, 8)]))
    return tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_UINT8, shape=shape, contents=bytes(values))


# Much is right or nearly right, so that the later checks, and answers, are reached too.
TENSORS = st.builds(
    tensor_pb2.Tensor,
    data_type=st.one_of(st.sampled_from([0, 1, 2]), INT32),
    shape=st.one_of(
        st.sampled_from([[1, 64], [2, 8, 8], [1, 784]]), st.lists(st.one_of(INT64, st.integers(-1, 65)), max_size=5)
    ),
    contents=st.one_of(
        st.sampled_from([bytes(64), bytes(128), bytes(256), b"\xff" * 64, b"\xff" * 256, b"\x00\x00\x80\x3f" * 64]),
        st.binary(max_size=600),
        st.binary(min_size=256, max_size=256),
    ),
)
IMAGES = st.builds(
    inference_service_pb2.EncodedImages,
    files=st.lists(
        st.one_of(st.sampled_from(FILES), st.sampled_from(FILES), st.binary(max_size=60), damaged(FILES)), max_size=3
    ),
)
RIGHT = tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_UINT8, shape=(1, 64), contents=bytes(64))
INPUTS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"tensor": right_tensors()}),
    st.fixed_dictionaries({"tensor": TENSORS}),
    st.fixed_dictionaries({"images": IMAGES}),
    st.just({}),
)
SELECTORS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({}),
    st.fixed_dictionaries({"version": st.one_of(st.just(1), INT64)}),
    st.fixed_dictionaries({"alias": st.one_of(st.sampled_from(["live", "latest"]), st.text(max_size=20))}),
)


@st.composite
def requests(draw: st.DrawFn) -> inference_service_pb2.ClassifyRequest:
    """Any request, every field of it."""
    return inference_service_pb2.ClassifyRequest(
        model=draw(st.one_of(*[st.just("digits")] * 3, st.text(max_size=70))),
        top_k=draw(st.one_of(*[st.integers(0, 10)] * 3, INT32)),
        include_probabilities=draw(st.booleans()),
        **draw(SELECTORS),
        **draw(INPUTS),
    )


def test_no_request_breaks_the_service(
    inference: InferenceClient, trained: training_pb2.TrainingJob, refusal_of: Callable[[grpc.RpcError], Any]
) -> None:
    """200 random requests: an answer of the right size, or one of the table's refusals with a reason."""
    answered = 0

    @given(request=requests())
    @example(inference_service_pb2.ClassifyRequest(model="digits", tensor=RIGHT, top_k=10, include_probabilities=True))
    @example(
        inference_service_pb2.ClassifyRequest(
            model="digits", version=1, images=inference_service_pb2.EncodedImages(files=FILES)
        )
    )
    @settings(max_examples=200, deadline=None, database=None)
    def send(request: inference_service_pb2.ClassifyRequest) -> None:
        nonlocal answered
        try:
            response = inference.stub.Classify(request, timeout=20)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            assert refusal.code in EXPECTED, refusal
            assert refusal.reason
            assert bool(refusal.violations) == (refusal.code is grpc.StatusCode.INVALID_ARGUMENT)
            return
        answered += 1
        rows = request.tensor.shape[0] if request.HasField("tensor") else len(request.images.files)
        assert len(response.class_ids) == len(response.scores) == rows * max(1, request.top_k)
        assert response.HasField("probabilities") == request.include_probabilities
        assert (response.served_by.model, response.served_by.digest) == ("digits", trained.digest)
        assert np.isfinite(response.scores).all()

    send()
    assert answered > 2  # more than the examples: not everything that is made up is refused
    prediction = inference.classify("digits", np.zeros((1, 8, 8), np.uint8))
    assert (prediction.version, prediction.digest) == (1, trained.digest)
