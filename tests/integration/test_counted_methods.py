"""Calls that grpcio serves are counted when they end, by the code that the client gets; others' are left alone."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference_service.metrics.counted import REQUESTS
from inference_service.metrics.counters import Counters
from inference_service.metrics.methods import CountedMethods
from inference_service.metrics.statistics import Statistics
from inference_service.metrics.totals import read
from shared.errors import NotFoundError
from shared.grpc_errors import ErrorInterceptor
from shared.health import Health

SERVICE, FAST = "weightcast.made.Service", "/weightcast.made.Service/Fast"
KINDS = ("unary_unary", "stream_unary", "unary_stream", "stream_stream")
SECONDS = 20


class House:
    """A server with methods that do what their names say, and what was counted of them."""

    def __init__(self, channel: grpc.Channel, counters: Counters) -> None:
        self.channel = channel
        self._counters = counters

    def call(self, method: str, kind: str = "unary_unary", timeout: float = SECONDS) -> str:
        """Calls a method to its end; the name of the code that it got."""
        function = getattr(self.channel, kind)(method if method.startswith("/") else f"/{SERVICE}/{method}")
        try:
            answer = function(iter([b"a"]) if kind.startswith("stream") else b"a", timeout=timeout)
            if kind.endswith("stream"):
                list(answer)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    def counted(self) -> dict[tuple[str, str], int]:
        """How many calls ended, by method and code; only those that did."""
        return {
            (str(method).rpartition("/")[2], str(code)): sum(buckets)
            for (method, code), (_, *buckets) in read(self._counters).sums(REQUESTS).items()
            if sum(buckets)
        }


def refuse(*_: object) -> bytes:
    """Refuses."""
    raise NotFoundError("no such thing")


def fail(*_: object) -> bytes:
    """Fails as nobody foresaw."""
    raise ZeroDivisionError


def wait(_: object, context: grpc.ServicerContext) -> bytes:
    """Waits until nobody waits for it."""
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(SECONDS)
    return b"b"


def many(behaviour: Callable[..., bytes]) -> Callable[..., Iterator[bytes]]:
    """Gives something before it does what the method does."""

    def call(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"b"
        yield behaviour(request, context)

    return call


def methods() -> dict[str, grpc.RpcMethodHandler]:  # type: ignore[type-arg]  # in its stubs only
    """The server's methods."""
    made = {}
    for name, behaviour in {"Answer": lambda *_: b"b", "Refuse": refuse, "Fail": fail, "Wait": wait}.items():
        for kind in KINDS:
            made[f"{name}-{kind}"] = getattr(grpc, f"{kind}_rpc_method_handler")(
                many(behaviour) if kind.endswith("stream") else behaviour
            )
    return {**made, "Fast": grpc.unary_unary_rpc_method_handler(lambda *_: b"b")}


@pytest.fixture(scope="module")
def channel_of() -> Iterator[Callable[[Counters], grpc.Channel]]:
    """Starts servers that count."""
    started: list[tuple[grpc.Server, grpc.Channel]] = []

    def start(counters: Counters) -> grpc.Channel:
        interceptors = [CountedMethods(Statistics(counters), {FAST}), ErrorInterceptor()]
        server = grpc.server(ThreadPoolExecutor(4), interceptors=interceptors)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods()),))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("other.Service", methods()),))
        health = Health()
        health.set_serving("", serving=True)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)])
        started.append((server, channel))
        return channel

    yield start
    for server, channel in started:
        channel.close()
        server.stop(0).wait()


@pytest.fixture
def house(channel_of: Callable[[Counters], grpc.Channel]) -> House:
    """A server of this test's own."""
    counters = Counters()
    return House(channel_of(counters), counters)


@pytest.mark.parametrize("kind", KINDS)
def test_each_call_counts_once_by_the_code_that_its_client_gets(house: House, kind: str) -> None:
    """As soon as the client has it; a stream of answers is one call."""
    for name, code in {"Answer": "OK", "Refuse": "NOT_FOUND", "Fail": "INTERNAL"}.items():
        for _ in range(2):
            assert house.call(f"{name}-{kind}", kind) == code
    wanted = {(f"Answer-{kind}", "OK"): 2, (f"Refuse-{kind}", "NOT_FOUND"): 2, (f"Fail-{kind}", "INTERNAL"): 2}
    assert house.counted() == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_whose_deadline_has_passed_is_no_success(house: House, kind: str, until: Callable[..., None]) -> None:
    """Though the method has come to its end."""
    assert house.call(f"Wait-{kind}", kind, timeout=0.05) == "DEADLINE_EXCEEDED"
    until(lambda: house.counted() == {(f"Wait-{kind}", "DEADLINE_EXCEEDED"): 1}, "that it is counted")


def test_a_call_that_is_given_up_is_cancelled(house: House, until: Callable[..., None]) -> None:
    """Also a stream, of which something was taken."""
    one: grpc.UnaryUnaryMultiCallable[bytes, bytes] = house.channel.unary_unary(f"/{SERVICE}/Wait-unary_unary")
    many: grpc.UnaryStreamMultiCallable[bytes, bytes] = house.channel.unary_stream(f"/{SERVICE}/Wait-unary_stream")
    answer, answers = one.future(b"a", timeout=SECONDS), many(b"a", timeout=SECONDS)
    next(answers)
    time.sleep(0.3)  # one that is given up before a thread has taken it was never begun, and is not counted
    assert answer.cancel()
    answers.cancel()
    wanted = {("Wait-unary_unary", "CANCELLED"): 1, ("Wait-unary_stream", "CANCELLED"): 1}
    until(lambda: house.counted() == wanted, "that both are counted")


def test_health_is_counted_and_watching_it_takes_no_thread(house: House, until: Callable[..., None]) -> None:
    """More who watch than there are threads; each counts when he goes."""
    stub = health_pb2_grpc.HealthStub(house.channel)
    request = health_pb2.HealthCheckRequest()
    watches = [stub.Watch(request, timeout=SECONDS) for _ in range(8)]  # type: ignore[attr-defined]
    for watch in watches:
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    stub.Check(request, timeout=SECONDS)  # type: ignore[attr-defined]
    assert house.counted() == {("Check", "OK"): 1}
    for watch in watches:
        watch.cancel()
    until(lambda: house.counted() == {("Check", "OK"): 1, ("Watch", "CANCELLED"): 8}, "that all are counted")


def test_what_others_count_is_left_alone(house: House) -> None:
    """The fast methods, services that are not ours, and methods that do not exist, whose names a client makes up."""
    assert house.call(FAST) == "OK"
    assert house.call("/other.Service/Answer-unary_unary") == "OK"
    assert house.call("Unknown") == house.call("/weightcast.made.Unknown/Method") == "UNIMPLEMENTED"
    assert house.counted() == {}
