"""What every store must do wherever Redis is: one function a store, which fails if it does not."""

import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from shared.model_version import StoredSnapshot
from shared.store.connection import StoreConnection
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from trainer_service.datasets.upload import UploadFormat, UploadHeader, UploadService
from trainer_service.datasets.upload_store import UploadStore
from trainer_service.jobs.job import JobState, TrainingJob, ended
from trainer_service.jobs.job_queue import JobQueue, name_of, training_queue
from trainer_service.jobs.job_store import JobStore, Turn

REPOSITORY = Path(__file__).parents[2]
PLENTY = 100
WAKE_SECONDS = 20.0
WORKER_SECONDS = 60
HARMLESS = "operator.eq"  # a function for a worker to call with a turn
BURST_WORKER = """
import sys
from trainer_service.jobs.job_queue import training_queue
from rq import Worker
from rq.serializers import JSONSerializer
from shared.store.connection import StoreConnection

connection = StoreConnection(sys.argv[1])
queue, client = training_queue(connection), connection.queue_client
Worker([queue], connection=client, serializer=JSONSerializer).work(burst=True)
connection.close()
"""


def check_models(connection: StoreConnection, model: str, snapshot: StoredSnapshot) -> None:
    """What is published is read back, and a job publishes once."""
    models = ModelStore(connection)
    publication = models.publish(model, snapshot, f"{model}-job")
    assert models.publish(model, snapshot, f"{model}-job") == publication
    assert models.version(model, "live").snapshot == snapshot
    assert model in models.model_names()


def check_events(connection: StoreConnection, models: tuple[str, ...], snapshot: StoredSnapshot) -> None:
    """A wait wakes for a publication of any of the models, and of one that nobody knew."""
    store, events = ModelStore(connection), ModelEvents(connection)
    for number, model in enumerate((*models, "unheard-of")):
        events.follow(models)
        woken: list[bool] = []
        waiting = threading.Thread(target=lambda woken=woken: woken.append(events.wait(WAKE_SECONDS)))
        waiting.start()
        store.publish(model, snapshot, f"event-{number}")
        waiting.join()
        assert woken == [True]
        while events.wait(0.01):  # a name's first publication is announced twice
            pass


def check_jobs(connection: StoreConnection, job_id: str) -> None:
    """A job is created once for a request, runs, ends, and can be watched."""
    store = JobStore(connection)
    job = TrainingJob(job_id, TrainingSpec(model="tiny", dataset="digits", seed=0), JobState.QUEUED, datetime.now(UTC))
    assert store.create(job, f"request-{job_id}", PLENTY) == job_id
    assert store.create(replace(job, id="another"), f"request-{job_id}", PLENTY) == job_id
    running = replace(job, state=JobState.RUNNING)
    assert store.replace(running, running, expected=JobState.QUEUED, turn=Turn(job_id, 1)).is_done
    final = ended(running, JobState.SUCCEEDED)
    assert store.replace(final, final, expected=JobState.RUNNING, turn=Turn(job_id, 1)).is_done
    assert store.get(job_id) == final
    assert job_id in {found.id for _, found in store.newest(None, PLENTY)}
    events = store.events_after(job_id, "", 0.01)
    assert len(events) == 3
    assert store.events_after(job_id, events[-1].cursor, 0.01) == []


def check_uploads(connection: StoreConnection, name: str) -> None:
    """A data set comes back as it was sent, and goes when it is deleted."""
    store = UploadStore(connection)
    rows = "\n".join(["size,kind", *(f"{row},{'cat' if row % 2 else 'dog'}" for row in range(20))])
    header = UploadHeader(name, "Some pets.", UploadFormat.CSV, "kind")
    description = UploadService(store).take(header, [rows.encode()])
    assert store.load(description).digest == description.digest
    store.delete(name)
    assert store.find(name) is None


def check_queue(connection: StoreConnection, url: str, turn: Turn) -> None:
    """A turn is queued once, and a worker in a process of its own takes it; `job_queue.RUN_JOB` must be HARMLESS."""
    queue = JobQueue(connection)
    queue.put(turn)
    queue.put(turn)
    assert turn in queue.waiting()
    work(url)
    assert queue.waiting() == set()
    job = training_queue(connection).fetch_job(name_of(turn))
    assert job is not None
    assert job.is_finished
    assert job.return_value() is False  # what HARMLESS says of a job's id and its turn's number
    queue.put(Turn("to-be-removed", 1))
    queue.remove(Turn("to-be-removed", 1))
    assert queue.waiting() == set()


def work(url: str) -> None:
    """Has a worker do what waits in the queue."""
    subprocess.run([sys.executable, "-c", BURST_WORKER, url], cwd=REPOSITORY, check=True, timeout=WORKER_SECONDS)
