"""`weightcast jobs reproduce`: runs a job again from its own spec and compares the weights to the last bit."""

from collections.abc import Iterator, Mapping

import typer

from client.cli.options import (
    TRAINER,
    AsJson,
    Exit,
    JobId,
    TrainerAddress,
    console,
    errors,
    print_json,
)
from client.cli.watching import state_name, watch
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2


def reproduce(job_id: JobId, as_json: AsJson = False, trainer: TrainerAddress = TRAINER) -> None:
    """Trains by a job's spec again, publishes nothing, and compares the weights; exits 0 only if they are equal."""
    with TrainerClient(trainer) as client:
        first = client.job(job_id)
        if not first.weights_digest:
            errors.print(f"job {job_id} is {state_name(first)} and has no weights_digest to compare with")
            raise typer.Exit(Exit.FAILED)
        created = client.create_job(same_spec(first.spec))
        try:
            second = client.wait(created.id) if as_json else watch(client.watch(created.id), console)
        except KeyboardInterrupt:
            console.print(f"\nstopped watching; the job goes on: weightcast jobs watch {created.id}")
            raise typer.Exit(Exit.FAILED) from None
    equal = second.weights_digest == first.weights_digest
    if as_json:
        print_json(comparison(first, second))
    else:
        print_comparison(first, second)
    if not equal:
        raise typer.Exit(Exit.FAILED)


def same_spec(spec: training_pb2.TrainingSpec) -> training_pb2.TrainingSpec:
    """The spec of a job for another job that does the same and publishes nothing.

    A job's spec has every field set, so that nothing is left to the preset.
    """
    again = training_pb2.TrainingSpec()
    again.CopyFrom(spec)
    again.publish = False
    return again


def differences(first: training_pb2.TrainingJob, second: training_pb2.TrainingJob) -> dict[str, tuple[str, str]]:
    """What the weights depend on and what is not the same: the name of each, then and now."""
    found = {"dataset_digest": (first.dataset_digest, second.dataset_digest)}
    found.update(pairs(first.library_versions, second.library_versions))
    return {name: values for name, values in found.items() if values[0] != values[1]}


def pairs(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each name with both its values, empty where there is none."""
    for name in sorted({*first, *second}):
        yield name, (first.get(name, ""), second.get(name, ""))


def comparison(first: training_pb2.TrainingJob, second: training_pb2.TrainingJob) -> dict[str, object]:
    """The comparison as a document."""
    return {
        "job": first.id,
        "reproduction": second.id,
        "state": training_pb2.TrainingJob.State.Name(second.state),
        "equal": first.weights_digest == second.weights_digest,
        "weights_digests": [first.weights_digest, second.weights_digest],
        "differences": {name: list(values) for name, values in differences(first, second).items()},
    }


def print_comparison(first: training_pb2.TrainingJob, second: training_pb2.TrainingJob) -> None:
    """The comparison for people."""
    if not second.weights_digest:
        console.print(f"job {second.id} {state_name(second)} {second.error_message}", markup=False, highlight=False)
        return
    for job in (first, second):
        console.print(f"job {job.id}  weights {job.weights_digest}", highlight=False, soft_wrap=True)
    if first.weights_digest == second.weights_digest:
        console.print("[green]equal to the last bit[/]")
        return
    console.print("[red]not equal[/]")
    found = differences(first, second)
    for name, (then, now) in found.items():
        console.print(f"  {name}: {then or 'none'} then, {now or 'none'} now", markup=False, highlight=False)
    if not found:
        console.print("  although data, libraries and threads are the same")
