"""Load on a real little server that stalls, refuses or answers wrongly: what the generator sees and must not hide."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from client.load.figures import Figures
from client.load.generator import LoadTest
from client.load.lanes import open_lane
from client.load.methods import METHODS
from client.load.pacing import Pacer, Recorder
from client.load.plan import Plan
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)

STALL_SECONDS = 0.4
RATE = 200.0
REQUESTS = 160
STALLED = 40


class StallingServicer(InferenceServiceServicer):
    """Answers at once, but does nothing for a while at one request; may fail or shorten every so manieth answer."""

    def __init__(self) -> None:
        self.fails: Callable[[int], bool] = lambda _: False
        self.shortens: Callable[[int], bool] = lambda _: False
        self.stalls_at = -1
        self.peers: set[str] = set()
        self._count = 0
        self._lock = threading.Lock()

    def Classify(  # noqa: N802 - the contract's name
        self, request: pb.ClassifyRequest, context: grpc.ServicerContext
    ) -> pb.ClassifyResponse:
        """Answers, sooner or later."""
        with self._lock:
            number = self._count = self._count + 1
            self.peers.add(context.peer())
            if number == self.stalls_at:
                time.sleep(STALL_SECONDS)
        if self.fails(number):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
        rows = request.tensor.shape[0] - self.shortens(number)
        return pb.ClassifyResponse(class_ids=[1] * rows, served_by=pb.ServedBy(version=1 + (number > REQUESTS // 2)))

    def ClassifyStream(  # noqa: N802 - as above
        self, request_iterator: Iterator[pb.ClassifyStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ClassifyStreamResponse]:
        """The same, message by message."""
        for message in request_iterator:
            yield pb.ClassifyStreamResponse(response=self.Classify(message.request, context))


@contextmanager
def serving(servicer: StallingServicer) -> Iterator[str]:
    """A server with this servicer, and its address."""
    server = grpc.server(ThreadPoolExecutor(16))
    add_InferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def servicer() -> StallingServicer:
    """Without any fault yet."""
    return StallingServicer()  # type: ignore[abstract]


@pytest.fixture
def address(servicer: StallingServicer) -> Iterator[str]:
    """Where the servicer answers."""
    with serving(servicer) as found:
        yield found


def messages(plan: Plan) -> list[bytes]:
    """One request as its method's bytes."""
    request = pb.ClassifyRequest(model="m")
    request.tensor.shape.extend([plan.rows, 1])
    return [METHODS[plan.method].encode(request)]


def load(address: str, method: str = "classify", **changed: float | None) -> Figures:
    """A load test in this process; closed, one request at a time, unless `changed`."""
    given = {"connections": 1, "in_flight": 1, "rate": None, "seconds": None, "requests": REQUESTS, "timeout": 5.0}
    plan = Plan(address, method, rows=1, **{**given, **changed})  # type: ignore[arg-type]
    recorder = Recorder()
    with ExitStack() as stack:
        lanes = []
        for _ in range(plan.connections):
            lane = open_lane(address, METHODS[method], 10)
            stack.callback(lane.close)
            lanes.append(lane)
        Pacer(plan, METHODS[method], messages(plan), lanes, recorder).run(time.monotonic())
    return recorder.take()


def kept_waiting(figures: Figures) -> int:
    """Requests that the stall held up for at least half of its time."""
    return int((figures.latencies > STALL_SECONDS / 2).sum())


@pytest.mark.parametrize("method", ["classify", "stream"])
def test_a_stall_shows_in_an_open_loop(address: str, servicer: StallingServicer, method: str) -> None:
    """Every request that fell due in the first half of the stall waited for at least the other half."""
    servicer.stalls_at = STALLED
    seen = load(address, method, rate=RATE)
    assert seen.versions == {"1": REQUESTS // 2, "2": REQUESTS // 2}
    assert kept_waiting(seen) >= RATE * STALL_SECONDS / 2


def test_a_closed_loop_hides_it(address: str, servicer: StallingServicer) -> None:
    """The one caller waits once and asks for nothing meanwhile: this is what the open loop is for."""
    servicer.stalls_at = STALLED
    seen = load(address)
    assert seen.answered == REQUESTS
    assert 1 <= kept_waiting(seen) < RATE * STALL_SECONDS / 4


def test_every_connection_is_one(address: str, servicer: StallingServicer) -> None:
    """Channels to one address do not share a connection, and all of them are used."""
    load(address, connections=3, in_flight=2)
    assert len(servicer.peers) == 3


@pytest.mark.parametrize("method", ["classify", "stream"])
@pytest.mark.parametrize("rate", [None, RATE])
def test_failures_are_counted_by_their_code(
    address: str, servicer: StallingServicer, method: str, rate: float | None
) -> None:
    """What the service refused and what it answered wrongly is no answer, and everything that was sent is counted."""
    servicer.fails = lambda number: number == 10
    servicer.shortens = lambda number: number in {20, 30}
    seen = load(address, method, rate=rate)
    assert seen.failures["WRONG_ANSWER"] == 2
    assert seen.failures["RESOURCE_EXHAUSTED"] >= 1  # on a stream, those behind it too
    assert seen.messages["RESOURCE_EXHAUSTED"] == "too many"
    assert seen.answered + seen.failed == REQUESTS


@pytest.mark.parametrize("method", ["classify", "stream"])
def test_what_is_not_answered_in_time_fails_and_counts(address: str, servicer: StallingServicer, method: str) -> None:
    """A deadline counts from the due time; what it cut off is among the latencies, being at least that long."""
    servicer.stalls_at = STALLED
    seen = load(address, method, rate=RATE, timeout=STALL_SECONDS / 4)
    assert set(seen.failures) == {"DEADLINE_EXCEEDED"}
    assert len(seen.latencies) == seen.answered + seen.failed == REQUESTS


def test_a_time_ends_a_closed_loop(address: str) -> None:
    """Without a number of requests the time ends it, also while every request fails."""
    assert load(address, seconds=0.2, requests=None).answered > 0


def test_processes_share_a_plan(address: str, servicer: StallingServicer) -> None:
    """Two processes send all of it, on connections of their own, and tell all that they saw."""
    plan = Plan(address, "classify", 1, 2, 2, RATE, None, REQUESTS, 5.0)
    with LoadTest(plan, messages(plan), processes=2) as test:
        last = list(test)[-1]
        result = test.result()
    assert (last.answered, result.figures.answered, len(result.figures.latencies)) == (REQUESTS,) * 3
    assert len(result.figures.lags) > 0
    assert len(servicer.peers) == 2
    assert not result.stopped
