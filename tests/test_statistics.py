import numpy as np
from numpy.testing import assert_allclose
from scipy import stats

from gammapy_mimic.estimators.statistics import (
    average_sets,
    get_p_value,
)


def test_average():
    estimate = average_sets([1.0, 2.0, 3.0, np.nan])
    assert_allclose(estimate.value, 2)
    assert_allclose(estimate.error, 1 / np.sqrt(3))
    # quantile of Student's t for 2 degrees of freedom
    assert_allclose(estimate.upper_limit, 2 + 2.919986 / np.sqrt(3), rtol=1e-6)
    assert average_sets([4.0])[0] == 4
    assert np.isnan(average_sets([4.0]).error)
    assert np.isnan(average_sets([]).value)


def test_coverage_of_the_limit():
    rng = np.random.default_rng(0)
    limits = [average_sets(rng.normal(size=5)).upper_limit for _ in range(2000)]
    assert_allclose(np.mean(np.array(limits) > 0), 0.95, atol=0.015)


def test_p_value():
    assert get_p_value(3.0, [1, 2, 3, 4]) == 3 / 5
    assert get_p_value(5.0, [1, 2, 3, 4]) == 1 / 5
    assert np.isnan(get_p_value(5.0, []))
    rng = np.random.default_rng(0)
    p_values = [get_p_value(_[0], _[1:]) for _ in rng.normal(size=(2000, 20))]
    numbers = np.unique(np.round(p_values, 6), return_counts=True)[1]
    assert len(numbers) == 20
    assert stats.chisquare(numbers).pvalue > 0.01
