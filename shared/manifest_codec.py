"""Manifests to protobuf messages and back.

The two directions of a type stand together, so that a field added to one is not forgotten in the other.
"""

import numpy as np

from shared.model_version import ClassScore, Evaluation, Manifest, Provenance, SelfTest
from shared.network_codec import (
    architecture_from_proto,
    architecture_to_proto,
    preprocessing_from_proto,
    preprocessing_to_proto,
)
from shared.pb.weightcast.v1 import model_pb2
from shared.preprocessing import Rows
from shared.proto_values import moment, tensor_from_proto, tensor_to_proto, timestamp
from shared.spec_codec import epoch_from_proto, epoch_to_proto, spec_from_proto, spec_to_proto


def self_test_to_proto(test: SelfTest) -> model_pb2.SelfTest:
    """A self-test as a message."""
    return model_pb2.SelfTest(inputs=tensor_to_proto(test.inputs), probabilities=tensor_to_proto(test.probabilities))


def self_test_from_proto(proto: model_pb2.SelfTest) -> SelfTest:
    """A self-test from a message; ValueError where shapes and bytes disagree."""
    inputs: Rows = tensor_from_proto(proto.inputs)
    return SelfTest(inputs, tensor_from_proto(proto.probabilities).astype(np.float32, copy=False))


def evaluation_to_proto(evaluation: Evaluation) -> model_pb2.Evaluation:
    """An evaluation as a message."""
    return model_pb2.Evaluation(
        examples=evaluation.examples,
        loss=evaluation.loss,
        accuracy=evaluation.accuracy,
        accuracy_gap=evaluation.accuracy_gap,
        calibration_error=evaluation.calibration_error,
        classes=[
            model_pb2.ClassScore(precision=score.precision, recall=score.recall, support=score.support)
            for score in evaluation.classes
        ],
        confusion=[count for row in evaluation.confusion for count in row],
    )


def evaluation_from_proto(proto: model_pb2.Evaluation) -> Evaluation:
    """An evaluation from a message; ValueError where the confusion matrix is not square."""
    count = len(proto.classes)
    if len(proto.confusion) != count * count:
        raise ValueError(f"evaluation.confusion has {len(proto.confusion)} counts for {count} classes")
    return Evaluation(
        examples=proto.examples,
        loss=proto.loss,
        accuracy=proto.accuracy,
        accuracy_gap=proto.accuracy_gap,
        calibration_error=proto.calibration_error,
        classes=tuple(
            ClassScore(
                precision=score.precision if score.HasField("precision") else None,
                recall=score.recall if score.HasField("recall") else None,
                support=score.support,
            )
            for score in proto.classes
        ),
        confusion=tuple(tuple(proto.confusion[row * count : (row + 1) * count]) for row in range(count)),
    )


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
        self_test=self_test_to_proto(manifest.self_test),
        evaluation=None if manifest.evaluation is None else evaluation_to_proto(manifest.evaluation),
        published_epoch=manifest.published_epoch,
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
        evaluation=evaluation_from_proto(proto.evaluation) if proto.HasField("evaluation") else None,
        published_epoch=proto.published_epoch,
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
