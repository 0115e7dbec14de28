"""What wakes whoever serves models: the streams on which publications are announced.

An event only wakes. Whatever is missed here, reading the store makes good.
"""

import time
from collections.abc import Sequence

from shared.store.connection import SOCKET_TIMEOUT_SECONDS, StoreConnection
from shared.store.keys import MODEL_EVENTS, ModelKeys

LONGEST_READ_SECONDS = SOCKET_TIMEOUT_SECONDS / 2
SHORTEST_PAUSE_SECONDS = 0.05
PAUSES_PER_LOOK = 10  # so that looking takes no more than a tenth of a core, however many models there are


class ModelEvents:
    """Waits for publications. Whatever it misses, reading the store makes good: an event only wakes."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis = connection
        self._cursors: dict[str, str] = {}

    def follow(self, models: Sequence[str]) -> None:
        """Makes `wait` wake for these models, and for new ones, from now on; read the store after this call."""
        for stream in (MODEL_EVENTS, *(ModelKeys(model).events for model in models)):
            if stream not in self._cursors:
                self._cursors[stream] = self._last_id(stream)

    def wait(self, seconds: float) -> bool:
        """Blocks until something was published since the last call, or `seconds` have passed; True if it was."""
        wait_once = self._look if self._redis.is_cluster else self._read
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if wait_once(left):
                return True
        return False

    def _read(self, seconds: float) -> bool:
        """Blocks for a while, until a stream has something; True if one had."""
        # In short reads, for a reply that stays away longer than the socket's time-out counts as a store away.
        milliseconds = max(1, int(min(seconds, LONGEST_READ_SECONDS) * 1000))
        reply = self._redis.command(
            "XREAD", "BLOCK", milliseconds, "STREAMS", *self._cursors.keys(), *self._cursors.values()
        )
        for stream, entries in reply or ():
            self._cursors[stream.decode()] = entries[-1][0].decode()
        return bool(reply)

    def _look(self, seconds: float) -> bool:
        """Looks at every stream, and pauses if none has anything; True if one had.

        A command cannot block on streams of several slots, and nothing but the model's own slot can be written together
        with a version. A thread for each model would do no more than this: one round trip to each node a few times a
        second. Not XREAD, of which the cluster's client must ask a node first where its keys are.
        """
        begin = time.thread_time()
        cursors = list(self._cursors.items())
        looks = [("XREVRANGE", stream, "+", f"({cursor}", "COUNT", 1) for stream, cursor in cursors]
        found = False
        for (stream, _), newest in zip(cursors, self._redis.commands(looks), strict=True):
            if newest:
                self._cursors[stream] = newest[0][0].decode()
                found = True
        if not found:
            pause = max(SHORTEST_PAUSE_SECONDS, PAUSES_PER_LOOK * (time.thread_time() - begin))
            time.sleep(min(seconds, pause))
        return found

    def _last_id(self, stream: str) -> str:
        newest = self._redis.command("XREVRANGE", stream, "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else "0-0"
