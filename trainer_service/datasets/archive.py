"""Opens a .zip that a stranger sent: how many members it may have, how many bytes, and how packed, is checked first.

`zipfile` never gives more of a member than the size the archive declares for it, so declared sizes are true bounds.
"""

import os
import zlib
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from shared.errors import InvalidInputError
from trainer_service.datasets.limits import MAX_ARCHIVE_RATIO, MAX_DECODED_BYTES, MIB, MIN_ARCHIVE_BOMB_BYTES

DIRECTORY_ENTRY = b"PK\x01\x02"  # what each member's entry begins with
ENCRYPTED = 0x1


def open_archive(file: IO[bytes], most_members: int, what: str) -> ZipFile:
    """The archive in `file`; `what` is what it should have been, for the message.

    Raises:
        InvalidInputError: if it is none, has too many members, or one that is encrypted or packed in a rare way, or
            would unpack to too much; names the member.
    """
    # zipfile makes an object of every entry, so they are counted before it is asked.
    if count_of(file, DIRECTORY_ENTRY) > most_members:
        raise InvalidInputError.of("chunk", f"the archive has more than {most_members} files; send fewer")
    try:
        archive = ZipFile(file)
    except (BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise InvalidInputError.of("chunk", f"this is no {what}: {error}; check header.format") from error
    total = 0
    for member in archive.infolist():
        if member.flag_bits & ENCRYPTED:
            raise InvalidInputError.of("chunk", f"{shown(member)} is encrypted; pack it without a password")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise InvalidInputError.of("chunk", f"{shown(member)} is packed with a rare method; pack it with deflate")
        total += member.file_size
        if total > MAX_DECODED_BYTES:
            raise InvalidInputError.of(
                "chunk",
                f"{shown(member)} takes the unpacked size over the limit of {MAX_DECODED_BYTES} bytes; send less",
            )
    check_ratio(file, archive, total)
    return archive


def check_ratio(file: IO[bytes], archive: ZipFile, unpacked: int) -> None:
    """Returns if the archive is no bomb: if it unpacks to little, or to a sensible multiple of what was sent.

    Raises:
        InvalidInputError: naming the largest member.
    """
    sent = file.seek(0, os.SEEK_END)  # what the archive says of packed sizes may be untrue, and bytes may count twice
    if unpacked > MIN_ARCHIVE_BOMB_BYTES and unpacked > MAX_ARCHIVE_RATIO * sent:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        raise InvalidInputError.of(
            "chunk",
            f"the archive unpacks {sent} bytes to {unpacked}, more than {MAX_ARCHIVE_RATIO} times as much, most of it "
            f"{shown(largest)}; if that is no mistake, send it uncompressed or a sample of it",
        )


def read_member(archive: ZipFile, member: ZipInfo, most: int | None = None) -> bytes:
    """What a member holds: its first `most` bytes, or all of it; never more than its declared size.

    Raises:
        InvalidInputError: if it is cut or altered; names it.
    """
    try:
        with archive.open(member) as opened:
            return opened.read(member.file_size if most is None else min(most, member.file_size))
    except (BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError) as error:
        raise InvalidInputError.of("chunk", f"{shown(member)} cannot be unpacked: {error}; pack it again") from error


def count_of(file: IO[bytes], mark: bytes) -> int:
    """How often `mark` stands in the file, read some at a time."""
    file.seek(0)
    count, end = 0, b""
    while part := file.read(MIB):
        part = end + part
        count += part.count(mark)
        end = part[-len(mark) + 1 :]
    file.seek(0)
    return count


def shown(member: ZipInfo) -> str:
    """A member's name, quoted and not longer than a message can carry."""
    return repr(member.filename[:120])
