"""The options of `weightcast bench`, each with what it means; what they default to stands with the command."""

from enum import StrEnum
from typing import Annotated

import typer


class Dtype(StrEnum):
    """How a value travels."""

    UINT8 = "uint8"
    FLOAT32 = "float32"


class MethodName(StrEnum):
    """What is called; each stands in METHODS."""

    CLASSIFY = "classify"
    STREAM = "stream"
    INFER = "infer"


Model = Annotated[str, typer.Argument(help="The model to ask.", metavar="MODEL")]
Rate = Annotated[
    float | None,
    typer.Option(
        help="Open loop: requests due each second, sent on time and counted from then, whatever the answers do. "
        "Without it, closed loop: each place sends its next request when its answer has come.",
        min=0.001,
        max=1e6,
    ),
]
Connections = Annotated[int, typer.Option(help="TCP connections.", min=1, max=1000)]
InFlight = Annotated[
    int,
    typer.Option(help="Requests under way at once on each connection; at most, in an open loop.", min=1, max=10_000),
]
Batch = Annotated[int, typer.Option(help="Rows in each request.", min=1)]
ValueType = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="How values travel; uint8 if not given, float32 for the rows of a table."),
]
Called = Annotated[
    MethodName,
    typer.Option(
        "--method",
        help="Classify; ClassifyStream, a stream on each connection; or the Open Inference Protocol's ModelInfer.",
    ),
]
Duration = Annotated[str | None, typer.Option(help="How long: 30s, 5m; 10s if nothing else ends it.")]
Requests = Annotated[int | None, typer.Option(help="How many requests, at most.", min=1)]
Processes = Annotated[
    int,
    typer.Option(
        help="Generating processes, which share the connections; more where one cannot keep up.", min=1, max=64
    ),
]
Timeout = Annotated[
    float,
    typer.Option(help="Seconds that a request may take, from when it was due.", min=0.001, max=3600),
]
ExpectedInterval = Annotated[
    float | None,
    typer.Option(
        help="Closed loop: milliseconds after which independent callers would have asked again; adds the latencies "
        "that they would have seen, as HdrHistogram does.",
        min=0.001,
    ),
]
Version = Annotated[str, typer.Option(help="A version's number or an alias.")]
DatasetName = Annotated[
    str | None,
    typer.Option("--dataset", help="Send this data set's test examples instead of random values."),
]
