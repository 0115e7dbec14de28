"""The Python client against a service that breaks off, falls silent, loses answers or answers in pages.

The sockets are real and the answers made up.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf.message import Message

from client import job_client, registry_client
from client.errors import RpcError
from client.registry_client import actor_or_me
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import model_pb2, training_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as registry_pb
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb

SILENCE_SECONDS = 0.6
EPOCH = pb.WatchTrainingJobResponse(cursor="2-0", epoch=training_pb2.EpochMetrics(epoch=1))
ENDED = training_pb2.TrainingJob(id="j", state=training_pb2.TrainingJob.STATE_SUCCEEDED)
Watch = pb.WatchTrainingJobResponse
Context = grpc.ServicerContext


def heartbeat(cursor: str) -> Watch:
    """A message that says nothing else."""
    message = Watch(cursor=cursor)
    message.heartbeat.SetInParent()
    return message


class Trainer:
    """Serves watches, each by the next of the given scripts, and jobs in pages."""

    def __init__(self, *watches: Callable[[Context], Iterator[Watch]]) -> None:
        self.cursors: list[str] = []
        self.asked: list[pb.ListTrainingJobsRequest] = []
        self.cancelled = threading.Event()
        self._watches = list(watches)

    def watch(self, request: pb.WatchTrainingJobRequest, context: Context) -> Iterator[Watch]:
        """The next script."""
        self.cursors.append(request.cursor)
        context.add_callback(self.cancelled.set)
        return self._watches.pop(0)(context)

    def list_jobs(self, request: pb.ListTrainingJobsRequest, _context: Context) -> pb.ListTrainingJobsResponse:
        """Two jobs on the first page, none on the second, one on the third and last."""
        self.asked.append(request)
        page = int(request.page_token or 0)
        jobs = [training_pb2.TrainingJob(id=job_id) for job_id in ("ab", "", "c")[page]]
        return pb.ListTrainingJobsResponse(jobs=jobs, next_page_token=str(page + 1) if page < 2 else "")

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server answers with."""
        methods = {
            "WatchTrainingJob": grpc.unary_stream_rpc_method_handler(
                self.watch, pb.WatchTrainingJobRequest.FromString, serialized
            ),
            "ListTrainingJobs": method(self.list_jobs, pb.ListTrainingJobsRequest),
        }
        return grpc.method_handlers_generic_handler("weightcast.v1.TrainerService", methods)


class Registry:
    """A model of versions 1, 2 and 3, whose first answers to a change get lost after the change."""

    def __init__(self, lost: int = 0) -> None:
        self.live, self.previous, self.revision = 3, [1, 2], 7
        self.held, self.lost = False, lost
        self.rollbacks: list[registry_pb.RollbackModelRequest] = []
        self.prunes = 0

    def model(self) -> model_pb2.Model:
        """As it stands."""
        alias = model_pb2.ModelAlias(alias="live", version=self.live, etag=str(self.revision))
        hold = model_pb2.ModelHold(reason="h") if self.held else None
        previous = self.previous[-1] if self.previous else 0
        return model_pb2.Model(name="m", live_version=self.live, previous_version=previous, aliases=[alias], hold=hold)

    def get(self, _request: registry_pb.GetModelRequest, _context: Context) -> registry_pb.GetModelResponse:
        """Reads."""
        return registry_pb.GetModelResponse(model=self.model())

    def rollback(
        self, request: registry_pb.RollbackModelRequest, context: Context
    ) -> registry_pb.RollbackModelResponse:
        """Goes back, if the etag is the last one."""
        self.rollbacks.append(request)
        self._check(request.etag, context)
        self.live, self.held = self.previous.pop(), True
        self._changed(context)
        return registry_pb.RollbackModelResponse(model=self.model())

    def promote(
        self, request: registry_pb.PromoteModelVersionRequest, context: Context
    ) -> registry_pb.PromoteModelVersionResponse:
        """Makes live, if the etag is the last one."""
        self._check(request.etag, context)
        self.previous.append(self.live)
        self.live, self.held = request.version, False
        self._changed(context)
        return registry_pb.PromoteModelVersionResponse(model=self.model())

    def prune(
        self, _request: registry_pb.PruneModelVersionsRequest, _context: Context
    ) -> registry_pb.PruneModelVersionsResponse:
        """Two versions go, two more, and then a last one."""
        self.prunes += 1
        versions = ((1, 2), (3, 4), (5,))[self.prunes - 1]
        return registry_pb.PruneModelVersionsResponse(versions=versions, size_bytes=10, kept_count=9 - self.prunes)

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server answers with."""
        methods = {
            "GetModel": method(self.get, registry_pb.GetModelRequest),
            "RollbackModel": method(self.rollback, registry_pb.RollbackModelRequest),
            "PromoteModelVersion": method(self.promote, registry_pb.PromoteModelVersionRequest),
            "PruneModelVersions": method(self.prune, registry_pb.PruneModelVersionsRequest),
        }
        return grpc.method_handlers_generic_handler("weightcast.v1.ModelRegistryService", methods)

    def _check(self, etag: str, context: Context) -> None:
        if etag != str(self.revision):
            fail(context, grpc.StatusCode.ABORTED, "stale")

    def _changed(self, context: Context) -> None:
        self.revision += 1
        if self.lost:
            self.lost -= 1
            fail(context, grpc.StatusCode.UNAVAILABLE, "the answer got lost")


def serialized(message: Message) -> bytes:
    """A message on the wire."""
    return message.SerializeToString()


def method(answer: Callable[[Any, Context], Message], request: type[Message]) -> Any:  # noqa: ANN401 - grpc's own is generic for the type checker only
    """One method of a service."""
    return grpc.unary_unary_rpc_method_handler(answer, request.FromString, serialized)


def fail(context: Context, code: grpc.StatusCode, words: str) -> NoReturn:
    """Ends a call."""
    context.abort(code, words)
    raise AssertionError


@pytest.fixture
def client_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TrainerClient]]:
    """Serves the servicers on a port of their own, and makes a client of them that soon notices silence."""
    monkeypatch.setattr(job_client, "SILENCE_SECONDS", SILENCE_SECONDS)
    monkeypatch.setattr(job_client, "RESUME_PAUSE_SECONDS", 0.01)
    started: list[tuple[grpc.Server, TrainerClient]] = []

    def serve(trainer: Trainer | None = None, registry: Registry | None = None) -> TrainerClient:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers(((trainer or Trainer()).handlers(), (registry or Registry()).handlers()))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        started.append((server, TrainerClient(f"127.0.0.1:{port}")))
        return started[-1][1]

    yield serve
    for server, client in started:
        client.close()
        server.stop(0).wait()


def silent(context: Context) -> Iterator[Watch]:
    """Never says anything, like the far end of a connection that is gone."""
    while context.is_active():
        time.sleep(0.01)
    yield from ()


def one_event_then_silence(context: Context) -> Iterator[Watch]:
    yield EPOCH
    yield heartbeat("2-0")
    yield from silent(context)


def a_broken_stream(context: Context) -> Iterator[Watch]:
    yield EPOCH
    fail(context, grpc.StatusCode.UNAVAILABLE, "going away")


def heartbeats_and_the_end(_context: Context) -> Iterator[Watch]:
    for _ in range(6):
        yield heartbeat("2-0")
        time.sleep(SILENCE_SECONDS / 4)
    yield Watch(cursor="3-0", job=ENDED)


def two_events_at_once(_context: Context) -> Iterator[Watch]:
    yield EPOCH
    yield Watch(cursor="3-0", job=ENDED)


@pytest.mark.parametrize("interrupted", [one_event_then_silence, a_broken_stream])
def test_a_watch_that_breaks_or_falls_silent_goes_on_from_its_cursor(
    client_of: Callable[..., TrainerClient], interrupted: Callable[[Context], Iterator[Watch]]
) -> None:
    """Each event once; heartbeats keep a quiet watch alive and are not passed on."""
    trainer = Trainer(interrupted, heartbeats_and_the_end)
    events = list(client_of(trainer).watch("j"))
    assert [(event.cursor, event.WhichOneof("event")) for event in events] == [("2-0", "epoch"), ("3-0", "job")]
    assert trainer.cursors == ["", "2-0"]


def test_waiting_for_a_job_survives_silence(client_of: Callable[..., TrainerClient]) -> None:
    """What comes back is the job in its final state."""
    trainer = Trainer(one_event_then_silence, one_event_then_silence, heartbeats_and_the_end)
    assert client_of(trainer).wait("j") == ENDED


def test_a_watch_that_never_began_fails_at_once(client_of: Callable[..., TrainerClient]) -> None:
    """Silence from the beginning is told as UNAVAILABLE."""
    trainer = Trainer(silent)
    with pytest.raises(RpcError, match="not even a heartbeat") as caught:
        list(client_of(trainer).watch("j"))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert trainer.cursors == [""]


def test_a_slow_reader_is_not_taken_for_silence(client_of: Callable[..., TrainerClient]) -> None:
    """The time between two events is the reader's own while it has the first one in hand."""
    trainer = Trainer(two_events_at_once)
    for _ in client_of(trainer).watch("j"):
        time.sleep(2 * SILENCE_SECONDS)
    assert trainer.cursors == [""]


def test_who_stops_reading_ends_the_stream(
    client_of: Callable[..., TrainerClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has few of them. It does not wait for a garbage collector: the call is still referred to here."""
    trainer = Trainer(one_event_then_silence)
    client = client_of(trainer)
    calls: list[Iterator[Watch]] = []
    begin = client.stub.WatchTrainingJob

    def begin_and_remember(request: pb.WatchTrainingJobRequest) -> Iterator[Watch]:
        calls.append(begin(request))
        return calls[-1]

    monkeypatch.setattr(client.stub, "WatchTrainingJob", begin_and_remember)
    events = client.watch("j")
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert trainer.cancelled.wait(10)


def test_a_list_has_every_page_even_behind_an_empty_one(client_of: Callable[..., TrainerClient]) -> None:
    """And asks no further than for what is wanted; the filter goes with each page."""
    trainer = Trainer()
    client = client_of(trainer)
    running = training_pb2.TrainingJob.STATE_RUNNING
    assert [job.id for job in client.jobs(model="m", states=[running])] == ["a", "b", "c"]
    assert [(asked.model, list(asked.states)) for asked in trainer.asked] == [("m", [running])] * 3
    trainer.asked.clear()
    assert [job.id for job in client.jobs(1)] == ["a"]
    assert [(asked.page_size, asked.page_token) for asked in trainer.asked] == [(1, "")]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_rollback_whose_answer_gets_lost_goes_back_once(client_of: Callable[..., TrainerClient], lost: int) -> None:
    """The channel sends it again, the etag stops it, and the caller sees what has become of it."""
    registry = Registry(lost)
    changed = client_of(registry=registry).rollback("m", reason="why")
    assert (changed.live_version, registry.live, registry.previous) == (2, 2, [1])
    assert {(asked.etag, asked.reason, asked.actor) for asked in registry.rollbacks} == {
        ("7", "why", actor_or_me(None))
    }
    assert len(registry.rollbacks) == min(lost, 1) + 1


def test_a_promotion_whose_answer_gets_lost_is_done_once(client_of: Callable[..., TrainerClient]) -> None:
    """What was live before is written down once."""
    registry = Registry(lost=1)
    assert client_of(registry=registry).promote("m", 1).live_version == 1
    assert registry.previous == [1, 2, 3]


CHANGES: list[Callable[[TrainerClient], object]] = [
    lambda client: client.rollback("m"),
    lambda client: client.promote("m", 1),
]


@pytest.mark.parametrize("change", CHANGES, ids=["rollback", "promote"])
def test_a_change_of_somebody_else_is_told(
    client_of: Callable[..., TrainerClient], monkeypatch: pytest.MonkeyPatch, change: Callable[[TrainerClient], object]
) -> None:
    """ABORTED, and nothing is changed, where what is live then is not what was asked for."""
    registry = Registry()
    client = client_of(registry=registry)
    read = client.model

    def read_and_be_overtaken(model: str) -> model_pb2.Model:
        found = read(model)
        registry.live, registry.revision = 9, 8
        return found

    monkeypatch.setattr(client, "model", read_and_be_overtaken)
    with pytest.raises(RpcError) as caught:
        change(client)
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert (registry.live, registry.previous) == (9, [1, 2])


def test_pruning_goes_on_until_all_is_gone(
    client_of: Callable[..., TrainerClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call removes so many at most; a dry run is one call."""
    monkeypatch.setattr(registry_client, "MOST_PRUNED", 2)
    registry = Registry()
    gone = client_of(registry=registry).prune("m", 1)
    assert (list(gone.versions), gone.size_bytes, gone.kept_count) == ([1, 2, 3, 4, 5], 30, 6)
    registry.prunes = 0
    assert list(client_of(registry=registry).prune("m", 1, dry_run=True).versions) == [1, 2]


def test_who_asks_is_this_user_unless_somebody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 64 characters; a user without a name does not keep anybody from asking."""
    assert actor_or_me("me") == "me"
    assert actor_or_me("") == ""
    monkeypatch.setattr("getpass.getuser", lambda: "u" * 100)
    assert actor_or_me(None) == "u" * 64

    def nobody() -> str:
        raise KeyError("uid")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert actor_or_me(None).startswith("unknown@")
