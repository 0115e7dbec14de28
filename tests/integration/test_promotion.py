"""What goes live and what training starts from: policies decided on real networks, and versions that are trained on."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared import snapshot_codec
from shared.errors import InvalidInputError, NotFoundError
from shared.layers import Activation, Dense
from shared.model_version import LIVE, PromotionOutcome, VersionRef
from shared.network import Network
from shared.recipe import Optimizer, Promotion, PromotionPolicy
from shared.spec_codec import spec_to_proto
from shared.store.connection import StoreConnection
from shared.store.keys import ModelKeys
from shared.store.model_store import ModelStore
from shared.store.registry import ModelRegistry
from shared.training_spec import TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.upload import UploadFormat, UploadHeader, UploadService
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job import JobState, TrainingJob
from trainer_service.jobs.job_service import JobService
from trainer_service.jobs.run_job import JobRun
from trainer_service.promotion import compared
from trainer_service.spec_request import spec_request

GOOD = TrainingSpec(
    model="tiny", dataset="digits", seed=7, preset="mlp", layers=(Dense(32, Activation.RELU),), epochs=8
)
POOR = replace(GOOD, epochs=1, learning_rate=1e-6)  # hardly better than chance
MANUAL = Promotion(PromotionPolicy.MANUAL)
IF_BETTER = Promotion(PromotionPolicy.IF_BETTER)


class Trainer:
    """A trainer whose jobs run at once, in this process."""

    def __init__(
        self, connection: StoreConnection, folder: Path, service: Callable[..., JobService], run: Callable[..., JobRun]
    ) -> None:
        self.connection = connection
        self.models, self.registry = ModelStore(connection), ModelRegistry(connection)
        self.uploads = UploadStore(connection)
        self.catalogue = Catalogue(None, folder, self.uploads)
        self.jobs, self._run = service(connection, self.catalogue), run

    def create(self, spec: TrainingSpec, parent: str = "", *, network: bool = True) -> TrainingJob:
        """A job for the spec as a client would send it; without `network`, it leaves out preset and layers."""
        message = spec_to_proto(spec)
        message.parent = parent
        if not network:
            message.ClearField("preset")
            message.ClearField("layers")
        return self.jobs.create(spec_request(message))

    def train(self, spec: TrainingSpec, parent: str = "", *, network: bool = True) -> TrainingJob:
        """The same, run to its end."""
        job = self.create(spec, parent, network=network)
        self.start(job.id).run()
        return self.jobs.get(job.id)

    def start(self, job_id: str, load: Callable[[str], Dataset] | None = None) -> JobRun:
        """The run of a job, not begun."""
        return self._run(self.connection, job_id, load or self.catalogue.load)

    def live(self) -> int:
        """The live version of `tiny`; 0 means none."""
        return self.models.aliases("tiny").get(LIVE, 0)

    def network(self, version: int) -> Network:
        """A version's network."""
        return snapshot_codec.decode(self.models.version("tiny", version).snapshot).network


@pytest.fixture
def trainer(
    connection: StoreConnection, tmp_path: Path, service_on: Callable[..., JobService], run_on: Callable[..., JobRun]
) -> Trainer:
    """A trainer on this test's store."""
    return Trainer(connection, tmp_path, service_on, run_on)


def outcome_of(job: TrainingJob) -> PromotionOutcome:
    """What was decided about the job's version."""
    assert job.verdict is not None, job.error_message
    return job.verdict.outcome


def test_a_version_goes_live_unless_told_otherwise(trainer: Trainer) -> None:
    """ALWAYS is the default, also for a worse one; the verdict stands on job and version."""
    assert outcome_of(trainer.train(GOOD)) is PromotionOutcome.PROMOTED
    worse = trainer.train(POOR)
    assert (outcome_of(worse), trainer.live()) == (PromotionOutcome.PROMOTED, 2)
    assert trainer.models.version("tiny", 2).verdict == worse.verdict


def test_a_manual_version_waits(trainer: Trainer) -> None:
    """The very first too: nothing is live until somebody says so."""
    job = trainer.train(replace(GOOD, promotion=MANUAL))
    assert (outcome_of(job), job.version, trainer.live()) == (PromotionOutcome.MANUAL, 1, 0)
    trainer.registry.promote("tiny", 1)
    assert trainer.live() == 1


def test_only_a_better_version_goes_live(trainer: Trainer) -> None:
    """The live one is evaluated on this job's test split; both figures stand in the verdict."""
    poor = trainer.train(replace(POOR, promotion=IF_BETTER))
    assert (outcome_of(poor), trainer.live()) == (PromotionOutcome.PROMOTED, 1)  # there was none to beat
    assert poor.verdict is not None
    assert (poor.verdict.live_version, poor.verdict.live_accuracy) == (0, None)
    good = trainer.train(replace(GOOD, promotion=IF_BETTER))
    assert (outcome_of(good), trainer.live()) == (PromotionOutcome.PROMOTED, 2)
    assert good.verdict is not None
    assert good.verdict.live_version == 1
    assert good.verdict.live_accuracy == pytest.approx(poor.epochs[-1].test_accuracy)
    assert good.verdict.accuracy == pytest.approx(good.epochs[-1].test_accuracy)
    again = trainer.train(replace(GOOD, promotion=IF_BETTER))  # the same weights win by nothing
    assert (outcome_of(again), trainer.live()) == (PromotionOutcome.NOT_BETTER, 2)


def test_a_version_must_win_by_the_margin(trainer: Trainer) -> None:
    """Better, and not by enough."""
    trainer.train(POOR)
    job = trainer.train(replace(GOOD, promotion=Promotion(PromotionPolicy.IF_BETTER, 0.999)))
    assert (outcome_of(job), trainer.live()) == (PromotionOutcome.NOT_BETTER, 1)


@pytest.mark.parametrize(
    ("accuracy", "live", "margin", "outcome"),
    [
        (0.93, 0.92, 0.01, PromotionOutcome.PROMOTED),
        (0.93, 0.92, 0.0101, PromotionOutcome.NOT_BETTER),
        (0.93, 0.93, 0.0, PromotionOutcome.NOT_BETTER),
        (0.92, 0.93, 0.0, PromotionOutcome.NOT_BETTER),
        (0.93, None, 0.0, PromotionOutcome.NOT_COMPARABLE),
    ],
)
def test_what_two_accuracies_decide(
    accuracy: float, live: float | None, margin: float, outcome: PromotionOutcome
) -> None:
    """Equal ones leave live what is; exactly the margin is enough, whatever binary fractions make of it."""
    assert compared(accuracy, live, margin) is outcome


def test_on_hold_nothing_goes_live_by_itself(trainer: Trainer) -> None:
    """After a rollback the next job does not undo it; an explicit promotion lifts the hold."""
    trainer.train(GOOD)
    trainer.train(POOR)
    trainer.registry.rollback("tiny", actor="somebody", reason="worse")
    job = trainer.train(POOR)
    assert (outcome_of(job), trainer.live()) == (PromotionOutcome.HELD, 1)
    trainer.registry.promote("tiny", 3)
    assert outcome_of(trainer.train(GOOD)) is PromotionOutcome.PROMOTED


def table(kinds: str) -> Iterator[bytes]:
    """A table of two columns, whose classes are these letters."""
    yield b"size,weight,kind\n"
    for index in range(40):
        yield f"{index},{index % 3 * 100},{kinds[index * len(kinds) // 40]}\n".encode()


def upload(trainer: Trainer, name: str, kinds: str) -> None:
    """Stores a table."""
    UploadService(trainer.uploads).take(UploadHeader(name, "", UploadFormat.CSV, "kind"), table(kinds))


@pytest.mark.parametrize("damage", ["other classes", "altered"])
def test_what_cannot_be_compared_with_stays_live(trainer: Trainer, damage: str) -> None:
    """A live version of other classes, or one whose bytes were altered, is not replaced without somebody's word."""
    trainer.train(GOOD)
    spec = replace(GOOD, promotion=IF_BETTER)
    if damage == "altered":
        trainer.connection.command("HSET", ModelKeys("tiny").weights, 1, b"nonsense")
    else:
        upload(trainer, "table", "ab")
        spec = replace(spec, dataset="table")
    job = trainer.train(spec)
    assert (outcome_of(job), trainer.live()) == (PromotionOutcome.NOT_COMPARABLE, 1)


def test_another_version_that_goes_live_meanwhile_is_compared_with(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict about a version that is no longer live publishes nothing; it is given anew."""
    trainer.train(POOR)
    trainer.train(replace(GOOD, promotion=MANUAL))
    job = trainer.create(replace(GOOD, epochs=2, promotion=IF_BETTER))
    publish, verdicts = ModelStore.publish, []

    def promote_first(self: ModelStore, *arguments: Any, turn: int) -> Any:  # noqa: ANN401 - as the method's
        verdicts.append(arguments[-1])
        if len(verdicts) == 1:
            trainer.registry.promote("tiny", 2)
        return publish(self, *arguments, turn=turn)

    monkeypatch.setattr(ModelStore, "publish", promote_first)
    trainer.start(job.id).run()
    assert [(verdict.live_version, verdict.outcome) for verdict in verdicts] == [
        (1, PromotionOutcome.PROMOTED),
        (2, PromotionOutcome.NOT_BETTER),
    ]
    assert (trainer.jobs.get(job.id).version, trainer.live()) == (3, 2)


FINE: dict[str, Any] = {"epochs": 1, "optimizer": Optimizer.SGD, "learning_rate": 1e-9}  # changes next to nothing


@pytest.mark.parametrize("parent", ["1", "live", "latest", "best"])
def test_training_starts_from_a_version(trainer: Trainer, parent: str) -> None:
    """By number or alias, which the job shows as a number, as does the version; the layers are the parent's."""
    trainer.train(GOOD)
    trainer.registry.set_alias("tiny", "best", 1)
    job = trainer.train(replace(GOOD, **FINE), parent, network=False)
    assert (job.state, job.spec.parent, job.spec.layers) == (JobState.SUCCEEDED, 1, GOOD.layers)
    np.testing.assert_allclose(trainer.network(2).parameters, trainer.network(1).parameters, atol=1e-5)
    decoded = snapshot_codec.decode(trainer.models.version("tiny", 2).snapshot)
    assert (decoded.manifest.provenance.parent_version, decoded.manifest.provenance.spec.parent) == (1, 1)


def test_a_network_keeps_the_preprocessing_it_was_trained_behind(trainer: Trainer) -> None:
    """New data of another spread are standardised as the old were, for that is what the weights mean."""
    upload(trainer, "old", "ab")
    UploadService(trainer.uploads).take(
        UploadHeader("new", "", UploadFormat.CSV, "kind"),
        iter([b"size,weight,kind\n", *(f"{i * 50},{i},{'ab'[i // 20]}\n".encode() for i in range(40))]),
    )
    trainer.train(replace(GOOD, dataset="old"))
    trainer.train(replace(GOOD, dataset="new", **FINE), "1")
    trainer.train(replace(GOOD, dataset="new"))
    scales = []
    for version in (1, 2, 3):
        preprocessing = snapshot_codec.decode(trainer.models.version("tiny", version).snapshot).manifest.preprocessing
        assert preprocessing.standardisation is not None
        scales.append(preprocessing.standardisation.means.tolist())
    assert scales[0] == scales[1] != scales[2]


def test_a_killed_warm_start_is_continued_and_not_begun_again(trainer: Trainer) -> None:
    """The weights of the checkpoint count, not the parent's."""
    trainer.train(GOOD)
    job = trainer.create(replace(GOOD, epochs=3, seed=9), "1")
    run = trainer.start(job.id)
    on_epoch = run.on_epoch

    def stop_after_two(metrics: Any, take: Any) -> None:  # noqa: ANN401 - as the observer's
        on_epoch(metrics, take)
        if metrics.epoch == 2:
            run.stop()

    run.on_epoch = stop_after_two  # type: ignore[method-assign]
    run.run()
    assert trainer.jobs.get(job.id).state is JobState.QUEUED
    trainer.start(job.id).run()
    undisturbed = trainer.train(replace(GOOD, epochs=3, seed=9), "1")
    resumed = trainer.jobs.get(job.id)
    assert resumed.result is not None
    assert undisturbed.result is not None
    assert resumed.result.weights_digest == undisturbed.result.weights_digest


@pytest.mark.parametrize(
    ("parent", "changes", "error", "words"),
    [
        ("9", {}, NotFoundError, "spec.parent: model 'tiny' has no version 9"),
        ("newest", {}, NotFoundError, "spec.parent: model 'tiny' has no alias 'newest'"),
        ("1", {"model": "other"}, NotFoundError, "spec.parent: there is no model 'other'"),
        ("1", {"layers": (Dense(31, Activation.RELU),)}, InvalidInputError, "spec.parent: version 1 has other hidden"),
        (
            "1",
            {"dataset": "mnist"},
            InvalidInputError,
            r"takes examples of shape \[8, 8\], the data set's are \[28, 28",
        ),
        ("1", {"dataset": "table"}, InvalidInputError, "tells 10 classes apart, the data set has 2"),
    ],
)
def test_a_parent_that_does_not_fit_is_refused(
    trainer: Trainer, parent: str, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Before anything is queued, naming the field, what came and what is there."""
    trainer.train(GOOD)
    upload(trainer, "table", "ab")
    with pytest.raises(error, match=words):
        trainer.create(replace(GOOD, **changes), parent)
    assert len(trainer.jobs.page(None, 10)[0]) == 1


def test_a_parent_that_is_gone_when_the_job_runs_fails_it(trainer: Trainer) -> None:
    """The job names it."""
    trainer.train(GOOD)
    trainer.train(GOOD)
    job = trainer.create(GOOD, "1")
    trainer.registry.delete("tiny", 1)
    trainer.start(job.id).run()
    ended = trainer.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert "no version 1" in ended.error_message
    assert trainer.models.ref("tiny", 2) == VersionRef(2, trainer.models.version("tiny", 2).ref.digest)
