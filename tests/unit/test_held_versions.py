"""Versions that requests name are held by their bytes: never more than there is room for, the last used ones."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.versions.held_versions import HeldVersions
from inference_service.versions.snapshot_loader import OBJECTS_BYTES, ServedVersion, prove
from shared.errors import SnapshotRejectedError
from shared.model_version import Manifest, PublishedVersion, StoredSnapshot, VersionRef
from shared.network import Network
from shared.preprocessing import Standardisation
from shared.snapshot_codec import encode

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Make = Callable[..., StoredSnapshot]


def proven(snapshot: StoredSnapshot, version: int = 1) -> ServedVersion:
    """A version of a snapshot."""
    ref = VersionRef(version, snapshot.digest)
    return prove(PublishedVersion("tiny", ref, NOON, len(snapshot.weights), snapshot))


@pytest.fixture(scope="module")
def served(make_snapshot: Make) -> ServedVersion:
    """A version, for others to be made of."""
    return proven(make_snapshot())


def numbers(held: HeldVersions) -> list[int]:
    """Which versions are held."""
    return [served.ref.version for served in held.of_model("tiny")]


def test_a_version_takes_what_it_keeps(served: ServedVersion, tiny_network: Network) -> None:
    """Its parameters, once more where they are scaled for bytes, its self-test, and a flat sum."""
    test = served.manifest.self_test
    arrays = 2 * tiny_network.parameters.nbytes + test.inputs.nbytes + test.probabilities.nbytes
    assert served.memory_bytes == arrays + OBJECTS_BYTES


def test_a_version_without_scaled_weights_takes_less(
    tiny_network: Network, make_manifest: Callable[..., Manifest], served: ServedVersion
) -> None:
    """Where features are standardised there is no second copy."""
    manifest = make_manifest(tiny_network)
    standardisation = Standardisation(np.zeros(6, np.float32), np.ones(6, np.float32))
    preprocessing = replace(manifest.preprocessing, standardisation=standardisation)
    other = proven(encode(replace(manifest, preprocessing=preprocessing), tiny_network))
    assert served.memory_bytes - other.memory_bytes == tiny_network.parameters.nbytes


def test_the_longest_unused_goes_first(served: ServedVersion) -> None:
    """Two fit; 1 was used after 2, so 3 takes the place of 2. To be listed or found is no use."""
    held = HeldVersions(2 * served.memory_bytes + 1)
    for version in (1, 2):
        held.put(replace(served, ref=VersionRef(version, "a")))
    assert held.get("tiny", 1) is not None
    held.find("tiny", VersionRef(2, "a"))
    held.of_model("tiny")
    held.put(replace(served, ref=VersionRef(3, "a")))
    assert numbers(held) == [1, 3]
    assert held.get("tiny", 2) is None


def test_what_is_found_has_the_digest(served: ServedVersion) -> None:
    """Another one under the same number is not it."""
    held = HeldVersions(2 * served.memory_bytes)
    held.put(served)
    assert held.find("tiny", served.ref) is served
    assert held.find("tiny", VersionRef(served.ref.version, "other")) is None
    assert held.find("other", served.ref) is None


def test_what_is_larger_than_all_room_is_refused(served: ServedVersion) -> None:
    """And those that are held stay."""
    held = HeldVersions(served.memory_bytes)
    held.put(served)
    test = served.manifest.self_test
    larger = replace(served.manifest, self_test=replace(test, inputs=np.zeros((5, 6), np.uint8)))
    with pytest.raises(SnapshotRejectedError, match=r"takes \d+ bytes.*WEIGHTCAST_INFERENCE_PINNED_BYTES") as raised:
        held.put(replace(served, manifest=larger, ref=VersionRef(2, "b")))
    assert raised.value.reason == "VERSION_TOO_LARGE"
    assert numbers(held) == [1]


def test_no_room_holds_nothing(served: ServedVersion) -> None:
    """Then only live versions and candidates answer."""
    with pytest.raises(SnapshotRejectedError):
        HeldVersions(0).put(served)


@given(
    steps=st.lists(st.tuples(st.sampled_from(["put", "get", "discard"]), st.integers(1, 6), st.integers(4, 40))),
    room=st.integers(1, 4),
)
@settings(max_examples=100, deadline=None)
def test_what_is_held_is_never_more_than_there_is_room_for(
    served: ServedVersion, steps: list[tuple[str, int, int]], room: int
) -> None:
    """Whatever is put in, used or let go, of whatever size; and nothing goes that still fits."""
    capacity = room * served.memory_bytes
    held, expected = HeldVersions(capacity), dict[int, ServedVersion]()  # the last used ones last
    test = served.manifest.self_test
    for what, version, rows in steps:
        if what == "put":
            manifest = replace(served.manifest, self_test=replace(test, inputs=np.zeros((rows, 6), np.uint8)))
            made = replace(served, manifest=manifest, ref=VersionRef(version, "a"))
            if made.memory_bytes > capacity:
                continue
            held.put(made)
            expected.pop(version, None)
            expected[version] = made
            while sum(each.memory_bytes for each in expected.values()) > capacity:
                expected.pop(next(iter(expected)))
        elif what == "get":
            assert held.get("tiny", version) is expected.get(version)
            if version in expected:
                expected[version] = expected.pop(version)
        else:
            held.discard("tiny", version)
            expected.pop(version, None)
    assert numbers(held) == sorted(expected)
