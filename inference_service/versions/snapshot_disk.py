"""The live version of each model in a folder, byte for byte as it was published, for a start without the store.

A file is whole or absent: it is replaced at one moment, and survives a crash. Several processes may share the folder.
"""

import os
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from inference_service.versions.snapshot_file import holds_exactly, opened, parts_of, read_header
from shared.errors import NotFoundError, SnapshotRejectedError
from shared.model_version import LIVE, PublishedVersion, StoredSnapshot, VersionRef
from shared.training_spec import name_violation
from shared.whole_files import UNFINISHED, sync_folder, write_durably

SUFFIX = ".snapshot"
ABANDONED_SECONDS = 600.0  # after which whoever left an unfinished file will not go on with it
SHOWN_FILES = 10
log = structlog.get_logger()


class SnapshotDisk:
    """A folder with a file for each model. Only names that a model can have are ever made into a path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def models(self) -> list[str]:
        """The models of which there is a file, sorted; none where there is no folder, or it cannot be read."""
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("the folder of kept snapshots cannot be read", folder=str(self._folder), error=str(error))
            return []
        strange = [name for name in names if not is_snapshot(name) and not is_unfinished(name)]
        if strange:
            shown = strange[:SHOWN_FILES]
            log.warning("files that are no snapshots are left alone", folder=str(self._folder), files=shown)
        return [name.removesuffix(SUFFIX) for name in names if is_snapshot(name)]

    def version(self, model: str, selector: int | str) -> PublishedVersion:
        """The version that is kept, its bytes unchecked, if it is the one asked for by number or as `live`.

        Raises:
            NotFoundError: if it is not.
            SnapshotRejectedError: DAMAGED_FILE, UNSUPPORTED_FORMAT or UNREADABLE_FILE.
        """
        try:
            with opened(self._path(model)) as file:
                header = read_header(file, model)
                if selector not in (LIVE, header.ref.version):
                    raise NotFoundError(
                        f"of {model!r} version {header.ref.version} is kept, not {selector}", reason="VERSION_NOT_FOUND"
                    )
                manifest, weights = file.read(header.manifest_bytes), file.read(header.weights_bytes)
        except FileNotFoundError:
            raise NotFoundError(f"nothing is kept of {model!r}", reason="VERSION_NOT_FOUND") from None
        except OSError as error:
            raise SnapshotRejectedError(
                f"what is kept of {model!r} cannot be read: {error.strerror}; see to the folder's rights",
                reason="UNREADABLE_FILE",
            ) from error
        return PublishedVersion(
            model=model,
            ref=header.ref,
            publish_time=header.publish_time,
            weights_size_bytes=len(weights),
            snapshot=StoredSnapshot(manifest, weights, header.ref.digest),
            aliases=(LIVE,),
        )

    def ref(self, model: str) -> VersionRef | None:
        """The version that is kept, as far as its file's first line and length say; None where nothing usable is."""
        try:
            with opened(self._path(model)) as file:
                return read_header(file, model).ref
        except (OSError, SnapshotRejectedError):
            return None

    def keep(self, published: PublishedVersion) -> None:
        """Replaces a model's file by this version, unless it holds the very same bytes.

        Raises:
            OSError: if it cannot be written; the old file stays then.
        """
        path, parts = self._path(published.model), parts_of(published)
        if not holds_exactly(path, parts):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(path, parts)

    def confirm(self, model: str) -> None:
        """Notes that what is kept was just compared with the store: as the file's time, which survives a restart.

        Raises:
            OSError: if it cannot be noted.
        """
        os.utime(self._path(model))

    def confirm_time(self, model: str) -> datetime | None:
        """When what is kept was last written or compared with the store."""
        try:
            return datetime.fromtimestamp(min(self._path(model).stat().st_mtime, time.time()), UTC)
        except OSError:
            return None

    def retain(self, models: Collection[str]) -> None:
        """Removes the files of all other models, and what somebody left unfinished.

        Raises:
            OSError: if one cannot be removed.
        """
        with suppress(FileNotFoundError):  # there is no folder
            unwanted = [path for path in self._folder.iterdir() if self._is_unwanted(path, models)]
            for path in unwanted:
                path.unlink(missing_ok=True)
            if unwanted:
                sync_folder(self._folder)

    @staticmethod
    def _is_unwanted(path: Path, models: Collection[str]) -> bool:
        if is_unfinished(path.name):
            with suppress(FileNotFoundError):  # whose it was has finished it
                return path.stat().st_mtime < time.time() - ABANDONED_SECONDS
        return is_snapshot(path.name) and path.name.removesuffix(SUFFIX) not in models

    def _path(self, model: str) -> Path:
        """A model's file.

        Raises:
            SnapshotRejectedError: MALFORMED_NAME, for a name that no model can have and that might lead elsewhere.
        """
        if violation := name_violation(model, "model", "model"):
            raise SnapshotRejectedError(
                f"no file is named after a model like this: {violation.description}", reason="MALFORMED_NAME"
            )
        return self._folder / f"{model}{SUFFIX}"


def is_snapshot(name: str) -> bool:
    """Whether a file's name is that of a model's snapshot."""
    return name.endswith(SUFFIX) and name_violation(name.removesuffix(SUFFIX), "model", "model") is None


def is_unfinished(name: str) -> bool:
    """Whether a file's name is that of one that is being written, or was."""
    return name.startswith(".") and name.endswith(UNFINISHED) and SUFFIX in name
