"""Downloads from a real web server on this machine, one that can be told to hang up half-way or to lie."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from shared.errors import UnavailableError, WrongStateError
from trainer_service.datasets.download import CHUNK_BYTES, fetch

NAME = "numbers.bin"
CONTENT = np.random.default_rng(0).bytes(400_000)
HALF = 3 * CHUNK_BYTES  # what arrived is kept chunk by chunk; a cut between two chunks loses nothing


@dataclass
class Mirror:
    """What one folder of the server does, and what it was asked."""

    content: bytes = CONTENT
    cut_after: int | None = None  # hangs up after so many bytes of the first answer
    status: int | None = None
    knows_ranges: bool = True
    ranges: list[str | None] = field(default_factory=list)
    bytes_sent: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers GET for the mirror that the path's first part names."""

    mirrors: dict[str, Mirror]

    def do_GET(self) -> None:
        """Sends the file, or the part of it that was asked for."""
        mirror = self.mirrors[self.path.split("/")[1]]
        asked = self.headers.get("Range")
        mirror.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and mirror.knows_ranges else 0
        if mirror.status or start >= len(mirror.content):
            self.send_error(mirror.status or 416)
            return
        body = mirror.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mirror.cut_after is not None:
            body, mirror.cut_after = body[: mirror.cut_after], None
        mirror.bytes_sent += len(body)  # before they go: whoever has them all may ask at once
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@dataclass
class Web:
    """A running server with two mirrors."""

    address: str
    first: Mirror
    second: Mirror

    @property
    def urls(self) -> tuple[str, str]:
        """Where the mirrors are."""
        return f"{self.address}/first/", f"{self.address}/second/"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """Two mirrors of this test's own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mirrors = {"first": Mirror(), "second": Mirror()}
    handler = type("OwnHandler", (Handler,), {"mirrors": mirrors})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Web(f"http://127.0.0.1:{server.server_port}", **mirrors)
    server.shutdown()
    thread.join()
    server.server_close()


def read(path: Path) -> bytes:
    """The content, refused if it is another."""
    content = path.read_bytes()
    if content != CONTENT:
        raise WrongStateError(f"{path.name} was altered")
    return content


def kept(folder: Path) -> list[str]:
    """The files in a folder but the lock, which stays and is empty."""
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")


def test_two_that_fetch_at_once_get_one_whole_file(web: Web, tmp_path: Path) -> None:
    """They do not write into one another's partial file, and the second finds what the first has brought."""
    with ThreadPoolExecutor(2) as pool:
        fetched = list(pool.map(lambda _: fetch(NAME, tmp_path, web.urls, read), range(2)))
    assert fetched == [CONTENT, CONTENT]
    assert len(web.first.ranges) == 1


def test_a_file_is_fetched_from_the_first_mirror(web: Web, tmp_path: Path) -> None:
    """Whole, checked, and under its own name; the second mirror is not troubled."""
    assert fetch(NAME, tmp_path, web.urls, read) == CONTENT
    assert (web.first.ranges, web.second.ranges) == ([None], [])
    assert kept(tmp_path) == [NAME]


def test_a_file_that_is_there_is_not_fetched_again(web: Web, tmp_path: Path) -> None:
    """The second call asks nobody."""
    fetch(NAME, tmp_path, web.urls, read)
    fetch(NAME, tmp_path, web.urls, read)
    assert web.first.ranges == [None]


def test_a_kept_file_that_was_altered_is_fetched_again(web: Web, tmp_path: Path) -> None:
    """What was good once may have been damaged since; nobody needs to clean up by hand."""
    (tmp_path / NAME).write_bytes(b"damaged")
    assert fetch(NAME, tmp_path, web.urls, read) == CONTENT


def test_a_cut_download_is_resumed_by_the_next_call(web: Web, tmp_path: Path) -> None:
    """The second request asks for the rest only, and no byte is sent twice."""
    web.first.cut_after = HALF
    with pytest.raises(UnavailableError):
        fetch(NAME, tmp_path, web.urls[:1], read)
    assert not (tmp_path / NAME).exists()
    assert fetch(NAME, tmp_path, web.urls[:1], read) == CONTENT
    assert web.first.ranges == [None, f"bytes={HALF}-"]
    assert web.first.bytes_sent == len(CONTENT)


@pytest.mark.parametrize("cut_after", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES + 1, len(CONTENT) - 1])
def test_wherever_a_download_was_cut_the_file_comes_out_whole(web: Web, tmp_path: Path, cut_after: int) -> None:
    """Less than a chunk is sent a second time."""
    web.first.cut_after = cut_after
    assert fetch(NAME, tmp_path, (web.urls[0], web.urls[0]), read) == CONTENT
    assert web.first.bytes_sent < len(CONTENT) + CHUNK_BYTES


def test_the_next_mirror_goes_on_where_the_first_was_cut(web: Web, tmp_path: Path) -> None:
    """What has arrived is kept, whoever sends the rest."""
    web.first.cut_after = HALF
    assert fetch(NAME, tmp_path, web.urls, read) == CONTENT
    assert web.second.ranges == [f"bytes={HALF}-"]
    assert web.first.bytes_sent + web.second.bytes_sent == len(CONTENT)


def test_a_mirror_that_knows_no_ranges_is_read_from_the_beginning(web: Web, tmp_path: Path) -> None:
    """It answers 200 with everything; the half that was there is not put in front of it."""
    web.first.cut_after, web.second.knows_ranges = HALF, False
    assert fetch(NAME, tmp_path, web.urls, read) == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_mirror_that_refuses_is_passed_over(web: Web, tmp_path: Path, status: int) -> None:
    """The second one is asked and gives the file."""
    web.first.status = status
    assert fetch(NAME, tmp_path, web.urls, read) == CONTENT


def test_a_mirror_that_is_not_there_is_passed_over(web: Web, tmp_path: Path) -> None:
    """Port 1 refuses every connection."""
    assert fetch(NAME, tmp_path, ("http://127.0.0.1:1/", web.urls[1]), read) == CONTENT


def test_an_altered_file_is_removed_and_the_next_mirror_asked_from_the_beginning(web: Web, tmp_path: Path) -> None:
    """Nothing of the altered bytes is kept or resumed."""
    web.first.content = CONTENT[:-1] + b"x"
    assert fetch(NAME, tmp_path, web.urls, read) == CONTENT
    assert web.second.ranges == [None]


def test_an_altered_file_is_refused_where_no_mirror_has_a_better_one(web: Web, tmp_path: Path) -> None:
    """Nothing is left behind that a later call could take for the file."""
    web.first.content = CONTENT[:-1] + b"x"
    with pytest.raises(UnavailableError, match=f"{NAME} was altered"):
        fetch(NAME, tmp_path, web.urls[:1], read)
    assert kept(tmp_path) == []


def test_a_partial_file_that_fits_no_mirror_is_given_up(web: Web, tmp_path: Path) -> None:
    """416 for what was kept: it is removed, and the next mirror sends the whole file."""
    web.first.cut_after = HALF
    with pytest.raises(UnavailableError):
        fetch(NAME, tmp_path, web.urls[:1], read)
    web.first.content = CONTENT[: HALF // 2]
    assert fetch(NAME, tmp_path, web.urls, read) == CONTENT
    assert web.second.ranges == [None]


def test_when_no_mirror_has_it_the_message_names_each_and_what_to_do(web: Web, tmp_path: Path) -> None:
    """Every mirror with its answer, the setting, and the data set that needs no network."""
    web.first.status, web.second.status = 404, 500
    with pytest.raises(UnavailableError) as raised:
        fetch(NAME, tmp_path, web.urls, read)
    message = raised.value.message
    assert raised.value.reason == "DATASET_UNREACHABLE"
    for part in (NAME, f"{web.urls[0]}: 404", f"{web.urls[1]}: 500", "WEIGHTCAST_DATA_DIR", "'digits'"):
        assert part in message
