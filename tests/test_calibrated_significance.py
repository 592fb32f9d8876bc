"""Calibrated significance: its parts by hand, and the targets that it calls rare."""

import numpy as np
import pytest
from gammapy.stats import CashCountsStatistic, WStatCountsStatistic
from numpy.testing import assert_allclose
from scipy import stats

from gammapy_mimic.estimators.calibration import (
    N_MEAN,
    Calibration,
    calibrate_significance,
    draw_systematic,
    get_scales,
    get_spreads,
    predict_mean,
    predict_variance,
)
from gammapy_mimic.estimators.maxima import get_significance

from .calibration_toys import simulate_calibrated, simulate_measured

KNOWN = np.inf


@pytest.mark.parametrize("alpha", [0, 0.2, 2])
@pytest.mark.parametrize("delta", [-0.1, 0, 0.1])
def test_mean_and_width_of_the_significance(alpha, delta):
    """Against counts, with a spread of 8%."""
    rng = np.random.default_rng(0)
    n, counts, f = 400_000, 100.0, 0.08
    n_on = rng.poisson(counts * (1 + delta) * (1 + f * rng.normal(size=n)))
    prediction, q = counts, counts / (1 + alpha)
    if alpha:
        prediction = alpha * rng.poisson(counts / alpha, n)
    values = get_significance(n_on, prediction, alpha)
    mean = predict_mean(q, delta, f**2, alpha)
    assert_allclose(np.mean(values), mean, atol=0.02)
    width = np.sqrt(predict_variance(q, delta, f**2, alpha))
    assert_allclose(np.std(values), width, rtol=0.015)


@pytest.mark.parametrize("value", [-2.0, 3.0, 6.0])
def test_known_error(value):
    """The Gaussian of the known mean and width."""
    result = calibrate_significance(
        value, 100, 0.01, KNOWN, 30, 0.02 * np.sign(value), 0, KNOWN, 0.2
    )
    assert_allclose(
        result.significance, (value - result.mean) / result.width, rtol=1e-6
    )
    assert_allclose(result.p_value, stats.norm.sf(result.significance))


@pytest.mark.parametrize("dof", [2, 4, 30.5])
def test_mean_has_the_distribution_of_student(dof):
    scales, weights = get_scales(np.ones(1), np.array([dof]), 0, N_MEAN)
    for t in (1, 3, 6):
        p_value = np.sum(weights * stats.norm.sf(t / np.sqrt(scales)))
        assert_allclose(p_value, stats.t.sf(t, dof), rtol=3e-3)


def test_large_spread_has_the_distribution_of_student():
    """Where noise is nothing, and mimics have as many counts as the target."""
    background = 1e6
    result = calibrate_significance(900, background, 0.09, 6, background, 0, 0, KNOWN)
    t = (900 - predict_mean(background, 0, 0.09)) / np.sqrt(0.09 * background)
    # beside the second order of the mean, which goes with the square of f
    assert_allclose(result.p_value, stats.t.sf(t, 6), rtol=0.15)


@pytest.mark.parametrize("square", [-1, -0.5, 0, 3])
@pytest.mark.parametrize("dof", [2, 10, 300])
def test_nodes_of_the_spread_are_enough(square, dof):
    values = []
    for n_nodes in (64, 500):
        arguments = np.array([[square], [dof], [1.0]])
        squares, weights = get_spreads(*arguments, n_nodes=n_nodes)
        assert_allclose(weights.sum(), 1)
        values.append(np.sum(weights * stats.norm.sf(4 / np.sqrt(1 + 3 * squares))))
    assert_allclose(*values, rtol=1e-4)


def test_drawn_spreads():
    """As often below a value as the posterior says, and those of a known one alike."""
    drawn = draw_systematic(0.01, 10, 100, 20_000, np.random.default_rng(0))
    squares, weights = get_spreads(*np.array([[0.01], [10], [100.0]]), 500)
    for limit in (0.05, 0.1, 0.2):
        expected = np.sum(weights[squares < limit**2])
        assert_allclose(np.mean(drawn < limit), expected, atol=0.02)
    drawn = draw_systematic(0.01, np.inf, 100, 10, np.random.default_rng(0))
    assert_allclose(drawn, 0.1, rtol=1e-3)


def test_more_background_makes_more_of_a_spread():
    """Width for the counts of the target, not for those of mimics."""
    low, high = calibrate_significance(
        4, np.array([100, 1000]), 0.05**2, 50, 100, 0, 0, KNOWN
    ).significance
    assert high < low < 4


def test_never_above_the_raw_significance():
    """Whatever the mimics say, and a deficit is none that is larger."""
    rng = np.random.default_rng(1)
    n = 3000
    raw = rng.normal(0, 4, n)
    square, delta = rng.normal(0, 0.01, n), rng.normal(0, 0.1, n)
    alpha = rng.choice([0, 0.2, 3.0], n)
    result = calibrate_significance(raw, 50, square, 4, 20, delta, 0.05, 6, alpha)
    assert np.all(result.significance <= np.maximum(raw, 0))
    assert np.all(result.significance[raw < 0] >= raw[raw < 0])
    assert_allclose(result.p_value, stats.norm.sf(result.significance))


def test_known_zero_leaves_a_significance():
    """But for the mean that the skewness of the counts leaves."""
    result = calibrate_significance([3.0, 8.0, 30.0], 1e4, 0, KNOWN, 1e4, 0, 0, KNOWN)
    assert_allclose(result.significance, [3, 8, 30], atol=1e-6)


def test_too_few_sets():
    arguments = [5.0, 100, 0.001, 1.9, 100, 0.01, 0.01, 5]
    result = calibrate_significance(*arguments)
    assert not result.is_measurable
    assert np.isnan([result.significance, result.p_value, result.width]).all()
    assert "not measurable: the mimics are worth 2.9 independent OFF" in (
        result.to_text()
    )
    arguments[3] = 2
    result = calibrate_significance(*arguments)
    assert result.is_measurable
    assert result.significance < 5
    assert f"{result.significance:.2f} sigma (raw 5.00" in result.to_text()
    arguments[5] = np.nan
    assert "not known" in calibrate_significance(*arguments).to_text()
    arguments[0] = np.nan
    assert "no significance" in calibrate_significance(*arguments).to_text()


def test_arguments():
    with pytest.raises(ValueError, match="delta_err must not be negative"):
        calibrate_significance(5, 100, 0, 5, 100, 0, -0.1, 5)
    result = calibrate_significance(np.ones((2, 3)), 100, 0, 5, 100, 0, 0.1, 5)
    assert result.significance.shape == (2, 3)
    with pytest.raises(ValueError, match="There are 6 values"):
        result.to_text()
    one = Calibration(*(np.ravel(_)[0] for _ in result))
    assert "sigma" in one.to_text()


def test_significance_is_that_of_gammapy():
    rng = np.random.default_rng(0)
    n_on, prediction = rng.integers(0, 200, 500), rng.uniform(1, 150, 500)
    expected = CashCountsStatistic(n_on, prediction).sqrt_ts
    assert_allclose(get_significance(n_on, prediction), expected, atol=1e-9)
    n_off, alpha = rng.integers(1, 500, 500), rng.uniform(0.01, 3, 500)
    expected = WStatCountsStatistic(n_on, n_off, alpha).sqrt_ts
    values = get_significance(n_on, alpha * n_off, alpha)
    assert_allclose(values, expected, atol=1e-9)
    assert np.isnan(get_significance(3, 0.0))


def is_at_most(values, level, limit):
    """Whether as many are above a level, within two standard errors."""
    error = np.sqrt(limit * (1 - limit) / len(values))
    return np.mean(values > level) <= limit + 2 * error


@pytest.mark.parametrize("f", [0, 0.05, 0.1])
@pytest.mark.parametrize("n_values", [5, 20])
def test_rare_targets_are_rare(f, n_values):
    """Of targets with 3.3 times the counts of mimics, or a background wrong by 10%."""
    for target, mimic, delta in ((1000, 300, 0), (300, 300, 0.1)):
        arguments = f, target, mimic, n_values, 5000, delta
        values = simulate_calibrated(*arguments, above=1.645)
        assert is_at_most(values, 1.645, 0.06)
        assert is_at_most(values, 3, 0.002)
        if f and n_values >= 20:
            assert np.mean(values > 1.645) > 0.035


@pytest.mark.parametrize("n_circles", [6, 20])
def test_rare_targets_are_rare_if_all_sets_have_one_field(n_circles):
    """Five sets of one field are not five times as many circles."""
    values = simulate_measured(0.1, n_circles, n_toys=1000, above=1.645)
    assert is_at_most(values, 1.645, 0.06)
    assert is_at_most(values, 3, 0.002)


def test_nothing_that_is_above_is_lost():
    arguments = 0.1, 400, 120, 5, 500
    every, above = (simulate_calibrated(*arguments, above=_) for _ in (-np.inf, 1.645))
    assert_allclose(every[every > 1.645], above[above > 1.645])
