"""Euler characteristic of regions, and what it says of maxima."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gammapy_mimic.estimators.euler import (
    get_euler_characteristic,
    predict_euler_characteristic,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000 0000 0000", 0),
        ("1100 1100 0000", 1),
        ("1101 1100 0001", 3),
        ("1110 1010 1110", 0),
        ("1111 1111 1111", 1),
    ],
)
def test_characteristic_by_hand(text, expected):
    above = [[character == "1" for character in row] for row in text.split()]
    assert get_euler_characteristic(above) == expected


def test_maxima_of_smooth_fields():
    """The p-value of a maximum, from low levels and by counting."""
    rng = np.random.default_rng(0)
    maps = gaussian_filter(rng.normal(size=(2000, 40, 40)), (0, 3, 3), mode="wrap")
    maps /= maps.std()
    (value,) = np.quantile(maps.max(axis=(1, 2)), [0.97])
    expected = predict_euler_characteristic(value, maps[:400])
    assert 0.02 < expected < 0.045
    masked = np.where(np.arange(40) < 20, maps, np.nan)
    assert predict_euler_characteristic(value, masked[:400]) < 0.7 * expected
