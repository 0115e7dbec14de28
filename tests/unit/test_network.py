"""A network as a value: one float32 vector, named views into it, and a copy that nobody can change."""

from collections.abc import Callable

import numpy as np
import pytest

from shared.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, Shape
from shared.network import Architecture, Network, named_views

ARCHITECTURE = Architecture.dense(3, (4, 2), 5)
RELU = Activation.RELU
OUTPUT = Dense(10, Activation.IDENTITY)
LENET_LIKE = Architecture(
    (9, 11, 3), (Conv2D(4, 5, 2, RELU), MaxPool2D(2), Dropout(0.5), Conv2D(6, 3, 0, RELU), Flatten(), OUTPUT)
)


def test_parameters_stand_in_the_vector_layer_by_layer_weight_before_bias() -> None:
    """The order and the shapes are part of the stored format."""
    assert list(ARCHITECTURE.parameter_shapes.items()) == [
        ("dense_0.weight", (3, 4)),
        ("dense_0.bias", (4,)),
        ("dense_1.weight", (4, 2)),
        ("dense_1.bias", (2,)),
        ("dense_2.weight", (2, 5)),
        ("dense_2.bias", (5,)),
    ]
    assert ARCHITECTURE.parameter_count == 12 + 4 + 8 + 2 + 10 + 5


def test_views_cover_the_vector_once_and_in_order() -> None:
    """Laid end to end, the views are the vector: no gap, no overlap, row-major."""
    vector = np.arange(ARCHITECTURE.parameter_count, dtype=np.float32)
    laid_out = np.concatenate([view.ravel() for view in named_views(ARCHITECTURE, vector).values()])
    np.testing.assert_array_equal(laid_out, vector)


def test_views_share_the_vectors_memory() -> None:
    """An optimizer that changes the vector changes every layer, and the other way round."""
    network = Network(ARCHITECTURE, np.zeros(ARCHITECTURE.parameter_count, np.float32))
    network.parameters[:] += 1
    assert all((view == 1).all() for view in network.views.values())
    network.layers[2].bias[4] = 9  # the last bias is the last number
    assert network.parameters[-1] == 9


def test_layers_carry_their_own_weight_and_bias() -> None:
    """What a forward pass walks over are the very views, and nothing for a layer without parameters."""
    network = Network(LENET_LIKE, np.arange(LENET_LIKE.parameter_count, dtype=np.float32))
    for index, (layer, parameters) in enumerate(zip(LENET_LIKE.layers, network.layers, strict=True)):
        name = {Conv2D: "conv2d", Dense: "dense"}.get(type(layer))
        if name is None:
            assert parameters.weight.size == parameters.bias.size == 0
            continue
        for own, kind in ((parameters.weight, "weight"), (parameters.bias, "bias")):
            assert np.shares_memory(own, network.parameters)
            np.testing.assert_array_equal(own, network.views[f"{name}_{index}.{kind}"])


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(ARCHITECTURE.parameter_count - 1, np.float32),
        np.zeros(ARCHITECTURE.parameter_count + 1, np.float32),
        np.zeros(ARCHITECTURE.parameter_count, np.float64),
        np.zeros((1, ARCHITECTURE.parameter_count), np.float32),
        np.zeros(2 * ARCHITECTURE.parameter_count, np.float32)[::2],
    ],
    ids=["too short", "too long", "float64", "a matrix", "not contiguous"],
)
def test_a_vector_that_does_not_fit_is_refused(vector: np.ndarray) -> None:
    """A wrong vector is told with what came and what was expected."""
    with pytest.raises(ValueError, match=rf"expected .*\({ARCHITECTURE.parameter_count},\), got {vector.dtype}"):
        Network(ARCHITECTURE, vector)


def test_a_frozen_network_cannot_be_changed(make_network: Callable[[Architecture, int], Network]) -> None:
    """What is served can be written to neither by its vector nor by a view."""
    frozen = make_network(ARCHITECTURE, 0).frozen()
    with pytest.raises(ValueError, match="read-only"):
        frozen.parameters[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        frozen.views["dense_1.weight"][0, 0] = 1


def test_a_frozen_network_is_a_copy(make_network: Callable[[Architecture, int], Network]) -> None:
    """Training on does not change what was frozen."""
    network = make_network(ARCHITECTURE, 0)
    before, frozen = network.parameters.copy(), network.frozen()
    network.parameters[:] += 1
    np.testing.assert_array_equal(frozen.parameters, before)


def test_shapes_follow_an_image_through_the_layers() -> None:
    """Padding of 2 keeps a window of 5 from losing pixels, pooling drops what is left over, a window of 3 loses 2."""
    assert LENET_LIKE.shapes == ((3, 9, 11), (4, 9, 11), (4, 4, 5), (4, 4, 5), (6, 2, 3), (36,), (10,))
    assert LENET_LIKE.parameter_shapes == {
        "conv2d_0.weight": (4, 3, 5, 5),
        "conv2d_0.bias": (4,),
        "conv2d_3.weight": (6, 4, 3, 3),
        "conv2d_3.bias": (6,),
        "dense_5.weight": (36, 10),
        "dense_5.bias": (10,),
    }
    assert LENET_LIKE.parameter_count == 300 + 4 + 216 + 6 + 360 + 10
    assert LENET_LIKE.values_of_one == 297 + 4 * 9 * 11 + 2 * 4 * 4 * 5 + 6 * 2 * 3 + 36 + 10
    assert (LENET_LIKE.input_size, LENET_LIKE.class_count) == (297, 10)


@pytest.mark.parametrize(
    ("input_shape", "layers", "first"),
    [
        ((6,), (OUTPUT,), (6,)),
        ((2, 3), (OUTPUT,), (6,)),
        ((2, 3, 3), (Dropout(0.5), OUTPUT), (18,)),
        ((2, 3), (Flatten(), OUTPUT), (1, 2, 3)),
        ((2, 3, 3), (Flatten(), OUTPUT), (3, 2, 3)),
        ((2, 3), (Dropout(0.5), MaxPool2D(2), Flatten(), OUTPUT), (1, 2, 3)),
    ],
)
def test_what_the_first_layer_sees_is_its_own_choice(
    input_shape: Shape, layers: tuple[Layer, ...], first: Shape
) -> None:
    """A dense layer takes a picture as a flat row, the others as channels of pixels; dropout takes either."""
    architecture = Architecture(input_shape, layers)
    assert architecture.shapes[0] == first
    assert architecture.takes_images is (len(first) == 3)


@pytest.mark.parametrize(
    ("input_shape", "layers", "message"),
    [
        ((6,), (), "the last layer of a network is dense"),
        ((4, 4), (Flatten(),), "the last layer of a network is dense"),
        ((6,), (OUTPUT, Dropout(0.5)), "the last layer of a network is dense"),
        ((6,), (Dropout(0.5),), "the last layer of a network is dense"),
        ((6,), (Conv2D(1, 3, 1, RELU), Flatten(), OUTPUT), r"layer 0: it takes an image and the examples are \[6\]"),
        ((4, 4), (MaxPool2D(2), OUTPUT), r"layer 1: a dense layer takes flat inputs and gets \[1, 2, 2\]"),
        (
            (4, 4),
            (Flatten(), MaxPool2D(2), OUTPUT),
            "layer 1: a pooling layer takes an image and gets a flat row of 16",
        ),
        ((4, 4), (Flatten(), Flatten(), OUTPUT), "layer 1: a flatten layer takes an image"),
        ((4, 4), (Dense(3, RELU), Conv2D(1, 1, 0, RELU), OUTPUT), "layer 1: a convolutional layer takes an image"),
        ((3, 9), (MaxPool2D(4), Flatten(), OUTPUT), "layer 0: a window of 4 does not fit an image of 3 × 9"),
        ((9, 4), (Conv2D(1, 5, 0, RELU), Flatten(), OUTPUT), "layer 0: a window of 5 does not fit an image of 9 × 4"),
        ((4, 4, 3, 2), (Flatten(), OUTPUT), "layer 0: it takes an image"),
    ],
)
def test_layers_that_do_not_fit_are_refused(input_shape: Shape, layers: tuple[Layer, ...], message: str) -> None:
    """The message says which layer, what it takes and what it gets."""
    with pytest.raises(ValueError, match=message):
        Architecture(input_shape, layers)
