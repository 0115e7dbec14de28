"""A training job watched from a terminal: live bars, a table of epochs and the curve of the loss.

A job that a worker gives back goes on elsewhere from a checkpoint, so that a part of it comes again: it is shown once.
"""

import math
from collections.abc import Iterable

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from client.cli.pictures import curve
from shared.pb.weightcast.v1 import training_pb2
from shared.pb.weightcast.v1.trainer_service_pb2 import WatchTrainingJobResponse

EPOCHS_SHOWN = 10  # a live display must fit the terminal; `jobs show` lists them all
ALL_HEADINGS = 10
Place = tuple[int, float]  # an epoch and a step in it
STATES = training_pb2.TrainingJob.State
RETURNS = {
    training_pb2.TrainingAttempt.OUTCOME_HANDED_BACK: "handed back",
    training_pb2.TrainingAttempt.OUTCOME_DIED: "its worker died",
}


def state_name(job: training_pb2.TrainingJob) -> str:
    """RUNNING and the like."""
    return STATES.Name(job.state).removeprefix("STATE_")


def state_text(job: training_pb2.TrainingJob) -> str:
    """The state, and where it is not the first time that the job is in it, why."""
    name = state_name(job)
    if not job.attempts:
        return name
    last = job.attempts[-1]
    if job.state == training_pb2.TrainingJob.STATE_QUEUED:
        why = f"{RETURNS.get(last.outcome, 'given back')}{f': {last.message}' if last.message else ''}"
        return f"{name} ({why})"
    if job.state == training_pb2.TrainingJob.STATE_RUNNING and len(job.attempts) > 1:
        where = f"from update {last.resumed_update:,}" if last.resumed_update else "from the beginning"
        return f"{name} (attempt {len(job.attempts)}, {where})"
    return name


def watch(events: Iterable[WatchTrainingJobResponse], console: Console) -> training_pb2.TrainingJob:
    """Shows a job's events until it has ended, and returns it."""
    view = JobView(console)
    if not console.is_terminal:
        for event in events:
            view.take(event)
            view.print_line(event)
        return view.job
    with Live(view.render(), console=console, refresh_per_second=8, transient=False) as live:
        for event in events:
            view.take(event)
            live.update(view.render())
    return view.job


class JobView:
    """What is known of a job from its events so far."""

    def __init__(self, console: Console) -> None:
        self.job = training_pb2.TrainingJob()
        self._console = console
        self._epochs: list[training_pb2.EpochMetrics] = []
        self._printed: dict[int, tuple[float, float]] = {}
        self._losses: list[tuple[Place, float]] = []
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            auto_refresh=False,
        )
        self._all = self._progress.add_task("epochs", total=None, rate="")
        self._epoch = self._progress.add_task("steps ", total=None, rate="")

    def take(self, event: WatchTrainingJobResponse) -> None:
        """Learns from one event."""
        match event.WhichOneof("event"):
            case "job":
                self.job = event.job
                # What a job that goes on has behind it, which may be less than was seen of the run before.
                self._epochs = list(event.job.epochs)
                self._progress.update(self._all, total=event.job.spec.epochs, completed=len(self._epochs))
            case "progress":
                progress = event.progress
                self._note_loss((progress.epoch, progress.step), progress.train_loss)
                left = progress.time_left.ToTimedelta().total_seconds()
                rate = f"{progress.samples_per_second:,.0f} samples/s · {left:.1f} s left"
                self._progress.update(self._epoch, total=progress.steps_per_epoch, completed=progress.step, rate=rate)
            case "epoch":
                epoch = event.epoch
                self._epochs = [*(known for known in self._epochs if known.epoch < epoch.epoch), epoch]
                self._note_loss((epoch.epoch, math.inf), epoch.train_loss)
                self._progress.update(self._all, completed=epoch.epoch)
                rate = f"{epoch.samples_per_second:,.0f} samples/s"
                self._progress.update(self._epoch, completed=self._progress.tasks[self._epoch].total, rate=rate)

    def render(self) -> Group:
        """The job as it stands, for a live display."""
        spec = self.job.spec
        title = Text(f"job {self.job.id} · {spec.model} on {spec.dataset} · {state_text(self.job)}")
        losses = curve([loss for _, loss in self._losses])
        return Group(title, self._progress, epoch_table(self._epochs[-EPOCHS_SHOWN:]), "training loss", losses)

    def print_line(self, event: WatchTrainingJobResponse) -> None:
        """One event as a line, where nothing can be redrawn."""
        match event.WhichOneof("event"):
            case "job":
                text = f"job {event.job.id} {state_text(event.job)}"
                self._console.print(text, highlight=False, markup=False, soft_wrap=True)
            case "epoch" if self._is_new(event.epoch):
                epoch = event.epoch
                validated = epoch.HasField("validation_accuracy")
                validation = f"validation {epoch.validation_accuracy:.2%}  " if validated else ""
                self._console.print(
                    f"epoch {epoch.epoch}/{self.job.spec.epochs}  loss {epoch.train_loss:.4f}  "
                    f"train {epoch.train_accuracy:.2%}  {validation}test {epoch.test_accuracy:.2%}  "
                    f"{epoch.samples_per_second:,.0f} samples/s",
                    highlight=False,
                    soft_wrap=True,
                )

    def _note_loss(self, place: Place, loss: float) -> None:
        """Adds to the curve, from which what was seen of this place and after it is taken away."""
        while self._losses and self._losses[-1][0] >= place:
            self._losses.pop()
        self._losses.append((place, loss))

    def _is_new(self, epoch: training_pb2.EpochMetrics) -> bool:
        """Whether an epoch has not been printed yet, or comes again and is not what it was."""
        measured = epoch.train_loss, epoch.test_loss
        if self._printed.get(epoch.epoch) == measured:
            return False
        self._printed[epoch.epoch] = measured
        return True


def epoch_table(epochs: Iterable[training_pb2.EpochMetrics], published: int = 0) -> Table:
    """What each epoch measured; the gap says how much of what was learned is memory. `published` is marked.

    Validation and a learning rate that changes have columns only where there are such.
    """
    epochs = list(epochs)
    validated = any(epoch.HasField("validation_loss") for epoch in epochs)
    scheduled = len({epoch.learning_rate for epoch in epochs}) > 1
    headings = ["epoch", "train loss", *["valid. loss"] * validated, "test loss", "train accuracy"]
    headings += [*["valid. accuracy"] * validated, "test accuracy", "gap", *["learn. rate"] * scheduled, "samples/s"]
    # Padded where all columns fit into 80 characters nevertheless.
    padding = (0, 1, 0, 0) if len(headings) < ALL_HEADINGS else (0, 0, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=padding)
    for heading in headings:
        table.add_column(heading.replace(" ", "\n"), justify="right")
    for epoch in epochs:
        cells = [f"{'▸' if epoch.epoch == published else ''}{epoch.epoch}", f"{epoch.train_loss:.4f}"]
        cells += [f"{epoch.validation_loss:.4f}"] * validated
        cells += [f"{epoch.test_loss:.4f}", f"{epoch.train_accuracy:.2%}"]
        cells += [f"{epoch.validation_accuracy:.2%}"] * validated
        cells += [f"{epoch.test_accuracy:.2%}", f"{epoch.train_accuracy - epoch.test_accuracy:+.2%}"]
        cells += [f"{epoch.learning_rate:.2g}"] * scheduled
        table.add_row(*cells, f"{epoch.samples_per_second:,.0f}")
    return table
