"""How long it takes from publishing a version to the first answer by it, over many publishes: `make bench`.

A publisher in this process and the real services as processes of their own; a caller asks all the time, so the time is
what a client sees: store, event, fetch, verify, warm up, swap, request. TensorFlow Serving polls each second unless
told otherwise, Triton each fifteen.
"""

import argparse
import json
import platform
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.traffic import Tally, Traffic
from shared import snapshot_codec
from shared.model_version import Manifest, Provenance, StoredSnapshot
from shared.network import Architecture
from shared.preprocessing import Preprocessing
from shared.store.connection import StoreConnection
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.publishing import self_test
from trainer_service.training.initialization import initial_network

RESULTS = Path(__file__).parent / "results" / "publish_to_answer.json"
MODEL = "bench"
HIDDEN = (256,)
FIRST_ANSWER_SECONDS = 10.0
LOADS = {"idle (one caller, one row)": (1, 1), "busy (4 callers, 100 rows)": (4, 100)}


def made_up_dataset(rng: np.random.Generator) -> Dataset:
    """Random bytes in MNIST's shape: what the digits are does not matter to the clock."""
    split = Split(rng.integers(0, 256, (1000, 784), dtype=np.uint8), rng.integers(0, 10, 1000))
    return Dataset("random", Preprocessing((28, 28), 1 / 255), tuple("0123456789"), split, split)


def snapshots(
    count: int, dataset: Dataset, rng: np.random.Generator, hidden: Sequence[int] = HIDDEN
) -> list[StoredSnapshot]:
    """`count` different networks of 784 features, hidden layers of these sizes and 10 classes, ready to publish."""
    architecture = Architecture.dense(dataset.preprocessing.input_size, tuple(hidden), len(dataset.class_labels))
    provenance = Provenance(TrainingSpec(MODEL, dataset.name, seed=0), "bench", dataset.digest, datetime.now(UTC), {})
    networks = (initial_network(architecture, rng) for _ in range(count))
    return [
        snapshot_codec.encode(
            Manifest(
                model=MODEL,
                architecture=architecture,
                preprocessing=dataset.preprocessing,
                class_labels=dataset.class_labels,
                epochs=(),
                provenance=provenance,
                self_test=self_test(network, dataset),
            ),
            network,
        )
        for network in networks
    ]


def measure(
    store: ModelStore, address: str, to_publish: Sequence[StoredSnapshot], dataset: Dataset, *, threads: int, rows: int
) -> tuple[list[float], Tally]:
    """Publishes one after another; the seconds from each call to the first answer, and what the callers saw."""
    examples = dataset.test.examples.reshape(-1, 28, 28)
    seconds = []
    with Traffic(address, MODEL, examples, threads=threads, batch_rows=rows) as traffic:
        for snapshot in to_publish:
            called = time.time()
            # Publishing is idempotent per job, so each publication is a job of its own.
            published = store.publish(MODEL, snapshot, training_job_id=uuid.uuid4().hex)
            seconds.append(traffic.wait_for_version(published.ref.version, FIRST_ANSWER_SECONDS) - called)
    return seconds, traffic.tally


def main() -> None:
    """Measures every load, prints a table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publishes", type=int, default=200, help="how many under each load, default %(default)s")
    count = parser.parse_args().publishes
    rng = np.random.default_rng(0)
    dataset = made_up_dataset(rng)
    to_publish = snapshots(count, dataset, rng)
    results = {}
    print(f"{'load':30} {'publishes':>9} {'median':>9} {'p99':>9} {'max':>9} {'requests':>9} {'failed':>7}")
    with LocalStack({"WEIGHTCAST_TRAINER_WORKERS": "0"}) as stack:
        store = ModelStore(StoreConnection(stack.redis.url))
        store.publish(MODEL, to_publish[0], training_job_id="first")
        with InferenceClient(stack.inference.address) as client:
            client.wait_for_version(MODEL, 1, FIRST_ANSWER_SECONDS)
        for load, (threads, rows) in LOADS.items():
            seconds, tally = measure(store, stack.inference.address, to_publish, dataset, threads=threads, rows=rows)
            median, p99 = np.percentile(seconds, (50, 99)) * 1000
            largest, failed = max(seconds) * 1000, len(tally.failures)
            print(
                f"{load:30} {len(seconds):9} {median:6.1f} ms {p99:6.1f} ms {largest:6.1f} ms"
                f" {tally.requests:9,} {failed:7}"
            )
            results[load] = {"seconds": seconds, "requests": tally.requests, "failed": failed}
    RESULTS.parent.mkdir(exist_ok=True)
    about = {"when": datetime.now(UTC).isoformat(), "python": platform.python_version(), "machine": platform.machine()}
    RESULTS.write_text(json.dumps({**about, "loads": results}, indent=2))
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
