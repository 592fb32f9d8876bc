"""Averages over mimic sets that do not know equally much."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from gammapy_mimic.estimators.statistics import (
    average_sets,
    count_larger,
    get_p_value,
)

SIZES = np.array([400, 400, 200, 100, 20])


def test_equal_weights_give_the_plain_mean():
    values = [1.0, 2.0, 4.0, 9.0]
    estimate = average_sets(values, weights=[3.0] * 4)
    assert_allclose(estimate, average_sets(values), rtol=1e-14)
    assert_allclose(estimate.value, 4)
    assert_allclose(estimate.error, np.std(values, ddof=1) / 2)
    quantile = stats.t.ppf(0.95, 3)
    assert_allclose(estimate.upper_limit, 4 + quantile * estimate.error)


def test_sets_without_weight_are_left_out():
    weights = [1, 2, 0, np.nan, 1]
    estimate = average_sets([1, 2, 100, 50, np.nan], weights)
    assert_allclose(estimate, average_sets([1, 2], [1, 2]))
    assert np.isnan(average_sets([1, 2], [1, 0]).error)
    assert np.isnan(average_sets([1, 2], [0, 0]).value)


@pytest.mark.parametrize("weights", [SIZES, np.ones(5), [1, 1, 1, 1, 1e-3]])
def test_error_of_a_weighted_mean(weights):
    """Its square is unbiased, and the limit holds, where variances are as weighted."""
    rng = np.random.default_rng(0)
    sigma = 1 / np.sqrt(np.asarray(weights, float))
    draws = rng.normal(size=(4000, 5)) * sigma
    estimates = np.array([average_sets(_, weights) for _ in draws])
    square = estimates[:, 1] ** 2
    expected = 1 / np.sum(weights)
    assert abs(np.mean(estimates[:, 0])) < 3 * np.sqrt(expected / len(draws))
    assert_allclose(np.var(estimates[:, 0]), expected, rtol=0.1)
    assert abs(np.mean(square) - expected) < 3 * np.std(square) / np.sqrt(len(draws))
    assert_allclose(np.mean(estimates[:, 2] > 0), 0.95, atol=0.02)


def test_p_value_of_nothing_is_nothing():
    """A masked position had p = 1/51, the smallest possible."""
    assert np.isnan(get_p_value(np.nan, np.arange(50)))
    assert np.isnan(count_larger(np.nan, np.arange(50))[0])
    sample = [1.0, np.nan, 3.0, np.nan, 5.0]
    assert get_p_value(4.0, sample) == 2 / 4
    assert count_larger(4.0, sample) == (1, 3)
    assert np.isnan(get_p_value(4.0, [np.nan]))
