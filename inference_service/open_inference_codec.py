"""What is served, and what was asked of it, in the Open Inference Protocol: metadata, configuration, statistics.

What is said here of tensors is what requests are read by and answers are written by: `open_inference`.
"""

import json
from collections.abc import Iterable, Mapping

from inference_service.limits import Limits
from inference_service.metrics.counted import Counts
from inference_service.open_inference import (
    BACKEND,
    BATCH,
    INPUT,
    INPUT_DATATYPE,
    OUTPUTS,
    PLATFORM,
    input_shape,
    output_shapes,
)
from inference_service.versions.snapshot_loader import ServedVersion
from shared.pb.inference import model_config_pb2, model_statistics_pb2
from shared.pb.inference import open_inference_service_pb2 as pb

TYPES = {"FP32": model_config_pb2.TYPE_FP32, "INT64": model_config_pb2.TYPE_INT64}
ONE_NUMBER = (1,)  # how a configuration, which cannot leave its shape empty, writes one number a row


def metadata_of(served: ServedVersion, versions: Iterable[int]) -> pb.ModelMetadataResponse:
    """What a model takes and gives."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=served.model,
        versions=[str(version) for version in versions],
        platform=PLATFORM,
        inputs=[tensor(name=INPUT, datatype=INPUT_DATATYPE, shape=[BATCH, *input_shape(served.manifest)])],
        outputs=[
            tensor(name=name, datatype=OUTPUTS[name], shape=[BATCH, *shape])
            for name, shape in output_shapes(served.manifest).items()
        ],
    )


def config_of(served: ServedVersion, limits: Limits) -> model_config_pb2.ModelConfig:
    """How a model is set up, and how much of what is taken."""
    parameters = {
        "version": str(served.ref.version),
        "digest": served.ref.digest,
        "class_labels": json.dumps(served.manifest.class_labels),
        "max_message_bytes": str(limits.max_message_bytes),
        "max_in_flight": str(limits.max_in_flight),
    }
    taken = model_config_pb2.ModelInput(name=INPUT, data_type=TYPES[INPUT_DATATYPE], dims=input_shape(served.manifest))
    return model_config_pb2.ModelConfig(
        name=served.model,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=limits.max_rows,
        input=[taken],
        output=[
            model_config_pb2.ModelOutput(name=name, data_type=TYPES[OUTPUTS[name]], dims=shape or ONE_NUMBER)
            for name, shape in output_shapes(served.manifest).items()
        ],
        dynamic_batching=model_config_pb2.ModelDynamicBatching(),
        parameters={key: model_config_pb2.ModelParameter(string_value=value) for key, value in parameters.items()},
    )


def statistics_of(counted: Mapping[tuple[str, int], Counts]) -> model_statistics_pb2.ModelStatisticsResponse:
    """What was asked of each version."""
    return model_statistics_pb2.ModelStatisticsResponse(
        model_stats=[
            model_statistics_pb2.ModelStatistics(
                name=model,
                version=str(version),
                last_inference=counts.last_ms,
                inference_count=counts.rows,
                execution_count=counts.executions,
                inference_stats=durations_of(counts),
            )
            for (model, version), counts in counted.items()
        ]
    )


def durations_of(counts: Counts) -> model_statistics_pb2.InferStatistics:
    """Where the time went."""
    duration = model_statistics_pb2.StatisticDuration
    return model_statistics_pb2.InferStatistics(
        success=duration(count=counts.requests, ns=counts.queue_ns + counts.compute_ns),
        fail=duration(count=counts.failures, ns=counts.failure_ns),
        queue=duration(count=counts.requests, ns=counts.queue_ns),
        compute_infer=duration(count=counts.requests, ns=counts.compute_ns),
    )
