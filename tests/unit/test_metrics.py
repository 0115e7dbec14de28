"""`/metrics`: what was counted, in Prometheus' format and after its conventions, for whoever asks for it properly."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from inference_service.metrics import server
from inference_service.metrics.collector import MetricsCollector
from inference_service.metrics.counters import Counters
from inference_service.metrics.server import MetricsServer
from inference_service.metrics.statistics import Statistics
from inference_service.metrics.totals import Totals, read, read_folder
from shared.settings import InferenceSettings

DOCS = Path(__file__).parents[2] / "docs"
NAME = "weightcast.v1.InferenceService/Classify"
SAMPLE_SUFFIX = re.compile(r"_(bucket|sum|count)$")
Figures = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own checks."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on PATH; it comes with Prometheus")
    return found


def count(statistics: Statistics, version: int = 3) -> None:
    """Something of everything."""
    classify = statistics.method(f"/{NAME}")
    classify.answered([0.001, 0.02], [1, 5])
    classify.failed(3, 0.0001)
    statistics.record("tiny", version, 2, 6, seconds_compute=0.25, seconds_queue=0.001)
    statistics.record_failure("tiny", version, 0.1)
    statistics.set_load(2, 5, 4096)
    statistics.swapped("tiny", version, datetime(2026, 1, 1, tzinfo=UTC), seconds=0.02)
    statistics.load_failed("tiny", "DIGEST_MISMATCH")
    statistics.store_contact(True)  # noqa: FBT003 - nothing else is said
    statistics.rollout_computed("tiny", 4, "shadow", "live", 2, 6, 0.25)
    statistics.rollout_computed("tiny", 4, "shadow", "candidate", 1, 5, 0.5)
    statistics.rollout_compared("tiny", 4, "shadow", 5, 4)
    statistics.rollout_dropped("tiny", 4, "shadow", 1)


def text_of(folder: Path) -> str:
    """What is told of the processes in a folder."""
    registry = CollectorRegistry()
    registry.register(MetricsCollector(partial(read_folder, folder), lambda: 2))
    return generate_latest(registry).decode()


def figures_in(text: str) -> Figures:
    """Each sample's value, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figure(figures: Figures, name: str, **labels: str) -> float:
    """One sample's value."""
    return figures[f"weightcast_{name}", frozenset(labels.items())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What two processes have counted, of which one answers by an older version and does not reach the store."""
    one, other = (Statistics(Counters(tmp_path, number)) for number in (1, 2))
    count(one)
    count(other, version=2)
    other.store_contact(False)  # noqa: FBT003 - nothing else is said
    return tmp_path


def test_promtool_has_nothing_to_say(folder: Path, promtool: str) -> None:
    """Names, units, types and help texts are after Prometheus' conventions; also where nothing was counted yet."""
    for text in (text_of(folder), text_of(folder / "empty")):
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_figures_are_those_of_all_processes(folder: Path) -> None:
    """Counters add up; of a version the lowest is told, of the store the worst."""
    figures = figures_in(text_of(folder))
    requests = partial(figure, figures, "requests_total", method=NAME)
    assert (requests(code="OK"), requests(code="INVALID_ARGUMENT")) == (4, 2)
    duration = partial(figure, figures, method=NAME, code="OK")
    assert duration("request_duration_seconds_sum") == pytest.approx(0.042)
    buckets = [duration("request_duration_seconds_bucket", le=end) for end in ("0.0005", "0.001", "0.025", "+Inf")]
    assert buckets == [0, 2, 4, 4]
    assert figure(figures, "request_rows_bucket", method=NAME, le="4.0") == 2
    assert figure(figures, "product_rows_sum") == 12
    model = partial(figure, figures, model="tiny")
    assert (model("model_requests_total"), model("model_request_failures_total"), model("rows_total")) == (4, 2, 12)
    assert model("model_product_seconds_total") == 0.5
    assert (model("model_swaps_total"), model("model_version")) == (2, 2)
    assert model("model_load_failures_total", reason="DIGEST_MISMATCH") == 2
    assert model("publish_to_serve_seconds_count") == 2
    age = time.time() - datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert model("model_version_age_seconds") == pytest.approx(age, abs=60)
    load = [figure(figures, name) for name in ("queue_depth", "requests_in_flight", "waiting_bytes")]
    assert load == [4, 10, 8192]
    assert (figure(figures, "store_reachable"), figure(figures, "processes")) == (0, 2)
    rollout = partial(model, version="4", mode="shadow")
    assert rollout("rollout_requests_total", role="live") == 4
    assert rollout("rollout_rows_total", role="candidate") == 10
    assert rollout("rollout_compute_seconds_total", role="live") == 1.0
    compared = [rollout(f"rollout_{name}_total") for name in ("compared_rows", "agreed_rows", "dropped_requests")]
    assert compared == [10, 8, 2]
    for process in ("1", "2"):
        assert figure(figures, "process_resident_memory_bytes", process=process) > 2**20


def test_an_ended_process_counts_and_says_nothing_more(folder: Path) -> None:
    """Its counts stay; its version, its load and its memory are gone."""
    before = figures_in(text_of(folder))
    Totals(folder).add(os.getpid())
    after = figures_in(text_of(folder))
    gone = {name for name, _ in before.keys() - after.keys()}
    assert {"weightcast_model_version", "weightcast_process_cpu_seconds_total", "weightcast_store_reachable"} <= gone
    assert [
        name for name in gone if name.endswith(("_total", "_bucket", "_count", "_sum")) and "process_" not in name
    ] == []
    assert {key: before[key] for key in after if key[0].endswith("_total")} == {
        key: value for key, value in after.items() if key[0].endswith("_total")
    }
    assert figure(after, "queue_depth") == 0


def described() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each metric's type and labels, as the documentation has them."""
    rows = re.findall(r"^\| `(weightcast_\w+)` \| (\w+) \| (.*?) ?\| ", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    return {name: (kind, tuple(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in rows}


def test_the_documentation_has_every_metric(folder: Path) -> None:
    """With its type and its labels, and none that is not there."""
    told = {}
    for family in text_string_to_metric_families(text_of(folder)):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        told[name] = (family.type, tuple(sorted(labels)))
    assert described() == told


def test_examples_ask_for_what_there_is(folder: Path) -> None:
    """Queries and alerts name no metric and no label value's key that is not told."""
    told = {name for name, _ in figures_in(text_of(folder))}
    for file in ("metrics.md", "alerts.yml"):
        asked = set(re.findall(r"weightcast_\w+", (DOCS / file).read_text())) - described().keys()
        assert asked - told == set()


def test_promtool_takes_the_examples(promtool: str, tmp_path: Path) -> None:
    """The alerts, and the configuration that names them."""
    shutil.copy(DOCS / "alerts.yml", tmp_path)
    (configuration,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "metrics.md").read_text(), re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(configuration)
    subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, timeout=30, check=True
    )


Start = Callable[..., MetricsServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server that tells what one process has counted, and writes its port to a file."""
    counters = Counters()
    count(Statistics(counters))
    started: list[MetricsServer] = []

    def starting(listen: str = "127.0.0.1:0") -> MetricsServer:
        settings = InferenceSettings(inference_metrics_listen=listen, metrics_port_file=tmp_path / "metrics.port")
        started.append(MetricsServer(settings))
        started[-1].start(partial(read, counters), lambda: 1)
        return started[-1]

    yield starting
    for each in started:
        each.stop()


def ask(
    port: int, path: str = "/metrics", method: str = "GET", host: str = "127.0.0.1", timeout: float = 20, **headers: str
) -> tuple[int, str]:
    """The status and the body of an answer."""
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def port_in(folder: Path) -> int:
    """The port that was written."""
    return int((folder / "metrics.port").read_text())


def test_a_scrape_gets_the_metrics(start: Start, tmp_path: Path) -> None:
    """In the old format or in OpenMetrics, whichever it asks for, and only those that it names if it does."""
    start()
    status, text = ask(port_in(tmp_path))
    assert status == 200
    assert figure(figures_in(text), "requests_total", method=NAME, code="OK") == 2
    _, text = ask(port_in(tmp_path), Accept="application/openmetrics-text; version=1.0.0")
    assert "weightcast_requests" in {family.name for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]
    _, text = ask(port_in(tmp_path), "/metrics?name[]=weightcast_rows_total")
    assert figures_in(text) == {("weightcast_rows_total", frozenset({("model", "tiny")})): 6}


def test_nothing_else_is_there(start: Start, tmp_path: Path) -> None:
    """No other path and no other method; HEAD has no body."""
    start()
    assert ask(port_in(tmp_path), method="HEAD") == (200, "")
    for path in ("/", "/metrics/", "/metrics2", "/favicon.ico"):
        assert ask(port_in(tmp_path), path)[0] == 404
    for method in ("POST", "PUT", "DELETE"):
        assert ask(port_in(tmp_path), method=method)[0] == 501


def test_it_is_found_under_an_address_of_ipv6(start: Start, tmp_path: Path) -> None:
    """And, where it is every address, under those of IPv4."""
    try:
        start("[::1]:0")
    except SystemExit:
        pytest.skip("this machine has no IPv6")
    assert ask(port_in(tmp_path), host="::1")[0] == 200
    start("[::]:0")
    assert ask(port_in(tmp_path), host="127.0.0.1")[0] == 200


def test_off_is_nowhere(start: Start, tmp_path: Path) -> None:
    """No port is taken and none is written."""
    start("off").stop()
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_ends_the_start() -> None:
    """The message names the setting and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemExit) as ended:
            MetricsServer(InferenceSettings(inference_metrics_listen=address))
    for word in ("WEIGHTCAST_INFERENCE_METRICS_LISTEN", address, "in use", "'off'"):
        assert word in str(ended.value.code)


def test_who_is_stuck_keeps_nobody_from_the_metrics(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many connections as are answered at a time, that say only half of it, are ended after a while."""
    monkeypatch.setattr(server, "LONGEST_SECONDS", 0.4)
    monkeypatch.setattr(server, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    start()
    stuck = [socket.create_connection(("127.0.0.1", port_in(tmp_path)), timeout=20) for _ in range(2)]
    for connection in stuck:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
    assert ask(port_in(tmp_path))[0] == 200
    for connection in stuck:
        assert connection.recv(1) == b""
        connection.close()


def test_no_more_are_answered_at_a_time_than_may_be(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes then waits until another has gone."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 1)
    start()
    stuck = socket.create_connection(("127.0.0.1", port_in(tmp_path)), timeout=20)
    with pytest.raises(TimeoutError):
        ask(port_in(tmp_path), timeout=0.2)
    stuck.close()
    assert ask(port_in(tmp_path))[0] == 200


def test_it_stops_at_once(start: Start, tmp_path: Path) -> None:
    """Also before anybody asked, and with the port free for another."""
    start().stop()
    port = port_in(tmp_path)
    with pytest.raises(ConnectionRefusedError):
        ask(port)
    start(f"127.0.0.1:{port}")
    assert ask(port)[0] == 200


def test_who_watches_over_processes_loads_neither_numpy_nor_grpc() -> None:
    """The supervisor tells the metrics too, and stays light."""
    asked = (
        "import sys, inference_service.members, inference_service.metrics.handler\n"
        "assert not {'numpy', 'grpc', 'redis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], timeout=30, check=True, cwd=DOCS.parent)
