"""What became of things, for people: a job's attempts, the verdict on a version, what was live when."""

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from rich.markup import escape
from rich.table import Table

from client.cli.options import list_table, moment_text
from client.cli.spec_view import enum_text, promotion_text
from shared.pb.weightcast.v1.model_pb2 import LiveChange, ModelHold
from shared.pb.weightcast.v1.training_pb2 import Promotion, PromotionVerdict, TrainingAttempt

OUTCOMES = PromotionVerdict.Outcome
COLOURS = {TrainingAttempt.OUTCOME_ENDED: "green", TrainingAttempt.OUTCOME_DIED: "red"}


def verdict_text(verdict: PromotionVerdict) -> str:
    """Whether a version went live when it was published, and why; empty where that is not known."""
    live = f"version {verdict.live_version}"
    compared, policy = "", ""
    if verdict.HasField("live_accuracy"):
        compared = f": {verdict.accuracy:.2%} against {verdict.live_accuracy:.2%} of {live}"
    if verdict.promotion.policy == Promotion.POLICY_IF_BETTER:
        policy = f" ({promotion_text(verdict.promotion)})"
    instead = f" instead of {live}" if verdict.live_version and not compared else ""
    texts = {
        OUTCOMES.OUTCOME_PROMOTED: f"went live{instead}{compared}{policy}",
        OUTCOMES.OUTCOME_NOT_BETTER: f"did not go live, was not better{compared}{policy}",
        OUTCOMES.OUTCOME_NOT_COMPARABLE: f"did not go live, could not be compared with {live} on the same examples",
        OUTCOMES.OUTCOME_MANUAL: "did not go live, was left to `weightcast models promote`",
        OUTCOMES.OUTCOME_HELD: f"did not go live, the model was on hold{compared}",
    }
    return texts.get(verdict.outcome) or enum_text(OUTCOMES.DESCRIPTOR, verdict.outcome)


def attempts_table(attempts: Iterable[TrainingAttempt]) -> Table:
    """Every run of a job: where, when, what became of it, and the updates it took over from the one before."""
    table = list_table("worker", "from, UTC", "to", "outcome")
    table.add_column("resumed\nfrom\nupdate", justify="right")
    for attempt in attempts:
        outcome = enum_text(TrainingAttempt.Outcome.DESCRIPTOR, attempt.outcome).replace("-", " ") or "under way"
        message = f": {escape(attempt.message)}" if attempt.message else ""
        table.add_row(
            escape(attempt.worker),
            moment_text(attempt.start_time, seconds=True),
            end_text(attempt),
            f"[{COLOURS.get(attempt.outcome, 'yellow')}]{outcome}[/]{message}",
            f"{attempt.resumed_update:,}" if attempt.resumed_update else "",
        )
    return table


def end_text(attempt: TrainingAttempt) -> str:
    """When a run ended, without the day where that is the one it began on."""
    if not attempt.HasField("end_time"):
        return ""
    began, ended = day_of(attempt.start_time), day_of(attempt.end_time)
    return (
        f"{attempt.end_time.ToDatetime():%H:%M:%S}" if began == ended else moment_text(attempt.end_time, seconds=True)
    )


def day_of(moment: Timestamp) -> str:
    """A moment's day."""
    return f"{moment.ToDatetime():%Y-%m-%d}"


def changes_table(changes: Iterable[LiveChange]) -> Table:
    """What was live when, by whom and why; what it was instead of stands in the next row."""
    table = list_table("cause", "by", "reason", whole=("version", "live since, UTC"))
    for change in changes:
        table.add_row(
            str(change.version),
            moment_text(change.change_time, seconds=True),
            enum_text(LiveChange.Cause.DESCRIPTOR, change.cause).replace("-", " "),
            escape(change.actor),
            escape(change.reason),
        )
    return table


def hold_text(hold: ModelHold) -> str:
    """Since when new versions do not go live, and who wanted that."""
    by = f" by {hold.actor}" if hold.actor else ""
    return f"since {moment_text(hold.create_time)}{by}" + (f": {hold.reason}" if hold.reason else "")
