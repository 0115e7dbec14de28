"""Prometheus' metrics that are what was counted, and no more: which cells of which series each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric

from inference_service.metrics import counted
from inference_service.metrics.counters import Family, Labels
from inference_service.metrics.totals import Reading
from inference_service.product import NAME

NANOSECOND = 1e-9  # in seconds


@dataclass(frozen=True)
class Counter:
    """A metric that is one cell of a family's series, times `unit`."""

    name: str
    text: str
    labels: tuple[str, ...]
    family: Family
    cell: int
    unit: float = 1

    def metric(self, reading: Reading) -> Metric:
        """What it is now."""
        metric = CounterMetricFamily(f"{NAME}_{self.name}", self.text, labels=self.labels)
        for labels, cells in sorted(reading.sums(self.family).items()):
            metric.add_metric(texts(labels), cells[self.cell] * self.unit)
        return metric


@dataclass(frozen=True)
class Histogram:
    """A metric that is a family whose cells are a sum, times `unit`, and the buckets that end at `ends`."""

    name: str
    text: str
    labels: tuple[str, ...]
    family: Family
    ends: Sequence[float]
    unit: float = 1

    def metric(self, reading: Reading) -> Metric:
        """What it is now."""
        metric = HistogramMetricFamily(f"{NAME}_{self.name}", self.text, labels=self.labels)
        ends = [*(str(float(end)) for end in self.ends[:-1]), "+Inf"]
        for labels, (total, *buckets) in sorted(reading.sums(self.family).items()):
            counts = zip(ends, accumulate(buckets), strict=True)
            metric.add_metric(texts(labels), [(end, float(count)) for end, count in counts], total * self.unit)
        return metric


COUNTED: tuple[Counter | Histogram, ...] = (
    Histogram(
        "request_duration_seconds",
        "How long requests took, from when a message had come to when its answer was handed over, by gRPC code.",
        ("method", "code"),
        counted.REQUESTS,
        counted.DURATIONS,
        NANOSECOND,
    ),
    Histogram(
        "request_rows",
        "Rows of the requests that were answered.",
        ("method",),
        counted.REQUEST_ROWS,
        counted.ROW_COUNTS,
    ),
    Histogram(
        "product_rows",
        "Rows that were classified by one matrix product; requests that arrive together share one.",
        (),
        counted.PRODUCT_ROWS,
        counted.ROW_COUNTS,
    ),
    Counter(
        "model_requests",
        "Requests that versions of a model answered.",
        ("model",),
        counted.MODELS,
        counted.MODEL_REQUESTS,
    ),
    Counter(
        "model_request_failures",
        "Requests that a version of a model was found for and did not answer.",
        ("model",),
        counted.MODELS,
        counted.MODEL_FAILURES,
    ),
    Counter("rows", "Rows that versions of a model classified.", ("model",), counted.MODELS, counted.MODEL_ROWS),
    Counter(
        "model_product_seconds",
        "Time that was spent in a model's matrix products.",
        ("model",),
        counted.MODELS,
        counted.MODEL_PRODUCT_NS,
        NANOSECOND,
    ),
    Counter(
        "model_swaps",
        "Times that a process began to answer by another version, its first included.",
        ("model",),
        counted.MODELS,
        counted.MODEL_SWAPS,
    ),
    Counter(
        "model_load_failures",
        "Attempts to load a version that failed, in any process, by the reason that GetModelStatus tells.",
        ("model", "reason"),
        counted.LOAD_FAILURES,
        0,
    ),
    Histogram(
        "publish_to_serve_seconds",
        "Time from when a version was published to when a process answered by it.",
        ("model",),
        counted.PUBLISHED,
        counted.LONG_DURATIONS,
        NANOSECOND,
    ),
)


def texts(labels: Labels) -> list[str]:
    """Labels' values as text."""
    return [str(label) for label in labels]
