"""How a client sends a file: in parts that a message may have, told as they go."""

from pathlib import Path

import pytest

from client.dataset_client import CHUNK_BYTES, format_of, upload_parts
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb

HEADER = pb.UploadDatasetHeader(name="mine", format=pb.DATASET_FORMAT_CSV)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_a_file_and_its_bytes_are_sent_alike(tmp_path: Path, size: int) -> None:
    """The header first, then all bytes in order, at most 1 MiB a message."""
    contents = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    contents = contents[:size]
    path = tmp_path / "mine.csv"
    path.write_bytes(contents)
    sent: list[int] = []
    from_file = list(upload_parts(HEADER, path, sent.append))
    assert from_file == list(upload_parts(HEADER, contents))
    assert from_file[0].header == HEADER
    assert b"".join(part.chunk for part in from_file[1:]) == contents
    assert all(0 < len(part.chunk) <= CHUNK_BYTES for part in from_file[1:])
    assert sum(sent) == size


def test_a_large_file_is_read_as_it_is_sent(tmp_path: Path) -> None:
    """Not more than what was asked for has been counted as sent."""
    path = tmp_path / "mine.npz"
    path.write_bytes(bytes(3 * CHUNK_BYTES))
    sent: list[int] = []
    parts = upload_parts(HEADER, path, sent.append)
    next(parts)
    next(parts)
    assert sent == []
    next(parts)
    assert sent == [CHUNK_BYTES]


def test_a_suffix_tells_the_format() -> None:
    """In capitals too; others, none, and bytes want it said."""
    assert format_of(Path("a/b.NPZ")) == pb.DATASET_FORMAT_NPZ
    assert format_of(Path("b.csv")) == pb.DATASET_FORMAT_CSV
    assert format_of(Path("b.tar.zip")) == pb.DATASET_FORMAT_IMAGE_ZIP
    for source in (Path("b.tsv"), Path("csv"), b"x"):
        with pytest.raises(ValueError, match=r"\.npz, \.csv, \.zip"):
            format_of(source)
