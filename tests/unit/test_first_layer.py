"""First-layer weights as images: which numbers stand where, and where there are none to see."""

import numpy as np
import pytest
from safetensors.numpy import save

from client.cli.first_layer import weight_images
from client.cli.layer_text import layers_of
from shared.pb.weightcast.v1.model_pb2 import Manifest


def manifest_of(layers: str, shape: list[int]) -> Manifest:
    """A manifest of a network for examples of this shape."""
    manifest = Manifest()
    manifest.architecture.input_size = int(np.prod(shape))
    manifest.architecture.input_shape.extend(shape)
    manifest.architecture.layers.extend(layers_of(layers))
    return manifest


def stored(**tensors: np.ndarray) -> bytes:
    """A safetensors file; names have a "__" where the contract's have a dot."""
    arrays = {name.replace("__", "."): np.ascontiguousarray(array, np.float32) for name, array in tensors.items()}
    return save(arrays)


def test_a_dense_unit_is_an_image_of_its_inputs() -> None:
    """Column by column of the weight matrix, in the shape of an example, those of the largest norm first."""
    units = np.random.default_rng(0).random((3, 2, 4))
    units[1] *= 10
    found = weight_images(manifest_of("dense 3", [2, 4]), stored(dense_0__weight=units.reshape(3, 8).T), most=2)
    assert found is not None
    assert (found.count, found.what, found.images.shape) == (3, "units", (2, 2, 4))
    assert found.places[0] == 1
    assert np.allclose(found.images, units[found.places])


def test_colours_are_averaged_in_the_order_in_which_they_stand() -> None:
    """Last in an example, first behind a flatten layer."""
    units = np.random.default_rng(1).random((1, 2, 4, 3))
    plain = weight_images(manifest_of("dense 1", [2, 4, 3]), stored(dense_0__weight=units.reshape(1, -1).T), most=1)
    channels_first = units.transpose(0, 3, 1, 2)
    flattened = weight_images(
        manifest_of("flatten, dropout 0.1, dense 1", [2, 4, 3]),
        stored(dense_2__weight=channels_first.reshape(1, -1).T),
        most=1,
    )
    assert plain is not None
    assert flattened is not None
    assert np.allclose(plain.images, units.mean(axis=3))
    assert np.allclose(flattened.images, units.mean(axis=3))


def test_filters_are_images() -> None:
    """Those of a convolutional layer that comes first, averaged over its channels."""
    filters = np.random.default_rng(2).random((4, 3, 5, 5))
    found = weight_images(manifest_of("conv 4x5, flatten, dense 2", [9, 9, 3]), stored(conv2d_0__weight=filters), 8)
    assert found is not None
    assert (found.count, found.what) == (4, "filters")
    assert np.allclose(found.images, filters[found.places].mean(axis=1))


@pytest.mark.parametrize(
    ("layers", "shape"), [("dense 3", [7]), ("pool 2, flatten, dense 3", [4, 4]), ("flatten", [2, 2])]
)
def test_nothing_is_shown_where_there_is_no_image(layers: str, shape: list[int]) -> None:
    """A table's columns, what a pooling layer has changed, and a network without weights."""
    weights = stored(dense_0__weight=np.ones((7, 3)), dense_2__weight=np.ones((4, 3)))
    assert weight_images(manifest_of(layers, shape), weights, most=8) is None


def test_an_older_manifest_has_the_shape_in_its_preprocessing() -> None:
    """Before architectures had an input_shape."""
    manifest = manifest_of("dense 1", [2, 2])
    del manifest.architecture.input_shape[:]
    manifest.preprocessing.input_shape.extend([2, 2])
    found = weight_images(manifest, stored(dense_0__weight=np.ones((4, 1))), most=8)
    assert found is not None
    assert found.images.shape == (1, 2, 2)
