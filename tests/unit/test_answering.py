"""What arrives together is answered together, long work elsewhere, and what waits for that is bounded."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from inference_service import answering, pace
from inference_service.answering import MOST_REQUESTS, QUICKLY_READ_BYTES, WATCHED_FROM, Answering
from inference_service.callers import Caller
from inference_service.classification import QUICK_MULTIPLY_ADDS, Product
from inference_service.limits import Limits
from inference_service.long_work import OVERHEAD_BYTES, LongWork
from inference_service.pace import LOOKS
from inference_service.questions import Answer, Question, Reading, Request
from inference_service.recognition import Recognition
from inference_service.replying import Replying
from inference_service.request_log import RequestLog
from shared.errors import CapacityError, InvalidInputError, UnavailableError, WeightcastError

SERVED: Any = SimpleNamespace(multiply_adds=0)  # in place of a version
LARGEST, MOST_IN_FLIGHT, MOST_BYTES = 2 * QUICKLY_READ_BYTES, 3 * MOST_REQUESTS, 3 * QUICKLY_READ_BYTES
NEVER = float("inf")


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

    def quick_request(self, reading: Reading, contents: tuple[bytes, ...], caller: Caller) -> Request | None:
        """The request, if it is not long work."""
        word = str(reading.question.selector)
        return None if word.startswith("long") else self.request(reading, contents, caller)

    def request(self, reading: Reading, contents: tuple[bytes, ...], caller: Caller) -> Request:
        """The request."""
        if str(reading.question.selector).startswith("long"):
            self.may_go_on.wait(20)
        return Request(reading, contents, SERVED, 1, caller)

    def answers(self, requests: list[Request]) -> tuple[list[Answer | Exception], list[Product]]:
        """Each word; no product is left to count."""
        self.together.append([str(request.reading.question.selector) for request in requests])
        return [
            ZeroDivisionError(word) if word == "broken" else Answer(None, word.encode(), None, None)  # type: ignore[arg-type]
            for word in self.together[-1]
        ], []

    def count(self, products: list[Product]) -> None:
        """Nothing is counted."""
        assert not products


class Heard(Caller):
    """Waits for the reply to one word; counts for all."""

    def __init__(self, bench: "Bench", word: str, deadline: float, *, holds_back: bool) -> None:
        super().__init__("/words/Say", bench, (), deadline)
        self.holds_back = holds_back
        self.word = word
        self.is_watched = False
        self._bench = bench

    def respond(self, reply: bytes | Exception) -> None:
        """Hears it; there is one to each."""
        with self._bench.changed:
            assert self.word not in self._bench.replies
            self._bench.replies[self.word] = reply
            self._bench.changed.notify_all()

    def watch(self) -> None:
        """Notes that somebody wants to know."""
        self.is_watched = True


class Bench:
    """An Answering with everything around it, and what was replied to each word."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.echo = Echo()
        self.replies: dict[str, bytes | Exception] = {}
        self.changed = threading.Condition()
        self.load: list[tuple[int, int, int]] = []
        self.answers = 0
        replying = Replying(RequestLog("ERROR"))
        limits = Limits(1, LARGEST, MOST_IN_FLIGHT, MOST_BYTES)
        self.long_work = LongWork(self.echo, replying, pool)  # type: ignore[arg-type]  # of the same shape
        self.answering = Answering(self.echo, self.long_work, replying, limits, self)  # type: ignore[arg-type]
        self.recognition = Recognition(Words())

    def say(self, *words: str, deadline: float = NEVER, holds_back: bool = False) -> list[Heard]:
        """Takes words in."""
        callers = [Heard(self, word, deadline, holds_back=holds_back) for word in words]
        for caller in callers:
            self.answering.take(self.recognition, caller.word.encode(), caller)
        return callers

    def wait_for(self, *words: str) -> None:
        """Returns when all of them were replied to."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.replies.keys() >= set(words), 20)

    def refusal(self, word: str) -> WeightcastError:
        """What was said to a word in place of an answer."""
        reply = self.replies[word]
        assert isinstance(reply, WeightcastError)
        return reply

    def set_load(self, queued: int, in_flight: int, waiting_bytes: int) -> None:
        """Hears how much is to do."""
        self.load.append((queued, in_flight, waiting_bytes))  # from any thread

    def failed(self, code: int, seconds: float) -> None:
        """Is the transport's to call."""
        raise AssertionError((code, seconds))

    def answered(self, seconds: Sequence[float], rows: Sequence[int]) -> None:
        """Counts answers."""
        assert all(each > 0 for each in seconds)
        assert len(seconds) == len(rows)
        with self.changed:
            self.answers += len(rows)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two threads for long work; on a busy machine too, nothing has waited long until a test says so."""
    monkeypatch.setattr(answering, "LONGEST_WAIT_SECONDS", 3600.0)
    monkeypatch.setattr(pace, "SHORTEST_STRETCH_SECONDS", 3600.0)
    monkeypatch.setattr(pace, "LONGEST_TAKING_SECONDS", 3600.0)
    return Bench(ThreadPoolExecutor(2))


def test_what_was_collected_is_answered_at_once_when_nothing_more_comes(bench: Bench) -> None:
    """In one product, and not before."""
    bench.say("a", "b", "c")
    assert bench.answering.has_collected
    assert not bench.replies
    bench.answering.flush()
    assert bench.replies == {"a": b"a", "b": b"b", "c": b"c"}
    assert bench.echo.together == [["a", "b", "c"]]
    assert not bench.answering.has_collected


def test_a_product_is_answered_as_soon_as_it_is_there(bench: Bench) -> None:
    """However many go on arriving, nobody waits for more than a product's worth; what is still to do is told."""
    words = [f"w{index:03}" for index in range(2 * MOST_REQUESTS + 1)]
    bench.say(*words)
    assert bench.echo.together == [words[:MOST_REQUESTS], words[MOST_REQUESTS:-1]]
    assert bench.answering.has_collected
    bench.answering.on_nothing_more()
    assert bench.echo.together[2:] == [words[-1:]]
    assert bench.load == [(0, 0, 0)] * 3
    assert bench.answers == len(words)


def take_everything(bench: Bench) -> None:
    """Brings the answering into the state in which it takes in whatever has come, and answers nobody."""
    bench.answering.rest()
    bench.say("first")
    assert bench.answering._pace.until > 0
    bench.answering._pace.until = 1e-9  # its stretch of work is over
    bench.say("second")
    assert bench.answering._pace.is_taking
    bench.answering._pace.until = NEVER  # however slow the machine is


def test_what_was_taken_in_is_answered_a_product_at_a_time(bench: Bench) -> None:
    """The oldest first, once looks have been in vain often enough; what is no whole product waits for more."""
    take_everything(bench)
    words = [f"w{index:03}" for index in range(2 * MOST_REQUESTS)]
    bench.say(*words)
    for _ in range(LOOKS):
        assert bench.echo.together == []
        bench.answering.on_nothing_more()
    words = ["first", "second", *words]
    assert bench.echo.together == [words[:MOST_REQUESTS], words[MOST_REQUESTS:-2]]
    assert bench.load == [(MOST_REQUESTS + 2, MOST_REQUESTS + 2, 0), (2, 2, 0)]
    bench.answering.on_nothing_more()
    assert bench.echo.together[2:] == [words[-2:]]


def test_taking_in_ends_in_time(bench: Bench) -> None:
    """However many go on arriving, taken or turned away."""
    take_everything(bench)
    bench.say(*(f"w{index:03}" for index in range(MOST_REQUESTS)))
    assert bench.echo.together == []
    bench.answering._pace.until = 1e-9
    bench.say("w")
    assert [len(each) for each in bench.echo.together] == [MOST_REQUESTS]
    bench.answering._pace.is_taking, bench.answering._pace.until = True, NEVER  # it is time again
    bench.say("v")
    bench.answering._pace.until = 1e-9
    bench.answering.on_turned_away()
    assert bench.echo.together[1:] == [["w062", "w063", "w", "v"]]


def test_what_has_come_is_taken_in_though_nobody_asks(bench: Bench) -> None:
    """A look in vain is no proof that nothing has come, so many are taken when it is time for that."""
    bench.answering.rest()
    bench.say("a")
    bench.answering._pace.until = 1e-9
    bench.answering.on_nothing_more()
    assert bench.echo.together == [["a"]]
    assert bench.answering._pace.is_taking


def test_what_is_wrong_is_its_own(bench: Bench) -> None:
    """Refused at once where it cannot be read; and neither that nor a failure costs another its answer."""
    bench.say("a", "wrong", "broken", "b")
    assert isinstance(bench.replies["wrong"], InvalidInputError)
    bench.answering.flush()
    assert bench.replies["a"] == b"a"
    assert bench.replies["b"] == b"b"
    assert isinstance(bench.replies["broken"], ZeroDivisionError)


def test_an_answer_that_cannot_be_sent_costs_nobody_else_theirs(bench: Bench) -> None:
    """Whoever comes after it in the same product is answered."""

    class Gone(Heard):
        """Cannot be told anything."""

        def respond(self, _reply: bytes | Exception) -> None:
            """Fails."""
            raise ValueError("the call is gone")

    bench.answering.take(bench.recognition, b"a", Gone(bench, "a", NEVER, holds_back=False))
    bench.say("b")
    bench.answering.flush()
    assert bench.replies == {"b": b"b"}
    assert bench.answers == 1


def test_long_work_keeps_nobody_waiting(bench: Bench) -> None:
    """Who comes after it is answered before it."""
    bench.say("long", "a")
    bench.answering.flush()
    assert bench.replies == {"a": b"a"}
    bench.echo.may_go_on.set()
    bench.wait_for("long")
    assert bench.replies["long"] == b"long"


def test_many_multiplications_are_long_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than is quick is done elsewhere, by the request that was made first: a rollout decides it once."""

    def again(*_: object) -> Request:
        raise AssertionError("it was made already")

    monkeypatch.setattr(bench.answering, "_request", again)
    monkeypatch.setattr(SERVED, "multiply_adds", QUICK_MULTIPLY_ADDS + 1)
    bench.say("a")
    bench.wait_for("a")
    assert bench.replies["a"] == b"a"
    assert not bench.answering.has_collected
    until_idle(bench)


def test_what_waits_is_bounded_by_its_bytes(bench: Bench) -> None:
    """Too much is refused and may be sent again; when the rest is done there is room again."""
    long, longer = "long" + "x" * QUICKLY_READ_BYTES, "longer" + "x" * (LARGEST - 6)
    bench.say(long, longer)
    waiting = len(long) + OVERHEAD_BYTES
    refusal = bench.refusal(longer)
    assert isinstance(refusal, CapacityError)
    assert refusal.reason == "SERVER_BUSY"
    assert refusal.message == f"requests of {waiting} bytes wait already, {MOST_BYTES} may; send it again later"
    bench.say("a")
    bench.answering.flush()
    assert bench.replies["a"] == b"a"
    bench.echo.may_go_on.set()
    bench.wait_for(long)
    until_idle(bench)
    longest = "long" + "y" * (LARGEST - 4)  # alone, it is taken all the same
    bench.say(longest)
    bench.wait_for(longest)
    assert bench.replies[longest] == longest.encode()


def until_idle(bench: Bench) -> None:
    """Returns when the pool has done everything: a reply goes out just before that."""
    deadline = time.monotonic() + 20
    while bench.long_work.count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_only_so_many_are_in_work(bench: Bench) -> None:
    """One more is refused with when to come again; when some are answered there is room again."""
    take_everything(bench)
    words = [f"w{index}" for index in range(MOST_IN_FLIGHT - 2)]
    bench.say(*words)
    assert bench.answering.turns_away
    bench.say("late")
    refusal = bench.refusal("late")
    assert refusal is bench.answering.why_not()
    assert isinstance(refusal, CapacityError)
    assert refusal.message == f"{MOST_IN_FLIGHT} requests are in work, as many as may be; send it again later"
    bench.answering.flush()
    assert not bench.answering.turns_away
    bench.say("later")
    while bench.answering.has_collected:
        bench.answering.flush()
    assert {bench.replies[word] for word in (*words, "later")} == {word.encode() for word in (*words, "later")}


def test_long_work_is_in_work_too(bench: Bench) -> None:
    """It counts as any other does."""
    bench.say(*(f"long{index}" for index in range(MOST_IN_FLIGHT)), "a")
    assert bench.refusal("a").reason == "SERVER_BUSY"
    bench.echo.may_go_on.set()
    bench.wait_for(*(f"long{index}" for index in range(MOST_IN_FLIGHT)))
    assert not bench.answering.turns_away  # before the last of them was answered, and nobody had to be refused for it


def test_who_holds_back_by_himself_is_taken_where_others_are_turned_away(bench: Bench) -> None:
    """Up to twice as many: a stream that has one message in work must not be ended for it."""
    take_everything(bench)
    bench.say(*(f"w{index}" for index in range(MOST_IN_FLIGHT - 2)))
    bench.say(*(f"s{index}" for index in range(MOST_IN_FLIGHT)), holds_back=True)
    assert not bench.replies
    bench.say("late", holds_back=True)
    assert bench.refusal("late").reason == "SERVER_BUSY"


def test_a_message_may_have_so_many_bytes(bench: Bench) -> None:
    """One more is refused, with the limit and the remedy."""
    word = "x" * (LARGEST + 1)
    bench.say(word)
    assert (
        bench.refusal(word).message == f"request: got {LARGEST + 1} bytes, expected at most {LARGEST}; split the batch"
    )
    with pytest.raises(InvalidInputError, match="split the batch"):
        bench.answering.answer(Words(), word.encode(), Heard(bench, word, NEVER, holds_back=False))


def test_who_has_stopped_waiting_is_not_computed(bench: Bench) -> None:
    """Neither he whose deadline has passed nor he who has hung up; the others get their own answers."""
    bench.say("a", "b")
    bench.say("late", deadline=time.time() - 1)
    (gone,) = bench.say("gone")
    gone.has_gone = True
    bench.say("c")
    bench.answering.flush()
    assert bench.echo.together == [["a", "b", "c"]]
    assert [bench.replies[word] for word in "abc"] == [b"a", b"b", b"c"]
    assert bench.refusal("late").reason == "DEADLINE_EXCEEDED"
    assert bench.refusal("gone").reason == "CALLER_GONE"
    assert bench.answers == 3


def test_nor_is_his_long_work(bench: Bench) -> None:
    """It is let go when its turn comes; so that he can be noticed, he is watched."""
    (late,) = bench.say("long late", deadline=time.time() - 1)
    bench.wait_for("long late")
    assert bench.refusal("long late").reason == "DEADLINE_EXCEEDED"
    assert late.is_watched
    assert bench.echo.together == []


def test_who_waits_behind_many_is_watched(bench: Bench) -> None:
    """It costs an event, which who is answered at once is spared."""
    take_everything(bench)
    callers = bench.say(*(f"w{index}" for index in range(WATCHED_FROM)))
    assert [caller.is_watched for caller in callers] == [False] * (WATCHED_FROM - 2) + [True] * 2


def test_after_a_drain_everybody_is_sent_elsewhere(bench: Bench) -> None:
    """What was taken before is answered."""
    bench.say("a")
    bench.answering.drain(0)
    bench.say("b")
    assert bench.answering.turns_away
    assert bench.refusal("b").reason == bench.answering.why_not().reason == "SHUTTING_DOWN"
    with pytest.raises(UnavailableError):
        bench.answering.answer(Words(), b"c", Heard(bench, "c", NEVER, holds_back=False))
    bench.answering.flush()
    assert bench.replies["a"] == b"a"


def test_after_the_end_long_work_is_refused(bench: Bench) -> None:
    """With what sends the client to another process."""
    bench.long_work._pool.shutdown()
    bench.say("long")
    refusal = bench.replies["long"]
    assert isinstance(refusal, UnavailableError)
    assert refusal.reason == "SHUTTING_DOWN"


def test_when_there_is_no_more_time_what_waits_is_refused(bench: Bench) -> None:
    """Without being computed."""
    bench.answering.give_up()
    bench.say("long")
    bench.wait_for("long")
    refusal = bench.replies["long"]
    assert isinstance(refusal, UnavailableError)
    assert refusal.reason == "SHUTTING_DOWN"
    assert not bench.echo.together


def test_a_long_message_is_read_elsewhere(bench: Bench) -> None:
    """Whoever sends many strange bytes keeps nobody waiting; once it is recognised it is quick."""
    word = "x" * (QUICKLY_READ_BYTES + 1)
    bench.say("a", word)
    bench.answering.flush()
    bench.wait_for("a", word)
    assert ["a"] in bench.echo.together
    assert [word] in bench.echo.together


def test_what_was_collected_does_not_wait_for_those_that_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them follow each other closely."""
    bench.say("a")
    bench.say("wrong")
    assert "a" not in bench.replies
    monkeypatch.setattr(answering, "LONGEST_WAIT_SECONDS", 0.0)
    bench.say("wrong again")
    assert bench.replies["a"] == b"a"


def test_a_thread_of_ones_own_is_answered_too(bench: Bench) -> None:
    """As grpcio's public server asks: one at a time, with the error raised."""

    def ask(word: str, deadline: float = NEVER) -> bytes:
        return bench.answering.answer(Words(), word.encode(), Heard(bench, word, deadline, holds_back=False))

    assert ask("a") == b"a"
    assert bench.answers == 1
    with pytest.raises(WeightcastError, match="word: wrong"):
        ask("wrong")
    with pytest.raises(ZeroDivisionError):
        ask("broken")
    with pytest.raises(WeightcastError, match="the deadline passed"):
        ask("b", deadline=time.time() - 1)
    assert bench.answers == 1
