"""Downloads a file once: from the first mirror that has it, resuming what was begun, kept only if it checks out."""

import fcntl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pooch
import requests
import structlog
from tqdm import tqdm

from shared.errors import UnavailableError, WrongStateError

TIMEOUT_SECONDS = (5, 30)  # to connect, and between two reads
CHUNK_BYTES = 2**16
Content = TypeVar("Content")
SIZE_LIMIT = 256 * 2**20
log = structlog.get_logger()


def fetch(name: str, folder: Path, mirrors: Sequence[str], read: Callable[[Path], Content]) -> Content:
    """What `read` makes of the file `name` in `folder`, which is downloaded if it is not there yet.

    `read` raises WrongStateError for a file that must not be used; such a file is removed and the next mirror asked.

    Raises:
        UnavailableError: if no mirror gave the file; says what each answered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # two processes must not write one partial file; the second finds the whole one
        return _fetch(name, folder, mirrors, read)


def _fetch(name: str, folder: Path, mirrors: Sequence[str], read: Callable[[Path], Content]) -> Content:
    path = folder / name
    failures = []
    if path.is_file():
        try:
            return read(path)
        except WrongStateError as error:
            log.warning("a kept file is not usable; downloading it again", error=error.message)
            path.unlink()
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + name, known_hash=None, fname=name, path=folder, downloader=resume_download)
            content = read(path)
        except WrongStateError as error:
            path.unlink(missing_ok=True)
            failures.append(f"{mirror}: {error.message}")
        except (requests.RequestException, OSError) as error:
            failures.append(f"{mirror}: {error}")
        else:
            log.info("downloaded", file=name, mirror=mirror)
            return content
    raise UnavailableError(
        f"{name} could not be downloaded; set WEIGHTCAST_DATA_DIR to a folder that has it, or choose the data set "
        f"'digits', which needs no network. {'; '.join(failures)}",
        reason="DATASET_UNREACHABLE",
    )


def resume_download(url: str, output_file: str, pooch_: Any) -> None:  # noqa: ANN401, ARG001 - pooch's own signature
    """A pooch downloader that goes on where an interrupted one stopped and shows a bar on a terminal.

    pooch hands in a new temporary name each time, so what has arrived is kept beside it under a name of the URL's.
    """
    target = Path(output_file)
    partial = target.parent / f"{url.rsplit('/', 1)[-1]}.part"
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            partial.unlink()
            raise requests.RequestException(f"{url}: the partial file does not fit; removed, try again")
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        have = have if resumed else 0
        total = have + int(response.headers.get("Content-Length", 0))
        if total > SIZE_LIMIT:
            raise requests.RequestException(f"{url} has {total} bytes, more than the limit of {SIZE_LIMIT}")
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(desc=partial.stem, initial=have, total=total or None, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > SIZE_LIMIT:
                    raise requests.RequestException(f"{url} is larger than the limit of {SIZE_LIMIT} bytes")
    partial.replace(target)
