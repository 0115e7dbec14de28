"""Jobs while everything around them dies: workers, their jobs' processes, the trainer service and Redis, at random.

Bounded, and repeatable by seed as far as processes are: the same kinds are killed in the same order after the same
pauses. A short version runs always, fifty jobs with WEIGHTCAST_SOAK=1 (`make soak`). It prints its tally.
"""
# ruff: noqa: T201, S311 - the tally is what a CI log shows; the seed is what makes it repeatable

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]
import pytest

from client.errors import RpcError
from client.local_stack import LocalStack, ServiceProcess
from client.trainer_client import FINAL_STATES, TrainerClient
from shared.pb.weightcast.v1 import network_pb2, training_pb2
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb

SOAK = bool(os.environ.get("WEIGHTCAST_SOAK"))
SEED = int(os.environ.get("WEIGHTCAST_CHAOS_SEED", "1"))
JOBS, MODELS, CANCELLED_JOBS, KILLS = (50, 10, 4, 60) if SOAK else (6, 3, 1, 5)
EPOCHS = 300 if SOAK else 50
PAUSE_SECONDS = (1.0, 4.0) if SOAK else (0.2, 1.5)  # between two kills
SEEDS = 3  # distinct trainings, whose undisturbed weights are known
WORKERS = 3
END_SECONDS = 600 if SOAK else 100
STATES = training_pb2.TrainingJob.State
VICTIMS = ("job", "job", "worker", "worker", "worker, told to stop", "trainer", "redis")


def spec_of(seed: int, model: str, *, publish: bool = True) -> training_pb2.TrainingSpec:
    """A training of a few seconds with all that a checkpoint must hold: moments, an average, dropout, augmentation."""
    layers = [
        network_pb2.Layer(dense=network_pb2.Dense(units=192)),
        network_pb2.Layer(dropout=network_pb2.Dropout(rate=0.2)),
    ]
    return training_pb2.TrainingSpec(
        model=model,
        dataset="digits",
        layers=layers,
        epochs=EPOCHS,
        seed=seed,
        ema_decay=0.99,
        augmentation=training_pb2.Augmentation(shift=1, rotation=5),
        publish=publish,
    )


@dataclass
class Crew:
    """The product with its workers as processes of their own, so that each can be killed alone."""

    stack: LocalStack
    workers: list[ServiceProcess] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        """Starts Redis, the trainer and the workers."""
        self.stack.redis.start()
        self.stack.trainer.start()
        self.stack.trainer.wait_until("")
        for number in range(WORKERS):
            worker = ServiceProcess(
                "trainer_service.worker",
                self.stack.folder,
                {"WEIGHTCAST_REDIS_URL": self.stack.redis.url},
                log_to_file=True,
            )
            worker.log_path = self.stack.folder / f"worker-{number}.log"
            worker.start()
            self.workers.append(worker)

    def stop(self) -> None:
        """Ends all of it."""
        for worker in self.workers:
            worker.stop()
        self.stack.trainer.stop()
        self.stack.redis.stop()

    def kill(self, victim: str, rng: random.Random) -> None:
        """Kills one of what there is, and starts it again after a while."""
        pause = rng.uniform(0.1, 2.0)
        worker = rng.choice([worker for worker in self.workers if jobs_of(worker)] or self.workers)
        self.kills[victim] += 1
        match victim:
            case "job":
                for process in jobs_of(worker):
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
            case "worker" | "worker, told to stop":
                (worker.kill if victim == "worker" else worker.stop)()
                time.sleep(pause)
                worker.start()
            case "trainer" | "redis":
                part = self.stack.trainer if victim == "trainer" else self.stack.redis
                part.kill()
                time.sleep(pause)
                part.start()


def jobs_of(worker: ServiceProcess) -> list[psutil.Process]:
    """The process of the job that a worker runs, if it runs one."""
    assert worker.process is not None
    try:
        return list(psutil.Process(worker.process.pid).children())
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def crew() -> Iterator[Crew]:
    """A product of this test's own, whose Redis keeps its data when it is killed."""
    stack = LocalStack({"WEIGHTCAST_TRAINER_WORKERS": "0"}, append_only=True)
    running = Crew(stack)
    try:
        running.start()
        yield running
    finally:
        running.stop()
    stack.remove_files()


def all_jobs(crew: Crew) -> dict[str, training_pb2.TrainingJob]:
    """Every job as it stands; empty while the trainer or Redis is away."""
    with TrainerClient(crew.stack.trainer.address) as trainer, suppress(RpcError):
        found = trainer.stub.ListTrainingJobs(pb.ListTrainingJobsRequest(page_size=200), timeout=5).jobs
        return {job.id: job for job in found}
    return {}


def undisturbed(crew: Crew) -> dict[int, str]:
    """What each training gives when nothing happens."""
    with TrainerClient(crew.stack.trainer.address) as trainer:
        ids = [trainer.create_job(spec_of(seed, f"quiet-{seed}", publish=False)).id for seed in range(SEEDS)]
        return {seed: trainer.wait(job_id).weights_digest for seed, job_id in enumerate(ids)}


def create_all(crew: Crew) -> list[str]:
    """The jobs' ids."""
    with TrainerClient(crew.stack.trainer.address) as trainer:
        return [
            trainer.create_job(spec_of(number % SEEDS, f"model-{number % MODELS}"), f"chaos-{number}").id
            for number in range(JOBS)
        ]


def rage(crew: Crew, ids: list[str], rng: random.Random) -> None:
    """Kills one thing after another while jobs are left, and asks for some jobs to be cancelled."""
    to_cancel = rng.sample(ids, CANCELLED_JOBS)
    for _ in range(KILLS):
        time.sleep(rng.uniform(*PAUSE_SECONDS))
        crew.kill(rng.choice(VICTIMS), rng)
        crew.stack.trainer.wait_until("")  # ready again: with Redis
        with TrainerClient(crew.stack.trainer.address) as trainer:
            while to_cancel:
                with suppress(RpcError):  # it has ended
                    trainer.cancel(to_cancel[-1])
                to_cancel.pop()
        jobs = all_jobs(crew)
        if jobs and all(jobs[job_id].state in FINAL_STATES for job_id in ids):
            return


@pytest.mark.soak
@pytest.mark.timeout(END_SECONDS * 2)
def test_no_job_is_lost_doubled_or_changed_by_what_dies_around_it(crew: Crew) -> None:
    """Each job ends in one state, each that succeeded has one version, numbers have no gaps, weights are the same."""
    rng = random.Random(SEED)
    quiet = undisturbed(crew)
    ids = create_all(crew)
    started = time.monotonic()
    rage(crew, ids, rng)
    deadline = time.monotonic() + END_SECONDS / 2
    while True:
        jobs = all_jobs(crew)
        open_jobs = [job_id for job_id in ids if job_id not in jobs or jobs[job_id].state not in FINAL_STATES]
        if not open_jobs:
            break
        assert time.monotonic() < deadline, [str(jobs.get(job_id, job_id)) for job_id in open_jobs]
        time.sleep(0.2)
    chaotic = [jobs[job_id] for job_id in ids]
    print_tally(crew, chaotic, time.monotonic() - started)

    assert len(set(ids)) == JOBS
    assert len(jobs) == JOBS + SEEDS  # none was made twice
    succeeded = [job for job in chaotic if job.state == STATES.STATE_SUCCEEDED]
    assert [job.error_message for job in chaotic if job.state == STATES.STATE_FAILED and dead(job) < 3] == []
    assert {job.weights_digest for job in succeeded} <= set(quiet.values())
    assert [job.id for job in succeeded if job.weights_digest != quiet[job.spec.seed]] == []
    with TrainerClient(crew.stack.trainer.address) as trainer:
        for model in {job.spec.model for job in succeeded}:
            published = {version.version: version for version in trainer.versions(model, 200)}
            assert sorted(published) == list(range(1, len(published) + 1))
            of_jobs = {job.version: job.id for job in succeeded if job.spec.model == model}
            assert {number: version.manifest.training_job_id for number, version in published.items()} == of_jobs
        for job in chaotic:
            ends = [
                event.job.state
                for event in trainer.watch(job.id)
                if event.WhichOneof("event") == "job" and event.job.state in FINAL_STATES
            ]
            assert ends == [job.state]


def dead(job: training_pb2.TrainingJob) -> int:
    """How many of a job's runs died."""
    return sum(attempt.outcome == training_pb2.TrainingAttempt.OUTCOME_DIED for attempt in job.attempts)


def print_tally(crew: Crew, jobs: list[training_pb2.TrainingJob], seconds: float) -> None:
    """What was killed, and what became of the jobs."""
    outcomes = Counter(
        training_pb2.TrainingAttempt.Outcome.Name(attempt.outcome).removeprefix("OUTCOME_").lower()
        for job in jobs
        for attempt in job.attempts
    )
    resumed = sum(attempt.resumed_update > 0 for job in jobs for attempt in job.attempts)
    states = Counter(STATES.Name(job.state).removeprefix("STATE_") for job in jobs)
    print(f"\nchaos, seed {SEED}: {len(jobs)} jobs of {MODELS} models on {WORKERS} workers in {seconds:.0f} s")
    print(f"  killed and started again: {sum(crew.kills.values())} ({counted(crew.kills)})")
    print(f"  jobs: {counted(states)}; versions: {sum(job.version > 0 for job in jobs)}")
    print(f"  attempts: {sum(outcomes.values())} ({counted(outcomes)}), {resumed} from a checkpoint")


def counted(counter: Counter[str]) -> str:
    """3 of this, 2 of that."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))
