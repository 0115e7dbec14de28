"""The product as an operator gets it: images built, brought up by docker compose, used through the published ports.

Nothing is replaced: real containers, a real Redis on a volume, and a client that knows two addresses.
"""
# ruff: noqa: T201 - what it prints is what a CI log shows

import json
import os
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from client import InferenceClient, Prediction, RpcError, TrainerClient
from client.trainer_client import FINAL_STATES
from shared.health_probe import why_not_serving
from shared.pb.weightcast.v1.training_pb2 import DenseNetwork, TrainingAttempt, TrainingJob, TrainingSpec
from shared.settings import InferenceSettings, TrainerSettings

pytestmark = pytest.mark.timeout(1200)  # the first build downloads every dependency

REPOSITORY = Path(__file__).parents[2]
DATA_DIR = Path(os.environ.get("WEIGHTCAST_DATA_DIR") or REPOSITORY.parent / "shared" / "data").resolve()
HAS_MNIST = (DATA_DIR / "mnist").is_dir()
MODEL = "compose"
SERVICES = {"redis", "trainer", "inference"}
PORT_FILES = {"WEIGHTCAST_PORT_FILE", "WEIGHTCAST_METRICS_PORT_FILE"}


class Deployment:
    """One compose project of its own, whose ports Docker picks."""

    def __init__(self) -> None:
        self._project = f"weightcast-test-{uuid.uuid4().hex[:8]}"
        own = {name: value for name, value in os.environ.items() if not name.startswith(("WEIGHTCAST_", "COMPOSE_"))}
        self._environment = own | {f"WEIGHTCAST_{name}_PORT": "0" for name in ("TRAINER", "INFERENCE", "METRICS")}
        if HAS_MNIST:
            self._environment["WEIGHTCAST_DATA_DIR"] = str(DATA_DIR)

    def command(self, *arguments: str) -> list[str]:
        """A docker compose command for this project, deaf to the developer's .env."""
        return ["docker", "compose", "--project-name", self._project, "--env-file", os.devnull, *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begins a docker compose command; what it prints goes where the test prints."""
        print("$ docker compose", *arguments, flush=True)
        return subprocess.Popen(
            self.command(*arguments), cwd=REPOSITORY, env=self._environment, stdin=subprocess.DEVNULL
        )

    def set(self, name: str, value: str) -> None:
        """Sets a variable for the commands that follow."""
        self._environment[name] = value

    def run(self, *arguments: str) -> None:
        """Runs a docker compose command that must succeed."""
        code = self.start(*arguments).wait()
        assert code == 0, f"docker compose {' '.join(arguments)} ended with {code}"

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a docker compose command for its exit code and what it prints."""
        return subprocess.run(
            self.command(*arguments),
            cwd=REPOSITORY,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def address(self, service: str, port: int) -> str:
        """Where a service's port is published on this machine."""
        return self.ask("port", service, str(port)).stdout.strip()

    def inside(self, service: str, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command in a service's container, as the service's own user unless told otherwise."""
        return self.ask("exec", "-T", *(("--user", user) if user else ()), service, *command)


@dataclass(frozen=True, eq=False)
class Published:
    """A version that a training job published, and what it was asked afterwards."""

    job: TrainingJob
    examples: npt.NDArray[np.uint8 | np.float32]
    class_ids: npt.NDArray[np.int64]


def missing_docker() -> str | None:
    """Why docker compose cannot be used here, or None if it can."""
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "there is no docker on PATH"
        if done.returncode != 0:
            return f"`{' '.join(command)}` failed: {done.stderr.strip()}"
    return None


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Returns when `holds` does; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """The whole product from nothing, and nothing left of it afterwards."""
    if reason := missing_docker():
        if os.environ.get("CI"):
            pytest.fail(f"CI must run this test, but {reason}")
        pytest.skip(reason)
    running = Deployment()
    came_up = False
    try:
        started = time.monotonic()
        running.run("up", "--build", "--wait")
        came_up = True
        print(f"up after {time.monotonic() - started:.1f} s")
        yield running
    finally:
        if not came_up or request.session.testsfailed:
            running.start("logs", "--no-color", "--tail=200").wait()
        running.run("--profile", "workers", "down", "--volumes", "--rmi", "local")


@pytest.fixture(scope="module")
def trainer(deployment: Deployment) -> Iterator[TrainerClient]:
    """A client of the trainer's published port."""
    with TrainerClient(deployment.address("trainer", 50051)) as client:
        yield client


@pytest.fixture(scope="module")
def inference(deployment: Deployment) -> Iterator[InferenceClient]:
    """A client of the inference service's published port that takes the first refusal for an answer."""
    with InferenceClient(deployment.address("inference", 50052), retry=False) as client:
        yield client


def train(trainer: TrainerClient, seed: int) -> TrainingJob:
    """Trains and watches: MNIST if it is at hand, else digits."""
    dataset, epochs = ("mnist", 2) if HAS_MNIST else ("digits", 20)
    job = trainer.create_job(TrainingSpec(model=MODEL, dataset=dataset, epochs=epochs, seed=seed))
    print(f"job {job.id}: {epochs} epochs of {dataset}")
    for event in trainer.watch(job.id):
        if event.HasField("epoch"):
            epoch = event.epoch
            print(
                f"  epoch {epoch.epoch}: train loss {epoch.train_loss:.4f}, test accuracy {epoch.test_accuracy:.4f}, "
                f"{epoch.samples_per_second:,.0f} samples/s"
            )
        elif event.HasField("job"):
            job = event.job
            print(f"  {TrainingJob.State.Name(job.state)} {job.error_message}")
    assert job.state in FINAL_STATES
    assert job.state == TrainingJob.STATE_SUCCEEDED
    assert [epoch.epoch for epoch in job.epochs] == list(range(1, epochs + 1))
    return job


def check_answers(inference: InferenceClient, published: Published) -> Prediction:
    """Classifies the whole test split by the version, which must be as good as training said it is."""
    answer = inference.classify(MODEL, published.examples)
    right = int((answer.class_ids[:, 0] == published.class_ids).sum())
    accuracy = right / len(published.class_ids)
    print(f"  {right} of {len(published.class_ids)} test examples right ({accuracy:.2%}) by version {answer.version}")
    assert accuracy > 0.93
    # Trainer and inference compute in batches of their own; a tie may fall the other way by a rounding error.
    assert accuracy == pytest.approx(published.job.epochs[-1].test_accuracy, abs=0.0005)
    assert (answer.version, answer.digest) == (published.job.version, published.job.digest)
    return answer


@pytest.fixture(scope="module")
def first(trainer: TrainerClient, inference: InferenceClient) -> Published:
    """The first version, trained through the published port and served."""
    job = train(trainer, seed=1)
    assert job.version == 1
    examples, class_ids = trainer.examples(job.spec.dataset)
    wait_until("version 1 is served", lambda: served_version(inference) == 1)
    return Published(job, examples, class_ids)


def served_version(inference: InferenceClient) -> int:
    """The number of the version that answers; 0 while the service does not know the model."""
    try:
        return inference.status(MODEL).live.version
    except RpcError as error:
        if error.reason in {"NO_MODEL_YET", "MODEL_NOT_FOUND"}:
            return 0
        raise


def test_from_nothing_both_live_and_only_the_trainer_ready(deployment: Deployment) -> None:
    """Before anything was published inference is alive and not ready, and the probe's exit code says so."""
    probe = ("python", "-m", "shared.health_probe")
    assert deployment.inside("trainer", *probe, "127.0.0.1:50051").returncode == 0
    assert deployment.inside("inference", *probe, "127.0.0.1:50052", "--service", "liveness").returncode == 0
    for arguments, reason in (
        (["127.0.0.1:50052"], "127.0.0.1:50052 says NOT_SERVING for ''\n"),
        (["127.0.0.1:50052", "--service", "models/x"], "127.0.0.1:50052 has no health check named 'models/x'\n"),
        (["127.0.0.1:9"], "127.0.0.1:9 gave no answer: UNAVAILABLE"),
    ):
        answer = deployment.inside("inference", *probe, *arguments)
        assert answer.returncode == 1
        assert answer.stderr.startswith(reason)
        assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_containers_are_confined(deployment: Deployment, service: str) -> None:
    """No process is root or may become it, and not even root could write to the root file system."""
    status = deployment.inside(service, "sh", "-c", "cat /proc/[0-9]*/status").stdout
    facts = [line.split() for line in status.splitlines()]
    assert "0" not in {uid for fact in facts if fact[0] == "Uid:" for uid in fact[1:]}
    assert {int(fact[1], 16) for fact in facts if fact[0] in {"CapEff:", "CapBnd:"}} == {0}
    assert {fact[1] for fact in facts if fact[0] == "NoNewPrivs:"} == {"1"}
    written = deployment.inside(service, "touch", "/probe", user="0")
    assert written.returncode != 0
    assert "Read-only file system" in written.stderr


def test_the_trainer_can_keep_what_it_downloads(deployment: Deployment) -> None:
    """The cache is a volume that the service's own user may write, and its code is not writable."""
    assert deployment.inside("trainer", "touch", "/cache/probe").returncode == 0
    assert deployment.inside("trainer", "stat", "--format", "%u %a", "/app", "/venv").stdout == "0 755\n0 755\n"


@pytest.mark.parametrize(
    ("service", "absent"),
    [
        ("trainer", ("pip", "matplotlib", "inference_service", "client")),
        ("inference", ("pip", "sklearn", "scipy", "rq", "pooch", "trainer_service", "client")),
    ],
)
def test_images_carry_only_what_their_service_needs(
    deployment: Deployment, service: str, absent: tuple[str, ...]
) -> None:
    """Neither image holds the other's packages."""
    script = f"import importlib.util as u; print([name for name in {absent} if u.find_spec(name)])"
    assert deployment.inside(service, "python", "-c", script).stdout == "[]\n"


def test_every_setting_can_be_given(deployment: Deployment) -> None:
    """A setting that a service reads can be given to its container, or is fixed there on purpose."""
    services = json.loads(deployment.ask("config", "--format", "json").stdout)["services"]
    assert set(services) == SERVICES
    for service, settings in (("trainer", TrainerSettings), ("inference", InferenceSettings)):
        fields = {f"WEIGHTCAST_{name.upper()}" for name in settings.model_fields} - PORT_FILES
        assert set(services[service]["environment"]) == fields


def test_trains_and_classifies_through_published_ports(
    deployment: Deployment, inference: InferenceClient, first: Published
) -> None:
    """What was trained in one container answers from the other, as accurate as training said; now it is ready."""
    check_answers(inference, first)
    for name in ("", f"models/{MODEL}"):
        assert why_not_serving(deployment.address("inference", 50052), name, 2.0) is None


def test_without_redis_what_is_loaded_goes_on_answering(
    deployment: Deployment, inference: InferenceClient, first: Published
) -> None:
    """With Redis stopped inference answers as before and says what it lacks; the trainer is no longer ready."""
    trainer_address = deployment.address("trainer", 50051)
    deployment.run("stop", "redis")
    wait_until("inference misses Redis", lambda: not inference.status(MODEL).store_reachable)
    wait_until("the trainer misses Redis", lambda: why_not_serving(trainer_address, "", 2.0) is not None)
    assert why_not_serving(trainer_address, "liveness", 2.0) is None
    check_answers(inference, first)
    deployment.run("start", "redis")
    wait_until("inference reaches Redis again", lambda: inference.status(MODEL).store_reachable)
    wait_until("the trainer reaches Redis again", lambda: why_not_serving(trainer_address, "", 2.0) is None)


def test_metrics_are_published(deployment: Deployment, first: Published) -> None:
    """On a port of their own, in Prometheus' words."""
    with urllib.request.urlopen(f"http://{deployment.address('inference', 50053)}/metrics", timeout=5) as answer:
        assert f'weightcast_model_version{{model="{MODEL}"}} ' in answer.read().decode()


def test_redis_restarts_without_a_failed_request_or_a_lost_version(
    deployment: Deployment, trainer: TrainerClient, inference: InferenceClient, first: Published
) -> None:
    """While Redis restarts no request fails, afterwards the versions are still there and the next one arrives."""
    before = check_answers(inference, first)
    restart, requests = deployment.start("restart", "redis"), 0
    while restart.poll() is None:
        answer = inference.classify(MODEL, first.examples[:100])
        np.testing.assert_array_equal(answer.class_ids, before.class_ids[:100])
        requests += 1
    assert restart.returncode == 0
    check_answers(inference, first)
    print(f"  {requests} requests during the restart, none failed")
    assert requests > 0

    address = deployment.address("trainer", 50051)
    wait_until("the trainer reaches Redis again", lambda: why_not_serving(address, "", 2.0) is None)
    assert [version.digest for version in trainer.versions(MODEL, 10)] == [first.job.digest]

    second = train(trainer, seed=2)
    assert second.version == 2
    wait_until("version 2 is served", lambda: served_version(inference) == 2)
    check_answers(inference, Published(second, first.examples, first.class_ids))


def test_two_worker_hosts_share_the_jobs_and_outlive_each_other(deployment: Deployment) -> None:
    """With no worker beside the trainer, two in their own containers take the jobs; one killed, the other goes on."""
    deployment.set("WEIGHTCAST_TRAINER_WORKERS", "0")
    deployment.run("--profile", "workers", "up", "--wait", "--scale", "worker=2")
    spec = TrainingSpec(model="first", dataset="digits", epochs=1000, network=DenseNetwork(hidden_layer_sizes=[1024]))
    with TrainerClient(deployment.address("trainer", 50051)) as trainer:
        jobs = [trainer.create_job(spec).id]
        spec.model = "second"
        jobs.append(trainer.create_job(spec).id)
        wait_until("both jobs run", lambda: all(trainer.job(job_id).epochs for job_id in jobs))
        hosts = [trainer.job(job_id).attempts[0].worker.partition(":")[0] for job_id in jobs]
        assert len(set(hosts)) == 2
        trainer.cancel(jobs[1])
        subprocess.run(["docker", "kill", hosts[0]], check=True, capture_output=True)
        killed = time.monotonic()
        # An attempt is recorded as it begins, and says what it resumed from once the checkpoint is loaded.
        wait_until("the other host goes on", lambda: trainer.job(jobs[0]).attempts[-1].resumed_update > 0)
        print(f"  resumed {time.monotonic() - killed:.1f} s after its host was killed")
        first, second = trainer.job(jobs[0]).attempts
        assert first.outcome == TrainingAttempt.OUTCOME_DIED
        assert second.worker.startswith(f"{hosts[1]}:")
        trainer.cancel(jobs[0])
        assert trainer.wait(jobs[0]).state == TrainingJob.STATE_CANCELLED


def test_services_stop_in_order_when_asked(deployment: Deployment) -> None:
    """SIGTERM reaches both services and they end by themselves, long before Docker would end them."""
    started = time.monotonic()
    deployment.run("stop", "trainer", "inference")
    seconds = time.monotonic() - started
    lines = deployment.ask("ps", "--all", "--format", "{{.Service}} {{.ExitCode}}", "trainer", "inference").stdout
    assert sorted(lines.splitlines()) == ["inference 0", "trainer 0"]
    assert seconds < 10


def test_inference_starts_without_redis(deployment: Deployment) -> None:
    """With what its volume has kept: it answers by version 2, and says that nobody has confirmed it since."""
    deployment.run("stop", "redis")
    deployment.run("up", "--detach", "--no-deps", "inference")  # `start` would start Redis again
    address = deployment.address("inference", 50052)
    wait_until("inference is ready", lambda: why_not_serving(address, "", 2.0) is None)
    with InferenceClient(address, retry=False) as client:
        status = client.status(MODEL)
        assert (status.live.version, status.restored, status.store_reachable) == (2, True, False)
        assert status.store_lost_time.ToSeconds() > 0
        assert client.classify(MODEL, np.zeros((1, *status.preprocessing.input_shape), np.uint8)).version == 2
