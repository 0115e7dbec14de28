"""Preprocessing: bytes to feature values, the range they have, and class ids to targets."""

import numpy as np
import pytest

from shared.preprocessing import Preprocessing, one_hot


@pytest.mark.parametrize(("scale", "largest"), [(1 / 255, 255), (1 / 16, 16)])
def test_bytes_become_features_from_zero_to_one(scale: float, largest: int) -> None:
    """The smallest byte becomes 0, the largest 1, and what is between lies on a line."""
    rows = np.array([[0, largest], [1, largest // 2]], np.uint8)
    out = np.empty((2, 2), np.float32)
    result = Preprocessing((2,), scale).scale_bytes(rows, out=out)
    assert result is out
    expected = np.array([[0.0, 1.0], [1 / largest, (largest // 2) / largest]])
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "feature_max", "largest"), [(1 / 255, 1.0, 255), (1 / 16, 1.0, 16), (1.0, 1.0, 1), (1 / 512, 1.0, 255)]
)
def test_the_largest_byte_follows_from_the_scale(scale: float, feature_max: float, largest: int) -> None:
    """It is the byte whose feature value is the largest that occurs, and never more than a byte holds."""
    assert Preprocessing((2,), scale, feature_max=feature_max).uint8_max == largest


def test_the_input_size_is_the_product_of_the_shape() -> None:
    """A picture of 28 × 28 is a row of 784 features."""
    assert Preprocessing((28, 28), 1 / 255).input_size == 784


def test_one_hot_marks_each_rows_class() -> None:
    """1 where the class is, 0 elsewhere, in float32."""
    targets = one_hot(np.array([2, 0, 2]), 3)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
