"""A published version as one file: a line that says what it is, then manifest and weights as they were published.

The line carries its own checksum, the rest is what the snapshot's digest covers: no byte of the file is unchecked.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

from shared.errors import SnapshotRejectedError
from shared.model_version import PublishedVersion, VersionRef

FORMAT_VERSION = 1
MAGIC = b"weightcast-snapshot"
MAX_LINE_BYTES = 4096
PIECE_BYTES = 2**20  # compared at a time
FIELDS = {
    "model": str, "version": int, "digest": str, "publish_time": str, "manifest_bytes": int, "weights_bytes": int,
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What the first line says."""

    model: str
    ref: VersionRef
    publish_time: datetime
    manifest_bytes: int
    weights_bytes: int


def parts_of(published: PublishedVersion) -> tuple[bytes, bytes, bytes]:
    """What the file of a version holds."""
    snapshot = published.snapshot
    said = {
        "format": FORMAT_VERSION,
        "model": published.model,
        "version": published.ref.version,
        "digest": published.ref.digest,
        "publish_time": published.publish_time.isoformat(),
        "manifest_bytes": len(snapshot.manifest),
        "weights_bytes": len(snapshot.weights),
    }
    text = json.dumps(said).encode()
    return b" ".join((MAGIC, checksum(text), text)) + b"\n", snapshot.manifest, snapshot.weights


def opened(path: Path) -> BinaryIO:
    """A file, for reading: not what a link leads to, and never waiting for a pipe.

    Raises:
        OSError: if it cannot be read.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    return open(path, "rb", opener=opener)


def read_header(file: BinaryIO, model: str) -> Header:
    """The header of a model's file, which is then as long as it says; nothing behind it is read.

    Raises:
        SnapshotRejectedError: DAMAGED_FILE or UNSUPPORTED_FORMAT.
    """
    status = os.fstat(file.fileno())
    line = file.readline(MAX_LINE_BYTES) if S_ISREG(status.st_mode) else b""
    said = read_line(line, model)
    if said.get("format") != FORMAT_VERSION:
        raise SnapshotRejectedError(
            f"what is kept of {model!r} has format {said.get('format')}, this build reads {FORMAT_VERSION}",
            reason="UNSUPPORTED_FORMAT",
        )
    header = header_from(said, model)
    expected = len(line) + header.manifest_bytes + header.weights_bytes
    if min(header.manifest_bytes, header.weights_bytes) < 0 or status.st_size != expected:
        raise damaged(model, f"it has {status.st_size} bytes, expected {expected}")
    return header


def read_line(line: bytes, model: str) -> dict[str, Any]:
    """What a first line says, if it is as it was written.

    Raises:
        SnapshotRejectedError: DAMAGED_FILE.
    """
    magic, _, rest = line.removesuffix(b"\n").partition(b" ")
    written, _, text = rest.partition(b" ")
    if magic != MAGIC or not line.endswith(b"\n"):
        raise damaged(model, "it does not begin as such a file does")
    if written != checksum(text):
        raise damaged(model, "its first line was altered")
    try:
        said = json.loads(text)
    except ValueError as error:
        raise damaged(model, f"its first line cannot be read: {error}") from error
    return said if isinstance(said, dict) else {}


def header_from(said: dict[str, Any], model: str) -> Header:
    """A header from what its line says.

    Raises:
        SnapshotRejectedError: DAMAGED_FILE.
    """
    if wrong := [name for name, kind in FIELDS.items() if type(said.get(name)) is not kind]:
        raise damaged(model, f"its first line says nothing usable of {', '.join(wrong)}")
    if said["model"] != model:
        raise damaged(model, f"it is of {said['model'][:80]!r}")
    try:
        publish_time = datetime.fromisoformat(said["publish_time"]).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise damaged(model, f"its publish_time cannot be read: {error}") from error
    ref = VersionRef(said["version"], said["digest"])
    return Header(model, ref, publish_time, said["manifest_bytes"], said["weights_bytes"])


def checksum(text: bytes) -> bytes:
    """SHA-256 in lower-case hex."""
    return hashlib.sha256(text).hexdigest().encode()


def damaged(model: str, why: str) -> SnapshotRejectedError:
    """The answer to a file that is not what was written."""
    return SnapshotRejectedError(f"the file that is kept of {model!r} is damaged: {why}", reason="DAMAGED_FILE")


def holds_exactly(path: Path, parts: Sequence[bytes]) -> bool:
    """Whether a file holds these parts, one after the other, and nothing else."""
    try:
        with opened(path) as file:
            if os.fstat(file.fileno()).st_size != sum(map(len, parts)):
                return False
            return all(file.read(len(piece)) == piece for piece in pieces(parts))
    except OSError:
        return False


def pieces(parts: Sequence[bytes]) -> Iterator[bytes]:
    """The parts, in pieces that are cheap to copy."""
    return (part[start : start + PIECE_BYTES] for part in parts for start in range(0, len(part), PIECE_BYTES))
