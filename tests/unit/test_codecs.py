"""Domain values to messages and back: every field comes back, and what an earlier build wrote can still be read."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPool2D
from shared.manifest_codec import evaluation_from_proto, evaluation_to_proto, manifest_from_proto, manifest_to_proto
from shared.model_version import ClassScore, Evaluation, Manifest
from shared.network import Architecture, Network
from shared.network_codec import (
    architecture_from_proto,
    architecture_to_proto,
    layer_from_proto,
    preprocessing_from_proto,
    preprocessing_to_proto,
)
from shared.pb.weightcast.v1 import network_pb2, training_pb2
from shared.preprocessing import Preprocessing, Standardisation
from shared.recipe import (
    Augmentation,
    Initialization,
    Loss,
    Optimizer,
    Promotion,
    PromotionPolicy,
    Schedule,
    ScheduleKind,
)
from shared.spec_codec import epoch_from_proto, epoch_to_proto, spec_from_proto, spec_to_proto
from shared.training_spec import EpochMetrics, TrainingSpec

RELU = network_pb2.ACTIVATION_RELU
SHARES = st.floats(0, 0.999)
POSITIVE = st.floats(1e-6, 10)
LAYERS = st.one_of(
    st.builds(Dense, st.integers(1, 8192), st.sampled_from(Activation)),
    st.builds(Conv2D, st.integers(1, 512), st.integers(1, 15), st.integers(0, 14), st.sampled_from(Activation)),
    st.builds(MaxPool2D, st.integers(2, 15)),
    st.just(Flatten()),
    st.builds(Dropout, st.floats(0.001, 0.999)),
)
SPECS = st.builds(
    TrainingSpec,
    model=st.text("abc", min_size=1),
    dataset=st.text("abc:-", min_size=1),
    seed=st.integers(0, 2**63 - 1),
    preset=st.sampled_from(["", "mlp", "lenet"]),
    layers=st.lists(LAYERS, max_size=5).map(tuple),
    epochs=st.integers(1, 1000),
    batch_size=st.integers(1, 65536),
    optimizer=st.sampled_from(Optimizer),
    learning_rate=POSITIVE,
    momentum=SHARES,
    nesterov=st.booleans(),
    loss=st.sampled_from(Loss),
    label_smoothing=SHARES,
    initialization=st.sampled_from(Initialization),
    schedule=st.builds(Schedule, st.sampled_from(ScheduleKind), st.integers(1, 1000), POSITIVE, POSITIVE),
    weight_decay=SHARES,
    gradient_clip_norm=st.floats(0, 1e6),
    validation_fraction=SHARES,
    early_stopping_patience=st.integers(0, 1000),
    ema_decay=SHARES,
    augmentation=st.builds(Augmentation, SHARES, SHARES, SHARES, SHARES, POSITIVE),
    publish=st.booleans(),
)
EVALUATION = Evaluation(
    examples=4,
    loss=0.5,
    accuracy=0.75,
    accuracy_gap=-0.25,
    calibration_error=0.125,
    classes=(ClassScore(0.5, 1.0, 2), ClassScore(None, 0.0, 1), ClassScore(0.0, None, 0)),
    confusion=((2, 0, 0), (1, 0, 0), (0, 0, 1)),
)


@given(SPECS)
@settings(max_examples=200, deadline=None)
def test_a_spec_comes_back(spec: TrainingSpec) -> None:
    """Whatever its fields say, over the wire too."""
    wire = spec_to_proto(spec).SerializeToString()
    assert spec_from_proto(training_pb2.TrainingSpec.FromString(wire)) == spec


def test_no_field_of_a_spec_is_forgotten() -> None:
    """A spec that differs from the defaults in every field comes back with none of them a default."""
    spec = TrainingSpec(
        model="m",
        dataset="d",
        seed=1,
        preset="lenet",
        layers=(Flatten(),),
        epochs=7,
        batch_size=9,
        optimizer=Optimizer.SGD,
        learning_rate=0.5,
        momentum=0.5,
        nesterov=True,
        loss=Loss.MEAN_SQUARED_ERROR,
        label_smoothing=0.5,
        initialization=Initialization.ZEROS,
        schedule=Schedule(ScheduleKind.STEP, 3, 0.5, 0.5),
        weight_decay=0.5,
        gradient_clip_norm=2.0,
        validation_fraction=0.25,
        early_stopping_patience=4,
        ema_decay=0.5,
        augmentation=Augmentation(1, 2, 0.25, 4, 5),
        publish=False,
        promotion=Promotion(PromotionPolicy.IF_BETTER, 0.25),
        parent=3,
    )
    plain = TrainingSpec(model="", dataset="", seed=0)
    decoded = spec_from_proto(spec_to_proto(spec))
    for field in fields(TrainingSpec):
        assert getattr(spec, field.name) != getattr(plain, field.name), f"{field.name} is not tried"
        assert getattr(decoded, field.name) == getattr(spec, field.name), field.name


def test_a_spec_that_the_build_before_wrote_can_be_read() -> None:
    """It knew hidden layers of ReLU, SGD and Adam, and nothing of the later fields, which are as they were then."""
    proto = training_pb2.TrainingSpec(
        model="m",
        dataset="mnist",
        network=training_pb2.DenseNetwork(hidden_layer_sizes=[128, 64]),
        epochs=3,
        batch_size=32,
        optimizer=training_pb2.OPTIMIZER_SGD,
        learning_rate=0.25,
        seed=0,
    )
    spec = spec_from_proto(training_pb2.TrainingSpec.FromString(proto.SerializeToString()))
    layers = (Dense(128, Activation.RELU), Dense(64, Activation.RELU))
    assert spec == TrainingSpec(
        "m", "mnist", 0, layers=layers, epochs=3, batch_size=32, optimizer=Optimizer.SGD, learning_rate=0.25
    )
    assert (spec.initialization, spec.loss, spec.schedule) == (Initialization.HE, Loss.CROSS_ENTROPY, Schedule())
    assert not spec.augmentation
    assert spec.publish


def test_a_spec_without_hidden_layers_that_the_build_before_wrote_stays_one() -> None:
    """It is not given the default's layers."""
    proto = training_pb2.TrainingSpec(model="m", dataset="d", optimizer=training_pb2.OPTIMIZER_ADAM, seed=1)
    proto.network.SetInParent()
    assert spec_from_proto(proto).layers == ()


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_architecture_comes_back(architectures: st.SearchStrategy[Architecture], data: st.DataObject) -> None:
    """For any layers that fit each other."""
    architecture = data.draw(architectures)
    wire = architecture_to_proto(architecture).SerializeToString()
    assert architecture_from_proto(network_pb2.Architecture.FromString(wire)) == architecture


def test_an_architecture_that_the_build_before_wrote_can_be_read() -> None:
    """It had no shape of its examples, only their size."""
    proto = architecture_to_proto(Architecture.dense(784, (16,), 10))
    proto.ClearField("input_shape")
    assert architecture_from_proto(proto) == Architecture.dense(784, (16,), 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda proto: proto.ClearField("input_size"), r"input_shape \[2, 3\] does not give input_size 0"),
        (lambda proto: proto.layers.add(), r"architecture.layers\[2\].kind is not set"),
        (lambda proto: setattr(proto.layers[1].dense, "activation", 99), r"layers\[1\].dense.activation .* value 99"),
        (lambda proto: proto.layers[0].dense.ClearField("activation"), r"layers\[0\].dense.activation .* value 0"),
        (lambda proto: proto.layers.pop(), r"dense|class"),
    ],
)
def test_an_architecture_that_is_none_is_refused(
    change: Callable[[network_pb2.Architecture], object], message: str
) -> None:
    """With the layer's place and what is wrong with it."""
    proto = architecture_to_proto(Architecture((2, 3), (Dense(4, Activation.RELU), Dense(2, Activation.IDENTITY))))
    change(proto)
    if len(proto.layers) == 1:
        proto.layers[0].flatten.SetInParent()
    with pytest.raises(ValueError, match=message):
        architecture_from_proto(proto)


@pytest.mark.parametrize(
    "first",
    [
        network_pb2.Layer(dense=network_pb2.Dense(units=0, activation=RELU)),
        network_pb2.Layer(dense=network_pb2.Dense(units=-4, activation=RELU)),
        network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=0, kernel_size=3, activation=RELU)),
        network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=-2, kernel_size=3, activation=RELU)),
        network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=2, kernel_size=0, activation=RELU)),
        network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=2, kernel_size=3, padding=-1, activation=RELU)),
        network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=2, kernel_size=3, padding=3, activation=RELU)),
        network_pb2.Layer(max_pool2d=network_pb2.MaxPool2D(size=0)),
        network_pb2.Layer(max_pool2d=network_pb2.MaxPool2D(size=-2)),
    ],
    ids=lambda layer: " ".join(str(layer).split()),
)
def test_layers_with_numbers_that_none_can_have_are_refused(first: network_pb2.Layer) -> None:
    """A manifest is not trusted: with such numbers a network could be built that fails only when it is asked."""
    proto = network_pb2.Architecture(input_size=64, input_shape=[8, 8], layers=[first])
    if not first.HasField("dense"):
        proto.layers.add().flatten.SetInParent()
    proto.layers.add().dense.CopyFrom(network_pb2.Dense(units=3, activation=network_pb2.ACTIVATION_IDENTITY))
    with pytest.raises(ValueError, match="layer"):
        architecture_from_proto(proto)


def test_a_convolution_of_no_activation_is_refused() -> None:
    """A manifest has no defaults."""
    with pytest.raises(ValueError, match=r"conv2d\.activation has the value 0"):
        layer_from_proto(network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=1, kernel_size=1)))


def test_a_preprocessing_comes_back() -> None:
    """With means and deviations to the last bit; the rest in single precision, as the contract stores it."""
    means = np.array([0.1, -1e30, 3], np.float32)
    deviations = np.array([1e-20, 2, 1 / 3], np.float32)
    before = Preprocessing((3,), 0.25, -1.5, 2.5, standardisation=Standardisation(means, deviations))
    after = preprocessing_from_proto(preprocessing_to_proto(before))
    assert after.standardisation is not None
    np.testing.assert_array_equal(after.standardisation.means, means)
    np.testing.assert_array_equal(after.standardisation.deviations, deviations)
    assert replace(after, standardisation=None) == replace(before, standardisation=None)


@pytest.mark.parametrize(
    ("means", "deviations"),
    [
        ([0.0], [1.0]),
        ([0.0, 0.0], [1.0]),
        ([], [1.0, 1.0]),
        ([0.0, 0.0], [1.0, 0.0]),
        ([0.0, 0.0], [1.0, -1.0]),
        ([0.0, np.nan], [1.0, 1.0]),
        ([0.0, 0.0], [1.0, np.inf]),
    ],
)
def test_a_standardisation_that_cannot_be_applied_is_refused(means: list[float], deviations: list[float]) -> None:
    """One mean and one positive deviation for each feature, all of them finite."""
    proto = preprocessing_to_proto(Preprocessing((2,), 1.0))
    proto.feature_means.extend(means)
    proto.feature_deviations.extend(deviations)
    with pytest.raises(ValueError, match="feature_"):
        preprocessing_from_proto(proto)


@pytest.mark.parametrize(
    "metrics",
    [
        EpochMetrics(1, 0.5, 0.75, 0.625, 0.5, 1000.0, 0.25),
        EpochMetrics(2, 0.5, 0.75, 0.625, 0.5, 1000.0, 0.25, 0.001, 0.0, 0.0),
        EpochMetrics(3, 0.5, 0.75, 0.625, 0.5, 1000.0, 0.25, 0.001, 0.75, 0.125),
    ],
    ids=["nothing set aside", "zeros", "validation"],
)
def test_an_epoch_comes_back(metrics: EpochMetrics) -> None:
    """A validation loss of 0 is not none."""
    assert epoch_from_proto(epoch_to_proto(metrics)) == metrics


def test_an_evaluation_comes_back() -> None:
    """A precision of 0 is not none, and the matrix has its rows again."""
    assert evaluation_from_proto(evaluation_to_proto(EVALUATION)) == EVALUATION


def test_a_manifest_comes_back_with_all_that_was_learned(
    tiny_network: Network, make_manifest: Callable[..., Manifest]
) -> None:
    """Evaluation, epochs with validation, and the epoch that was published."""
    epochs = tuple(EpochMetrics(n, 0.5, 0.75, 0.625, 0.5, 1000.0, 0.25, 0.001, 0.5, 0.5) for n in (1, 2, 3))
    before = replace(make_manifest(tiny_network), evaluation=EVALUATION, epochs=epochs, published_epoch=2)
    after = manifest_from_proto(manifest_to_proto(before))
    assert replace(after, self_test=before.self_test) == before


def test_a_manifest_that_the_build_before_wrote_can_be_read(
    tiny_network: Network, make_manifest: Callable[..., Manifest]
) -> None:
    """It had no evaluation, no published epoch, and neither layers in its spec nor a shape in its architecture."""
    proto = manifest_to_proto(make_manifest(tiny_network))
    proto.ClearField("published_epoch")
    proto.architecture.ClearField("input_shape")
    proto.epochs[0].ClearField("learning_rate")
    assert not proto.HasField("evaluation")
    earlier = training_pb2.TrainingSpec(model="tiny", dataset="made", optimizer=training_pb2.OPTIMIZER_ADAM, seed=3)
    earlier.network.hidden_layer_sizes.append(4)
    proto.spec.CopyFrom(earlier)
    manifest = manifest_from_proto(proto)
    assert (manifest.evaluation, manifest.published_epoch) == (None, 0)
    assert manifest.architecture == Architecture.dense(6, (4,), 3)
    assert manifest.provenance.spec.layers == (Dense(4, Activation.RELU),)
