"""What is done to an example before the first layer: one value, recorded by the trainer and applied by inference.

Clients send examples in the data set's own shape, as bytes or as feature values; the network sees float32 rows.
"""

from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np
import numpy.typing as npt

from shared.network import FloatArray

# A batch as it came: bytes, or feature values. (rows, input_size)
Rows = npt.NDArray[np.uint8 | np.float32]
# One value far outside a column's range must not drown all others, nor overflow.
MAX_DEVIATIONS = np.float32(1000)


class LabelEncoding(Enum):
    """How class labels become training targets."""

    ONE_HOT = "one_hot"


@dataclass(frozen=True, eq=False)
class Standardisation:
    """The mean and the standard deviation of each feature over the training split, float32 (input_size,)."""

    means: FloatArray
    deviations: FloatArray

    def apply(self, features: FloatArray) -> None:
        """(features − means) / deviations, in place, between −1000 and 1000; `features` is (rows, input_size)."""
        features -= self.means
        features /= self.deviations
        np.clip(features, -MAX_DEVIATIONS, MAX_DEVIATIONS, out=features)


@dataclass(frozen=True)
class Preprocessing:
    """How one example becomes a row of features.

    Attributes:
        input_shape: the shape of an example as clients send it, flattened in row-major order.
        uint8_scale: a byte times this is the feature value, e.g. 1/255.
        feature_min: the smallest feature value that is taken; a smaller one was not scaled as the training data was.
        feature_max: the largest feature value that is taken.
        label_encoding: how labels became training targets.
        standardisation: what makes columns of a table comparable; None for images.
        feature_names: the names of a table's columns, in order; empty where there are none.
    """

    input_shape: tuple[int, ...]
    uint8_scale: float
    feature_min: float = 0.0
    feature_max: float = 1.0
    label_encoding: LabelEncoding = LabelEncoding.ONE_HOT
    standardisation: Standardisation | None = None
    feature_names: tuple[str, ...] = ()

    @property
    def input_size(self) -> int:
        """Features of one example."""
        return prod(self.input_shape)

    @property
    def takes_images(self) -> bool:
        """Whether examples are images: (height, width), or (height, width, 3)."""
        return len(self.input_shape) > 1

    @property
    def uint8_max(self) -> int:
        """The largest byte that is still a feature value in range."""
        return int(min(255.0, round(self.feature_max / self.uint8_scale)))

    def features(self, rows: Rows, out: FloatArray) -> FloatArray:
        """Writes what the first layer takes to `out`, float32 of the shape of `rows` (rows, input_size); returns it."""
        if rows.dtype == np.uint8:
            np.multiply(rows, np.float32(self.uint8_scale), out=out)
        else:
            np.copyto(out, rows)
        if self.standardisation is not None:
            self.standardisation.apply(out)
        return out
