"""A watched job that changes hands: what is shown of it, from its events alone."""

import io

from rich.console import Console

from client.cli.watching import JobView, state_text, watch
from shared.pb.weightcast.v1.trainer_service_pb2 import WatchTrainingJobResponse
from shared.pb.weightcast.v1.training_pb2 import (
    EpochMetrics,
    TrainingAttempt,
    TrainingJob,
    TrainingProgress,
    TrainingSpec,
)

HANDED_BACK = TrainingAttempt(outcome=TrainingAttempt.OUTCOME_HANDED_BACK, message="told to stop")
DIED = TrainingAttempt(outcome=TrainingAttempt.OUTCOME_DIED)
UNDER_WAY = TrainingAttempt(resumed_update=1200)
Event = WatchTrainingJobResponse


def job(state: TrainingJob.State.ValueType, *attempts: TrainingAttempt, epochs: int = 0) -> TrainingJob:
    """A job of five epochs, `epochs` of which it has behind it."""
    done = [measured(number) for number in range(1, epochs + 1)]
    spec = TrainingSpec(model="m", dataset="d", epochs=5)
    return TrainingJob(id="j", spec=spec, state=state, attempts=attempts, epochs=done)


def measured(number: int, loss: float = 0.5) -> EpochMetrics:
    """What an epoch measured; its speed is another one each time it is run."""
    return EpochMetrics(epoch=number, train_loss=loss, test_loss=loss)


def progress(epoch: int, step: int, loss: float) -> Event:
    """So far."""
    return Event(progress=TrainingProgress(epoch=epoch, step=step, steps_per_epoch=100, train_loss=loss))


RESUMED = [
    Event(job=job(TrainingJob.STATE_QUEUED)),
    Event(job=job(TrainingJob.STATE_RUNNING, TrainingAttempt())),
    Event(epoch=measured(1)),
    Event(epoch=measured(2)),
    Event(epoch=measured(3)),
    Event(job=job(TrainingJob.STATE_QUEUED, HANDED_BACK, epochs=3)),
    Event(job=job(TrainingJob.STATE_RUNNING, HANDED_BACK, UNDER_WAY, epochs=1)),
    Event(epoch=measured(2)),
    Event(epoch=measured(3)),
    Event(epoch=measured(4)),
    Event(job=job(TrainingJob.STATE_SUCCEEDED, HANDED_BACK, UNDER_WAY, epochs=4)),
]


def printed(*events: Event) -> list[str]:
    """The lines of a watch without a terminal."""
    file = io.StringIO()
    watch(events, Console(file=file, width=80))
    return file.getvalue().splitlines()


def test_a_job_that_goes_on_elsewhere_says_so_and_prints_each_epoch_once() -> None:
    """The state is told with its reason, and epochs that are trained again are not told again."""
    lines = printed(*RESUMED)
    assert [line.split("  ")[0] for line in lines] == [
        "job j QUEUED",
        "job j RUNNING",
        "epoch 1/5",
        "epoch 2/5",
        "epoch 3/5",
        "job j QUEUED (handed back: told to stop)",
        "job j RUNNING (attempt 2, from update 1,200)",
        "epoch 4/5",
        "job j SUCCEEDED",
    ]


def test_an_epoch_that_comes_again_and_is_not_the_same_is_told() -> None:
    """A job that could not use its checkpoint begins again, perhaps with other libraries."""
    lines = printed(Event(epoch=measured(1)), Event(epoch=measured(1, loss=0.25)), Event(epoch=measured(1, loss=0.25)))
    assert [line.split("  ")[1] for line in lines] == ["loss 0.5000", "loss 0.2500"]


def test_the_live_view_has_each_epoch_and_each_step_once() -> None:
    """Also while the epochs are trained again: what lies ahead of the new run is not shown."""
    view = JobView(Console(file=io.StringIO()))
    counts = []
    for event in RESUMED:
        view.take(event)
        counts.append(len(view._epochs))
    assert counts == [0, 0, 1, 2, 3, 3, 1, 2, 3, 4, 4]
    for event in (progress(2, 10, 0.5), progress(2, 20, 0.25), progress(3, 10, 0.125), progress(2, 15, 0.375)):
        view.take(event)
    assert [loss for _, loss in view._losses][-2:] == [0.5, 0.375]
    console = Console(file=io.StringIO(), width=80)
    console.print(view.render())
    assert "job j · m on d · SUCCEEDED" in console.file.getvalue()  # type: ignore[attr-defined]


def test_heartbeats_change_nothing() -> None:
    """The client does not pass them on; whoever reads the stream itself may."""
    heartbeat = Event(cursor="1-0")
    heartbeat.heartbeat.SetInParent()
    assert printed(heartbeat) == []


def test_why_a_job_waits_or_runs_again_is_told() -> None:
    """And where it begins; a first run and an end need no explanation."""
    assert state_text(job(TrainingJob.STATE_QUEUED)) == "QUEUED"
    assert state_text(job(TrainingJob.STATE_QUEUED, DIED)) == "QUEUED (its worker died)"
    assert state_text(job(TrainingJob.STATE_RUNNING, DIED, TrainingAttempt())) == (
        "RUNNING (attempt 2, from the beginning)"
    )
    assert state_text(job(TrainingJob.STATE_CANCELLED, DIED, UNDER_WAY)) == "CANCELLED"
