"""Versions as ONNX files: a runtime that shares no code with ours gives our answers, from what a client would send."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.classifier import Classifier
from shared import snapshot_codec
from shared.errors import SnapshotRejectedError
from shared.forward_pass import ForwardPass, softmax_in_place
from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPool2D
from shared.model_version import DecodedSnapshot, Manifest, PublishedVersion, SelfTest, StoredSnapshot, VersionRef
from shared.network import Architecture, Network
from shared.preprocessing import Preprocessing, Standardisation
from trainer_service.download import FileFormat, downloadable
from trainer_service.onnx_export import onnx_model

TOLERANCE = 1e-5
LARGEST_LOGIT = 8.0  # beyond, rounding in float32 alone makes two correct computations differ by more than TOLERANCE
DIGEST = "ab" * 32
FIRST, OTHERS = "examples", ["probabilities", "class_ids"]
LAYERS = (Conv2D(2, 3, 1, Activation.RELU), Dropout(0.5), MaxPool2D(2), Flatten(), Dense(3, Activation.IDENTITY))


@dataclass(frozen=True)
class Case:
    """A network with what is done before it, and whether its data set stores bytes."""

    network: Network
    preprocessing: Preprocessing
    is_bytes: bool

    def decoded(self, manifest: Manifest) -> DecodedSnapshot:
        """A snapshot of it; the rest is as in `manifest`."""
        inputs = np.zeros((1, self.preprocessing.input_size), np.uint8 if self.is_bytes else np.float32)
        probabilities = np.zeros((1, self.network.architecture.class_count), np.float32)
        changed = replace(
            manifest,
            architecture=self.network.architecture,
            preprocessing=self.preprocessing,
            self_test=SelfTest(inputs, probabilities),
        )
        return DecodedSnapshot(changed, self.network)

    def rows(self, count: int, seed: int) -> np.ndarray:
        """Random examples, flat, as the data set would store them."""
        rng, shape = np.random.default_rng(seed), (count, self.preprocessing.input_size)
        if self.is_bytes:
            return rng.integers(0, 256, shape, np.uint8)
        if self.preprocessing.standardisation is None:
            return rng.random(shape, np.float32)
        return rng.normal(0, 30, shape).astype(np.float32)


def session_of(contents: bytes) -> ort.InferenceSession:
    """The file, checked and loaded, on one thread."""
    onnx.checker.check_model(contents, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(contents, options, providers=["CPUExecutionProvider"])


def case_of(architecture: Architecture, kind: str, network: Network, seed: int) -> Case:
    """A network with the preprocessing of bytes, of feature values, or of a table; its logits are tamed."""
    rng, size = np.random.default_rng(seed), architecture.input_size
    standardisation = None
    if kind == "table":
        deviations = rng.uniform(1, 50, size).astype(np.float32)
        standardisation = Standardisation(rng.normal(0, 30, size).astype(np.float32), deviations)
    scale = float(np.float32(1 / 255)) if kind == "bytes" else 1.0
    preprocessing = Preprocessing(architecture.input_shape, scale, -1e9, 1e9, standardisation=standardisation)
    case = Case(network, preprocessing, kind == "bytes")
    rows = case.rows(64, seed)
    features = preprocessing.features(rows, np.empty(rows.shape, np.float32))
    highest = np.abs(ForwardPass(architecture, 64).logits(network, features)).max()
    parameters = network.parameters.copy()
    last = network.layers[-1]
    parameters[-last.weight.size - last.bias.size :] *= min(1.0, LARGEST_LOGIT / max(1e-9, float(highest)))
    return replace(case, network=Network(architecture, parameters))


def assert_same_answers(session: ort.InferenceSession, case: Case, rows: np.ndarray) -> None:
    """The runtime's answers are the forward pass' and the classifier's."""
    probabilities, class_ids = session.run(OTHERS, {FIRST: rows.reshape(-1, *case.preprocessing.input_shape)})
    features = case.preprocessing.features(rows, np.empty(rows.shape, np.float32))
    forward_pass = ForwardPass(case.network.architecture, len(rows))
    expected = softmax_in_place(forward_pass.logits(case.network, features).copy())
    assert (probabilities.dtype, class_ids.dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(class_ids, probabilities.argmax(axis=1))
    answered = Classifier(case.network, case.preprocessing).probabilities(rows)
    np.testing.assert_allclose(probabilities, answered, rtol=0, atol=TOLERANCE)


@given(data=st.data(), kind=st.sampled_from(["bytes", "values", "table"]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_a_runtime_gives_the_answers_of_the_forward_pass(
    *,
    make_network: Callable[[Architecture, int], Network],
    architectures: st.SearchStrategy[Architecture],
    make_manifest: Callable[..., Manifest],
    tiny_network: Network,
    data: st.DataObject,
    kind: str,
    seed: int,
) -> None:
    """For any layers that fit each other, any kind of example, and batches of any size; none at all gets none back."""
    architecture = data.draw(architectures)
    case = case_of(architecture, kind, make_network(architecture, seed), seed)
    session = session_of(onnx_model(case.decoded(make_manifest(tiny_network)), 7, DIGEST))
    examples = session.get_inputs()[0]
    assert examples.shape == ["rows", *architecture.input_shape]
    assert examples.type == ("tensor(uint8)" if kind == "bytes" else "tensor(float)")
    for count in (1, data.draw(st.integers(2, 40))):
        assert_same_answers(session, case, case.rows(count, seed + 1))
    probabilities, class_ids = session.run(OTHERS, {FIRST: case.rows(0, seed).reshape(0, *architecture.input_shape)})
    assert (probabilities.shape, class_ids.shape) == ((0, architecture.class_count), (0,))


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
@pytest.mark.parametrize("kind", ["bytes", "values"])
def test_grey_and_coloured_images_of_a_large_batch_are_classified(
    make_network: Callable[[Architecture, int], Network],
    make_manifest: Callable[..., Manifest],
    tiny_network: Network,
    shape: tuple[int, ...],
    kind: str,
) -> None:
    """More rows than the classifier computes at a time, a line and a column that pooling leaves over, no dropout."""
    architecture = Architecture(shape, (Conv2D(2, 2, 0, Activation.TANH), *LAYERS))
    case = case_of(architecture, kind, make_network(architecture, 1), 1)
    contents = onnx_model(case.decoded(make_manifest(tiny_network)), 1, DIGEST)
    assert_same_answers(session_of(contents), case, case.rows(1000, 2))
    assert "Dropout" not in {node.op_type for node in onnx.load_from_string(contents).graph.node}


def test_a_value_far_outside_its_column_is_clipped_as_it_is_in_training(
    make_manifest: Callable[..., Manifest], tiny_network: Network
) -> None:
    """A thousand deviations are the most that counts, on either side; a logit of 1 tells them from any other number."""
    architecture = Architecture((1,), (Dense(2, Activation.IDENTITY),))
    network = Network(architecture, np.array([1e-3, 0, 0, 0], np.float32))
    table = Standardisation(np.array([10], np.float32), np.array([0.5], np.float32))
    case = Case(network, Preprocessing((1,), 1.0, -1e38, 1e38, standardisation=table), is_bytes=False)
    session = session_of(onnx_model(case.decoded(make_manifest(tiny_network)), 1, DIGEST))
    probabilities, _ = session.run(OTHERS, {FIRST: np.array([[3e38], [-3e38], [10], [510]], np.float32)})
    expected = [1 / (1 + np.exp(-logit)) for logit in (1, -1, 0, 1)]
    np.testing.assert_allclose(probabilities[:, 0], expected, atol=1e-6)


def test_of_equally_probable_classes_the_first_is_given(
    make_manifest: Callable[..., Manifest], tiny_network: Network
) -> None:
    """As `Classify` decides it."""
    architecture = Architecture((1,), (Dense(4, Activation.IDENTITY),))
    network = Network(architecture, np.array([0, 0, 0, 0, 0, 1, 1, 1], np.float32))
    case = Case(network, Preprocessing((1,), 1.0), is_bytes=False)
    session = session_of(onnx_model(case.decoded(make_manifest(tiny_network)), 1, DIGEST))
    assert session.run(["class_ids"], {FIRST: np.ones((3, 1), np.float32)})[0].tolist() == [1, 1, 1]


def test_the_file_says_what_it_is(make_manifest: Callable[..., Manifest], tiny_network: Network) -> None:
    """Model, version, digest, labels and origin can be read from the file alone, and its weights have their names."""
    named = replace(make_manifest(tiny_network), class_labels=("ant", "bée", "cat"))
    contents = onnx_model(DecodedSnapshot(named, tiny_network), 7, DIGEST)
    model = onnx.load_from_string(contents)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about.pop("class_labels")) == ["ant", "bée", "cat"]
    assert about == {
        "model": "tiny",
        "version": "7",
        "digest": DIGEST,
        "dataset": "made",
        "dataset_digest": "d" * 64,
        "training_job_id": "job",
    }
    assert (model.producer_name, model.model_version, model.ir_version) == ("weightcast", 7, 7)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, view in tiny_network.views.items():
        np.testing.assert_array_equal(weights[name], view)
    session = session_of(contents)
    assert session.get_modelmeta().custom_metadata_map["digest"] == DIGEST
    assert [output.shape for output in session.get_outputs()] == [["rows", 3], ["rows"]]


def test_a_table_names_its_columns(make_manifest: Callable[..., Manifest], tiny_network: Network) -> None:
    """In the order in which they are fed."""
    manifest = make_manifest(tiny_network)
    table = replace(manifest, preprocessing=Preprocessing((6,), 1.0, feature_names=tuple("abcdef")))
    model = onnx.load_from_string(onnx_model(DecodedSnapshot(table, tiny_network), 1, DIGEST))
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["feature_names"]) == list("abcdef")


def published(snapshot: StoredSnapshot) -> PublishedVersion:
    """Version 7 of tiny."""
    created = snapshot_codec.decode_manifest(snapshot.manifest).provenance.create_time
    return PublishedVersion("tiny", VersionRef(7, snapshot.digest), created, len(snapshot.weights), snapshot)


@pytest.mark.parametrize("file_format", FileFormat)
def test_the_same_snapshot_gives_the_same_file(
    make_snapshot: Callable[..., StoredSnapshot], file_format: FileFormat
) -> None:
    """Byte for byte, with its SHA-256; another snapshot gives another."""
    file, again = (downloadable(published(make_snapshot()), file_format) for _ in range(2))
    assert file == again
    assert file.sha256 == snapshot_codec.sha256_hex(file.contents)
    assert file.name == f"tiny-7.{file_format.value}"
    assert downloadable(published(make_snapshot(seed=1)), file_format).sha256 != file.sha256


def test_what_is_downloaded_is_what_was_published(make_snapshot: Callable[..., StoredSnapshot]) -> None:
    """The weights as they are stored, and a graph that passes the self-test of the snapshot."""
    snapshot = make_snapshot()
    assert downloadable(published(snapshot), FileFormat.SAFETENSORS).contents == snapshot.weights
    test = snapshot_codec.decode_manifest(snapshot.manifest).self_test
    session = session_of(downloadable(published(snapshot), FileFormat.ONNX).contents)
    probabilities, _ = session.run(OTHERS, {FIRST: test.inputs.reshape(-1, 2, 3)})
    np.testing.assert_allclose(probabilities, test.probabilities, atol=TOLERANCE)


@pytest.mark.parametrize("file_format", FileFormat)
def test_an_altered_snapshot_is_not_given_out(
    make_snapshot: Callable[..., StoredSnapshot], file_format: FileFormat
) -> None:
    """Whatever the format, the digest is checked first."""
    snapshot = make_snapshot()
    altered = replace(snapshot, weights=snapshot.weights[:-1] + bytes([snapshot.weights[-1] ^ 1]))
    with pytest.raises(SnapshotRejectedError) as caught:
        downloadable(published(altered), file_format)
    assert caught.value.reason == "DIGEST_MISMATCH"
