"""What a load test sends is what the service takes, for images and for tables, whatever the method."""

import numpy as np
import pytest

from client.load import batches
from client.load.methods import METHODS, WrongAnswerError
from inference_service.inputs import check_values
from inference_service.questions import TensorNames
from shared.network_codec import preprocessing_to_proto
from shared.pb.inference import open_inference_service_pb2 as open_pb
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.preprocessing import Preprocessing, Standardisation

FEW_SHADES = Preprocessing((4, 4), uint8_scale=1 / 16)
TABLE = Preprocessing(
    (2,),
    uint8_scale=1.0,
    feature_min=-50.0,
    feature_max=1e30,
    standardisation=Standardisation(np.array([-50, 1e6], np.float32), np.array([10, 1e-3], np.float32)),
)


@pytest.mark.parametrize("preprocessing", [FEW_SHADES, TABLE])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_random_examples_are_accepted(preprocessing: Preprocessing, dtype: str) -> None:
    """They fill the range that the manifest records and do not leave it."""
    examples = batches.random_examples(preprocessing_to_proto(preprocessing), 500, dtype)
    rows = examples.reshape(500, -1)
    assert examples.shape == (500, *preprocessing.input_shape)
    assert examples.dtype == dtype
    check_values(rows, preprocessing, TensorNames())
    assert len(np.unique(rows[:, 0])) > 10


def test_batches_go_round_the_examples() -> None:
    """A last batch that the examples do not fill begins again with them, so that every batch is whole."""
    examples = np.arange(5, dtype=np.uint8).reshape(5, 1)
    assert [batch.ravel().tolist() for batch in batches.batches(examples, 2)] == [[0, 1], [2, 3], [4, 0]]
    assert [batch.ravel().tolist() for batch in batches.batches(examples, 7)] == [[0, 1, 2, 3, 4, 0, 1]]


def test_every_method_carries_the_same_batch_and_reads_its_answer() -> None:
    """The tensor's bytes, the model and the version arrive; an answer to fewer rows is none."""
    examples = batches.random_examples(preprocessing_to_proto(FEW_SHADES), 3, "uint8")
    (request,) = batches.requests_of("m", 7, examples, 3)
    encoded = {name: method.encode(request) for name, method in METHODS.items()}
    assert pb.ClassifyRequest.FromString(encoded["classify"]) == request
    assert pb.ClassifyStreamRequest.FromString(encoded["stream"]).request == request
    infer = open_pb.ModelInferRequest.FromString(encoded["infer"])
    assert (infer.model_name, infer.model_version) == ("m", "7")
    assert (infer.inputs[0].datatype, list(infer.inputs[0].shape)) == ("UINT8", [3, 4, 4])
    assert infer.raw_input_contents[0] == examples.tobytes()
    answer = pb.ClassifyResponse(class_ids=[1, 2, 3], served_by=pb.ServedBy(version=7))
    outputs = [open_pb.ModelInferResponse.InferOutputTensor(name=output.name, shape=[3]) for output in infer.outputs]
    answers = {
        "classify": answer.SerializeToString(),
        "stream": pb.ClassifyStreamResponse(response=answer).SerializeToString(),
        "infer": open_pb.ModelInferResponse(model_version="7", outputs=outputs).SerializeToString(),
    }
    for name, method in METHODS.items():
        assert method.version_of(answers[name], 3) == "7"
        with pytest.raises(WrongAnswerError):
            method.version_of(answers[name], 4)
