"""Requests now and then beside a load, each sent when it is due, and how long each took, answered or not.

A process of its own: `python -m benchmarks.contenders.sampling ADDRESS PATH FILE RATE SECONDS`; FILE holds a framed
message. Prints JSON: by gRPC code the seconds of each request, from when it was due.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc

from client.load.lanes import open_connection

TIMEOUT_SECONDS = 10.0
FRAME_BYTES = 5  # before the message: not compressed, and its length


def main() -> None:
    """Sends, waits for what is on its way, prints."""
    address, path, file, rate, seconds = sys.argv[1:]
    message = Path(file).read_bytes()[FRAME_BYTES:]
    channel = open_connection(address)
    grpc.channel_ready_future(channel).result(TIMEOUT_SECONDS)
    call: Any = channel.unary_unary(path)
    found: dict[str, list[float]] = {}
    left = threading.Semaphore(0)
    count = round(float(rate) * float(seconds))
    begun = time.monotonic()
    for number in range(count):
        due = begun + number / float(rate)
        time.sleep(max(0.0, due - time.monotonic()))

        def ended(done: Any, due: float = due) -> None:  # noqa: ANN401 - grpc's types know no call that is a future too
            found.setdefault(done.code().name, []).append(time.monotonic() - due)
            left.release()

        call.future(message, timeout=TIMEOUT_SECONDS).add_done_callback(ended)
    for _ in range(count):
        left.acquire()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
