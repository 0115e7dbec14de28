"""Preprocessing: bytes to feature values, the range they have, and class ids to targets."""

import numpy as np
import pytest

from shared.preprocessing import Preprocessing, Standardisation


@pytest.mark.parametrize(("scale", "largest"), [(1 / 255, 255), (1 / 16, 16)])
def test_bytes_become_features_from_zero_to_one(scale: float, largest: int) -> None:
    """The smallest byte becomes 0, the largest 1, and what is between lies on a line."""
    rows = np.array([[0, largest], [1, largest // 2]], np.uint8)
    out = np.empty((2, 2), np.float32)
    result = Preprocessing((2,), scale).features(rows, out=out)
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


def test_feature_values_are_taken_as_they_are() -> None:
    """Numbers are not scaled, and the request's own array is not written to."""
    rows = np.array([[-2.5, 0.25]], np.float32)
    rows.flags.writeable = False
    out = np.empty((1, 2), np.float32)
    assert Preprocessing((2,), 1 / 255).features(rows, out=out) is out
    np.testing.assert_array_equal(out, rows)


def test_columns_are_standardised_with_the_recorded_mean_and_deviation() -> None:
    """(value − mean) / deviation, bytes after their scale; what is far outside counts as 1000 deviations."""
    standardisation = Standardisation(np.array([10, -1], np.float32), np.array([2, 0.5], np.float32))
    preprocessing = Preprocessing((2,), 0.5, standardisation=standardisation)
    numbers = np.array([[14, -1], [7, 0], [1e30, -1e30]], np.float32)
    out = preprocessing.features(numbers, out=np.empty((3, 2), np.float32))
    assert out.tolist() == [[2, 0], [-1.5, 2], [1000, -1000]]
    out = preprocessing.features(np.array([[28, 0]], np.uint8), out=np.empty((1, 2), np.float32))
    assert out.tolist() == [[2, 2]]


def test_examples_with_height_and_width_are_images() -> None:
    """A row of features is none."""
    assert [Preprocessing(shape, 1.0).takes_images for shape in ((4,), (4, 4), (4, 4, 3))] == [False, True, True]
