"""Layers as people write them, read and written."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.cli.layer_text import ACTIVATIONS, LayerTextError, architecture_text, layers_of, layers_text
from shared.pb.weightcast.v1 import network_pb2

EXAMPLE = "conv 16x5 pad 2 relu, pool 2, flatten, dense 128 tanh, dropout 0.3"
NAMES = st.sampled_from(sorted(ACTIVATIONS))
SIZES = st.integers(0, 2**31 - 1)
LAYER_TEXTS = st.one_of(
    st.builds("dense {} {}".format, SIZES, NAMES),
    st.builds("conv {}x{} {}".format, SIZES, SIZES, NAMES),
    st.builds("conv {}x{} pad {} {}".format, SIZES, SIZES, st.integers(1, 14), NAMES),
    st.builds("pool {}".format, SIZES),
    st.just("flatten"),
    st.builds("dropout {:g}".format, st.integers(1, 99).map(lambda percent: percent / 100)),
)


def test_the_example_of_the_help_is_read() -> None:
    """Every kind of layer, with its numbers and its activation."""
    conv, pool, flatten, dense, dropout = layers_of(EXAMPLE)
    assert conv.conv2d == network_pb2.Conv2D(
        filters=16, kernel_size=5, padding=2, activation=network_pb2.ACTIVATION_RELU
    )
    assert pool.max_pool2d.size == 2
    assert flatten.WhichOneof("kind") == "flatten"
    assert dense.dense == network_pb2.Dense(units=128, activation=network_pb2.ACTIVATION_TANH)
    assert dropout.dropout.rate == 0.3


def test_spaces_and_capitals_do_not_matter_and_relu_need_not_be_said() -> None:
    """People type as they like; a layer without an activation has ReLU."""
    assert layers_of(" Conv  6X5 ,POOL 2,flatten,dense 10") == layers_of(
        "conv 6x5 relu, pool 2, flatten, dense 10 relu"
    )


@given(st.lists(LAYER_TEXTS, min_size=1, max_size=6))
def test_what_is_written_reads_as_the_same(parts: list[str]) -> None:
    """`layers_text` is the inverse of `layers_of`."""
    text = ", ".join(parts)
    assert layers_text(layers_of(text)) == text


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    """Nothing but LayerTextError comes out of it."""
    with suppress(LayerTextError):
        layers_of(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("layer 1", "''", "conv FILTERSxSIZE")),
        ("dense 10, foo 3", ("layer 2", "'foo 3'", "dropout RATE")),
        ("conv 16 relu", ("layer 1", "16x5")),
        ("conv 16x5 pad relu", ("layer 1", "'relu'", "padding")),
        ("conv 16x5 pad", ("layer 1", "'pad'", "an activation")),
        ("dense -3", ("'-3'", "units")),
        ("dense 99999999999", ("'99999999999'", "units")),
        ("dense 10 softmax", ("'softmax'", "relu, tanh, sigmoid, identity")),
        ("dense 10 relu tanh", ("'relu tanh'",)),
        ("pool two", ("'two'", "the window's size")),
        ("dropout half", ("'half'", "0.3")),
        ("flatten 3", ("'flatten 3'", "flatten")),
    ],
)
def test_what_cannot_be_read_is_named_with_what_is_expected(text: str, words: tuple[str, ...]) -> None:
    """The layer's place, what came, and what would have been right."""
    with pytest.raises(LayerTextError) as refused:
        layers_of(text)
    assert [word for word in words if word not in str(refused.value)] == [], str(refused.value)


def test_an_architecture_is_one_line_of_all_its_layers() -> None:
    """From the shape of an example to the number of classes."""
    architecture = network_pb2.Architecture(input_size=784, input_shape=[28, 28])
    architecture.layers.extend(
        layers_of("conv 6x5 pad 2, pool 2, flatten, dense 84 tanh, dropout 0.5, dense 10 identity")
    )
    assert architecture_text(architecture) == (
        "28×28 → conv 6 of 5×5 pad 2 relu → pool 2 → flatten → dense 84 tanh → dropout 0.5 → 10"
    )
    older = network_pb2.Architecture(input_size=7, layers=layers_of("dense 3 identity"))
    assert architecture_text(older) == "7 → 3"
