"""What the registry costs with ten thousand versions: the commands that it costs with a hundred, and no more.

Redis counts the commands, those inside scripts too. The times are printed (`pytest -s`) and not asserted.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from unittest.mock import Mock

import pytest

from shared.model_version import PromotionOutcome, PromotionVerdict, StoredSnapshot
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb
from shared.recipe import Promotion, PromotionPolicy
from shared.rollout import RolloutMode
from shared.store.connection import Argument, StoreConnection
from shared.store.keys import MODELS, ModelKeys
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry
from trainer_service.registry_servicer import RegistryServicer

FEW, SOME, MANY = 100, 1_000, 10_000
BATCH = 1000
PAGE = 50
SNAPSHOT = StoredSnapshot(b"", b"weights", "d" * 64)
VERDICT = "promoted always 0.0 0.5 0 -"
IF_BETTER = Promotion(PromotionPolicy.IF_BETTER)
Call = Callable[[], object]


def fill(connection: StoreConnection, versions: int) -> str:
    """Writes a model of so many tiny versions, each of which was live, as publications one after another would have."""
    model = f"has-{versions}"
    keys = ModelKeys(model)
    for start in range(1, versions + 1, BATCH):
        numbers = range(start, min(start + BATCH, versions + 1))
        commands: list[tuple[Argument, ...]] = [
            ("HSET", keys.records, *pairs(numbers, f"{SNAPSHOT.digest} 1700000000000 {len(SNAPSHOT.weights)}")),
            ("HSET", keys.manifests, *pairs(numbers, SNAPSHOT.manifest)),
            ("HSET", keys.weights, *pairs(numbers, SNAPSHOT.weights)),
            ("HSET", keys.verdicts, *pairs(numbers, VERDICT)),
            ("ZADD", keys.versions, *(word for number in numbers for word in (number, number))),
        ]
        for number in numbers:
            why = ("time", 0, "cause", "published", "actor", f"job {number}", "reason", "")
            commands += [
                ("XADD", keys.history, f"{number}-0", "version", number, "previous", number - 1, *why),
                ("HSET", keys.jobs, f"job-{number}", f"{number} {SNAPSHOT.digest} {VERDICT}"),
            ]
        connection.commands(commands)
    connection.commands(
        [
            ("SADD", MODELS, model),
            ("SET", keys.counter, versions),
            ("SET", keys.revision, versions),
            ("HSET", keys.aliases, "latest", versions, "live", versions),
            ("HSET", keys.revisions, "live", versions),
            ("RPUSH", keys.previous, *range(versions - 1, max(0, versions - 101), -1)),
        ]
    )
    return model


def pairs(numbers: range, value: str | bytes) -> Iterator[Argument]:
    """Each number and the value, in turn."""
    return (word for number in numbers for word in (number, value))


class Calls:
    """The calls that are measured, on one model."""

    def __init__(self, connection: StoreConnection, model: str) -> None:
        self._model = model
        self._models, self._registry = ModelStore(connection), ModelRegistry(connection)
        self._servicer = RegistryServicer(self._models, self._registry)
        self._jobs = count()

    def page(self, **fields: Any) -> Call:  # noqa: ANN401 - any field
        """A page of versions."""
        request = pb.ListModelVersionsRequest(model=self._model, page_size=PAGE, **fields)
        return lambda: self._servicer.ListModelVersions(request, Mock())  # it has no use for a context

    def publish(self, policy: Promotion) -> None:
        """A version that goes live."""
        live = self._models.aliases(self._model)["live"]
        verdict = PromotionVerdict(PromotionOutcome.PROMOTED, policy, 0.5, live)
        assert self._models.publish(self._model, SNAPSHOT, f"new-{next(self._jobs)}", verdict).verdict == verdict

    def swap(self) -> None:
        """Two promotions, of the version before the live one and of that one again."""
        live = self._models.aliases(self._model)["live"]
        for version in (live - 1, live):
            assert self._registry.promote(self._model, version).live_version == version

    def delete(self) -> None:
        """The newest version, which waited for its promotion."""
        verdict = PromotionVerdict(PromotionOutcome.MANUAL, Promotion(PromotionPolicy.MANUAL), 0.5)
        published = self._models.publish(self._model, SNAPSHOT, f"new-{next(self._jobs)}", verdict)
        self._registry.delete(self._model, published.ref.version)

    def try_and_end(self) -> None:
        """A rollout of the version before the live one."""
        live = self._models.aliases(self._model)["live"]
        self._registry.set_rollout(self._model, live - 1, RolloutMode.CANARY, 10)
        self._registry.end_rollout(self._model)

    def by_name(self) -> dict[str, Call]:
        """All whose cost must not depend on how many versions there are."""
        return {
            "ListModelVersions, first page": self.page(),
            "ListModelVersions, last page": self.page(page_token=str(PAGE + 1)),
            "GetModel": lambda: self._models.model(self._model),
            "GetModelVersion": lambda: self._models.version(self._model, "live", with_weights=False),
            "ListLiveChanges": lambda: self._registry.history(self._model, count=PAGE),
            "publish": lambda: self.publish(Promotion()),
            "publish, if better": lambda: self.publish(IF_BETTER),
            "PromoteModelVersion, twice": self.swap,
            "RollbackModel": lambda: self._registry.rollback(self._model),
            "SetModelRollout, EndModelRollout": self.try_and_end,
            "publish and DeleteModelVersion": self.delete,
        }


def test_ten_thousand_versions_cost_what_a_hundred_do(connection: StoreConnection, cost_of: Callable[..., Any]) -> None:
    """Pages, reading, publishing, promoting, rolling back and deleting make Redis run the same commands."""
    few, many = (Calls(connection, fill(connection, versions)).by_name() for versions in (FEW, MANY))
    costs = {name: (cost_of(connection, few[name]), cost_of(connection, many[name])) for name in few}
    print(f"\n{'':32} commands at {FEW} and {MANY:,}      µs at both    ratio")  # noqa: T201 - for who measures
    for name, (at_few, at_many) in costs.items():
        counts = f"{sum(at_few.commands.values()):9} {sum(at_many.commands.values()):9}"
        times = f"{at_few.seconds * 1e6:11.0f} {at_many.seconds * 1e6:7.0f} {at_many.seconds / at_few.seconds:8.2f}"
        print(f"{name:32} {counts} {times}")  # noqa: T201 - the same
    for name, (at_few, at_many) in costs.items():
        assert at_few.commands, name
        assert at_few.commands == at_many.commands, name


def test_a_page_costs_a_command_of_the_client(connection: StoreConnection, cost_of: Callable[..., Any]) -> None:
    """However many versions are on it; and no version is read that is not."""
    calls = Calls(connection, fill(connection, FEW)).by_name()
    page = cost_of(connection, calls["ListModelVersions, first page"]).commands
    assert page.pop("cmdstat_evalsha") == 1
    assert page.pop("cmdstat_hstrlen") == page.pop("cmdstat_hget") == PAGE  # of the script
    assert sum(page.values()) < PAGE / 5
    assert cost_of(connection, calls["GetModel"]).commands["cmdstat_evalsha"] == 1


def test_a_filter_that_nothing_passes_looks_at_so_many_versions_only(
    connection: StoreConnection, cost_of: Callable[..., Any]
) -> None:
    """A page costs the same with a thousand versions and with ten thousand."""
    wanted = pb.VersionFilter(labels={"none": ""})
    at_some, at_many = (
        cost_of(connection, Calls(connection, fill(connection, versions)).page(filter=wanted))
        for versions in (SOME, MANY)
    )
    assert at_some.commands == at_many.commands


def test_pruning_costs_what_goes(connection: StoreConnection) -> None:
    """Of ten thousand versions a thousand go, and the rest are not looked at."""
    model = fill(connection, MANY)
    registry = ModelRegistry(connection)
    registry.prune(model, MANY - 1, dry_run=True)
    connection.command("CONFIG", "RESETSTAT")
    assert len(registry.prune(model, PAGE, dry_run=False).versions) == 1000
    counted = connection.command("INFO", "commandstats")
    assert counted["cmdstat_zrem"]["calls"] == 1000
    assert counted["cmdstat_hget"]["calls"] <= 2 * 1000 + 100


@pytest.mark.parametrize("versions", [FEW, MANY])
def test_what_is_filled_in_is_a_model(connection: StoreConnection, versions: int) -> None:
    """What the other tests measure on is what publications would have left."""
    model = fill(connection, versions)
    models = ModelStore(connection)
    found = models.model(model)
    assert (found.live_version, found.latest_version, found.version_count) == (versions,) * 3
    assert found.previous_version == versions - 1
    read = models.version(model, versions // 2)
    assert (read.snapshot, read.verdict is not None) == (SNAPSHOT, True)
    assert ModelRegistry(connection).history(model, count=1).changes[0].version == versions
