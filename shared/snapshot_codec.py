"""Model versions to bytes and back: a protobuf manifest, safetensors weights, and one SHA-256 over both.

Nothing read here is trusted: `decode` refuses, with a reason, what was altered, cut short, mis-shaped or not finite.
"""

import hashlib

import numpy as np
from google.protobuf.message import DecodeError
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from shared.errors import SnapshotRejectedError
from shared.manifest_codec import manifest_from_proto, manifest_to_proto
from shared.model_version import DecodedSnapshot, Manifest, StoredSnapshot
from shared.network import Architecture, FloatArray, Network
from shared.pb.weightcast.v1 import model_pb2
from shared.training_spec import MAX_LAYERS, MAX_VALUES_OF_ONE

FORMAT_VERSION = 1


def sha256_hex(data: bytes) -> str:
    """SHA-256 in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def snapshot_digest(manifest: bytes, weights: bytes) -> str:
    """SHA-256 over both parts; the manifest's length goes first, so that no byte can move from one to the other."""
    digest = hashlib.sha256(len(manifest).to_bytes(8, "little"))
    digest.update(manifest)
    digest.update(weights)
    return digest.hexdigest()


def encode(manifest: Manifest, network: Network) -> StoredSnapshot:
    """The stored form of a version. The weights' bytes depend on nothing but the numbers."""
    weights = save_safetensors(dict(network.views))
    proto = manifest_to_proto(manifest)
    proto.format_version = FORMAT_VERSION
    proto.weights_digest = sha256_hex(weights)
    encoded = proto.SerializeToString(deterministic=True)
    return StoredSnapshot(encoded, weights, snapshot_digest(encoded, weights))


def decode_manifest(encoded: bytes) -> Manifest:
    """The manifest alone, for whoever needs no numbers.

    Raises:
        SnapshotRejectedError: MALFORMED_MANIFEST or UNSUPPORTED_FORMAT.
    """
    try:
        proto = model_pb2.Manifest.FromString(encoded)
    except DecodeError as error:
        raise SnapshotRejectedError(f"the manifest is no protobuf: {error}", reason="MALFORMED_MANIFEST") from error
    if proto.format_version != FORMAT_VERSION:
        raise SnapshotRejectedError(
            f"the snapshot has format {proto.format_version}, this build reads {FORMAT_VERSION}; update this service",
            reason="UNSUPPORTED_FORMAT",
        )
    try:
        return manifest_from_proto(proto)
    except (ValueError, OverflowError) as error:
        raise SnapshotRejectedError(f"the manifest is incomplete: {error}", reason="MALFORMED_MANIFEST") from error


def verify_digest(stored: StoredSnapshot) -> None:
    """Returns if the bytes are those that were published.

    Raises:
        SnapshotRejectedError: DIGEST_MISMATCH.
    """
    actual = snapshot_digest(stored.manifest, stored.weights)
    if actual != stored.digest:
        raise SnapshotRejectedError(
            f"the stored bytes have SHA-256 {actual}, published was {stored.digest}", reason="DIGEST_MISMATCH"
        )


def decode(stored: StoredSnapshot) -> DecodedSnapshot:
    """The version behind a stored snapshot, checked.

    Raises:
        SnapshotRejectedError: DIGEST_MISMATCH, MALFORMED_MANIFEST, UNSUPPORTED_FORMAT, ARCHITECTURE_TOO_LARGE,
            MALFORMED_WEIGHTS, SHAPE_MISMATCH or NON_FINITE_WEIGHTS.
    """
    verify_digest(stored)
    manifest = decode_manifest(stored.manifest)
    check_size(manifest.architecture)
    parameters = decode_weights(stored.weights, manifest.architecture)
    return DecodedSnapshot(manifest, Network(manifest.architecture, parameters).frozen())


def check_size(architecture: Architecture) -> None:
    """Returns if it is no larger than what jobs may train.

    Parameters cannot be more than the weights' bytes. What a layer computes can: a few bytes can ask for gigabytes.

    Raises:
        SnapshotRejectedError: ARCHITECTURE_TOO_LARGE.
    """
    hidden, values = len(architecture.layers) - 1, architecture.values_of_one
    if hidden > MAX_LAYERS or values > MAX_VALUES_OF_ONE:
        raise SnapshotRejectedError(
            f"the architecture has {hidden} hidden layers and takes {values} values for one example; "
            f"at most {MAX_LAYERS} and {MAX_VALUES_OF_ONE} are served",
            reason="ARCHITECTURE_TOO_LARGE",
        )


def decode_weights(weights: bytes, architecture: Architecture) -> FloatArray:
    """The flat parameter vector (parameter_count,) in a safetensors file.

    Raises:
        SnapshotRejectedError: MALFORMED_WEIGHTS, SHAPE_MISMATCH or NON_FINITE_WEIGHTS.
    """
    try:
        tensors = load_safetensors(weights)
    except (SafetensorError, KeyError, ValueError) as error:
        raise SnapshotRejectedError(f"the weights are no safetensors: {error}", reason="MALFORMED_WEIGHTS") from error
    expected = architecture.parameter_shapes
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong_type = sorted(name for name, tensor in tensors.items() if tensor.dtype != np.float32)
    if found != expected or wrong_type:
        raise SnapshotRejectedError(
            f"the weights are {found}{f', not float32: {wrong_type}' if wrong_type else ''}; expected {expected}",
            reason="SHAPE_MISMATCH",
        )
    parameters = np.concatenate([tensors[name].ravel() for name in expected])
    if not np.isfinite(parameters).all():
        bad = next(name for name in expected if not np.isfinite(tensors[name]).all())
        raise SnapshotRejectedError(f"{bad} holds NaN or infinity", reason="NON_FINITE_WEIGHTS")
    return parameters
