"""Descriptions of data sets to messages and back, and examples to a safetensors file and back.

The message is what clients get and what is stored beside an upload, so neither can know more than the other.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from shared.network_codec import preprocessing_from_proto, preprocessing_to_proto
from shared.pb.weightcast.v1 import dataset_pb2 as pb
from shared.pb.weightcast.v1 import tensor_pb2
from shared.proto_values import key_of, moment, timestamp
from trainer_service.datasets.catalogue import Entry
from trainer_service.datasets.dataset import Column, Dataset, DatasetSource, Description, Split

SOURCES = {
    DatasetSource.BUILT_IN: pb.DATASET_SOURCE_BUILT_IN,
    DatasetSource.OPENML: pb.DATASET_SOURCE_OPENML,
    DatasetSource.UPLOADED: pb.DATASET_SOURCE_UPLOADED,
}


def description_to_proto(description: Description) -> pb.Dataset:
    """A description as a message with every field set."""
    return pb.Dataset(
        name=description.name,
        description=description.sentence,
        preprocessing=preprocessing_to_proto(description.preprocessing),
        class_labels=description.class_labels,
        train_size=sum(description.train_class_counts),
        test_size=sum(description.test_class_counts),
        digest=description.digest,
        source=SOURCES[description.source],
        data_type=tensor_pb2.DATA_TYPE_UINT8 if description.is_bytes else tensor_pb2.DATA_TYPE_FLOAT32,
        train_class_counts=description.train_class_counts,
        test_class_counts=description.test_class_counts,
        columns=[column_to_proto(column) for column in description.columns],
        size_bytes=description.size_bytes,
        create_time=None if description.create_time is None else timestamp(description.create_time),
    )


def description_from_proto(proto: pb.Dataset) -> Description:
    """A description from a message that `description_to_proto` made."""
    return Description(
        name=proto.name,
        sentence=proto.description,
        source=key_of(SOURCES, proto.source, "source"),
        preprocessing=preprocessing_from_proto(proto.preprocessing),
        class_labels=tuple(proto.class_labels),
        train_class_counts=tuple(proto.train_class_counts),
        test_class_counts=tuple(proto.test_class_counts),
        is_bytes=proto.data_type == tensor_pb2.DATA_TYPE_UINT8,
        columns=[column_from_proto(column) for column in proto.columns],
        size_bytes=proto.size_bytes,
        digest=proto.digest,
        create_time=moment(proto.create_time) if proto.HasField("create_time") else None,
    )


def column_to_proto(column: Column) -> pb.FeatureColumn:
    """A column as a message."""
    return pb.FeatureColumn(
        name=column.name,
        type=pb.COLUMN_TYPE_INTEGER if column.is_integer else pb.COLUMN_TYPE_REAL,
        missing_count=column.missing_count,
        min=column.minimum,
        max=column.maximum,
        mean=column.mean,
        deviation=column.deviation,
    )


def column_from_proto(proto: pb.FeatureColumn) -> Column:
    """A column from a message."""
    return Column(
        name=proto.name,
        is_integer=proto.type == pb.COLUMN_TYPE_INTEGER,
        missing_count=proto.missing_count,
        minimum=proto.min,
        maximum=proto.max,
        mean=proto.mean,
        deviation=proto.deviation,
    )


def entry_to_proto(entry: Entry) -> pb.Dataset:
    """What is known of a data set without loading it."""
    if entry.known is not None:
        return description_to_proto(entry.known)
    return pb.Dataset(name=entry.name, description=entry.description, source=SOURCES[entry.source])


def save_examples(dataset: Dataset, path: Path) -> None:
    """Writes both splits as a safetensors file."""
    tensors: dict[str, np.ndarray] = {}
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        tensors[f"{name}.examples"] = np.ascontiguousarray(split.examples)
        tensors[f"{name}.class_ids"] = np.ascontiguousarray(split.class_ids)
    save_file(tensors, path)


def load_examples(path: Path, description: Description) -> Dataset:
    """The data set in a file that `save_examples` wrote.

    Raises:
        ValueError: if it is none, or not the one that the description tells of by its digest.
    """
    try:
        tensors: Mapping[str, np.ndarray] = load_file(path)
        train, test = (Split(tensors[f"{name}.examples"], tensors[f"{name}.class_ids"]) for name in ("train", "test"))
    except (SafetensorError, KeyError, OSError) as error:
        raise ValueError(f"the file cannot be read: {error}") from error
    dataset = Dataset(
        name=description.name,
        preprocessing=description.preprocessing,
        class_labels=description.class_labels,
        train=train,
        test=test,
        columns=description.columns,
    )
    if dataset.digest != description.digest:
        raise ValueError(f"its examples have SHA-256 {dataset.digest}, stored was {description.digest}")
    return dataset
