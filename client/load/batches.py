"""What a load test sends: a few batches that fit a model, of random values in its range or of a data set's examples.

Few, so that they are encoded once before the clock runs; different, so that no answer can be remembered.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from client.inference_client import tensor_of
from shared.pb.weightcast.v1 import inference_service_pb2 as pb
from shared.pb.weightcast.v1 import network_pb2

Examples = npt.NDArray[np.uint8 | np.float32]
MOST_BATCHES = 16
MOST_BYTES = 64 * 2**20  # of all batches, in each process
LARGEST_BYTE = 255
WIDEST_DEVIATIONS = 3.0


def random_examples(preprocessing: network_pb2.Preprocessing, rows: int, dtype: str) -> Examples:
    """Rows that the model accepts, (rows, …input_shape), the same each time."""
    rng = np.random.default_rng(0)
    shape = (rows, *preprocessing.input_shape)
    if dtype == "uint8":
        scale = preprocessing.uint8_scale or 1.0
        highest = int(np.clip(round(preprocessing.feature_max / scale), 0, LARGEST_BYTE))
        return rng.integers(0, highest, shape, dtype=np.uint8, endpoint=True)
    low, high = preprocessing.feature_min, preprocessing.feature_max
    if not preprocessing.feature_means:
        return (low + rng.random(shape, dtype=np.float32) * np.float32(high - low)).astype(np.float32)
    # A table's columns: around what the model has seen, for all that it takes is nearly every number there is.
    means, deviations = np.array(preprocessing.feature_means), np.array(preprocessing.feature_deviations)
    around = rng.uniform(-WIDEST_DEVIATIONS, WIDEST_DEVIATIONS, (rows, len(means)))
    columns: Examples = np.clip(means + around * deviations, low, high).astype(np.float32)
    return columns.reshape(shape)


def usual_dtype(preprocessing: network_pb2.Preprocessing) -> str:
    """How examples of this kind travel: images as bytes, the columns of a table as numbers."""
    return "float32" if preprocessing.feature_means else "uint8"


def batch_count(row_bytes: int, rows: int) -> int:
    """How many different batches there are."""
    return max(1, min(MOST_BATCHES, MOST_BYTES // max(1, row_bytes * rows)))


def batches(examples: Examples, rows: int) -> Iterator[Examples]:
    """Batches of `rows` from the examples in turn, beginning again at their end."""
    count = max(1, min(MOST_BATCHES, -(-len(examples) // rows)))
    for number in range(count):
        yield examples[np.arange(number * rows, (number + 1) * rows) % len(examples)]


def requests_of(model: str, version: int | str, examples: Examples, rows: int) -> list[pb.ClassifyRequest]:
    """A request for each batch; one class a row is asked for."""
    selector = {"version": version} if isinstance(version, int) else {"alias": version}
    return [pb.ClassifyRequest(model=model, tensor=tensor_of(batch), **selector) for batch in batches(examples, rows)]
