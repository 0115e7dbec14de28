"""A connection to Redis whose failures speak the domain's language.

Every command goes through `command` or a script made by `script`, so no caller can forget to translate an error.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from shared.errors import StoreUnavailableError

SOCKET_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 2.0
# Read as "cannot answer now": no connection, no answer in time, or a replica that takes no writes.
UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)
# The same, said by a reply that redis-py has no class for: its first word.
UNAVAILABLE_REPLIES = frozenset({"NOREPLICAS", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"})
FULL = "OOM command not allowed"  # stands within the reply where a script was refused

Argument = str | bytes | int | float
Script = Callable[[Sequence[str], Sequence[Argument]], Any]


def connect(url: str) -> redis.Redis:
    """A plain client for `url`. It connects with its first command and tries a lost connection once more by itself."""
    return redis.Redis.from_url(
        url,
        protocol=2,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        retry=Retry(ConstantBackoff(0.05), 1),
    )


class StoreConnection:
    """What the stores use of Redis. Safe to share between threads.

    `client` is for libraries that bring their own commands.
    """

    def __init__(self, url: str) -> None:
        self.client = connect(url)
        options = self.client.connection_pool.connection_kwargs
        self.address = options.get("path") or f"{options.get('host')}:{options.get('port')}"

    def command(self, *arguments: Argument) -> Any:  # noqa: ANN401 - a reply's type depends on the command
        """Runs one command and returns its reply.

        Raises:
            StoreUnavailableError: if Redis cannot be reached or cannot take it.
        """
        with self.translated():
            return self.client.execute_command(*arguments)  # type: ignore[no-untyped-call]

    def script(self, package: str, name: str) -> Script:
        """The Lua script `name` that lies in `package`, as a function of keys and arguments. It runs atomically."""
        registered = self.client.register_script(files(package).joinpath(name).read_text())

        def run(keys: Sequence[str], arguments: Sequence[Argument]) -> Any:  # noqa: ANN401 - as above
            with self.translated():
                return registered(keys=list(keys), args=list(arguments))

        return run

    def close(self) -> None:
        """Closes every connection; commands that block in other threads fail."""
        self.client.close()
        self.client.connection_pool.disconnect()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translates the errors of whatever uses `client` in this block, as rq does."""
        try:
            yield
        except redis.RedisError as error:
            if isinstance(error, redis.OutOfMemoryError) or FULL in str(error):
                raise StoreUnavailableError(
                    f"Redis at {self.address} is full ({error}); raise its maxmemory, or remove a data set or a version"
                ) from error
            if not isinstance(error, UNAVAILABLE) and str(error).partition(" ")[0] not in UNAVAILABLE_REPLIES:
                raise
            raise StoreUnavailableError(
                f"Redis at {self.address} is not available ({error}); start it, or correct WEIGHTCAST_REDIS_URL"
            ) from error
