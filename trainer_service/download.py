"""A version as a file to download: which bytes, under which name, with which SHA-256.

Nothing is given out but what was published: the snapshot is checked against its digest first.
"""

from dataclasses import dataclass, field
from enum import Enum

from shared.model_version import PublishedVersion
from shared.snapshot_codec import decode, sha256_hex, verify_digest


class FileFormat(Enum):
    """The kind of file, by how its name ends."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"


@dataclass(frozen=True)
class VersionFile:
    """A version as a file; `sha256` is that of `contents`, lower-case hex."""

    name: str
    contents: bytes = field(repr=False)
    sha256: str


def downloadable(published: PublishedVersion, file_format: FileFormat) -> VersionFile:
    """The weights as they were published, or the whole network as ONNX.

    Raises:
        SnapshotRejectedError: DIGEST_MISMATCH; for ONNX, anything that `shared.snapshot_codec.decode` refuses.
    """
    contents = _weights(published) if file_format is FileFormat.SAFETENSORS else _onnx(published)
    name = f"{published.model}-{published.ref.version}.{file_format.value}"
    return VersionFile(name, contents, sha256_hex(contents))


def _weights(published: PublishedVersion) -> bytes:
    verify_digest(published.snapshot)
    return published.snapshot.weights


def _onnx(published: PublishedVersion) -> bytes:
    # 60 ms and 5 MB that a service which exports nothing need not spend at each start.
    from trainer_service.onnx_export import onnx_model  # noqa: PLC0415 - see above

    return onnx_model(decode(published.snapshot), published.ref.version, published.ref.digest)
