"""Rollouts through real processes under load: the share is exact, a key stays where it is, a shadow is never seen.

A candidate that cannot be loaded changes nothing, and whatever is done to a rollout costs no request.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client.inference_client import InferenceClient, metadata_of, tensor_of
from client.load.lanes import open_connection
from client.local_stack import LocalStack
from client.traffic import Traffic
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import training_pb2
from shared.pb.weightcast.v1.inference_service_pb2_grpc import InferenceServiceStub
from shared.rollout import place_of
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys

SOAK = bool(os.environ.get("WEIGHTCAST_SOAK"))
REQUESTS, KEYS = (100_000, 20_000) if SOAK else (2_000, 400)
THREADS = 8
MODEL, LIVE_VERSION, CANDIDATE = "digits", 1, 2
PERCENT = 10.0
ROW = np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % 16
Train = Callable[..., training_pb2.TrainingJob]
Until = Callable[..., None]


@pytest.fixture(scope="module")
def stack(train: Train) -> Iterator[LocalStack]:
    """Two processes that serve version 1, beside which version 2 was published; nothing is tried yet."""
    with LocalStack({"WEIGHTCAST_INFERENCE_PROCESSES": "2"}) as running:
        for seed in (1, 2):
            train(running, seed=seed)
        with TrainerClient(running.trainer.address) as trainer:
            trainer.promote(MODEL, LIVE_VERSION)
        yield running


@pytest.fixture
def trainer(stack: LocalStack) -> Iterator[TrainerClient]:
    """Who changes rollouts; none is left behind."""
    with TrainerClient(stack.trainer.address) as client:
        yield client
        if client.model(MODEL).HasField("rollout"):
            client.end_rollout(MODEL)


def wait_for_state(stack: LocalStack, until: Until, state: "pb.RolloutStatus.State.ValueType") -> pb.RolloutStatus:
    """The rollout's status once both processes say the same of it, however often one asks."""

    def states() -> set[int]:
        seen: set[int] = set()
        for _ in range(12):  # connections, which fall to either process
            with InferenceClient(stack.inference.address) as client:
                seen.add(client.status(MODEL).rollout.state)
        return seen

    until(lambda: states() == {state}, "both processes' rollout")
    with InferenceClient(stack.inference.address) as client:
        return client.status(MODEL).rollout


def ask(stack: LocalStack, keys: list[str | None]) -> list[int]:
    """The version that answers each request; several at a time, each thread on a connection of its own."""
    request = pb.ClassifyRequest(model=MODEL, tensor=tensor_of(ROW))

    def ask_some(part: list[str | None]) -> list[int]:
        with open_connection(stack.inference.address) as channel:
            stub = InferenceServiceStub(channel)
            return [
                stub.Classify(request, metadata=metadata_of(key, None), timeout=30).served_by.version for key in part
            ]

    parts = [keys[start::THREADS] for start in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(ask_some, parts))
    versions = [0] * len(keys)
    for start, part in enumerate(found):
        versions[start::THREADS] = part
    return versions


@pytest.mark.timeout(900)
def test_a_canary_gets_its_share_and_keeps_its_callers(stack: LocalStack, trainer: TrainerClient, until: Until) -> None:
    """Ten percent within half a percent; each key always by the same version, in both processes; both are counted."""
    trainer.set_rollout(MODEL, CANDIDATE, PERCENT)
    before = wait_for_state(stack, until, pb.RolloutStatus.STATE_ACTIVE)
    names = [f"user-{number}" for number in range(KEYS)]
    versions = ask(stack, [names[number % KEYS] for number in range(REQUESTS)])
    by_key: dict[str, set[int]] = defaultdict(set)
    for number, version in enumerate(versions):
        by_key[names[number % KEYS]].add(version)
    expected = {name: {CANDIDATE if place_of(MODEL, name) * 100 < PERCENT else LIVE_VERSION} for name in names}
    assert by_key == expected
    share = Counter(versions)[CANDIDATE] / REQUESTS * 100
    sampling_error = 3 * np.sqrt(PERCENT * (100 - PERCENT) / KEYS)  # of the keys, which this test has few of
    assert abs(share - PERCENT) <= (0.5 if SOAK else sampling_error)

    unkeyed = Counter(ask(stack, [None] * REQUESTS))[CANDIDATE] / REQUESTS * 100
    assert abs(unkeyed - PERCENT) <= 0.5
    print(f"{REQUESTS} requests of {KEYS} keys: {share:.2f} %; {REQUESTS} without: {unkeyed:.2f} %")  # noqa: T201 - for whoever runs the soak

    def compared() -> pb.RolloutStatus:
        with InferenceClient(stack.inference.address) as client:
            return client.status(MODEL).rollout

    tried = round((share + unkeyed) * REQUESTS / 100)
    until(
        lambda: (
            compared().compared_rows + compared().dropped_requests - before.compared_rows - before.dropped_requests
            == tried
        ),
        "every comparison",
    )
    after = compared()
    assert after.candidate.requests - before.candidate.requests == tried
    assert (
        after.live.requests - before.live.requests == 2 * REQUESTS - tried + after.compared_rows - before.compared_rows
    )
    assert 0 <= after.agreed_rows <= after.compared_rows


def test_a_shadow_is_computed_and_never_seen(stack: LocalStack, trainer: TrainerClient, until: Until) -> None:
    """Half of the requests, every answer by the live version."""
    trainer.set_rollout(MODEL, CANDIDATE, 50, shadow=True)
    wait_for_state(stack, until, pb.RolloutStatus.STATE_ACTIVE)
    assert set(ask(stack, [None] * 1000)) == {LIVE_VERSION}

    def compared() -> int:
        with InferenceClient(stack.inference.address) as client:
            status = client.status(MODEL).rollout
        return status.compared_rows + status.dropped_requests

    until(lambda: abs(compared() - 500) <= 4, "half of them compared")


def test_a_candidate_that_cannot_be_loaded_changes_nothing(
    stack: LocalStack, trainer: TrainerClient, until: Until
) -> None:
    """Every request is answered by the live version, the status says why, and once it is mended it is tried."""
    connection = StoreConnection(stack.redis.url)
    keys = ModelKeys(MODEL)
    weights = connection.command("HGET", keys.weights, CANDIDATE)
    connection.command("HSET", keys.weights, CANDIDATE, weights[:-1] + bytes([weights[-1] ^ 1]))
    stack.inference.stop()  # for it may hold the version from the tests before
    stack.inference.start()
    stack.inference.wait_until("")
    trainer.set_rollout(MODEL, CANDIDATE, 100)
    status = wait_for_state(stack, until, pb.RolloutStatus.STATE_FAILED)
    assert status.failure.reason == "DIGEST_MISMATCH"
    assert set(ask(stack, [None] * 200)) == {LIVE_VERSION}
    connection.command("HSET", keys.weights, CANDIDATE, weights)
    wait_for_state(stack, until, pb.RolloutStatus.STATE_ACTIVE)
    assert set(ask(stack, [None] * 200)) == {CANDIDATE}
    connection.close()


def test_whatever_is_done_to_a_rollout_costs_no_request(
    stack: LocalStack, trainer: TrainerClient, until: Until
) -> None:
    """Begun, enlarged, turned into a shadow, ended, begun again and promoted, under load."""
    with Traffic(stack.inference.address, MODEL, np.tile(ROW, (40, 1, 1)), threads=3, batch_rows=10) as traffic:
        tally = traffic.tally
        for _ in range(3):
            for percent, shadow in ((10, False), (60, False), (60, True)):
                trainer.set_rollout(MODEL, CANDIDATE, percent, shadow=shadow)
                seen = tally.requests
                until(lambda seen=seen: tally.requests > seen + 50, "requests")
            trainer.end_rollout(MODEL)
        trainer.set_rollout(MODEL, CANDIDATE, 50)
        wait_for_state(stack, until, pb.RolloutStatus.STATE_ACTIVE)
        trainer.promote_rollout(MODEL)
        with InferenceClient(stack.inference.address) as client:
            client.wait_for_version(MODEL, CANDIDATE, 20)
        assert not trainer.model(MODEL).HasField("rollout")
        trainer.promote(MODEL, LIVE_VERSION)
        seen = tally.requests
        until(lambda: tally.requests > seen + 100, "requests")
    assert tally.failures == []
    assert set(tally.digests) == {LIVE_VERSION, CANDIDATE}
    assert all(len(digests) == 1 for digests in tally.digests.values())
