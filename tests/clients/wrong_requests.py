"""Requests that must be refused, in words that every client can say: what to send, and with which code it is refused.

Each differs from a right request in one thing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.clients.product import Array, Product

INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"


@dataclass(frozen=True)
class WrongRequest:
    """One request: the array in it, what is claimed of it, whom it asks, and how it is refused.

    Attributes:
        array: makes what is sent, from the product.
        shape: what it says that the array's shape is, given the true one.
        model: whom it asks; None means the model there is.
        words: what the refusal has to mention.
    """

    name: str
    code: str
    words: tuple[str, ...]
    array: Callable[[Product], Array] = lambda product: product.images[:2]
    shape: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda shape: shape
    input_name: str = "input"
    model: str | None = None
    version: str = ""
    outputs: tuple[str, ...] = ()

    def asked(self, product: Product) -> str:
        """The model's name in the request."""
        return product.model if self.model is None else self.model


def features_with(value: float) -> Callable[[Product], Array]:
    """Two rows of features, the second of which holds this value."""

    def features(product: Product) -> Array:
        rows = product.features[:2].copy()
        rows[1, 5] = value
        return rows

    return features


WRONG = [
    WrongRequest("two features a row", INVALID, ("shape",), lambda product: product.images.reshape(-1, 2)[:2]),
    WrongRequest("one dimension", INVALID, ("shape",), lambda product: product.images[0].ravel()),
    WrongRequest(
        "three dimensions beside the rows", INVALID, ("shape",), lambda product: product.images[:2, :, :, None]
    ),
    WrongRequest("a negative size", INVALID, ("shape", "-1"), shape=lambda shape: (-1, *shape[1:])),
    WrongRequest("no dimension", INVALID, ("shape",), shape=lambda _: ()),
    WrongRequest("an empty batch", INVALID, ("0 rows",), lambda product: product.images[:0]),
    WrongRequest(
        "a batch over the limit",
        INVALID,
        ("rows", "10001", "10000"),
        lambda product: np.zeros((product.max_batch_rows + 1, *product.images.shape[1:]), np.uint8),
    ),
    WrongRequest(
        "float64", INVALID, ("FP64", "FP32", "UINT8"), lambda product: product.features[:2].astype(np.float64)
    ),
    WrongRequest("int64", INVALID, ("INT64", "FP32", "UINT8"), lambda product: product.images[:2].astype(np.int64)),
    WrongRequest("too few bytes", INVALID, ("bytes",), shape=lambda shape: (3, *shape[1:])),
    WrongRequest("too many bytes", INVALID, ("bytes",), shape=lambda shape: (1, *shape[1:])),
    WrongRequest("NaN", INVALID, ("row 1", "NaN"), features_with(np.nan)),
    WrongRequest("infinity", INVALID, ("row 1", "infinity"), features_with(np.inf)),
    WrongRequest("a feature out of range", INVALID, ("2", "0 to 1"), features_with(2)),
    WrongRequest("an unknown input", INVALID, ("image", "input"), input_name="image"),
    WrongRequest("an unknown output", INVALID, ("logits", "probabilities"), outputs=("class_ids", "logits")),
    WrongRequest("no model", INVALID, ("model",), model=""),
    WrongRequest("an unknown model", NOT_FOUND, ("nope",), model="nope"),
    WrongRequest("an unknown version", NOT_FOUND, ("99",), version="99"),
    WrongRequest("an unknown alias", NOT_FOUND, ("abc",), version="abc"),
]
