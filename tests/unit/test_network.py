"""A network as a value: one float32 vector, named views into it, and a copy that nobody can change."""

from collections.abc import Callable

import numpy as np
import pytest

from shared.network import Architecture, Network, named_views

ARCHITECTURE = Architecture.dense(3, (4, 2), 5)


def test_parameters_stand_in_the_vector_layer_by_layer_weight_before_bias() -> None:
    """The order and the shapes are part of the stored format."""
    assert list(ARCHITECTURE.parameter_shapes().items()) == [
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
    network.layers[2][2][4] = 9  # the last bias is the last number
    assert network.parameters[-1] == 9


def test_layers_carry_their_own_weight_and_bias() -> None:
    """What a forward pass walks over are the very views."""
    network = Network(ARCHITECTURE, np.zeros(ARCHITECTURE.parameter_count, np.float32))
    for index, (layer, weight, bias) in enumerate(network.layers):
        assert layer is ARCHITECTURE.layers[index]
        assert weight is network.views[f"dense_{index}.weight"]
        assert bias is network.views[f"dense_{index}.bias"]


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
