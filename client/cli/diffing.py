"""`weightcast models diff`: two versions of a model side by side, and only what is not the same."""

from rich import box
from rich.markup import escape
from rich.table import Table

from client.cli.models import ModelName, VersionName, selector
from client.cli.options import TRAINER, AsJson, TrainerAddress, console, moment_text, print_json
from client.cli.version_diff import Number, VersionDiff, difference
from client.trainer_client import TrainerClient

RECALLS_SHOWN = 5
MOST_CHARACTERS = 160  # of a text: the labels of a thousand classes would hide all else
METRICS = {"accuracy": "test accuracy", "loss": "test loss, nats", "calibration_error": "calibration error"}
IN_PERCENT = ("accuracy", "calibration_error")
LESS_IS_BETTER = ("loss", "calibration_error")
NONE = "[dim]–[/]"


def diff(
    model: ModelName,
    first: VersionName,
    second: VersionName,
    as_json: AsJson = False,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Compares two versions: what they learned from, what was asked for, and what they learned."""
    with TrainerClient(trainer) as client:
        found = difference(client.version(model, selector(first)), client.version(model, selector(second)))
    if as_json:
        print_json(document(found))
        return
    equal = "the weights are the same to the last bit" if found.weights_equal else "the weights differ"
    one, other = found.first, found.second
    console.print(f"{one.model} version {one.version} and version {other.version}: {equal}\n", highlight=False)
    console.print(texts_table(found))
    console.print()
    console.print(figures_table(found))
    if not found.same_test:
        console.print("\n[yellow]tested on different data, so these figures do not say which is better[/]")


def document(found: VersionDiff) -> dict[str, object]:
    """The comparison for programs."""
    versions = (found.first, found.second)
    return {
        "model": found.first.model,
        "versions": [version.version for version in versions],
        "digests": [version.digest for version in versions],
        "weights_equal": found.weights_equal,
        "same_test": found.same_test,
        "origin": found.origin,
        "spec": found.spec,
        "libraries": found.libraries,
        "metrics": found.metrics,
        "recalls": found.recalls,
    }


def texts_table(found: VersionDiff) -> Table:
    """Which versions these are, and what they come from that is not the same."""
    table = side_by_side(found)
    one, other = found.first, found.second
    which = {
        "aliases": (", ".join(one.aliases), ", ".join(other.aliases)),
        "published, UTC": (moment_text(one.publish_time), moment_text(other.publish_time)),
        "job": (one.manifest.training_job_id, other.manifest.training_job_id),
    }
    for part in (which, found.origin, found.spec, found.libraries):
        for name, texts in part.items():
            if any(texts):
                table.add_row(escape(name), *map(cell, texts))
    return table


def figures_table(found: VersionDiff) -> Table:
    """What was measured on the test split, and the classes whose recall has changed most; green is better."""
    table = side_by_side(found)
    table.add_column("change", justify="right", no_wrap=True)
    for name, numbers in found.metrics.items():
        in_percent, sign = name in IN_PERCENT, -1 if name in LESS_IS_BETTER else 1
        table.add_row(
            METRICS[name],
            *(number_text(number, in_percent=in_percent) for number in numbers),
            change_text(numbers, sign, in_percent=in_percent),
        )
    for label, recalls in list(found.recalls.items())[:RECALLS_SHOWN]:
        table.add_row(
            f"recall of {escape(label)}",
            *(number_text(recall, in_percent=True) for recall in recalls),
            change_text(recalls, 1, in_percent=True),
        )
    if (more := len(found.recalls) - RECALLS_SHOWN) > 0:
        table.add_row(f"[dim]and {more} class{'es' * (more > 1)} more[/]")
    return table


def side_by_side(found: VersionDiff) -> Table:
    """An empty table with a column for each version."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for version in (found.first, found.second):
        table.add_column(f"version {version.version}", overflow="fold")
    return table


def cell(text: str) -> str:
    """A text, shortened, or a mark where there is none."""
    if not text:
        return NONE
    return escape(text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} …")


def number_text(number: float | None, *, in_percent: bool) -> str:
    """A figure, or a mark where it is not known."""
    if number is None:
        return NONE
    return f"{number:.2%}" if in_percent else f"{number:.4f}"


def change_text(numbers: Number, sign: int, *, in_percent: bool) -> str:
    """What the second figure has more than the first; times `sign`, more than 0 is better and green."""
    first, second = numbers
    if first is None or second is None:
        return ""
    change = second - first
    text = f"{change:+.2%}" if in_percent else f"{change:+.4f}"
    if not change:
        return f"[dim]{text}[/]"
    return f"[{'green' if change * sign > 0 else 'red'}]{text}[/]"
