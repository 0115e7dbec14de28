"""Snapshots that are damaged in Redis in every way that we know: none is ever served, each is refused by its name.

As a live version, as a rollout's candidate and as one that a request names; and what was mended is served.
"""

import json
import struct
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import grpc
import numpy as np
import pytest
from safetensors.numpy import load, save

from client.embedded_redis import EmbeddedRedis
from inference_service.board import Board
from inference_service.joint_status import JointStatus
from inference_service.limits import Limits
from inference_service.metrics.counted import LOAD_FAILURES
from inference_service.metrics.counters import Counters
from inference_service.metrics.statistics import Statistics
from inference_service.metrics.totals import read
from inference_service.servicer import InferenceServicer
from inference_service.versions import model_state
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.snapshot_disk import SnapshotDisk
from inference_service.versions.snapshot_loader import load_version
from shared import snapshot_codec
from shared.errors import NotFoundError, SnapshotRejectedError
from shared.model_version import LIVE, PromotionOutcome, PromotionVerdict, PublishedVersion, StoredSnapshot
from shared.network_codec import architecture_from_proto
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import model_pb2, network_pb2
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import RolloutMode
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry

Snapshots = Callable[..., StoredSnapshot]
MANUAL = PromotionVerdict(PromotionOutcome.MANUAL, Promotion(PromotionPolicy.MANUAL), accuracy=0.5)
GOOD, BAD = 1, 2
NO_CALL = cast("grpc.ServicerContext", None)  # no method looks at it


@dataclass(frozen=True)
class Stored:
    """What stands in Redis of a version; None where nothing does."""

    manifest: bytes | None
    weights: bytes | None
    record: bytes | None

    def part(self, name: str) -> bytes:
        """The manifest, the weights or the record, which is there."""
        found: bytes | None = getattr(self, name)
        assert found is not None
        return found

    def sealed(self) -> "Stored":
        """The same under a digest that fits, so that what is behind the digest is reached."""
        digest = snapshot_codec.snapshot_digest(self.part("manifest"), self.part("weights"))
        return replace(self, record=b" ".join((digest.encode(), *self.part("record").split()[1:])))


Damage = Callable[[Stored], Stored]


def torn(part: str) -> Damage:
    """Half of a part is lost."""
    return lambda stored: replace(stored, **{part: stored.part(part)[: len(stored.part(part)) // 2]})


def flipped(part: str, place: int) -> Damage:
    """One bit is another one."""

    def damage(stored: Stored) -> Stored:
        altered = bytearray(stored.part(part))
        altered[place] ^= 16
        return replace(stored, **{part: bytes(altered)})

    return damage


def gone(*parts: str) -> Damage:
    """Whole parts are lost."""
    return lambda stored: replace(stored, **dict.fromkeys(parts))


def with_weights(change: Callable[[dict[str, np.ndarray]], object]) -> Damage:
    """Other numbers, published as if they were right."""

    def damage(stored: Stored) -> Stored:
        tensors = {name: tensor.copy() for name, tensor in load(stored.part("weights")).items()}
        change(tensors)
        return replace(stored, weights=save(tensors)).sealed()

    return damage


def with_manifest(change: Callable[[model_pb2.Manifest], object]) -> Damage:
    """Another manifest, published as if it were right."""

    def damage(stored: Stored) -> Stored:
        proto = model_pb2.Manifest.FromString(stored.part("manifest"))
        change(proto)
        return replace(stored, manifest=proto.SerializeToString()).sealed()

    return damage


def with_parts(**parts: bytes) -> Damage:
    """Other bytes, published as if they were right."""
    return lambda stored: replace(stored, **parts).sealed()


def with_record(record: bytes) -> Damage:
    """What stands beside the bytes is something else."""
    return lambda stored: replace(stored, record=record)


def set_to(name: str, value: float) -> Damage:
    """A tensor's first number is another one."""
    return with_weights(lambda tensors: tensors[name].reshape(-1).__setitem__(0, value))


def bfloat16() -> bytes:
    """Weights of a type that other programs write."""
    header = json.dumps({"dense_0.bias": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


def layers(proto: model_pb2.Manifest, input_shape: list[int], *hidden: network_pb2.Layer) -> None:
    """Another architecture, with a preprocessing that fits and a self-test of no examples."""
    size = int(np.prod(input_shape))
    head = proto.architecture.layers[-1]
    proto.architecture.CopyFrom(
        network_pb2.Architecture(input_size=size, input_shape=input_shape, layers=[*hidden, head])
    )
    proto.preprocessing.input_shape[:] = input_shape
    for tensor, columns in ((proto.self_test.inputs, size), (proto.self_test.probabilities, 3)):
        tensor.shape[:] = [0, columns]
        tensor.contents = b""


def with_layers(input_shape: list[int], *hidden: network_pb2.Layer) -> Damage:
    """Another architecture, and weights that fit it: all of them 0."""

    def damage(stored: Stored) -> Stored:
        proto = model_pb2.Manifest.FromString(stored.part("manifest"))
        layers(proto, input_shape, *hidden)
        shapes = architecture_from_proto(proto.architecture).parameter_shapes
        weights = save({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
        return replace(stored, manifest=proto.SerializeToString(), weights=weights).sealed()

    return damage


RELU = network_pb2.ACTIVATION_RELU
WIDE = network_pb2.Layer(dense=network_pb2.Dense(units=8192, activation=RELU))
CONV = network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=512, kernel_size=1, activation=RELU))
NARROW_CONV = network_pb2.Layer(conv2d=network_pb2.Conv2D(filters=1, kernel_size=15, padding=7, activation=RELU))
POOL = network_pb2.Layer(max_pool2d=network_pb2.MaxPool2D(size=15))
FLATTEN = network_pb2.Layer(flatten=network_pb2.Flatten())
# What would take gigabytes, of a few bytes.
ABSURD = {
    "wide": (with_manifest(lambda proto: layers(proto, [6], *[WIDE] * 30)), "SHAPE_MISMATCH"),
    "a large input": (with_manifest(lambda proto: layers(proto, [2**30])), "ARCHITECTURE_TOO_LARGE"),
    "large images": (with_layers([4096, 4096], CONV, *[POOL] * 3, FLATTEN), "ARCHITECTURE_TOO_LARGE"),
    "deep": (with_layers([32, 32], *[NARROW_CONV] * 300, POOL, FLATTEN), "ARCHITECTURE_TOO_LARGE"),
}
DAMAGES: dict[str, tuple[Damage, str]] = {
    "torn weights": (torn("weights"), "DIGEST_MISMATCH"),
    "torn manifest": (torn("manifest"), "DIGEST_MISMATCH"),
    "a bit of the weights": (flipped("weights", -5), "DIGEST_MISMATCH"),
    "a bit of the weights' header": (flipped("weights", 20), "DIGEST_MISMATCH"),
    "a bit of the manifest": (flipped("manifest", 30), "DIGEST_MISMATCH"),
    "another digest": (with_record(b"0" * 64 + b" 1700000000000 100"), "DIGEST_MISMATCH"),
    "no weights": (gone("weights"), "DIGEST_MISMATCH"),
    "no manifest": (gone("manifest"), "DIGEST_MISMATCH"),
    "no bytes at all": (gone("manifest", "weights"), "DIGEST_MISMATCH"),
    "one transposed": (
        with_weights(lambda tensors: tensors.update({"dense_0.weight": tensors["dense_0.weight"].T.copy()})),
        "SHAPE_MISMATCH",
    ),
    "one missing": (with_weights(lambda tensors: tensors.pop("dense_1.bias")), "SHAPE_MISMATCH"),
    "float64": (
        with_weights(lambda tensors: tensors.update({"dense_0.bias": tensors["dense_0.bias"].astype(np.float64)})),
        "SHAPE_MISMATCH",
    ),
    "integers": (
        with_weights(lambda tensors: tensors.update({"dense_0.bias": np.zeros(4, np.int32)})),
        "SHAPE_MISMATCH",
    ),
    "bfloat16": (with_parts(weights=bfloat16()), "MALFORMED_WEIGHTS"),
    "NaN": (set_to("dense_0.weight", np.nan), "NON_FINITE_WEIGHTS"),
    "infinity": (set_to("dense_1.bias", -np.inf), "NON_FINITE_WEIGHTS"),
    "a number that overflows": (set_to("dense_0.bias", 3e38), "SELF_TEST_FAILED"),
    "another number": (set_to("dense_1.bias", 2.0), "SELF_TEST_FAILED"),
    "no safetensors": (with_parts(weights=b"PK\x03\x04" + bytes(200)), "MALFORMED_WEIGHTS"),
    "a header of 2^63 bytes": (with_parts(weights=struct.pack("<Q", 2**63) + bytes(200)), "MALFORMED_WEIGHTS"),
    "empty weights": (with_parts(weights=b""), "MALFORMED_WEIGHTS"),
    "no protobuf": (with_parts(manifest=b"\xff" * 100), "MALFORMED_MANIFEST"),
    "an empty manifest": (with_parts(manifest=b""), "UNSUPPORTED_FORMAT"),
    "a later format": (with_manifest(lambda proto: setattr(proto, "format_version", 2)), "UNSUPPORTED_FORMAT"),
    "another model's": (with_manifest(lambda proto: setattr(proto, "model", "another")), "WRONG_MODEL"),
    "a label too few": (with_manifest(lambda proto: proto.class_labels.pop()), "MALFORMED_MANIFEST"),
    "no preprocessing": (with_manifest(lambda proto: proto.ClearField("preprocessing")), "MALFORMED_MANIFEST"),
    "a scale of NaN": (
        with_manifest(lambda proto: setattr(proto.preprocessing, "uint8_scale", np.nan)),
        "MALFORMED_MANIFEST",
    ),
    "another scale": (
        with_manifest(lambda proto: setattr(proto.preprocessing, "uint8_scale", 1e38)),
        "SELF_TEST_FAILED",
    ),
    "wrong answers": (
        with_manifest(lambda proto: setattr(proto.self_test.probabilities, "contents", bytes(48))),
        "SELF_TEST_FAILED",
    ),
    "no self-test": (with_manifest(lambda proto: proto.ClearField("self_test")), "MALFORMED_MANIFEST"),
    "a self-test of no examples": (with_layers([6]), "SELF_TEST_FAILED"),
    "no record's words": (with_record(b"what"), "MALFORMED_RECORD"),
    "a record that is no text": (with_record(b"\xff\xfe 1 2"), "MALFORMED_RECORD"),
    "an empty record": (with_record(b""), "MALFORMED_RECORD"),
    "a record of blanks": (with_record(b"   "), "MALFORMED_RECORD"),
    "a record past the calendar": (with_record(b"0" * 64 + b" 999999999999999999999 1"), "MALFORMED_RECORD"),
    **{f"absurdly large: {name}": damage for name, damage in ABSURD.items()},
}  # fmt: skip


@pytest.fixture(scope="module")
def redis_connection() -> Iterator[StoreConnection]:
    """One Redis for all; each test has a model of its own."""
    with tempfile.TemporaryDirectory(prefix="wc-", dir="/tmp") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        with closing(StoreConnection(server.url)) as connection:
            yield connection
        server.stop()


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused is tried again at once."""
    monkeypatch.setattr(model_state, "FIRST_RETRY_SECONDS", 0.0)


class Service:
    """What serves one model of a store, with everything but its port; version 1 is live, version 2 is published."""

    def __init__(self, connection: StoreConnection, snapshot: Snapshots, folder: Path, model: str) -> None:
        self.model, self.keys = model, ModelKeys(model)
        self._connection = connection
        self.store, self.registry = ModelStore(connection), ModelRegistry(connection)
        self.store.publish(model, snapshot(model, seed=GOOD), "job-1")
        self.store.publish(model, snapshot(model, seed=BAD), "job-2", MANUAL)
        self._counters = Counters()
        statistics, self.disk = Statistics(self._counters), SnapshotDisk(folder)
        joint = JointStatus(Board(), lambda _name, _serving: None)
        self.manager = ModelManager(self.store, 2**20, joint.announce, statistics, self.disk)
        limits = Limits(max_rows=10, max_message_bytes=2**20, max_in_flight=4, max_waiting_bytes=2**20)
        self._servicer = InferenceServicer(  # type: ignore[abstract]  # what it lacks is answered elsewhere
            self.manager, joint, limits, statistics
        )
        self.compare()
        self.good = self.manager.serve(model, LIVE)
        self.whole = self.stored()

    def compare(self) -> None:
        """Follows the store once, in all that it says."""
        self.manager.reconcile([self.model])
        self.manager.settle()

    def stored(self) -> Stored:
        """What stands in Redis of version 2."""
        keys = (self.keys.manifests, self.keys.weights, self.keys.records)
        return Stored(*(self._connection.command("HGET", key, BAD) for key in keys))

    def write(self, stored: Stored) -> None:
        """Puts something else in its place."""
        for key, part in zip(
            (self.keys.manifests, self.keys.weights, self.keys.records),
            (stored.manifest, stored.weights, stored.record),
            strict=True,
        ):
            if part is None:
                self._connection.command("HDEL", key, BAD)
            else:
                self._connection.command("HSET", key, BAD, part)

    def status(self) -> pb.ModelStatus:
        """What `GetModelStatus` says."""
        return self._servicer.GetModelStatus(pb.GetModelStatusRequest(model=self.model), NO_CALL).status

    def counted(self) -> dict[str, int]:
        """The failed loads by their reason."""
        sums = read(self._counters).sums(LOAD_FAILURES)
        return {str(reason): cells[0] for (model, reason), cells in sums.items() if model == self.model}

    def answers_by_the_good_one(self) -> bool:
        """Whether the last good version is what answers, very same object and all."""
        status = self.status()
        return (
            self.manager.serve(self.model, LIVE) is self.manager.loaded(self.model, LIVE) is self.good
            and (status.state, status.live.version) == (pb.ModelStatus.STATE_READY, GOOD)
            and self.disk.version(self.model, LIVE).ref == self.good.ref
        )


@pytest.fixture
def service(
    redis_connection: StoreConnection, snapshot: Snapshots, tmp_path: Path, request: pytest.FixtureRequest
) -> Service:
    """A service with a model that no other test has."""
    digest = snapshot_codec.sha256_hex(request.node.nodeid.encode())
    return Service(redis_connection, snapshot, tmp_path, f"m-{digest[:16]}")


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest) -> tuple[Damage, str]:
    """A way of damaging a version, and what that is called."""
    return DAMAGES[request.param]


def test_as_a_live_version(service: Service, damage: tuple[Damage, str]) -> None:
    """The last good version answers on; what was mended goes live, with nothing published and nothing promoted."""
    spoil, reason = damage
    service.write(spoil(service.whole))
    service.registry.promote(service.model, BAD)
    for attempts in (1, 2):
        service.compare()
        assert service.answers_by_the_good_one()
        failure = service.status().failure
        assert (failure.version, failure.reason) == (BAD, reason)
        assert failure.message
        assert service.counted() == {reason: attempts}
    with pytest.raises(SnapshotRejectedError) as raised:
        service.manager.serve(service.model, BAD)
    assert raised.value.reason == reason
    service.write(service.whole)
    service.compare()
    status = service.status()
    assert (status.live.version, status.HasField("failure")) == (BAD, False)
    assert service.disk.version(service.model, LIVE).ref.version == BAD


def test_as_a_rollouts_candidate(service: Service, damage: tuple[Damage, str]) -> None:
    """It is not tried, and nothing else is any different; what was mended is tried."""
    spoil, reason = damage
    service.registry.set_rollout(service.model, BAD, RolloutMode.CANARY, 50.0)
    service.write(spoil(service.whole))
    service.compare()
    assert service.manager.rollout(service.model) is None
    assert service.answers_by_the_good_one()
    status = service.status()
    assert not status.HasField("failure")
    assert (status.rollout.state, status.rollout.rollout.version) == (pb.RolloutStatus.STATE_FAILED, BAD)
    assert (status.rollout.failure.version, status.rollout.failure.reason) == (BAD, reason)
    assert service.counted()[reason] >= 1
    service.write(service.whole)
    service.compare()
    rollout = service.manager.rollout(service.model)
    assert rollout is not None
    assert rollout.candidate.ref.version == BAD
    assert service.status().rollout.state == pb.RolloutStatus.STATE_ACTIVE
    assert service.answers_by_the_good_one()


def test_as_a_version_that_is_named(service: Service, damage: tuple[Damage, str]) -> None:
    """FAILED_PRECONDITION with its reason, for the number and for an alias; what was mended answers."""
    spoil, reason = damage
    service.registry.set_alias(service.model, "named", BAD)
    service.compare()
    service.write(spoil(service.whole))
    for selector in (BAD, "named"):
        with pytest.raises(SnapshotRejectedError) as raised:
            service.manager.serve(service.model, selector)
        assert raised.value.reason == reason
    assert service.manager.loaded(service.model, BAD) is None
    assert service.status().pinned == []
    assert service.counted() == {reason: 2}
    assert service.answers_by_the_good_one()
    service.write(service.whole)
    assert service.manager.serve(service.model, "named").ref.version == BAD


def test_weights_of_another_version(service: Service) -> None:
    """A whole and well-formed file, only not the one that was published."""
    other = service.store.version(service.model, GOOD).snapshot.weights
    service.write(replace(service.whole, weights=other))
    service.registry.promote(service.model, BAD)
    service.compare()
    assert service.status().failure.reason == "DIGEST_MISMATCH"
    assert service.answers_by_the_good_one()


def test_a_version_that_was_removed_by_hand(service: Service) -> None:
    """A name that leads nowhere says so; whoever asks for the number is told that there is none."""
    service.write(Stored(None, None, None))
    with pytest.raises(NotFoundError):
        service.manager.serve(service.model, BAD)
    service._connection.command("HSET", service.keys.aliases, LIVE, BAD)
    service.compare()
    assert service.status().failure.reason == "VERSION_NOT_FOUND"
    assert service.answers_by_the_good_one()


@pytest.mark.parametrize("key", ["aliases", "records", "manifests", "weights", "rollout"])
def test_a_key_of_another_type(service: Service, key: str) -> None:
    """Whatever somebody wrote in its place: what answers goes on, and the status says that it cannot be read."""
    name = getattr(service.keys, key)
    if key != "aliases":
        service.registry.promote(service.model, BAD)
    service._connection.command("DEL", name)
    service._connection.command("SET", name, "something else")
    service.compare()
    if key == "rollout":
        assert service.status().rollout.failure.reason == "MALFORMED_RECORD"
        assert service.status().live.version == BAD
    else:
        assert service.status().failure.reason == "MALFORMED_RECORD"
        assert service.answers_by_the_good_one()


class OneSnapshot:
    """A source of one version."""

    def __init__(self, published: PublishedVersion) -> None:
        self._published = published

    def version(self, model: str, selector: int | str) -> PublishedVersion:
        """The one."""
        assert (model, selector) == (self._published.model, self._published.ref.version)
        return self._published


@pytest.mark.parametrize("name", ABSURD)
def test_nothing_is_allocated_for_what_is_absurdly_large(service: Service, name: str) -> None:
    """A small multiple of the stored bytes, where the architecture would take gigabytes."""
    spoil, reason = ABSURD[name]
    service.write(spoil(service.whole))
    published = service.store.version(service.model, BAD)
    size = len(published.snapshot.manifest) + len(published.snapshot.weights)
    tracemalloc.start()
    try:
        with pytest.raises(SnapshotRejectedError) as raised:
            load_version(OneSnapshot(published), service.model, BAD)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert raised.value.reason == reason
    assert peak < 2**17 + 20 * size
