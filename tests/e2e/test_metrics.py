"""`/metrics` of the running service: what clients were told is what is counted, whichever process answered, or died."""

import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from prometheus_client.parser import text_string_to_metric_families

from client.inference_client import tensor_of
from client.local_stack import LocalStack
from shared import snapshot_codec
from shared.model_version import Manifest, Provenance, SelfTest, StoredSnapshot
from shared.network import Architecture, Network
from shared.pb.inference import model_statistics_pb2
from shared.pb.inference.open_inference_service_pb2_grpc import GRPCInferenceServiceStub
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1.inference_service_pb2_grpc import InferenceServiceStub
from shared.preprocessing import Preprocessing
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from tests.e2e.inference_pids import inference_pids

Until = Callable[..., None]
MODEL = "counted"
SERVICE = "weightcast.v1.InferenceService"
ROWS = np.zeros((3, 4), np.uint8)
LISTEN = "WEIGHTCAST_INFERENCE_METRICS_LISTEN"
CODES = [code.name for code in grpc.StatusCode]
REQUESTS = {
    "OK": pb.ClassifyRequest(model=MODEL, tensor=tensor_of(ROWS)),
    "INVALID_ARGUMENT": pb.ClassifyRequest(model=MODEL, tensor=tensor_of(np.zeros((3, 5), np.uint8))),
    "NOT_FOUND": pb.ClassifyRequest(model="no-such-model", tensor=tensor_of(ROWS)),
}


def snapshot() -> StoredSnapshot:
    """A network of zeros."""
    architecture = Architecture.dense(4, (), 2)
    manifest = Manifest(
        model=MODEL,
        architecture=architecture,
        preprocessing=Preprocessing(input_shape=(4,), uint8_scale=1.0),
        class_labels=("no", "yes"),
        epochs=(),
        provenance=Provenance(TrainingSpec(MODEL, "made", 1), "job", "0" * 64, datetime.now(UTC), {}),
        self_test=SelfTest(ROWS, np.full((3, 2), 0.5, np.float32)),
    )
    return snapshot_codec.encode(manifest, Network(architecture, np.zeros(architecture.parameter_count, np.float32)))


class Service:
    """The inference service, what its clients were told, and what it says of that."""

    def __init__(self, stack: LocalStack, port_file: Path, processes: int) -> None:
        self.stack = stack
        self.processes = processes
        self.told: Counter[tuple[str, str]] = Counter()  # by method and code
        self._port_file = port_file

    def pids(self) -> set[int]:
        """The processes that answer."""
        return inference_pids(self.stack)

    def ask(self, times: int) -> None:
        """Asks for each kind of answer, each time by a connection of its own, and takes note of what came."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
        for _ in range(times):
            with grpc.insecure_channel(self.stack.inference.address, options) as channel:
                stub = InferenceServiceStub(channel)
                for code, request in REQUESTS.items():
                    assert self._outcome("Classify", partial(stub.Classify, request)) == code
                for model in (MODEL, "no-such-model"):
                    self._outcome("GetModelStatus", partial(stub.GetModelStatus, pb.GetModelStatusRequest(model=model)))

    @property
    def metrics_port(self) -> int:
        """Where `/metrics` is."""
        return int(self._port_file.read_text())

    def text(self) -> str:
        """What `/metrics` says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=20) as answer:
            return str(answer.read().decode())

    def figures(self) -> dict[tuple[str, frozenset[str]], float]:
        """That, by a metric's name and its labels' values."""
        return {
            (sample.name.removeprefix("weightcast_"), frozenset(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def figure(self, name: str, *labels: str) -> float:
        """One of those, 0 if it is not there."""
        return self.figures().get((name, frozenset(labels)), 0)

    def counted(self, name: str) -> dict[tuple[str, str], float]:
        """What a metric with method and code says of the methods that were called."""
        figures = self.figures()
        found = {
            (method, code): figures.get((name, frozenset({f"{SERVICE}/{method}", code})), 0)
            for method in {method for method, _ in self.told}
            for code in CODES
        }
        return {key: value for key, value in found.items() if value}

    def says_what_was_told(self) -> bool:
        """Whether exactly that was counted which clients were told."""
        answered = self.told["Classify", "OK"]
        return (
            self.counted("requests_total") == self.counted("request_duration_seconds_count") == self.told
            and self.figure("model_requests_total", MODEL) == answered
            and self.figure("rows_total", MODEL) == answered * len(ROWS)
            and self.figure("request_rows_sum", f"{SERVICE}/Classify") == answered * len(ROWS)
        )

    def _outcome(self, method: str, call: Callable[..., object]) -> str:
        code = "OK"
        try:
            call(timeout=20)
        except grpc.RpcError as error:
            code = str(error.code().name)
        self.told[method, code] += 1
        return code


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service as one process and as two, with a version that was published while they ran."""
    port_file = tmp_path_factory.mktemp("metrics") / "port"
    told = {
        "WEIGHTCAST_INFERENCE_PROCESSES": str(request.param),
        LISTEN: "127.0.0.1:0",
        "WEIGHTCAST_METRICS_PORT_FILE": str(port_file),
    }
    stack = LocalStack(told)
    stack.redis.start()
    try:
        stack.inference.start()
        stack.inference.wait_until("liveness")
        with closing(StoreConnection(stack.redis.url)) as connection:
            ModelStore(connection).publish(MODEL, snapshot(), "job")
        stack.inference.wait_until(f"models/{MODEL}")
        yield Service(stack, port_file, request.param)
    finally:
        stack.stop()
    stack.remove_files()


def test_what_clients_were_told_is_counted(service: Service, until: Until) -> None:
    """Every outcome once, by its method and code, with its rows and its duration."""
    service.ask(10)
    assert service.told["Classify", "NOT_FOUND"] == service.told["GetModelStatus", "OK"] == 10
    until(service.says_what_was_told, "the same figures")
    assert service.figure("model_request_failures_total", MODEL) == 10  # of wrong shape, when the version was known


def test_it_says_what_answers(service: Service, until: Until) -> None:
    """How many processes, by which version, and how soon after it was published."""
    assert service.figure("processes") == service.processes
    assert service.figure("model_version", MODEL) == service.figure("store_reachable") == 1
    assert 0 < service.figure("model_version_age_seconds", MODEL) < 3600
    until(lambda: service.figure("model_swaps_total", MODEL) == service.processes, "that all have swapped")
    assert service.figure("publish_to_serve_seconds_count", MODEL) == service.processes
    assert service.figure("requests_in_flight") == service.figure("queue_depth") == 0


def test_promtool_has_nothing_to_say(service: Service) -> None:
    """Of what the service tells when it runs."""
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not on PATH; it comes with Prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=service.text(), capture_output=True, text=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize("service", [2], indirect=True, ids=["two processes"])
def test_a_killed_process_takes_no_count_with_it(service: Service, until: Until) -> None:
    """Nor does the one that takes its place; and each says of each version what was asked of all."""
    killed, _ = before = service.pids()
    psutil.Process(killed).send_signal(signal.SIGKILL)
    until(lambda: killed not in service.pids() and len(service.pids()) == 2, "another process")
    assert service.says_what_was_told()
    until(lambda: service.figure("processes") == 2, "that it answers")
    assert service.says_what_was_told()
    assert service.pids() != before
    service.ask(20)
    until(service.says_what_was_told, "the same figures")
    for _ in range(8):
        with grpc.insecure_channel(service.stack.inference.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = GRPCInferenceServiceStub(channel)
            request = model_statistics_pb2.ModelStatisticsRequest(name=MODEL, version="1")
            (stats,) = stub.ModelStatistics(request, timeout=20).model_stats
        assert stats.inference_stats.success.count == service.told["Classify", "OK"]


def test_it_can_be_asked_until_the_end(service: Service) -> None:
    """And ends with the service, which ends well."""
    port = service.metrics_port
    assert service.stack.inference.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=20)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_that_is_taken_ends_the_start(processes: int) -> None:
    """Naming the setting, before anything is served."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = {
            LISTEN: address,
            "WEIGHTCAST_INFERENCE_LISTEN": "127.0.0.1:0",
            "WEIGHTCAST_INFERENCE_PROCESSES": str(processes),
        }
        result = subprocess.run(
            [sys.executable, "-m", "inference_service"],
            env=told,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert result.returncode == 1
    for word in (LISTEN, address, "in use"):
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert "listening" not in result.stdout
