"""`weightcast bench`: how fast the inference service answers, at a given rate or for a given number of callers."""

import contextlib
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import typer

from client.channel import open_channel
from client.cli.bench_options import (
    Batch,
    Called,
    Connections,
    DatasetName,
    Dtype,
    Duration,
    ExpectedInterval,
    InFlight,
    MethodName,
    Model,
    Processes,
    Rate,
    Requests,
    Timeout,
    ValueType,
    Version,
)
from client.cli.bench_view import Show, result_dict
from client.cli.durations import DurationError, duration_of
from client.cli.models import selector
from client.cli.options import (
    INFERENCE,
    TRAINER,
    AsJson,
    Exit,
    InferenceAddress,
    TrainerAddress,
    errors,
    print_json,
)
from client.errors import RpcError, rpc_errors
from client.inference_client import InferenceClient
from client.load import batches
from client.load.figures import corrected
from client.load.generator import LoadError, LoadTest, Result
from client.load.methods import METHODS, Method, WrongAnswerError
from client.load.plan import Plan
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import inference_service_pb2 as pb

DEFAULT_SECONDS = 10.0
LONGEST = timedelta(days=1)
STOPPED = 130  # what a shell says of a command that Ctrl-C ended


def bench(
    model: Model,
    rate: Rate = None,
    connections: Connections = 4,
    in_flight: InFlight = 8,
    batch: Batch = 1,
    dtype: ValueType = None,
    method: Called = MethodName.CLASSIFY,
    duration: Duration = None,
    requests: Requests = None,
    processes: Processes = 1,
    timeout: Timeout = 10.0,
    expected_interval: ExpectedInterval = None,
    version: Version = "live",
    dataset: DatasetName = None,
    as_json: AsJson = False,
    inference: InferenceAddress = INFERENCE,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Loads the inference service and tells how fast it answered; exits 1 if a request failed."""
    if expected_interval is not None and rate is not None:
        raise typer.BadParameter("--expected-interval corrects a closed loop; with --rate there is nothing to correct")
    if processes > connections:
        raise typer.BadParameter(f"{processes} --processes need at least as many --connections, got {connections}")
    if requests is not None and requests < processes:
        raise typer.BadParameter(f"{processes} --processes need at least as many --requests, got {requests}")
    seconds = seconds_of(duration) if duration or requests is None else None
    plan = Plan(inference, method.value, batch, connections, in_flight, rate, seconds, requests, timeout)
    messages = [
        METHODS[plan.method].encode(request)
        for request in checked_requests(plan, model, selector(version), dtype, dataset, trainer)
    ]
    result = run(plan, messages, processes, model, quiet=as_json)
    show(result, model, expected_interval, as_json=as_json)


def seconds_of(text: str | None) -> float:
    """A duration in seconds, or the default."""
    if text is None:
        return DEFAULT_SECONDS
    try:
        found = duration_of(text)
    except DurationError as error:
        raise typer.BadParameter(f"--duration: {error}") from error
    if not timedelta() < found <= LONGEST:
        raise typer.BadParameter(f"--duration: got {text}, expected 1s to 1d")
    return found.total_seconds()


def checked_requests(
    plan: Plan, model: str, version: int | str, dtype: Dtype | None, dataset: str | None, trainer: str
) -> list[pb.ClassifyRequest]:
    """What is sent, after one request of it was answered.

    Raises:
        RpcError: with what the service has against it.
    """
    with InferenceClient(plan.address, timeout=plan.timeout, retry=False) as client:
        status = client.status(model)
        if plan.rows > status.max_batch_rows:  # before such a batch is made
            raise typer.BadParameter(
                f"--batch: got {plan.rows:,} rows, the service takes 1 to {status.max_batch_rows:,}"
            )
        preprocessing = status.preprocessing
        chosen = dtype or batches.usual_dtype(preprocessing)
        count = plan.rows * batches.batch_count(int(np.prod(preprocessing.input_shape)) * 4, plan.rows)
        if dataset is None:
            examples = batches.random_examples(preprocessing, count, chosen)
        else:
            with TrainerClient(trainer) as trainer_client:
                examples, _ = trainer_client.examples(dataset, count)
            if dtype and examples.dtype != dtype:
                raise typer.BadParameter(f"--dtype: the examples of {dataset} travel as {examples.dtype}")
        requests = batches.requests_of(model, version, examples, plan.rows)
    answer_one(plan, METHODS[plan.method], requests[0])
    return requests


def answer_one(plan: Plan, method: Method, request: pb.ClassifyRequest) -> None:
    """Has one request answered by the method that is to be measured.

    Raises:
        RpcError: if it is refused, or answered wrongly.
    """
    message = method.encode(request)
    with open_channel(plan.address, retry=False) as channel, rpc_errors():
        if method.streams:
            streaming: Any = channel.stream_stream(method.path)
            answer = next(iter(streaming(iter([message]), timeout=plan.timeout)), b"")
        else:
            unary: Any = channel.unary_unary(method.path)
            answer = unary(message, timeout=plan.timeout)
    try:
        method.version_of(answer, plan.rows)
    except WrongAnswerError as error:
        raise RpcError(grpc.StatusCode.INTERNAL, str(error)) from error


def run(plan: Plan, messages: list[bytes], processes: int, model: str, *, quiet: bool) -> Result:
    """Runs the load test with a table that follows it; Ctrl-C ends it and keeps what was seen."""
    try:
        with LoadTest(plan, messages, processes) as test:
            with contextlib.suppress(KeyboardInterrupt), Show(plan, model, quiet=quiet) as table:
                for progress in test:
                    table.follow(progress)
            return test.result()
    except LoadError as error:
        raise RpcError(grpc.StatusCode.UNAVAILABLE, str(error)) from error


def show(result: Result, model: str, expected_interval: float | None, *, as_json: bool) -> None:
    """Prints the result and ends with the exit code that says the same."""
    adjusted = None
    if expected_interval is not None:
        try:
            adjusted = corrected(result.figures.latencies, expected_interval / 1000)
        except ValueError as error:
            errors.print(f"--expected-interval: {error}", highlight=False, markup=False)
    if as_json:
        print_json(result_dict(result, model, adjusted))
    else:
        Show(result.plan, model, quiet=True).result(result, adjusted)
    if result.stopped:
        raise typer.Exit(STOPPED)
    if result.figures.failed or not result.figures.answered:
        raise typer.Exit(Exit.FAILED)
