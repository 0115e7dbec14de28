"""`weightcast demo`: the main job from beginning to end on real data, and a verdict on each of its promises.

It starts everything, trains, publishes, classifies the whole test set by RPC, and then publishes a second version while
requests keep flowing. The exit code is 0 only if every promise held.
"""

import time
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import typer
from rich.table import Table

from client.cli.classifying import BATCH_ROWS, classify_in_batches, draw_mistakes
from client.cli.confusion import confusion_table, counts_of
from client.cli.options import Exit, console
from client.cli.watching import watch
from client.errors import RpcError
from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.traffic import Tally, Traffic
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

MODEL = "demo"
EPOCHS = {"mnist": 8, "digits": 40}
LEAST_ACCURACY = {"mnist": 0.97, "digits": 0.94}
DOWNLOAD_SECONDS = 300.0
SWAP_SECONDS = 10.0
AFTER_SWAP_SECONDS = 0.5
PAUSE_SECONDS = 0.01  # between a caller's requests, so that training gets its share of a small machine
SAME_ACCURACY = 0.001  # another order of additions may turn an example whose two best classes are equally likely


@dataclass
class Verdict:
    """What was promised, and whether it held."""

    rows: list[tuple[str, bool, str]] = field(default_factory=list)

    def note(self, promise: str, held: bool, found: str) -> None:
        """Adds one promise."""
        self.rows.append((promise, held, found))

    @property
    def held(self) -> bool:
        """Whether every promise did."""
        return all(held for _, held, _ in self.rows)

    def table(self) -> Table:
        """The promises for people."""
        table = Table(title="What held", title_justify="left")
        for heading in ("", "promise", "found"):
            table.add_column(heading)
        for promise, held, found in self.rows:
            table.add_row("[green]✓[/]" if held else "[red]✗[/]", promise, found)
        return table


def demo(
    dataset: Annotated[
        Literal["mnist", "digits"] | None, typer.Option(help="mnist or digits; mnist where it can be had.")
    ] = None,
) -> None:
    """Trains, serves, classifies and hot-swaps on this machine; exits 0 only if all of it held."""
    verdict = Verdict()
    started = time.monotonic()
    console.rule("1. Redis, the trainer service and the inference service, as processes")
    with LocalStack() as stack:
        console.print(f"trainer {stack.trainer.address}, inference {stack.inference.address}", highlight=False)
        console.print(f"logs    {stack.folder}", highlight=False)
        with TrainerClient(stack.trainer.address) as trainer, InferenceClient(stack.inference.address) as inference:
            chosen = dataset or available_dataset(trainer)
            first_version(trainer, inference, chosen, verdict)
            if verdict.held:
                second_version(trainer, stack.inference.address, chosen, verdict)
    console.rule("Verdict")
    console.print(verdict.table())
    console.print(f"{time.monotonic() - started:.0f} s in all", highlight=False)
    if not verdict.held:
        raise typer.Exit(Exit.FAILED)


def available_dataset(trainer: TrainerClient) -> str:
    """MNIST; digits only where MNIST is neither here nor can be downloaded."""
    with console.status("looking for MNIST; the first time, it is downloaded"):
        try:
            trainer.dataset("mnist", timeout=DOWNLOAD_SECONDS)
        except RpcError as error:
            if error.reason != "DATASET_UNREACHABLE":
                raise
        else:
            return "mnist"
    console.print(
        "MNIST cannot be downloaded here and WEIGHTCAST_DATA_DIR is not set, so this runs on [bold]digits[/], "
        "the small data set inside scikit-learn."
    )
    return "digits"


def train(trainer: TrainerClient, dataset: str, seed: int) -> training_pb2.TrainingJob:
    """Trains by RPC, watched, and returns the ended job."""
    spec = training_pb2.TrainingSpec(model=MODEL, dataset=dataset, epochs=EPOCHS[dataset], seed=seed)
    return watch(trainer.watch(trainer.create_job(spec).id), console)


def first_version(trainer: TrainerClient, inference: InferenceClient, dataset: str, verdict: Verdict) -> None:
    """Trains version 1, waits until it is served, and classifies the whole test set with it."""
    console.rule(f"2. A training job on {dataset}, by RPC")
    job = train(trainer, dataset, seed=1)
    verdict.note("a job trains and publishes version 1", job.version == 1, job.error_message or f"job {job.id}")
    if not job.version:
        return
    inference.wait_for_version(MODEL, 1, SWAP_SECONDS)

    console.rule("3. The whole test set, classified by RPC in batches")
    examples, truth = trainer.examples(dataset)
    started = time.perf_counter()
    answers, _ = classify_in_batches(inference, MODEL, "live", examples)
    seconds = time.perf_counter() - started
    predicted = np.concatenate([answer.class_ids[:, 0] for answer in answers])
    accuracy, measured = float((predicted == truth).mean()), job.epochs[-1].test_accuracy
    labels = answers[0].class_labels
    console.print(confusion_table(counts_of(truth, predicted, len(labels)), labels, console.width))
    draw_mistakes(examples, truth, predicted, labels)
    console.print(
        f"{len(truth):,} examples in {len(answers)} requests of up to {BATCH_ROWS} rows: {seconds:.2f} s",
        highlight=False,
    )
    least = LEAST_ACCURACY[dataset]
    verdict.note(f"test accuracy by RPC is at least {least:.0%}", accuracy >= least, f"{accuracy:.2%}")
    same = abs(accuracy - measured) <= SAME_ACCURACY
    verdict.note("it is the accuracy that the trainer measured", same, f"{measured:.2%} there")


def second_version(trainer: TrainerClient, inference_address: str, dataset: str, verdict: Verdict) -> None:
    """Trains and publishes version 2 while requests keep flowing, and looks at every answer."""
    console.rule("4. A second version, published while requests keep flowing")
    examples, _ = trainer.examples(dataset)
    with Traffic(inference_address, MODEL, examples, pause_seconds=PAUSE_SECONDS) as traffic:
        job = train(trainer, dataset, seed=2)
        verdict.note("a second job publishes version 2", job.version == 2, job.error_message or f"job {job.id}")  # noqa: PLR2004
        if not job.version:
            return
        published = trainer.version(MODEL, job.version)
        first_answer = traffic.wait_for_version(job.version, SWAP_SECONDS)
        time.sleep(AFTER_SWAP_SECONDS)
    tally = traffic.tally
    delay = first_answer - published.publish_time.ToNanoseconds() / 1e9
    digests = {number: {trainer.version(MODEL, number).digest} for number in tally.digests}
    verdict.note("no request fails during the swap", not tally.failures, failures(tally))
    verdict.note("every answer is of one published version", tally.digests == digests, f"versions {sorted(digests)}")
    verdict.note("no caller goes back to the older version", tally.went_back == 0, f"{tally.went_back} did")
    verdict.note("the new version answers within a second", delay < 1, f"{delay * 1000:.0f} ms after it was published")


def failures(tally: Tally) -> str:
    """How many requests failed, and the first reason."""
    first = f": {tally.failures[0]}" if tally.failures else ""
    return f"{len(tally.failures)} of {tally.requests:,}{first}"
