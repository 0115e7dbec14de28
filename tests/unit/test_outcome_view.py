"""What became of jobs and versions, and what schedules say, in words; and what cannot be undone is said first."""

import io
import sys
from datetime import UTC, datetime

import pytest
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from client.cli.keeping import ranges_text
from client.cli.layer_text import layers_of
from client.cli.options import announce
from client.cli.outcome_view import attempts_table, changes_table, hold_text, verdict_text
from client.cli.spec_view import given_fields, job_fields
from shared.pb.weightcast.v1.model_pb2 import LiveChange, ModelHold
from shared.pb.weightcast.v1.training_pb2 import (
    OPTIMIZER_SGD,
    Augmentation,
    DenseNetwork,
    Promotion,
    PromotionVerdict,
    Schedule,
    TrainingAttempt,
    TrainingJob,
    TrainingSpec,
)

ALWAYS = Promotion(policy=Promotion.POLICY_ALWAYS)
IF_BETTER = Promotion(policy=Promotion.POLICY_IF_BETTER, margin=0.01)
LONG_REASON = "it took [every] second owl for a cat at night, which nobody had thought of measuring before"


def at(day: int, hour: int) -> Timestamp:
    """A moment in July."""
    stamp = Timestamp()
    stamp.FromDatetime(datetime(2026, 7, day, hour, tzinfo=UTC))
    return stamp


def rendered(table: Table) -> str:
    """A table as a terminal of 80 columns shows it, on one line."""
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())


Outcome = PromotionVerdict.Outcome
VERDICTS = {
    "went live": PromotionVerdict(outcome=Outcome.OUTCOME_PROMOTED, promotion=ALWAYS, accuracy=0.9),
    "went live instead of version 3": PromotionVerdict(
        outcome=Outcome.OUTCOME_PROMOTED, promotion=ALWAYS, accuracy=0.9, live_version=3
    ),
    "went live: 95.00% against 90.00% of version 3 (if-better, by a margin of 0.01)": PromotionVerdict(
        outcome=Outcome.OUTCOME_PROMOTED, promotion=IF_BETTER, accuracy=0.95, live_version=3, live_accuracy=0.9
    ),
    "did not go live, was not better: 90.50% against 90.00% of version 3 (if-better, by a margin of 0.01)": (
        PromotionVerdict(
            outcome=Outcome.OUTCOME_NOT_BETTER, promotion=IF_BETTER, accuracy=0.905, live_version=3, live_accuracy=0.9
        )
    ),
    "did not go live, could not be compared with version 3 on the same examples": PromotionVerdict(
        outcome=Outcome.OUTCOME_NOT_COMPARABLE, promotion=IF_BETTER, live_version=3
    ),
    "did not go live, was left to `weightcast models promote`": PromotionVerdict(outcome=Outcome.OUTCOME_MANUAL),
    "did not go live, the model was on hold": PromotionVerdict(outcome=Outcome.OUTCOME_HELD, promotion=ALWAYS),
    "": PromotionVerdict(),
}


@pytest.mark.parametrize("text", VERDICTS)
def test_a_verdict_says_what_happened_and_why(text: str) -> None:
    """With both accuracies where both were measured; nothing where none was kept."""
    assert verdict_text(VERDICTS[text]) == text


def test_attempts_say_where_when_and_how_they_ended() -> None:
    """The day of the end only where it is another one; a run under way has no end."""
    attempts = [
        TrainingAttempt(
            worker="a:1",
            start_time=at(1, 10),
            end_time=at(1, 11),
            outcome=TrainingAttempt.OUTCOME_DIED,
            message="killed by [SIGKILL]",
        ),
        TrainingAttempt(
            worker="b:2",
            start_time=at(1, 12),
            end_time=at(2, 0),
            outcome=TrainingAttempt.OUTCOME_HANDED_BACK,
            resumed_update=1200,
        ),
        TrainingAttempt(worker="c:3", start_time=at(2, 1), resumed_update=3400),
    ]
    text = rendered(attempts_table(attempts))
    for words in (
        "a:1 Jul 01, 10:00:00 11:00:00 died: killed by [SIGKILL]",
        "b:2 Jul 01, 12:00:00 Jul 02, 00:00:00 handed back 1,200",
        "c:3 Jul 02, 01:00:00 under way 3,400",
    ):
        assert words in text, text


def test_the_history_fits_80_columns_with_whole_versions_and_times() -> None:
    """Whatever the length of actors and reasons, which are text and no markup."""
    change = LiveChange(
        version=12345,
        previous_version=7,
        change_time=at(1, 10),
        cause=LiveChange.CAUSE_ROLLED_BACK,
        actor="somebody-with-a-name@a-host-with-a-name",
        reason=LONG_REASON,
    )
    text = rendered(changes_table([change]))
    assert "12345 Jul 01, 10:00:00 rolled" in text
    assert "[every]" in text


def test_a_hold_says_since_when_by_whom_and_why() -> None:
    """As far as that was said."""
    assert hold_text(ModelHold(create_time=at(1, 10), actor="me", reason="owls")) == "since Jul 01, 10:00 by me: owls"
    assert hold_text(ModelHold(create_time=at(1, 10))) == "since Jul 01, 10:00"


def test_what_a_schedule_says_is_shown_and_not_what_it_leaves_open() -> None:
    """By the names of the fields; no augmentation is something that it says."""
    spec = TrainingSpec(
        model="m",
        dataset="d",
        layers=layers_of("dense 8 tanh"),
        optimizer=OPTIMIZER_SGD,
        epochs=0,
        publish=False,
        schedule=Schedule(kind=Schedule.KIND_COSINE),
        augmentation=Augmentation(),
        promotion=IF_BETTER,
        parent="live",
    )
    assert given_fields(spec) == {
        "model": "m",
        "dataset": "d",
        "epochs": "0",
        "optimizer": "sgd",
        "layers": "dense 8 tanh",
        "schedule": "cosine",
        "augmentation": "none",
        "publish": "no",
        "promotion": "if-better, by a margin of 0.01",
        "parent": "live",
    }
    assert given_fields(TrainingSpec(network=DenseNetwork())) == {"network": "hidden layers none"}
    assert given_fields(TrainingSpec()) == {}


def test_a_job_names_its_parent_its_promotion_and_its_schedule() -> None:
    """Where it has them."""
    spec = TrainingSpec(model="m", dataset="d", parent="7", promotion=IF_BETTER)
    fields = job_fields(TrainingJob(spec=spec, schedule="nightly"))
    assert fields["parent"] == "version 7"
    assert fields["promotion"] == "if-better, by a margin of 0.01"
    assert fields["created by"] == "schedule nightly"
    plain = job_fields(TrainingJob(spec=TrainingSpec(model="m", dataset="d")))
    assert {plain[name] for name in ("parent", "promotion", "created by")} == {""}


@pytest.mark.parametrize(
    ("numbers", "text"), [([3], "3"), ([1, 2, 3, 5], "1–3, 5"), ([9, 2, 1, 2], "1–2, 9"), ([], "")]
)
def test_versions_that_follow_each_other_are_drawn_together(numbers: list[int], text: str) -> None:
    """In order, each once."""
    assert ranges_text(numbers) == text


class Terminal(io.StringIO):
    """Standard input at which somebody sits."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_only_who_sits_at_a_terminal_and_did_not_say_yes_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script is told and goes on; an answer other than yes stops it."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    announce("removing [all]", yes=False)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    announce("removing all", yes=True)
    for _ in ("n", "the end of the file"):
        with pytest.raises(typer.Abort):
            announce("removing all", yes=False)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    announce("removing all", yes=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("removing") == 5
    assert "removing [all]" in captured.err
