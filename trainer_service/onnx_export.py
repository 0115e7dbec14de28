"""A version as an ONNX file: raw examples in, probabilities and class ids out, for any runtime that reads ONNX.

The graph computes what `Classify` answers, preprocessing included, and the same snapshot always gives the same bytes.
"""

import json

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, TensorProto, ValueInfoProto, helper

from shared.layers import NAMES, Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from shared.model_version import DecodedSnapshot, Manifest
from shared.network import Architecture, LayerParameters
from shared.preprocessing import MAX_DEVIATIONS, Preprocessing

# The oldest operator set that has every operator below in the form used here, so that old runtimes read the file too.
OPSET, IR_VERSION = 13, 7
ROWS = "rows"
ELEMENT_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
ACTIVATIONS = {Activation.RELU: "Relu", Activation.TANH: "Tanh", Activation.SIGMOID: "Sigmoid"}
Values = npt.NDArray[np.float32 | np.int64]


def onnx_model(decoded: DecodedSnapshot, version: int, digest: str) -> bytes:
    """An ONNX model of a version, from examples as the data set stores them to what they are.

    Input `examples` is (rows, …input_shape): UINT8 where the data set stores bytes, FLOAT feature values otherwise.
    Outputs are `probabilities`, FLOAT (rows, classes), and `class_ids`, INT64 (rows,). What `Classify` refuses, such as
    a value out of range, the graph computes all the same.
    """
    manifest, network = decoded.manifest, decoded.network
    is_bytes = manifest.self_test.inputs.dtype == np.uint8
    inputs, outputs = _signature(manifest, is_bytes=is_bytes)
    model = helper.make_model(
        helper.make_graph([], manifest.model, inputs, outputs),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="weightcast",
        model_version=version,
        doc_string=f"{manifest.model} version {version}: raw examples in, probabilities out, preprocessing included",
    )
    helper.set_model_props(model, _metadata(manifest, version, digest))
    chain = _Chain(model.graph, "examples")
    _add_preprocessing(chain, manifest.preprocessing, is_bytes=is_bytes)
    _add_first_shape(chain, network.architecture)
    for index, (layer, parameters) in enumerate(zip(network.architecture.layers, network.layers, strict=True)):
        _add_layer(chain, f"{NAMES[type(layer)]}_{index}", layer, parameters)
    chain.add("probabilities", "Softmax", axis=1)
    chain.add("class_ids", "ArgMax", axis=1, keepdims=0)
    contents: bytes = model.SerializeToString(deterministic=True)
    return contents


class _Chain:
    """Nodes of which each takes what the one before gave.

    They are written straight into the model's graph: onnx's helpers would copy all the weights twice more.
    """

    def __init__(self, graph: GraphProto, last: str) -> None:
        self._graph, self._last = graph, last

    def add(self, name: str, operator: str, *others: str, **attributes: int | list[int]) -> None:
        """Applies an operator to what the last node gave and to `others`; the result is called `name`."""
        node = helper.make_node(operator, [self._last, *others], [name], name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._graph.node.append(node)
        self._last = name

    def constant(self, name: str, values: Values) -> str:
        """Stores a tensor; returns its name."""
        little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
        self._graph.initializer.add(
            name=name, dims=values.shape, data_type=ELEMENT_TYPES[values.dtype], raw_data=little_endian.tobytes()
        )
        return name


def _signature(manifest: Manifest, *, is_bytes: bool) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """What the graph takes and gives."""
    preprocessing, classes = manifest.preprocessing, manifest.architecture.class_count
    low, high = preprocessing.feature_min, preprocessing.feature_max
    expected = f"bytes from 0 to {preprocessing.uint8_max}" if is_bytes else f"feature values from {low:g} to {high:g}"
    element_type = TensorProto.UINT8 if is_bytes else TensorProto.FLOAT
    values = helper.make_tensor_value_info
    return (
        [values("examples", element_type, [ROWS, *preprocessing.input_shape], f"raw examples: {expected}")],
        [
            values("probabilities", TensorProto.FLOAT, [ROWS, classes], "one for each of class_labels"),
            values("class_ids", TensorProto.INT64, [ROWS], "the most probable class: an index into class_labels"),
        ],
    )


def _metadata(manifest: Manifest, version: int, digest: str) -> dict[str, str]:
    """What the file says about itself; lists are JSON."""
    provenance = manifest.provenance
    about = {
        "model": manifest.model,
        "version": str(version),
        "digest": digest,
        "class_labels": json.dumps(manifest.class_labels, ensure_ascii=False),
        "dataset": provenance.spec.dataset,
        "dataset_digest": provenance.dataset_digest,
        "training_job_id": provenance.training_job_id,
    }
    if names := manifest.preprocessing.feature_names:
        about["feature_names"] = json.dumps(names, ensure_ascii=False)
    return about


def _add_preprocessing(chain: _Chain, preprocessing: Preprocessing, *, is_bytes: bool) -> None:
    """What `Preprocessing.features` does."""
    if is_bytes:
        chain.add("values", "Cast", to=TensorProto.FLOAT)
        chain.add("scaled", "Mul", chain.constant("uint8_scale", np.array(preprocessing.uint8_scale, np.float32)))
    if preprocessing.standardisation is not None:
        shape = preprocessing.input_shape
        means, deviations = preprocessing.standardisation.means, preprocessing.standardisation.deviations
        chain.add("centred", "Sub", chain.constant("means", means.reshape(shape)))
        chain.add("standardised", "Div", chain.constant("deviations", deviations.reshape(shape)))
        bounds = [
            chain.constant("smallest", np.array(-MAX_DEVIATIONS)),
            chain.constant("largest", np.array(MAX_DEVIATIONS)),
        ]
        chain.add("features", "Clip", *bounds)


def _add_first_shape(chain: _Chain, architecture: Architecture) -> None:
    """From (rows, height, width[, channels]) to what the first layer takes: (rows, channels, …), or flat rows."""
    if not architecture.takes_images:
        if len(architecture.input_shape) > 1:
            chain.add("flat", "Flatten", axis=1)
    elif len(architecture.input_shape) == 2:  # noqa: PLR2004 - height and width, no channels
        chain.add("images", "Unsqueeze", chain.constant("channel_axis", np.array([1], np.int64)))
    else:
        chain.add("images", "Transpose", perm=[0, 3, 1, 2])


def _add_layer(chain: _Chain, name: str, layer: Layer, parameters: LayerParameters) -> None:
    """What a layer does when it is not trained; its parameters keep the names that they have in the snapshot."""
    match layer:
        case Dense():
            _add_weighted_sums(chain, name, "Gemm", parameters)
            _add_activation(chain, name, layer.activation)
        case Conv2D(kernel_size=size, padding=edge):
            _add_weighted_sums(chain, name, "Conv", parameters, kernel_shape=[size, size], pads=[edge] * 4)
            _add_activation(chain, name, layer.activation)
        case MaxPool2D(size=size):
            chain.add(name, "MaxPool", kernel_shape=[size, size], strides=[size, size])
        case Flatten():
            chain.add(name, "Flatten", axis=1)
        case Dropout():
            pass


def _add_weighted_sums(
    chain: _Chain, name: str, operator: str, parameters: LayerParameters, **attributes: list[int]
) -> None:
    weight = chain.constant(f"{name}.weight", parameters.weight)
    bias = chain.constant(f"{name}.bias", parameters.bias)
    chain.add(name, operator, weight, bias, **attributes)


def _add_activation(chain: _Chain, name: str, activation: Activation) -> None:
    if activation is not Activation.IDENTITY:
        chain.add(f"{name}.{activation.value}", ACTIVATIONS[activation])
