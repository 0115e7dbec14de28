"""A rollout for people: what is tried on which share, and how the candidate does beside the live version."""

from rich.console import Console
from rich.table import Table

from client.cli.options import list_table, moment_text
from client.cli.spec_view import print_fields
from shared.pb.weightcast.v1.inference_service_pb2 import ModelStatus, RolloutFigures, RolloutStatus
from shared.pb.weightcast.v1.model_pb2 import Model, ModelRollout

NONE = "–"


def rollout_text(rollout: ModelRollout) -> str:
    """What is tried on which share, and who answers there."""
    share = f"version {rollout.version} is tried on {rollout.percent:g}% of the requests"
    if rollout.mode == ModelRollout.MODE_SHADOW:
        return f"{share}, which the live version answers"
    return f"{share}, and answers them"


def show_rollout(console: Console, found: Model, status: ModelStatus | None) -> None:
    """Prints a model's rollout, and what the inference service says of it, where it says something."""
    served = status.rollout if status and status.HasField("rollout") else None
    if found.HasField("rollout"):
        tell(console, f"{found.name}: {rollout_text(found.rollout)}")
        print_fields(console, rollout_fields(found))
    else:
        tell(console, f"{found.name} has no rollout: {answering_text(found)}")
    if status is None:
        return
    if difference := difference_text(found, served):
        tell(console, difference, style="yellow")
    if served is not None:
        show_served(console, served, status.live.version)


def rollout_fields(found: Model) -> dict[str, str]:
    """Beside which version it is tried, since when, by whom and why."""
    rollout = found.rollout
    is_changed = rollout.update_time != rollout.create_time
    return {
        "live": f"version {found.live_version}",
        "since, UTC": moment_text(rollout.create_time, seconds=True),
        "changed, UTC": moment_text(rollout.update_time, seconds=True) if is_changed else "",
        "by": rollout.actor,
        "reason": rollout.reason,
    }


def answering_text(found: Model) -> str:
    """What answers where nothing is tried."""
    return f"version {found.live_version} answers everything" if found.live_version else "no version is live"


def difference_text(found: Model, served: RolloutStatus | None) -> str:
    """In what the inference service is behind the registry; empty where it is not."""
    if served is None:
        return "the inference service has not taken it up yet" if found.HasField("rollout") else ""
    if served.rollout.etag == found.rollout.etag:
        return ""
    return f"the inference service has not taken this up yet; there, {rollout_text(served.rollout)}"


def show_served(console: Console, served: RolloutStatus, live_version: int) -> None:
    """Prints what was counted, or why the candidate is not tried."""
    if served.state == RolloutStatus.STATE_FAILED:
        tell(console, failure_text(served), style="red")
    console.print()
    console.print(figures_table(served, live_version))
    console.print()
    print_fields(console, comparison_fields(served))


def failure_text(served: RolloutStatus) -> str:
    """Why the candidate is not tried, and when it is loaded again."""
    failure = served.failure
    again = f"; it is tried again at {moment_text(failure.retry_time, seconds=True)} UTC"
    return (
        f"version {served.rollout.version} could not be loaded, so the live version answers everything: "
        f"{failure.reason}: {failure.message}{again if failure.HasField('retry_time') else ''}"
    )


def figures_table(served: RolloutStatus, live_version: int) -> Table:
    """Both versions side by side; the live one on all requests that named no version, the candidate on its share."""
    table = list_table("")
    for heading in ("live", "candidate"):
        table.add_column(heading, justify="right", no_wrap=True)
    both = (served.live, served.candidate)
    table.add_row("version", str(live_version or NONE), str(served.rollout.version))
    table.add_row("requests", *(f"{figures.requests:,}" for figures in both))
    table.add_row("rows", *(f"{figures.rows:,}" for figures in both))
    table.add_row("mean compute time", *(compute_time_text(figures) for figures in both))
    return table


def compute_time_text(figures: RolloutFigures) -> str:
    """The mean time of a request's computation; a mark where there was none."""
    if not figures.requests:
        return NONE
    return f"{figures.mean_compute_time.ToTimedelta().total_seconds() * 1e3:.3f} ms"


def comparison_fields(served: RolloutStatus) -> dict[str, str]:
    """How often both chose the same class, and what was not compared."""
    compared, dropped = served.compared_rows, served.dropped_requests
    return {
        "rows compared": f"{compared:,}" if compared else "none yet",
        "agreement": f"{served.agreed_rows / compared:.2%}" if compared else "",
        "requests dropped": f"{dropped:,}, which were not compared, so that nobody had to wait" if dropped else "none",
    }


def tell(console: Console, text: str, *, style: str = "") -> None:
    """Prints a line as it is."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
