"""Averages over mimic sets that do not know equally much."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from gammapy_mimic.estimators.statistics import (
    VARIANCE_FRACTION,
    average_sets,
    average_systematic,
    count_larger,
    fit_systematic,
    get_information,
    get_p_value,
    get_prediction_p_value,
    to_fraction,
)

SIZES = np.array([400, 400, 200, 100, 20])


def draw_sets(rng, sizes, fraction=0.0):
    """Squares of f of sets of independent positions, and their backgrounds."""
    backgrounds = [rng.uniform(20, 60, _) for _ in sizes]
    # of the test statistic of counts, and of the systematic error
    variances = [1 + 5 / 36 / _ + fraction**2 * _ for _ in backgrounds]
    values = [rng.normal(0, np.sqrt(_)) for _ in variances]
    pairs = zip(values, backgrounds, strict=True)
    return [fit_systematic(*_) for _ in pairs], backgrounds


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


def test_information_is_the_variance_of_the_estimate():
    for fraction in (0, 0.2):
        rng = np.random.default_rng(1)
        values, information = [], []
        for _ in range(1500):
            squares, backgrounds = draw_sets(rng, [300], fraction)
            values += squares
            information.append(get_information(backgrounds[0], fraction**2))
        expected = np.sqrt(np.mean(1 / np.array(information)))
        assert_allclose(np.std(values), expected, rtol=0.08)


def test_overlap_is_a_factor_of_the_information():
    """Positions that share events: one factor, for any number of them."""
    rng = np.random.default_rng(2)
    kernel = np.ones(8) / np.sqrt(8)
    for size in (400, 1600):
        values = []
        for _ in range(400):
            noise = rng.normal(size=size + 7)
            significance = np.convolve(noise, kernel, mode="valid")
            background = np.full(size, 1e4)
            values.append(fit_systematic(significance, background, overlap=8))
        # the sum of the squared correlations, a triangle of the width of 8 positions
        factor = np.sum((1 - np.abs(np.arange(-7, 8)) / 8) ** 2)
        expected = np.sqrt(factor / get_information(background))
        assert_allclose(np.std(values), expected, rtol=0.15)
    # and that of circles in the plane, the area of one times a constant
    assert 0 < VARIANCE_FRACTION < 1


@pytest.mark.parametrize("fraction", [0, 0.1, 0.3])
def test_average_systematic_is_unbiased(fraction):
    rng = np.random.default_rng(3)
    estimates = np.array(
        [average_systematic(*draw_sets(rng, SIZES, fraction)) for _ in range(600)]
    )
    value, error, _ = estimates.T
    assert abs(np.mean(value) - fraction**2) < 3 * np.std(value) / np.sqrt(600)
    assert_allclose(np.sqrt(np.mean(error**2)), np.std(value), rtol=0.15)
    limits = estimates[:, 2] > fraction**2
    assert 0.92 < np.mean(limits) < 0.98


def test_small_set_does_not_move_the_average():
    """A set of 11 positions beside four of 5513, which made f 19.2 +- 8.6%."""
    rng = np.random.default_rng(4)
    sizes = [5513, 5513, 5513, 5513]
    squares, backgrounds = draw_sets(rng, sizes)
    alone = average_systematic(squares, backgrounds)
    # one that is far off, as few positions that overlap may be
    both = average_systematic([*squares, 0.3], [*backgrounds, np.full(11, 12.0)])
    assert abs(both.value - alone.value) < 0.2 * alone.error
    assert_allclose(both.error, alone.error, rtol=0.1)
    assert_allclose(both.upper_limit, alone.upper_limit, rtol=0.05)
    assert to_fraction(both).upper_limit < 0.03
    plain = to_fraction(average_sets([*squares, 0.3]))
    assert plain.value > 0.2


def test_systematic_without_values():
    background = np.full(50, 30.0)
    values = np.random.default_rng(0).normal(size=50)
    expected = fit_systematic(values[5:], background[5:])
    values[:3], background[3:5] = np.nan, [np.nan, 0]
    assert fit_systematic(values, background) == expected
    assert np.isnan(fit_systematic(np.full(5, np.nan), np.full(5, 10.0)))
    assert np.isnan(average_systematic([np.nan, np.nan], [[], []]).value)


def test_p_value_of_nothing_is_nothing():
    """A masked position had p = 1/51, the smallest possible."""
    assert np.isnan(get_p_value(np.nan, np.arange(50)))
    assert np.isnan(count_larger(np.nan, np.arange(50))[0])
    sample = [1.0, np.nan, 3.0, np.nan, 5.0]
    assert get_p_value(4.0, sample) == 2 / 4
    assert count_larger(4.0, sample) == (1, 3)
    assert np.isnan(get_p_value(4.0, [np.nan]))


def test_prediction_p_value():
    """Uniform for one more draw from a Gaussian, however few there are."""
    rng = np.random.default_rng(5)
    for n in (2, 5):
        draws = rng.normal(3.5, 0.3, size=(3000, n + 1))
        p_values = [
            get_prediction_p_value(x[0], np.mean(x[1:]), np.std(x[1:], ddof=1), n)
            for x in draws
        ]
        assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.isnan(get_prediction_p_value(4, 3, np.nan, 1))
    assert np.isnan(get_prediction_p_value(4, 3, 0.0, 3))
