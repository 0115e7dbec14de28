"""The product as a stranger knows it: an address, images, and what its own client was told about them.

Needs NumPy and nothing else, so that it can be imported beside any client.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

ADDRESS, FOLDER = "WEIGHTCAST_INFERENCE_ADDRESS", "WEIGHTCAST_CLIENTS_FOLDER"
VERSIONS = (1, 2)  # the first has the alias `first`, the second is live
TOLERANCE = 1e-6  # the size of a batch may change the last bits
BATCH_ROWS = 1000
DATATYPES = {"uint8": "UINT8", "float32": "FP32", "float64": "FP64", "int64": "INT64"}
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Product:
    """What runs, and what is right.

    Attributes:
        images: uint8 (rows, …input_shape).
        features: the same as float32 (rows, input_size), scaled as the model was trained.
        probabilities: float32 (rows, classes), by version.
    """

    address: str
    model: str
    live: int
    digests: Mapping[int, str]
    class_labels: tuple[str, ...]
    max_batch_rows: int
    images: npt.NDArray[np.uint8]
    features: npt.NDArray[np.float32]
    probabilities: Mapping[int, npt.NDArray[np.float32]]

    @property
    def batches(self) -> list[slice]:
        """Cuts the images into batches of at most BATCH_ROWS."""
        return [slice(start, start + BATCH_ROWS) for start in range(0, len(self.images), BATCH_ROWS)]


@dataclass(frozen=True, eq=False)
class Answered:
    """What a client made of an answer: the outputs it got by name, and which version gave them."""

    outputs: Mapping[str, Array]
    version: str
    digest: str


def read_product() -> Product:
    """What the environment names."""
    folder = Path(os.environ[FOLDER])
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    images = np.load(folder / "images.npy")
    return Product(
        address=os.environ[ADDRESS],
        model=facts["model"],
        live=facts["live"],
        digests={int(version): digest for version, digest in facts["digests"].items()},
        class_labels=tuple(facts["class_labels"]),
        max_batch_rows=facts["max_batch_rows"],
        images=images,
        features=images.reshape(len(images), -1) * np.float32(facts["uint8_scale"]),
        probabilities={version: np.load(folder / f"probabilities-{version}.npy") for version in VERSIONS},
    )


def assert_right(product: Product, answered: list[Answered], rows: slice | None = None, version: int = 2) -> None:
    """All outputs, of `rows` in order, are what our own client was told by this version, and say that it was this one.

    A class may differ only where its lead is smaller than the tolerance.
    """
    assert {(answer.version, answer.digest) for answer in answered} == {(str(version), product.digests[version])}
    assert {tuple(answer.outputs) for answer in answered} == {("probabilities", "class_ids", "scores")}
    probabilities, class_ids, scores = (
        np.concatenate([answer.outputs[name] for answer in answered])
        for name in ("probabilities", "class_ids", "scores")
    )
    expected = product.probabilities[version][rows or slice(None)]
    assert [output.dtype.name for output in (probabilities, class_ids, scores)] == ["float32", "int64", "float32"]
    assert (probabilities.shape, class_ids.shape, scores.shape) == (expected.shape, *[(len(expected),)] * 2)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(scores, probabilities.max(axis=1))
    best_two = np.sort(expected, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > 2 * TOLERANCE
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(class_ids[clear], expected.argmax(axis=1)[clear])
