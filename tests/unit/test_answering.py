"""What arrives together is answered together, long work elsewhere, and what waits for that is bounded."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from inference_service import answering
from inference_service.answering import (
    MOST_REQUESTS,
    OVERHEAD_BYTES,
    QUICKLY_READ_BYTES,
    Answering,
    Respond,
)
from inference_service.classification import Request
from inference_service.questions import Answer, Question, Reading
from inference_service.recognition import Recognition
from shared.errors import CapacityError, InvalidInputError, UnavailableError, WeightcastError

SERVED: Any = SimpleNamespace(multiply_adds=0)  # in place of a version


class Words:
    """A protocol whose message is one word: what begins with `long` is long work, `wrong` is refused."""

    method = "/words/Say"
    streaming = False

    def read(self, message: bytes) -> Reading:
        """Understands a word."""
        if message.startswith(b"wrong"):
            raise InvalidInputError.of("word", "wrong")
        return Reading(Question("words", message.decode(), None), (message,), None, lambda answer: answer.top_k)  # type: ignore[arg-type, return-value]  # a word

    def refusal(self, _why: str, _message: bytes) -> bytes | None:
        """There is no stream."""
        return None


class Echo:
    """Answers each word with itself, and keeps which came together; long work waits until it may go on."""

    def __init__(self) -> None:
        self.together: list[list[str]] = []
        self.may_go_on = threading.Event()

    def quick_request(self, reading: Reading, contents: tuple[bytes, ...], arrived: float) -> Request | None:
        """The request, if it is not long work."""
        word = str(reading.question.selector)
        return None if word.startswith("long") else self.request(reading, contents, arrived)

    def request(self, reading: Reading, contents: tuple[bytes, ...], arrived: float) -> Request:
        """The request."""
        if str(reading.question.selector).startswith("long"):
            self.may_go_on.wait(20)
        return Request(reading, contents, SERVED, 1, arrived)

    def answers(self, requests: list[Request]) -> list[Answer | Exception]:
        """Each word."""
        self.together.append([str(request.reading.question.selector) for request in requests])
        return [
            ZeroDivisionError(word) if word == "broken" else Answer(None, word.encode(), None, None)  # type: ignore[arg-type]
            for word in self.together[-1]
        ]


class Heard:
    """The replies that came, by word."""

    def __init__(self) -> None:
        self.replies: dict[str, bytes | Exception] = {}
        self._changed = threading.Condition()

    def of(self, word: str) -> Respond:
        """Takes the reply to a word; there is one to each."""

        def respond(reply: bytes | Exception) -> None:
            with self._changed:
                assert word not in self.replies
                self.replies[word] = reply
                self._changed.notify_all()

        return respond

    def wait_for(self, *words: str) -> None:
        """Returns when all of them were replied to."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.replies.keys() >= set(words), 20)


class Bench:
    """An Answering with everything around it."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.echo, self.heard = Echo(), Heard()
        self.answering = Answering(self.echo, pool, max_waiting_bytes=2 * OVERHEAD_BYTES + 10)  # type: ignore[arg-type]  # of the same shape
        self.recognition = Recognition(Words())

    def say(self, *words: str) -> None:
        """Takes words in."""
        for word in words:
            self.answering.take(self.recognition, word.encode(), self.heard.of(word))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two threads for long work; on a busy machine too, nothing has waited long until a test says so."""
    monkeypatch.setattr(answering, "LONGEST_WAIT_SECONDS", 3600.0)
    return Bench(ThreadPoolExecutor(2))


def test_what_was_collected_is_answered_at_once_when_nothing_more_comes(bench: Bench) -> None:
    """In one product, and not before."""
    bench.say("a", "b", "c")
    assert bench.answering.has_collected
    assert not bench.heard.replies
    bench.answering.flush()
    assert bench.heard.replies == {"a": b"a", "b": b"b", "c": b"c"}
    assert bench.echo.together == [["a", "b", "c"]]
    assert not bench.answering.has_collected


def test_enough_is_answered_without_being_asked_for(bench: Bench) -> None:
    """However many go on arriving, nobody waits for more than a product's worth."""
    words = [f"w{index}" for index in range(2 * MOST_REQUESTS + 1)]
    bench.say(*words)
    assert [len(each) for each in bench.echo.together] == [MOST_REQUESTS, MOST_REQUESTS]
    assert bench.answering.has_collected


def test_what_is_wrong_is_its_own(bench: Bench) -> None:
    """Refused at once where it cannot be read; and neither that nor a failure costs another its answer."""
    bench.say("a", "wrong", "broken", "b")
    assert isinstance(bench.heard.replies["wrong"], InvalidInputError)
    bench.answering.flush()
    assert bench.heard.replies["a"] == b"a"
    assert bench.heard.replies["b"] == b"b"
    assert isinstance(bench.heard.replies["broken"], ZeroDivisionError)


def test_an_answer_that_cannot_be_sent_costs_nobody_else_theirs(bench: Bench) -> None:
    """Whoever comes after it in the same product is answered."""

    def gone(_reply: bytes | Exception) -> None:
        raise ValueError("the call is gone")

    bench.answering.take(bench.recognition, b"a", gone)
    bench.say("b")
    bench.answering.flush()
    assert bench.heard.replies == {"b": b"b"}


def test_long_work_keeps_nobody_waiting(bench: Bench) -> None:
    """Who comes after it is answered before it."""
    bench.say("long", "a")
    bench.answering.flush()
    assert bench.heard.replies == {"a": b"a"}
    bench.echo.may_go_on.set()
    bench.heard.wait_for("long")
    assert bench.heard.replies["long"] == b"long"


def test_what_waits_is_bounded_by_its_bytes(bench: Bench) -> None:
    """Too much is refused and may be sent again; when the rest is done there is room again."""
    bench.say("long1", "long2", "long3")
    refusal = bench.heard.replies["long3"]
    assert isinstance(refusal, CapacityError)
    assert refusal.reason == "SERVER_BUSY"
    limit = 2 * OVERHEAD_BYTES + 10
    assert refusal.message == f"requests of {limit} bytes wait already, {limit} may; try again later"
    bench.say("a")
    bench.answering.flush()
    assert bench.heard.replies["a"] == b"a"
    bench.echo.may_go_on.set()
    bench.heard.wait_for("long1", "long2")
    longer = "long" + "x" * limit  # alone, it is taken all the same
    bench.say(longer)
    bench.heard.wait_for(longer)
    assert bench.heard.replies[longer] == longer.encode()


def test_after_the_end_long_work_is_refused(bench: Bench) -> None:
    """With what sends the client to another process."""
    bench.answering._pool.shutdown()
    bench.say("long")
    refusal = bench.heard.replies["long"]
    assert isinstance(refusal, UnavailableError)
    assert refusal.reason == "SHUTTING_DOWN"


def test_when_there_is_no_more_time_what_waits_is_refused(bench: Bench) -> None:
    """Without being computed."""
    bench.answering.give_up()
    bench.say("long")
    bench.heard.wait_for("long")
    refusal = bench.heard.replies["long"]
    assert isinstance(refusal, UnavailableError)
    assert refusal.reason == "SHUTTING_DOWN"
    assert not bench.echo.together


def test_a_long_message_is_read_elsewhere(bench: Bench) -> None:
    """Whoever sends many strange bytes keeps nobody waiting; once it is recognised it is quick."""
    word = "x" * (QUICKLY_READ_BYTES + 1)
    bench.say("a", word)
    bench.answering.flush()
    bench.heard.wait_for("a", word)
    assert ["a"] in bench.echo.together
    assert [word] in bench.echo.together


def test_what_was_collected_does_not_wait_for_those_that_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them follow each other closely."""
    bench.say("a")
    bench.say("wrong")
    assert "a" not in bench.heard.replies
    monkeypatch.setattr(answering, "LONGEST_WAIT_SECONDS", 0.0)
    bench.say("wrong again")
    assert bench.heard.replies["a"] == b"a"


def test_a_thread_of_ones_own_is_answered_too(bench: Bench) -> None:
    """As grpcio's public server asks: one at a time, with the error raised."""
    assert bench.answering.answer(Words(), b"a") == b"a"
    with pytest.raises(WeightcastError, match="word: wrong"):
        bench.answering.answer(Words(), b"wrong")
    with pytest.raises(ZeroDivisionError):
        bench.answering.answer(Words(), b"broken")
