"""One process of a load test: takes its plan and its requests from standard input, and tells what it sees as it goes.

It speaks one JSON document a line: that it is ready, then what it saw since the line before, and last what it cost. It
ends by itself, and at once where whoever started it is gone.
"""

import base64
import gc
import json
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import BinaryIO

import numpy as np

from client.load.figures import Figures
from client.load.lanes import open_lane
from client.load.methods import METHODS
from client.load.pacing import Pacer, Recorder
from client.load.plan import Plan

TELL_SECONDS = 0.25
CONNECT_SECONDS = 10.0


def tell(message: Mapping[str, object]) -> None:
    """A line for the process that started this one."""
    print(json.dumps(message), flush=True)  # noqa: T201 - the pipe to it


def packed(figures: Figures) -> dict[str, object]:
    """Figures as JSON."""
    return {
        "latencies": base64.b64encode(figures.latencies.tobytes()).decode(),
        "lags": base64.b64encode(figures.lags.tobytes()).decode(),
        "versions": figures.versions,
        "failures": figures.failures,
        "messages": figures.messages,
    }


def unpacked(message: Mapping[str, object]) -> Figures:
    """The figures that `packed` wrote."""
    figures = Figures()
    figures.latencies, figures.lags = (
        np.frombuffer(base64.b64decode(str(message[name])), np.float32) for name in ("latencies", "lags")
    )
    for counts, name in ((figures.versions, "versions"), (figures.failures, "failures")):
        found = message[name]
        assert isinstance(found, dict)  # noqa: S101 - as packed
        counts.update(found)
    messages = message["messages"]
    assert isinstance(messages, dict)  # noqa: S101 - as packed
    figures.messages = messages
    return figures


class Teller:
    """Tells what the recorder has, every so often, until it is stopped."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        tell(packed(self._recorder.take()))

    def _tell(self) -> None:
        while not self._stopping.wait(TELL_SECONDS):
            tell(packed(self._recorder.take()))


def read_requests(source: BinaryIO) -> tuple[Plan, list[bytes]]:
    """A line with the plan, one with the requests' lengths, and the requests."""
    plan = Plan.from_json(source.readline())
    lengths = json.loads(source.readline())
    return plan, [source.read(length) for length in lengths]


def main() -> None:
    """Works one plan off."""
    plan, requests = read_requests(sys.stdin.buffer)
    method = METHODS[plan.method]
    recorder = Recorder()
    with ExitStack() as stack:
        lanes = []
        try:
            for _ in range(plan.connections):
                lane = open_lane(plan.address, method, CONNECT_SECONDS)
                stack.callback(lane.close)
                lanes.append(lane)
        except TimeoutError as error:
            tell({"error": str(error)})
            return
        pacer = Pacer(plan, method, requests, lanes, recorder)
        gc.freeze()  # what is here now stays; later collections need not look at it again
        tell({"ready": True})
        start = sys.stdin.buffer.readline()
        if not start:  # nobody waits for this any more
            return
        begun, cpu = float(start), time.process_time()
        with Teller(recorder):
            pacer.run(begun)
            used = {"cpu_seconds": time.process_time() - cpu, "seconds": time.monotonic() - begun}
        tell(used)


if __name__ == "__main__":
    main()
