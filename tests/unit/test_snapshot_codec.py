"""Snapshots: what is encoded comes back the same, and whatever was altered is refused with its reason."""

import hashlib
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from shared import snapshot_codec
from shared.errors import SnapshotRejectedError
from shared.model_version import Manifest, StoredSnapshot
from shared.network import Network
from shared.pb.weightcast.v1 import model_pb2


@pytest.fixture(scope="module")
def stored(make_snapshot: Callable[..., StoredSnapshot]) -> StoredSnapshot:
    """A good snapshot."""
    return make_snapshot()


def sealed(manifest: bytes, weights: bytes) -> StoredSnapshot:
    """Altered parts under a digest that fits them, so that the checks behind the digest are reached."""
    return StoredSnapshot(manifest, weights, snapshot_codec.snapshot_digest(manifest, weights))


def reason_of(snapshot: StoredSnapshot) -> str:
    """Why a snapshot is refused."""
    with pytest.raises(SnapshotRejectedError) as raised:
        snapshot_codec.decode(snapshot)
    return raised.value.reason


def with_manifest(stored: StoredSnapshot, change: Callable[[model_pb2.Manifest], object]) -> StoredSnapshot:
    proto = model_pb2.Manifest.FromString(stored.manifest)
    change(proto)
    return sealed(proto.SerializeToString(), stored.weights)


def with_weights(stored: StoredSnapshot, change: Callable[[dict[str, np.ndarray]], object]) -> StoredSnapshot:
    tensors = {name: view.copy() for name, view in snapshot_codec.decode(stored).network.views.items()}
    change(tensors)
    return sealed(stored.manifest, save(tensors))


def test_what_was_encoded_comes_back(tiny_network: Network, make_manifest: Callable[..., Manifest]) -> None:
    """Every number of the network and every field of the manifest."""
    manifest = make_manifest(tiny_network)
    decoded = snapshot_codec.decode(snapshot_codec.encode(manifest, tiny_network))
    assert decoded.network.parameters.tobytes() == tiny_network.parameters.tobytes()
    np.testing.assert_array_equal(decoded.manifest.self_test.inputs, manifest.self_test.inputs)
    np.testing.assert_array_equal(decoded.manifest.self_test.probabilities, manifest.self_test.probabilities)
    assert replace(decoded.manifest, self_test=manifest.self_test) == manifest


def test_a_decoded_network_cannot_be_changed(stored: StoredSnapshot) -> None:
    """A served version is read-only."""
    assert not snapshot_codec.decode(stored).network.parameters.flags.writeable


def test_equal_weights_have_an_equal_digest_whenever_they_were_trained(
    tiny_network: Network, make_manifest: Callable[..., Manifest]
) -> None:
    """The weights' digest depends on the numbers only; the snapshot's covers the manifest too."""
    manifest = make_manifest(tiny_network)
    later = replace(manifest, provenance=replace(manifest.provenance, create_time=datetime(2030, 1, 1, tzinfo=UTC)))
    snapshots = [snapshot_codec.encode(each, tiny_network) for each in (manifest, later)]
    first, second = (model_pb2.Manifest.FromString(snapshot.manifest).weights_digest for snapshot in snapshots)
    assert first == second == hashlib.sha256(snapshots[0].weights).hexdigest()
    assert snapshots[0].digest != snapshots[1].digest


def test_the_digest_is_what_the_format_says(stored: StoredSnapshot) -> None:
    """SHA-256 over the manifest's length in 8 little-endian bytes, the manifest, and the weights."""
    content = struct.pack("<Q", len(stored.manifest)) + stored.manifest + stored.weights
    assert stored.digest == hashlib.sha256(content).hexdigest()


def test_weights_are_a_file_that_others_can_read(stored: StoredSnapshot, tiny_network: Network) -> None:
    """Read by hand after the safetensors format: a length, a JSON header, then the numbers."""
    (header_size,) = struct.unpack_from("<Q", stored.weights)
    header = json.loads(stored.weights[8 : 8 + header_size])
    data = stored.weights[8 + header_size :]
    for name, view in tiny_network.views.items():
        start, stop = header[name]["data_offsets"]
        assert (header[name]["dtype"], tuple(header[name]["shape"])) == ("F32", view.shape)
        np.testing.assert_array_equal(np.frombuffer(data[start:stop], "<f4").reshape(view.shape), view)


@pytest.mark.parametrize("part", ["manifest", "weights"])
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_one_flipped_bit_anywhere_is_seen(stored: StoredSnapshot, part: str, data: st.DataObject) -> None:
    """No byte of either part is outside the digest."""
    parts = {"manifest": bytearray(stored.manifest), "weights": bytearray(stored.weights)}
    altered = parts[part]
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    snapshot = StoredSnapshot(bytes(parts["manifest"]), bytes(parts["weights"]), stored.digest)
    assert reason_of(snapshot) == "DIGEST_MISMATCH"


@pytest.mark.parametrize(
    "alter",
    [
        lambda s: replace(s, weights=s.weights[:-1]),
        lambda s: replace(s, weights=b""),
        lambda s: replace(s, manifest=s.manifest[:-1]),
        lambda s: replace(s, manifest=s.manifest[:-1], weights=s.manifest[-1:] + s.weights),
        lambda s: replace(s, manifest=s.manifest + s.weights[:1], weights=s.weights[1:]),
        lambda s: replace(s, digest=s.digest[:-1] + ("0" if s.digest[-1] != "0" else "1")),
        lambda s: replace(s, digest=""),
    ],
    ids=["cut weights", "no weights", "cut manifest", "byte to weights", "byte to manifest", "digest", "no digest"],
)
def test_other_bytes_than_published_are_refused(
    stored: StoredSnapshot, alter: Callable[[StoredSnapshot], StoredSnapshot]
) -> None:
    """Cut, moved over the boundary between the parts, or under another digest."""
    assert reason_of(alter(stored)) == "DIGEST_MISMATCH"


def test_the_format_of_a_later_build_is_refused(stored: StoredSnapshot) -> None:
    """A reader refuses what it does not know, and says which format it reads."""
    newer = with_manifest(stored, lambda proto: setattr(proto, "format_version", 2))
    assert reason_of(newer) == "UNSUPPORTED_FORMAT"
    with pytest.raises(SnapshotRejectedError, match="format 2, this build reads 1"):
        snapshot_codec.decode(newer)


@pytest.mark.parametrize(
    "change",
    [
        lambda proto: proto.class_labels.append("dog"),
        lambda proto: proto.class_labels.pop(),
        lambda proto: proto.ClearField("architecture"),
        lambda proto: proto.ClearField("preprocessing"),
        lambda proto: proto.ClearField("self_test"),
        lambda proto: proto.preprocessing.input_shape.append(2),
        lambda proto: proto.architecture.layers[0].dense.ClearField("units"),
        lambda proto: setattr(proto.architecture.layers[0].dense, "activation", 99),
        lambda proto: setattr(proto.preprocessing, "label_encoding", 99),
        lambda proto: setattr(proto.spec, "optimizer", 99),
        lambda proto: proto.spec.ClearField("seed"),
        lambda proto: proto.spec.layers.add(),
        lambda proto: setattr(proto.spec.schedule, "kind", 99),
        lambda proto: proto.architecture.layers.add().flatten.SetInParent(),
        lambda proto: proto.architecture.layers.insert(0, proto.architecture.layers.pop()),
        lambda proto: proto.architecture.layers[0].conv2d.SetInParent(),
        lambda proto: proto.architecture.input_shape.append(2),
        lambda proto: proto.architecture.input_shape.__setitem__(slice(None), [-2, -3]),
        lambda proto: proto.preprocessing.feature_means.extend([0.0] * 6),
        lambda proto: proto.evaluation.confusion.append(1),
        lambda proto: setattr(proto.self_test.inputs, "contents", b"\0"),
        lambda proto: proto.self_test.probabilities.shape.append(1),
        lambda proto: proto.create_time.CopyFrom(Timestamp(seconds=2**62)),
        lambda proto: proto.epochs[0].duration.CopyFrom(Duration(seconds=2**62)),
    ],
    ids=[
        "a label too many",
        "a label too few",
        "no architecture",
        "no preprocessing",
        "no self-test",
        "another input shape",
        "a layer without units",
        "unknown activation",
        "unknown label encoding",
        "unknown optimizer",
        "a spec without seed",
        "a spec's layer of no kind",
        "unknown schedule",
        "another last layer",
        "layers in another order",
        "a convolution without filters",
        "an image of four axes",
        "an image of negative sides",
        "means without deviations",
        "a confusion matrix of no classes",
        "short self-test",
        "self-test of another shape",
        "a time past the calendar",
        "an epoch past the calendar",
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    stored: StoredSnapshot, change: Callable[[model_pb2.Manifest], object]
) -> None:
    """Even under a digest that fits."""
    assert reason_of(with_manifest(stored, change)) == "MALFORMED_MANIFEST"


@pytest.mark.parametrize(
    "change",
    [
        lambda preprocessing: preprocessing.__setattr__("uint8_scale", 0.0),
        lambda preprocessing: preprocessing.__setattr__("uint8_scale", -1.0),
        lambda preprocessing: preprocessing.__setattr__("uint8_scale", float("nan")),
        lambda preprocessing: preprocessing.__setattr__("uint8_scale", float("inf")),
        lambda preprocessing: preprocessing.__setattr__("feature_max", float("nan")),
        lambda preprocessing: preprocessing.__setattr__("feature_max", float("inf")),
        lambda preprocessing: preprocessing.__setattr__("feature_min", float("-inf")),
        lambda preprocessing: preprocessing.input_shape.__setitem__(slice(None), [-2, -3]),
    ],
    ids=["scale 0", "scale -1", "scale nan", "scale inf", "max nan", "max inf", "min -inf", "shape -2 × -3"],
)
def test_a_preprocessing_that_no_request_could_pass_is_refused(
    stored: StoredSnapshot, change: Callable[[object], object]
) -> None:
    """Sizes are positive and the scale and range finite; otherwise each request would fail instead of the load."""
    assert reason_of(with_manifest(stored, lambda proto: change(proto.preprocessing))) == "MALFORMED_MANIFEST"


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("dense_1.bias"),
        lambda tensors: tensors.update(extra=np.zeros(1, np.float32)),
        lambda tensors: tensors.update({"dense_0.weight": np.zeros((4, 6), np.float32)}),
        lambda tensors: tensors.update({"dense_1.bias": np.zeros(4, np.float32)}),
        lambda tensors: tensors.update({"dense_0.bias": tensors["dense_0.bias"].astype(np.float64)}),
        lambda tensors: tensors.update({"dense_0.bias": tensors["dense_0.bias"].astype(np.float16)}),
    ],
    ids=["one missing", "one too many", "transposed", "longer", "float64", "float16"],
)
def test_weights_of_another_architecture_are_refused(
    stored: StoredSnapshot, change: Callable[[dict[str, np.ndarray]], object]
) -> None:
    """Names, shapes and type must be those of the manifest's architecture."""
    assert reason_of(with_weights(stored, change)) == "SHAPE_MISMATCH"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["dense_0.weight", "dense_1.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(stored: StoredSnapshot, name: str, value: float) -> None:
    """The message names the parameter."""
    snapshot = with_weights(stored, lambda tensors: tensors[name].__setitem__(..., value))
    assert reason_of(snapshot) == "NON_FINITE_WEIGHTS"
    with pytest.raises(SnapshotRejectedError, match=f"{name} holds NaN or infinity"):
        snapshot_codec.decode(snapshot)


@pytest.mark.parametrize("weights", [b"", b"\x08", b"PK\x03\x04" + bytes(100), b"\xff" * 64])
def test_weights_that_are_no_safetensors_are_refused(stored: StoredSnapshot, weights: bytes) -> None:
    """Whatever else they may be."""
    assert reason_of(sealed(stored.manifest, weights)) == "MALFORMED_WEIGHTS"


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_weights_of_a_type_that_numpy_lacks_are_refused(stored: StoredSnapshot, dtype: str) -> None:
    """Other programs write such files; they are refused, not stumbled over."""
    size = 2 if dtype == "BF16" else 1
    header = json.dumps({"dense_0.bias": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * size]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(4 * size)
    assert reason_of(sealed(stored.manifest, weights)) == "MALFORMED_WEIGHTS"


@pytest.mark.parametrize("part", ["manifest", "weights"])
def test_a_part_cut_short_under_a_fitting_digest_is_refused(stored: StoredSnapshot, part: str) -> None:
    """A publisher that wrote too little is found out too."""
    parts = {"manifest": stored.manifest, "weights": stored.weights}
    parts[part] = parts[part][:-1]
    assert reason_of(sealed(**parts)) == f"MALFORMED_{part.upper()}"


@given(manifest=st.binary(max_size=300), weights=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused_and_nothing_else(stored: StoredSnapshot, manifest: bytes, weights: bytes) -> None:
    """Whatever comes in either part, the one error that comes out is SnapshotRejectedError."""
    for snapshot in (sealed(manifest, weights), sealed(manifest, stored.weights), sealed(stored.manifest, weights)):
        with pytest.raises(SnapshotRejectedError):
            snapshot_codec.decode(snapshot)


@pytest.mark.parametrize("part", ["manifest", "weights"])
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_nearly_good_bytes_are_decoded_or_refused(stored: StoredSnapshot, part: str, data: st.DataObject) -> None:
    """A few changed bytes under a fitting digest: accepted where they mean something, else SnapshotRejectedError."""
    parts = {"manifest": stored.manifest, "weights": stored.weights}
    altered = bytearray(parts[part])
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    parts[part] = bytes(altered)
    with suppress(SnapshotRejectedError):
        snapshot_codec.decode(sealed(**parts))
