"""The weights of a network's first layer as small images, where they can be seen as such."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from shared.pb.weightcast.v1.model_pb2 import Manifest
from shared.pb.weightcast.v1.network_pb2 import Layer


@dataclass(frozen=True, eq=False)
class WeightImages:
    """A few units' or filters' weights, float64 (shown, height, width), those of the largest norm first.

    Attributes:
        images: the weights; those of several channels are averaged.
        places: which unit or filter each is, int64 (shown).
        count: how many the layer has.
        what: "units" or "filters".
    """

    images: npt.NDArray[np.float64]
    places: npt.NDArray[np.int64]
    count: int
    what: str


def weight_images(manifest: Manifest, weights: bytes, most: int) -> WeightImages | None:
    """At most `most` images of the first layer of a safetensors file; None where it does not look at images."""
    found = first_with_weights(manifest)
    if found is None:
        return None
    index, layer, flattened = found
    if layer.HasField("conv2d"):
        tensor, what = load(weights).get(f"conv2d_{index}.weight"), "filters"
        pictures = None if tensor is None else tensor.astype(np.float64).mean(axis=1)
    else:
        tensor, what = load(weights).get(f"dense_{index}.weight"), "units"
        pictures = None if tensor is None else unit_images(manifest, tensor.astype(np.float64), flattened=flattened)
    if pictures is None:
        return None
    norms = np.linalg.norm(pictures, axis=(1, 2))
    places = np.argsort(-norms, kind="stable")[:most].astype(np.int64)
    return WeightImages(pictures[places], places, len(pictures), what)


def first_with_weights(manifest: Manifest) -> tuple[int, Layer, bool] | None:
    """The first layer with weights, its place, and whether a flatten layer stands before it.

    None where it sees something other than the example itself.
    """
    flattened = False
    for index, layer in enumerate(manifest.architecture.layers):
        match layer.WhichOneof("kind"):
            case "dense" | "conv2d":
                return index, layer, flattened
            case "flatten":
                flattened = True
            case "dropout":
                pass
            case _:
                return None
    return None


def unit_images(
    manifest: Manifest, weight: npt.NDArray[np.float64], *, flattened: bool
) -> npt.NDArray[np.float64] | None:
    """Each unit's weights (inputs, units) in the shape of an example; None where examples are no images."""
    shape = tuple(manifest.architecture.input_shape) or tuple(manifest.preprocessing.input_shape)
    units = weight.T
    pictures: npt.NDArray[np.float64] | None = None
    match shape:
        case (height, width):
            pictures = units.reshape(-1, height, width)
        case (height, width, channels) if flattened:  # a flatten layer puts the channels first
            pictures = units.reshape(-1, channels, height, width).mean(axis=1)
        case (height, width, channels):
            pictures = units.reshape(-1, height, width, channels).mean(axis=3)
    return pictures
