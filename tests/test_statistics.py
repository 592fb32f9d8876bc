import numpy as np
import pytest
from gammapy.stats import CashCountsStatistic
from numpy.testing import assert_allclose
from scipy import stats

from gammapy_mimic.estimators.statistics import (
    average_sets,
    fit_systematic,
    get_p_value,
    get_prediction_p_value,
    to_fraction,
)


@pytest.mark.parametrize("background", [10, 30, 100])
def test_variance_of_the_significance(background):
    """Of the signed root of the Cash statistic, against the sum over all counts."""
    counts = np.arange(1, 10 * background)
    probability = stats.poisson.pmf(counts, background)
    values = CashCountsStatistic(counts, background).sqrt_ts
    mean = np.sum(probability * values)
    variance = np.sum(probability * values**2) - mean**2
    assert_allclose(mean, -1 / 6 / np.sqrt(background), rtol=0.05)
    assert_allclose(variance, 1 + 5 / 36 / background, atol=2.1e-3)


@pytest.mark.parametrize("is_normalised", [False, True])
@pytest.mark.parametrize("fraction", [0, 0.05, 0.2])
def test_systematic_is_unbiased(fraction, is_normalised):
    """Also if the background was scaled to the counts before, or is wrong by 5%."""
    rng = np.random.default_rng(0)
    background = np.geomspace(10, 300, 100)
    results = []
    for _ in range(1000):
        truth = background * (1 + fraction * rng.normal(size=background.size))
        counts = rng.poisson(np.maximum(truth, 0))
        scale = counts.sum() / background.sum() if is_normalised else 1.05
        values = CashCountsStatistic(counts, background * scale).sqrt_ts
        results.append(fit_systematic(values, background * scale))
    error = np.std(results) / np.sqrt(len(results))
    # larger systematics are outside of the linear range of the significance
    assert abs(np.mean(results) - fraction**2) < 3 * error + 0.1 * fraction**2
    # without the corrections of the variance it would be further off than this
    if fraction == 0:
        assert error < 1 / background.sum()


def test_few_counts_are_no_systematic():
    """Most of the excess of the variance, 5 / (36 N_b), is taken off."""
    n, background = 4 * 10**6, 30.0
    counts = np.random.default_rng(2).poisson(background, n)
    values = CashCountsStatistic(counts, background).sqrt_ts
    f_squared = fit_systematic(values, np.full(n, background))
    excess = 5 / (36 * background**2)
    assert abs(f_squared) < 0.7 * excess
    assert np.sqrt(2 / n) / background < 0.2 * excess


def test_systematic_of_overlapping_positions():
    """Sums of neighbours: the same result, with the number of times of an event."""
    rng = np.random.default_rng(1)
    results = []
    for _ in range(1000):
        counts = rng.poisson(20, 200)
        counts = sum(np.roll(counts, _) for _ in range(4))
        background = np.full(200, counts.mean())
        values = CashCountsStatistic(counts, background).sqrt_ts
        results.append(fit_systematic(values, background, overlap=4))
    assert abs(np.mean(results)) < 3 * np.std(results) / np.sqrt(len(results))


def test_systematic_of_too_few():
    assert np.isnan(fit_systematic([1.0], [10.0]))
    assert np.isnan(fit_systematic([], []))


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


def test_fraction():
    fraction = to_fraction(average_sets([0.01, 0.03]))
    assert_allclose(fraction.value, np.sqrt(0.02))
    assert_allclose(fraction.error, 0.01 / 2 / np.sqrt(0.02))
    fraction = to_fraction(average_sets([-0.01, -0.03]))
    assert fraction.value == 0
    assert np.isnan(fraction.error)
    assert_allclose(fraction.upper_limit, np.sqrt(0.01 * 6.3137515), rtol=1e-6)


def test_p_value():
    assert get_p_value(3.0, [1, 2, 3, 4]) == 3 / 5
    assert get_p_value(5.0, [1, 2, 3, 4]) == 1 / 5
    assert np.isnan(get_p_value(5.0, []))
    rng = np.random.default_rng(0)
    p_values = [get_p_value(_[0], _[1:]) for _ in rng.normal(size=(2000, 20))]
    numbers = np.unique(np.round(p_values, 6), return_counts=True)[1]
    assert len(numbers) == 20
    assert stats.chisquare(numbers).pvalue > 0.01


@pytest.mark.parametrize("n", [2, 3, 8])
def test_p_value_of_one_more_value(n):
    """Uniform for values of one Gaussian, however few, of any mean and width."""
    values = np.random.default_rng(n).normal(3, 2, (4000, n + 1))
    mean, std = values[:, 1:].mean(axis=1), values[:, 1:].std(axis=1, ddof=1)
    p_values = [
        get_prediction_p_value(*_, n) for _ in zip(values[:, 0], mean, std, strict=True)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert get_prediction_p_value(1.0, 0.0, 1.0, n) < 0.5
    assert np.isnan(get_prediction_p_value(1.0, 0.0, 1.0, 1))
