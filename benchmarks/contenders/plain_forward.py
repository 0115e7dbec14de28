"""A dense network in four lines of NumPy: what the bare servers answer with, and what every answer is compared with.

It needs NumPy alone, so that a server in another environment can use it.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WEIGHTS = "BENCHMARK_WEIGHTS"  # the environment variable that names the file
Floats = npt.NDArray[np.float32]


class PlainForward:
    """The forward pass with the weights of a file of arrays, named as parameters are."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            count = len(arrays.files) // 2
            layers: list[tuple[Floats, Floats]] = [
                (arrays[f"dense_{index}.weight"], arrays[f"dense_{index}.bias"]) for index in range(count)
            ]
        *self._hidden, self._last = layers

    def probabilities(self, rows: npt.NDArray[Any]) -> Floats:
        """Bytes or feature values (rows, 784) to probabilities (rows, 10)."""
        values = rows.astype(np.float32) / np.float32(255) if rows.dtype == np.uint8 else rows
        for weight, bias in self._hidden:
            values = np.maximum(values @ weight + bias, 0)
        logits = values @ self._last[0] + self._last[1]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
        return found


def own_forward() -> PlainForward:
    """With the weights that this process's environment names."""
    return PlainForward(Path(os.environ[WEIGHTS]))


def tell_port(port: int) -> None:
    """Writes the port where whoever started this process waits for it."""
    path = Path(os.environ["WEIGHTCAST_PORT_FILE"])
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(str(port), encoding="utf-8")
    unfinished.replace(path)
