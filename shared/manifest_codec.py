"""Manifests and their parts to protobuf messages and back, for the contract and for storage alike.

The two directions of a type stand together, so that a field added to one is not forgotten in the other.
"""

import math

import numpy as np

from shared.model_version import Manifest, Provenance, SelfTest
from shared.network import Activation, Architecture, Dense
from shared.pb.weightcast.v1 import model_pb2, network_pb2, training_pb2
from shared.preprocessing import LabelEncoding, Preprocessing
from shared.proto_values import duration, key_of, moment, tensor_to_proto, timestamp
from shared.training_spec import EpochMetrics, Optimizer, TrainingSpec

ACTIVATIONS = {
    Activation.RELU: network_pb2.ACTIVATION_RELU,
    Activation.IDENTITY: network_pb2.ACTIVATION_IDENTITY,
}
LABEL_ENCODINGS = {LabelEncoding.ONE_HOT: network_pb2.LABEL_ENCODING_ONE_HOT}
OPTIMIZERS = {Optimizer.SGD: training_pb2.OPTIMIZER_SGD, Optimizer.ADAM: training_pb2.OPTIMIZER_ADAM}


def architecture_to_proto(architecture: Architecture) -> network_pb2.Architecture:
    """An architecture as a message."""
    return network_pb2.Architecture(
        input_size=architecture.input_size,
        layers=[
            network_pb2.Layer(dense=network_pb2.Dense(units=layer.units, activation=ACTIVATIONS[layer.activation]))
            for layer in architecture.layers
        ],
    )


def architecture_from_proto(proto: network_pb2.Architecture) -> Architecture:
    """An architecture from a message; ValueError where it describes none."""
    if proto.input_size < 1 or not proto.layers:
        raise ValueError("architecture needs an input_size and at least one layer")
    layers = []
    for index, layer in enumerate(proto.layers):
        if layer.WhichOneof("kind") != "dense" or layer.dense.units < 1:
            raise ValueError(f"architecture.layers[{index}] is of a kind this build does not know, or empty")
        layers.append(Dense(layer.dense.units, key_of(ACTIVATIONS, layer.dense.activation, "activation")))
    return Architecture(proto.input_size, tuple(layers))


def preprocessing_to_proto(preprocessing: Preprocessing) -> network_pb2.Preprocessing:
    """A preprocessing as a message."""
    return network_pb2.Preprocessing(
        input_shape=preprocessing.input_shape,
        uint8_scale=preprocessing.uint8_scale,
        feature_min=preprocessing.feature_min,
        feature_max=preprocessing.feature_max,
        label_encoding=LABEL_ENCODINGS[preprocessing.label_encoding],
    )


def preprocessing_from_proto(proto: network_pb2.Preprocessing) -> Preprocessing:
    """A preprocessing from a message; ValueError where it describes none."""
    if not proto.input_shape or min(proto.input_shape) < 1:
        raise ValueError("preprocessing needs an input_shape of positive sizes")
    if not (0 < proto.uint8_scale < math.inf and -math.inf < proto.feature_min < proto.feature_max < math.inf):
        raise ValueError("preprocessing needs a positive uint8_scale and a finite range of features")
    return Preprocessing(
        input_shape=tuple(proto.input_shape),
        uint8_scale=proto.uint8_scale,
        feature_min=proto.feature_min,
        feature_max=proto.feature_max,
        label_encoding=key_of(LABEL_ENCODINGS, proto.label_encoding, "label_encoding"),
    )


def spec_to_proto(spec: TrainingSpec) -> training_pb2.TrainingSpec:
    """A spec as a message with every field set."""
    return training_pb2.TrainingSpec(
        model=spec.model,
        dataset=spec.dataset,
        network=training_pb2.DenseNetwork(hidden_layer_sizes=spec.hidden_layer_sizes),
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        optimizer=OPTIMIZERS[spec.optimizer],
        learning_rate=spec.learning_rate,
        seed=spec.seed,
    )


def spec_from_proto(proto: training_pb2.TrainingSpec) -> TrainingSpec:
    """A spec from a message that `spec_to_proto` made."""
    return TrainingSpec(
        model=proto.model,
        dataset=proto.dataset,
        hidden_layer_sizes=tuple(proto.network.hidden_layer_sizes),
        epochs=proto.epochs,
        batch_size=proto.batch_size,
        optimizer=key_of(OPTIMIZERS, proto.optimizer, "optimizer"),
        learning_rate=proto.learning_rate,
        seed=proto.seed,
    )


def epoch_to_proto(metrics: EpochMetrics) -> training_pb2.EpochMetrics:
    """An epoch's metrics as a message."""
    return training_pb2.EpochMetrics(
        epoch=metrics.epoch,
        train_loss=metrics.train_loss,
        train_accuracy=metrics.train_accuracy,
        test_loss=metrics.test_loss,
        test_accuracy=metrics.test_accuracy,
        samples_per_second=metrics.samples_per_second,
        duration=duration(metrics.seconds),
    )


def epoch_from_proto(proto: training_pb2.EpochMetrics) -> EpochMetrics:
    """An epoch's metrics from a message."""
    return EpochMetrics(
        epoch=proto.epoch,
        train_loss=proto.train_loss,
        train_accuracy=proto.train_accuracy,
        test_loss=proto.test_loss,
        test_accuracy=proto.test_accuracy,
        samples_per_second=proto.samples_per_second,
        seconds=proto.duration.ToTimedelta().total_seconds(),
    )


def self_test_from_proto(proto: model_pb2.SelfTest) -> SelfTest:
    """A self-test from a message; ValueError where shapes and bytes disagree."""
    inputs = np.frombuffer(proto.inputs.contents, np.uint8).reshape(tuple(proto.inputs.shape))
    probabilities = np.frombuffer(proto.probabilities.contents, "<f4").reshape(tuple(proto.probabilities.shape))
    return SelfTest(inputs, probabilities)


def manifest_to_proto(manifest: Manifest) -> model_pb2.Manifest:
    """A manifest as a message; the codec of snapshots adds what it knows of the weights."""
    provenance = manifest.provenance
    return model_pb2.Manifest(
        model=manifest.model,
        architecture=architecture_to_proto(manifest.architecture),
        preprocessing=preprocessing_to_proto(manifest.preprocessing),
        class_labels=manifest.class_labels,
        epochs=[epoch_to_proto(metrics) for metrics in manifest.epochs],
        spec=spec_to_proto(provenance.spec),
        training_job_id=provenance.training_job_id,
        dataset_digest=provenance.dataset_digest,
        parent_version=provenance.parent_version,
        create_time=timestamp(provenance.create_time),
        library_versions=provenance.library_versions,
        self_test=model_pb2.SelfTest(
            inputs=tensor_to_proto(manifest.self_test.inputs),
            probabilities=tensor_to_proto(manifest.self_test.probabilities),
        ),
    )


def manifest_from_proto(proto: model_pb2.Manifest) -> Manifest:
    """A manifest from a message; ValueError where its parts contradict each other."""
    manifest = Manifest(
        model=proto.model,
        architecture=architecture_from_proto(proto.architecture),
        preprocessing=preprocessing_from_proto(proto.preprocessing),
        class_labels=tuple(proto.class_labels),
        epochs=tuple(epoch_from_proto(epoch) for epoch in proto.epochs),
        provenance=Provenance(
            spec=spec_from_proto(proto.spec),
            training_job_id=proto.training_job_id,
            dataset_digest=proto.dataset_digest,
            create_time=moment(proto.create_time),
            library_versions=dict(proto.library_versions),
            parent_version=proto.parent_version,
        ),
        self_test=self_test_from_proto(proto.self_test),
    )
    architecture, test = manifest.architecture, manifest.self_test
    expected = {
        "preprocessing.input_shape": (manifest.preprocessing.input_size, architecture.input_size),
        "class_labels": (len(manifest.class_labels), architecture.class_count),
        "self_test.inputs": (test.inputs.shape[1:], (architecture.input_size,)),
        "self_test.probabilities": (test.probabilities.shape, (len(test.inputs), architecture.class_count)),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise ValueError(f"{name} gives {found}, the architecture {wanted}")
    return manifest
