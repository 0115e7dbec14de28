"""What was counted as Prometheus' metrics, made when somebody asks: what they mean, and who gives them out.

Each is of all processes that answer on the port together, unless its text says otherwise. A counter also has in it what
processes counted that have ended.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from inference_service.metrics import counted
from inference_service.metrics.families import COUNTED, NANOSECOND, texts
from inference_service.metrics.totals import Reading
from inference_service.product import NAME, product_version

MILLISECOND = 1e-3  # in seconds


def gauge(name: str, text: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    """A gauge without a value yet."""
    return GaugeMetricFamily(f"{NAME}_{name}", text, labels=labels)


def counter(name: str, text: str, labels: Sequence[str]) -> CounterMetricFamily:
    """A counter without a value yet."""
    return CounterMetricFamily(f"{NAME}_{name}", text, labels=labels)


def requests_of(reading: Reading) -> Metric:
    """The requests by method and code: what the histogram of their durations counts, without its buckets."""
    metric = counter("requests", "Requests that came to an end, by gRPC code.", ("method", "code"))
    for labels, (_, *buckets) in sorted(reading.sums(counted.REQUESTS).items()):
        metric.add_metric(texts(labels), sum(buckets))
    return metric


def load_of(reading: Reading) -> Iterator[Metric]:
    """What is to do."""
    said = reading.gauges(counted.LOAD).get((), [])
    metrics = (
        gauge("queue_depth", "Requests that wait to be computed."),
        gauge("requests_in_flight", "Requests that were accepted and not answered yet, those that wait included."),
        gauge("waiting_bytes", "Bytes held by requests that wait for a thread."),
    )
    for cell, metric in enumerate(metrics):
        metric.add_metric((), sum(cells[cell] for cells in said))
    yield from metrics


def served_of(reading: Reading, now: float) -> Iterator[Metric]:
    """By which version each model answers."""
    version = gauge("model_version", "The version that answers; while processes differ, the lowest.", ("model",))
    age = gauge("model_version_age_seconds", "Time since that version was published.", ("model",))
    for labels, said in sorted(reading.gauges(counted.SERVED).items()):
        lowest, publish_ms = min(said, key=itemgetter(0))
        version.add_metric(texts(labels), lowest)
        age.add_metric(texts(labels), max(0.0, now - publish_ms * MILLISECOND))
    yield from (version, age)


def store_of(reading: Reading) -> Metric:
    """Whether the store answers."""
    metric = gauge("store_reachable", "1 if the store answered every process when last asked, otherwise 0.")
    for said in reading.gauges(counted.STORE).values():
        metric.add_metric((), min(cells[0] for cells in said))
    return metric


def rollouts_of(reading: Reading) -> Iterator[Metric]:
    """What came of rollouts."""
    labels = ("model", "version", "mode")
    by_role = (
        counter("rollout_requests", "Requests of models in a rollout, by who computed them.", (*labels, "role")),
        counter("rollout_rows", "Rows in those requests.", (*labels, "role")),
        counter(
            "rollout_compute_seconds",
            "Time of their products, each counted for every request in it.",
            (*labels, "role"),
        ),
    )
    of_both = (
        counter("rollout_compared_rows", "Rows that the live version and the candidate have both classified.", labels),
        counter("rollout_agreed_rows", "Of those, the rows for which both chose the same class.", labels),
        counter("rollout_dropped_requests", "Requests that were not compared, for others would have waited.", labels),
    )
    for key, totals in counted.rollouts_in(reading).items():
        for role, role_totals in (("live", totals.live), ("candidate", totals.candidate)):
            requests, rows, compute_ns = role_totals
            for metric, value in zip(by_role, (requests, rows, compute_ns * NANOSECOND), strict=True):
                metric.add_metric((*texts(key), role), value)
        for metric, value in zip(
            of_both, (totals.compared_rows, totals.agreed_rows, totals.dropped_requests), strict=True
        ):
            metric.add_metric(texts(key), value)
    yield from (*by_role, *of_both)


def processes_of(pids: Iterable[tuple[int, int]]) -> Iterator[Metric]:
    """What the system says of each process: CPU time, memory, open files."""
    metrics: dict[str, Metric] = {}
    for number, pid in pids:
        with suppress(ValueError):  # the system says it in another way than is known
            for found in ProcessCollector(NAME, partial(int, pid), registry=None).collect():
                text = f"{found.documentation.removesuffix('.')}, by process."
                metric = metrics.setdefault(found.name, Metric(found.name, text, found.type))
                for sample in found.samples:
                    metric.add_sample(sample.name, {"process": str(number)}, sample.value)
    yield from metrics.values()


class MetricsCollector(Collector):
    """Makes the metrics from what `read` gives; `processes` says how many answer."""

    def __init__(self, read: Callable[[], Reading], processes: Callable[[], int]) -> None:
        self._read = read
        self._processes = processes
        self._build = {"version": product_version(), "python": platform.python_version()}

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield from self._metrics(self._read(), self._processes())

    def describe(self) -> Iterator[Metric]:
        """The metrics without values."""
        yield from self._metrics(Reading({}), 0)

    def _metrics(self, reading: Reading, processes: int) -> Iterator[Metric]:
        yield requests_of(reading)
        yield from (each.metric(reading) for each in COUNTED)
        yield from load_of(reading)
        yield from served_of(reading, time.time())
        yield store_of(reading)
        yield from rollouts_of(reading)
        answering = gauge("processes", "Processes that answer.")
        answering.add_metric((), processes)
        yield answering
        build = gauge("build_info", "Always 1; the labels say what runs here.", tuple(self._build))
        build.add_metric(tuple(self._build.values()), 1)
        yield build
        yield from processes_of(reading.pids)
