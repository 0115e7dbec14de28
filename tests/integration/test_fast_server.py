"""The polling loop and grpcio's public server, by the same tests: real sockets, a protocol of words.

`wait …` is long work, which goes on when the test says so; `wrong` is refused; anything else comes back as it is.
"""

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from inference_service.answering import Answering
from inference_service.callers import Caller
from inference_service.classification import Product
from inference_service.fast_streams import StreamCall, StreamedRequest
from inference_service.limits import Limits
from inference_service.long_work import LongWork
from inference_service.polling_loop import PollingLoop, begin, why_not
from inference_service.public_methods import PublicMethods
from inference_service.questions import Answer, Question, Reading, Request
from inference_service.replying import Replying
from inference_service.request_log import RequestLog
from shared.errors import InvalidInputError
from shared.grpc_server import Server
from shared.health import LIVENESS

SECONDS = 20.0
CANCELLED, RESOURCE_EXHAUSTED = 1, 8  # of gRPC's codes
LARGEST = 2**20

SERVED: Any = SimpleNamespace(multiply_adds=0)  # in place of a version


class Words:
    """Messages that are words; on its stream a refusal is an answer where `goes_on`."""

    def __init__(self, name: str, *, streaming: bool, goes_on: bool = False) -> None:
        self.method = f"/weightcast.test/{name}"
        self.streaming = streaming
        self._goes_on = goes_on

    def read(self, message: bytes) -> Reading:
        """Understands a word."""
        if message == b"wrong":
            raise InvalidInputError.of("word", "got wrong, expected another")
        return Reading(Question("words", "", None), (message,), None, respond)

    def refusal(self, why: str, message: bytes) -> bytes | None:
        """What was wrong with which word."""
        return b"no: " + message + b": " + why.encode() if self._goes_on else None


def respond(answer: Any) -> bytes:  # noqa: ANN401 - words, where a model's answers would be
    """The reply to a word."""
    return bytes(b"re: " + answer.top_k)


class Echo:
    """Answers each word with itself, and counts those that may not wait in vain."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.taken = 0
        self.computed: list[bytes] = []

    def quick_request(self, reading: Reading, contents: tuple[bytes, ...], caller: Caller) -> Request | None:
        """The request, if it need not wait."""
        return None if contents[0].startswith(b"wait") else self.request(reading, contents, caller)

    def request(self, reading: Reading, contents: tuple[bytes, ...], caller: Caller) -> Request:
        """The request."""
        self.taken += 1
        return Request(reading, contents, SERVED, 1, caller)

    def answers(self, requests: list[Request]) -> tuple[list[Answer | Exception], list[Product]]:
        """Each word, when it may go on; no product is left to count."""
        words = [bytes(request.contents[0]) for request in requests]
        self.computed += words
        if any(word.startswith(b"wait") for word in words):
            self.may_go_on.wait(SECONDS)
        return [KeyError("a secret") if word == b"broken" else Answer(None, word, None, None) for word in words], []  # type: ignore[arg-type]

    def count(self, products: list[Product]) -> None:
        """Nothing is counted."""
        assert not products


class Tally:
    """Counts the outcomes of one service's requests, as a list of codes; OK is 0."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self._lock = threading.Lock()

    def method(self, _method: str) -> "Tally":
        """Where the requests of a method are counted."""
        return self

    def answered(self, seconds: Sequence[float], rows: Sequence[int]) -> None:
        """Counts answers."""
        assert len(seconds) == len(rows)
        assert min(seconds) > 0
        with self._lock:
            self.codes += [0] * len(rows)

    def failed(self, code: int, _seconds: float) -> None:
        """Counts a refusal."""
        with self._lock:
            self.codes.append(code)

    def set_load(self, queued: int, in_flight: int, waiting_bytes: int) -> None:
        """Hears how much is to do."""
        assert 0 <= queued <= in_flight
        assert waiting_bytes >= 0


class Running:
    """A server of words, and a channel to it."""

    def __init__(self, polling: str, *, in_flight: int = 256, connection_calls: int = 64) -> None:
        self.echo, self.tally = Echo(), Tally()
        pool = ThreadPoolExecutor(8)
        request_log = RequestLog("INFO")
        replying = Replying(request_log)
        limits = Limits(1, LARGEST, in_flight, 5 * LARGEST)
        self.answering = answering = Answering(
            self.echo,  # type: ignore[arg-type]  # of the same shape
            LongWork(self.echo, replying, pool),  # type: ignore[arg-type]
            replying,
            limits,
            self.tally,
        )
        told = (answering, self.tally.method, request_log)
        protocols = (
            Words("Say", streaming=False),
            Words("Talk", streaming=True),
            Words("TalkOn", streaming=True, goes_on=True),
        )
        self.server = Server(
            "127.0.0.1:0",
            pool,
            2 * LARGEST,
            interceptors=[PublicMethods(protocols, *told)],
            max_connection_calls=connection_calls,
        )
        handlers: dict[str, Any] = {
            "Say": grpc.unary_unary_rpc_method_handler(lambda *_: b""),
            "Talk": grpc.stream_stream_rpc_method_handler(lambda *_: iter(())),
            "TalkOn": grpc.stream_stream_rpc_method_handler(lambda *_: iter(())),
        }
        self.server._server.add_registered_method_handlers("weightcast.test", handlers)
        port = self.server.start(partial(begin, PollingLoop(protocols, *told), polling))
        self.address = f"127.0.0.1:{port}"
        self.channel: Any = grpc.insecure_channel(self.address, [("grpc.max_send_message_length", -1)])
        self.say: Any = partial(self.channel.unary_unary("/weightcast.test/Say"), timeout=SECONDS)
        self.talk: Any = partial(self.channel.stream_stream("/weightcast.test/Talk"), timeout=SECONDS)
        self.talk_on: Any = partial(self.channel.stream_stream("/weightcast.test/TalkOn"), timeout=SECONDS)


@pytest.fixture(params=["auto", "public"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """Each of the two servers."""
    started = Running(request.param)
    yield started
    started.echo.may_go_on.set()
    started.channel.close()
    started.server.stop(SECONDS)


def test_the_loop_serves_where_it_can() -> None:
    """The grpcio that is installed here is one that it was tested with; if not, all that follows is of no use."""
    assert why_not(grpc.server(ThreadPoolExecutor(1))) is None


def test_a_grpcio_that_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version, a name that is gone, a server of another kind: served by the public interface."""
    server = grpc.server(ThreadPoolExecutor(1))
    assert why_not(object()) == "the server is a object"  # type: ignore[arg-type]  # that is the point
    monkeypatch.delattr(grpc._server, "_process_event_and_continue")
    assert why_not(server) == "grpcio has no grpc._server._process_event_and_continue"
    monkeypatch.setattr(grpc, "__version__", "2.0.0")
    reason = why_not(server)
    assert reason is not None
    assert reason.startswith("grpcio 2.0.0 is not one it was tested with")


def test_a_server_with_an_unknown_grpcio_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, without being told."""
    monkeypatch.setattr(grpc, "__version__", "2.0.0")
    started = Running("auto")
    assert started.say(b"a") == b"re: a"
    assert not any(thread.name == "polling" for thread in threading.enumerate())
    started.channel.close()
    started.server.stop(0)


def test_many_callers_each_get_their_own(running: Running) -> None:
    """More than are taken at a time."""
    calls = {
        f"{index}".encode(): running.channel.unary_unary("/weightcast.test/Say").future(f"{index}".encode())
        for index in range(250)
    }
    assert all(call.result(SECONDS) == b"re: " + word for word, call in calls.items())


def test_what_was_refused_carries_the_details(running: Running) -> None:
    """The same status, whoever sends it."""
    with pytest.raises(grpc.RpcError) as raised:
        running.say(b"wrong")
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "word: got wrong, expected another"
    assert [
        detail.type_url.rpartition("/")[2] for detail in rpc_status.from_call(cast("Any", raised.value)).details
    ] == [
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
    ]


def test_what_was_not_foreseen_says_nothing_of_itself(running: Running) -> None:
    """An id, which the log explains."""
    with pytest.raises(grpc.RpcError) as raised:
        running.say(b"broken")
    assert raised.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(raised.value.details())
    assert running.say(b"a") == b"re: a"


def test_a_message_that_is_too_large_is_refused(running: Running) -> None:
    """With the limit and the remedy; one of twice the size by the transport itself, and the next one is answered."""
    with pytest.raises(grpc.RpcError) as raised:
        running.say(bytes(LARGEST + 1))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == f"request: got {LARGEST + 1} bytes, expected at most {LARGEST}; split the batch"
    with pytest.raises(grpc.RpcError) as raised:
        running.say(bytes(2 * LARGEST + 1))
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.say(b"a") == b"re: a"


def until(holds: Callable[[], bool]) -> None:
    """Returns when `holds` does."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def occupy(running: Running) -> list[Any]:
    """Keeps every core at work, so that long work waits for one."""
    say = running.channel.unary_unary("/weightcast.test/Say")
    cores = len(os.sched_getaffinity(0))
    calls = [say.future(b"wait for it", timeout=SECONDS) for _ in range(cores)]
    until(lambda: len(running.echo.computed) == cores)
    return calls


def test_a_connection_that_is_always_full_hears_nothing_but_that_the_server_is_busy() -> None:
    """Each call that is turned away is followed by the next at once: gRPC itself refuses none of them."""
    running, places, most = Running("auto", in_flight=1, connection_calls=16), 15, 2000
    waiting = running.channel.unary_unary("/weightcast.test/Say").future(b"wait", timeout=SECONDS)
    until(lambda: running.echo.taken == 1)
    channel = grpc.insecure_channel(running.address, [("grpc.enable_retries", 0)])
    say: Any = channel.unary_unary("/weightcast.test/Say")
    codes: Counter[grpc.StatusCode] = Counter()
    lock = threading.Lock()

    def ended(call: Any) -> None:  # noqa: ANN401 - grpc's types know no call that is a future too
        with lock:
            codes[call.code()] += 1
            is_enough = codes.total() > most - places
        if not is_enough:
            say.future(bytes(2**14), timeout=SECONDS).add_done_callback(ended)

    for _ in range(places):
        say.future(bytes(2**14), timeout=SECONDS).add_done_callback(ended)
    until(lambda: codes.total() == most)
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED: most}
    running.echo.may_go_on.set()
    assert waiting.result() == b"re: wait"
    channel.close()
    running.channel.close()
    running.server.stop(SECONDS)


def test_who_hangs_up_is_not_computed(running: Running) -> None:
    """Nor is he who does so on a stream; both are counted as what they are."""
    calls = occupy(running)
    alone = running.channel.unary_unary("/weightcast.test/Say").future(b"wait, alone")
    stream = running.talk(iter([b"wait, on a stream"]))
    until(lambda: running.echo.taken == len(calls) + 2)
    alone.cancel()
    stream.cancel()
    time.sleep(0.2)  # a moment, in which the server learns of it
    running.echo.may_go_on.set()
    assert [call.result() for call in calls] == [b"re: wait for it"] * len(calls)
    until(lambda: CANCELLED in running.tally.codes)
    assert running.say(b"a") == b"re: a"
    assert running.echo.computed == [b"wait for it"] * len(calls) + [b"a"]


def test_whose_deadline_has_passed_is_not_computed(running: Running) -> None:
    """He is told so by his own side already."""
    calls = occupy(running)
    with pytest.raises(grpc.RpcError) as raised:
        running.channel.unary_unary("/weightcast.test/Say")(b"wait, but not for long", timeout=0.2)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    running.echo.may_go_on.set()
    assert [call.result() for call in calls] == [b"re: wait for it"] * len(calls)
    until(lambda: len(running.tally.codes) == len(calls) + 1)
    assert running.echo.computed == [b"wait for it"] * len(calls)


def test_more_than_may_be_in_work_are_turned_away() -> None:
    """With when to come again, and before they are read; who holds back by himself waits; then there is room again."""
    running = Running("auto", in_flight=2)
    waiting = [running.channel.unary_unary("/weightcast.test/Say").future(b"wait", timeout=SECONDS)]
    stream = running.talk(iter([b"wait"] * 3))
    until(lambda: running.echo.taken == 3)  # the last of the stream is held back
    for _ in range(5):
        with pytest.raises(grpc.RpcError) as raised:
            running.say(b"a")
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert raised.value.details() == "2 requests are in work, as many as may be; send it again later"
        status = rpc_status.from_call(cast("grpc.Call", raised.value))
        assert [detail.type_url.rpartition("/")[2] for detail in status.details] == [
            "google.rpc.ErrorInfo",
            "google.rpc.RetryInfo",
        ]
    running.echo.may_go_on.set()
    assert waiting[0].result() == b"re: wait"
    assert list(stream) == [b"re: wait"] * 3
    assert running.say(b"a") == b"re: a"
    until(lambda: len(running.tally.codes) == 10)
    assert sorted(running.tally.codes) == [0] * 5 + [RESOURCE_EXHAUSTED] * 5
    running.channel.close()
    running.server.stop(SECONDS)


def test_a_drain_answers_whoever_still_comes_and_then_sends_them_elsewhere(running: Running) -> None:
    """While requests keep coming they are answered, for so long; then they are told to go, and the drain ends."""
    outcomes: list[str] = []
    may_end = threading.Event()

    def ask() -> None:
        while not may_end.is_set():
            try:
                outcomes.append(running.say(b"a").decode())
            except grpc.RpcError as error:
                outcomes.append(cast("grpc.Call", error).code().name)
                if outcomes[-1] != "UNAVAILABLE":
                    return

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: bool(outcomes))
    running.answering.drain(0.3)
    may_end.set()
    asking.join()
    assert set(outcomes) == {"re: a", "UNAVAILABLE"}
    first = outcomes.index("UNAVAILABLE")
    assert set(outcomes[first:]) == {"UNAVAILABLE"}
    running.answering.drain(SECONDS)  # nobody asks any more


def test_long_work_keeps_nobody_waiting(running: Running) -> None:
    """Calls that came later are answered earlier."""
    waiting = running.channel.unary_unary("/weightcast.test/Say").future(b"wait", timeout=SECONDS)
    assert running.say(b"a") == b"re: a"
    assert not waiting.done()
    running.echo.may_go_on.set()
    assert waiting.result() == b"re: wait"


def test_the_rest_is_answered_beside_it(running: Running) -> None:
    """Health, by grpcio's own machinery on the same port; a method that nobody has is UNIMPLEMENTED."""
    health: Any = health_pb2_grpc.HealthStub(running.channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=LIVENESS), timeout=SECONDS)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        running.channel.unary_unary("/weightcast.test/Sing")(b"", timeout=SECONDS)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_watches_that_come_and_go_hold_nobody_up(running: Running) -> None:
    """While states change, and requests and checks are answered; the server stops at once, whoever watches."""
    health: Any = health_pb2_grpc.HealthStub(running.channel)
    may_end = threading.Event()

    def watch() -> None:
        while not may_end.is_set():
            stream = health.Watch(health_pb2.HealthCheckRequest(service="changes"), timeout=SECONDS)
            next(stream)
            stream.cancel()

    watching = [threading.Thread(target=watch) for _ in range(4)]
    for thread in watching:
        thread.start()
    for number in range(200):
        running.server.health.set_serving("changes", serving=bool(number % 2))
        assert running.say(b"a") == b"re: a"
        health.Check(health_pb2.HealthCheckRequest(service="changes"), timeout=SECONDS)
    may_end.set()
    for thread in watching:
        thread.join()
    last = health.Watch(health_pb2.HealthCheckRequest(service="changes"), timeout=SECONDS)
    assert next(last).status == health_pb2.HealthCheckResponse.SERVING
    running.echo.may_go_on.set()
    running.server.stop(SECONDS)
    assert [answer.status for answer in last] == [health_pb2.HealthCheckResponse.NOT_SERVING]


def test_a_stream_is_answered_in_its_order(running: Running) -> None:
    """Also where a later answer is ready first."""
    words = [b"wait" if index == 3 else f"{index}".encode() for index in range(300)]
    answers = running.talk(iter(words))
    assert [next(answers) for _ in range(3)] == [b"re: 0", b"re: 1", b"re: 2"]
    running.echo.may_go_on.set()
    assert list(answers) == [b"re: " + word for word in words[3:]]


def test_a_wrong_word_ends_a_stream_after_the_answers_before_it(running: Running) -> None:
    """None of them is lost."""
    answers = running.talk(iter([b"a", b"b", b"wrong", b"c"]))
    assert [next(answers), next(answers)] == [b"re: a", b"re: b"]
    with pytest.raises(grpc.RpcError) as raised:
        next(answers)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert running.say(b"a") == b"re: a"


def test_a_stream_that_goes_on_says_which_word_was_wrong(running: Running) -> None:
    """In its place among the answers."""
    answers = list(running.talk_on(iter([b"a", b"wrong", b"broken", b"b"])))
    assert answers[:2] == [b"re: a", b"no: wrong: word: got wrong, expected another"]
    assert answers[2].startswith(b"no: broken: something unforeseen went wrong")
    assert answers[3] == b"re: b"


def test_a_stream_keeps_nothing_of_what_was_refused() -> None:
    """Nor is anything left of the stream itself, though nobody looks for cycles: messages may be large, and many."""
    running = Running("auto")
    gc.collect()
    gc.disable()
    try:
        assert len(list(running.talk_on(iter([b"wrong", b"a"] * 10)))) == 20
        with pytest.raises(grpc.RpcError):
            list(running.talk(iter([b"a", b"wrong", b"b"])))
        kinds = (StreamCall, StreamedRequest)
        until(lambda: not [kept for kept in gc.get_objects() if isinstance(kept, kinds)])
    finally:
        gc.enable()
    running.channel.close()
    running.server.stop(SECONDS)


def test_a_stream_without_a_word_ends(running: Running) -> None:
    """With nothing."""
    assert list(running.talk(iter(()))) == []


def test_a_stream_of_large_long_work_waits_instead_of_being_refused(running: Running) -> None:
    """However many bytes it has: no more are read than may wait."""
    words = [b"wait" + bytes(LARGEST // 2) for _ in range(30)]
    threading.Timer(0.5, running.echo.may_go_on.set).start()
    assert list(running.talk(iter(words))) == [b"re: " + word for word in words]


def test_a_stream_that_is_not_read_is_not_read_from(running: Running) -> None:
    """The client's flow control holds it back, and nothing is lost when it goes on."""
    most, sent, is_enough = 4000, 0, threading.Event()  # flow control lets through more where the machine is slow

    def words() -> Iterator[bytes]:
        nonlocal sent
        while sent < most and not is_enough.is_set():
            sent += 1
            yield bytes(2**16)

    answers = running.talk(words())
    next(answers)
    steady(lambda: sent)
    # All are answered, and only the answers wait.
    until(lambda: not any(each.message for each in gc.get_objects() if isinstance(each, StreamedRequest)))
    is_enough.set()
    assert sent < most
    assert len(list(answers)) == sent - 1


def steady(value: Callable[[], int]) -> None:
    """Returns when a value has stopped to change."""
    before = -1
    while (now := value()) != before:
        before = now
        time.sleep(0.3)


def test_clients_that_go_away_leave_nothing_behind(running: Running) -> None:
    """Calls and streams that are cancelled on the way; the server answers, and stops in order."""
    running.echo.may_go_on.set()
    for round_ in range(30):
        call = running.channel.unary_unary("/weightcast.test/Say").future(b"wait" if round_ % 2 else b"a")
        stream = running.talk(iter([b"a", b"wait", b"b"]))
        if round_ % 3:
            next(stream)
        call.cancel()
        stream.cancel()
    assert running.say(b"a") == b"re: a"
    assert list(running.talk(iter([b"a"]))) == [b"re: a"]


def test_what_was_accepted_is_answered_before_the_end(running: Running) -> None:
    """A stop within the grace period refuses new calls and loses none that it has taken."""
    stream = running.talk(iter([b"a", b"wait"]))
    assert next(stream) == b"re: a"
    waiting = [running.channel.unary_unary("/weightcast.test/Say").future(b"wait") for _ in range(5)]
    while running.echo.taken < 7:  # the stream's two, and these
        time.sleep(0.01)
    stopping = threading.Thread(target=running.server.stop, args=(SECONDS,))
    stopping.start()
    time.sleep(0.3)  # long enough for a server that would not wait to be gone
    running.echo.may_go_on.set()
    assert [call.result(SECONDS) for call in waiting] == [b"re: wait"] * 5
    assert list(stream) == [b"re: wait"]
    stopping.join(SECONDS)
    assert not stopping.is_alive()


def test_what_does_not_end_in_time_is_ended(running: Running) -> None:
    """After the grace period, the calls that are left are cancelled."""
    waiting = running.channel.unary_unary("/weightcast.test/Say").future(b"wait")
    running.say(b"a")
    stopping = threading.Thread(target=running.server.stop, args=(0.2,))
    stopping.start()
    assert waiting.exception(SECONDS).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    running.echo.may_go_on.set()
    stopping.join(SECONDS)
    assert not stopping.is_alive()
