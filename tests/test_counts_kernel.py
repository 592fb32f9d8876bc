"""Bias and spread of a background from counts, with errors that know of shared runs."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from gammapy_mimic.estimators.aperture_counts import ApertureCounts
from gammapy_mimic.estimators.bias_spread import measure_bias_spread
from gammapy_mimic.estimators.intervals import get_square_interval, take_root
from gammapy_mimic.estimators.run_spread import measure_run_spread

from .counts_toys import (
    Toy,
    draw_apertures,
    draw_on_off,
    draw_template,
    get_mean,
    measure_norm_toys,
    measure_toys,
)


def average(draw, n_toys=150, seed=0, **options):
    """Mean of f squared and its error, and the scatter over the quoted error."""
    rng = np.random.default_rng(seed)
    results = [measure_bias_spread(draw(rng), **options) for _ in range(n_toys)]
    squares = [_.f_squared for _ in results]
    quoted = np.mean([_.f_squared_err for _ in results])
    return *get_mean(squares), np.std(squares) / quoted


def make_counts(seed=0, n_runs=20, n_sets=3, n=30, mean=20, spread=0.05):
    """Runs that all sets have."""
    rng = np.random.default_rng(seed)
    field = 1 + rng.normal(0, spread, n)
    counts = rng.poisson(mean * field, (n_runs, n))[:, np.newaxis]
    counts = np.repeat(counts, n_sets, axis=1)
    return ApertureCounts(counts, np.full(counts.shape, float(mean)))


# No bias


@pytest.mark.parametrize("mean", [2, 3, 5, 10])
def test_nothing_planted_gives_nothing(mean):
    square, error, pull = average(lambda rng: draw_apertures(rng, mean))
    assert abs(square) < 2.5 * error
    # far below what it was: 20, 15, 7 and 3.5%
    assert error < {2: 0.20, 3: 0.15, 5: 0.07, 10: 0.035}[mean] ** 2 / 3
    assert 0.8 < pull < 1.15


def test_a_bias_makes_no_spread():
    square, error, _ = average(lambda rng: draw_apertures(rng, 100, delta=0.14))
    assert abs(square) < 2.5 * error
    assert error < 0.038**2 / 20


@pytest.mark.parametrize(
    ("mean", "alpha", "spread"), [(12, 0.2, 0.08), (20, 1.0, 0.15), (20, 0.5, 0.08)]
)
def test_spread_of_on_off_counts(mean, alpha, spread):
    square, error, _ = average(lambda rng: draw_on_off(rng, mean, alpha, spread))
    assert abs(square - spread**2) < max(2.5 * error, 0.05 * spread**2)


@pytest.mark.parametrize("mean", [2, 12])
def test_nothing_planted_in_on_off_counts(mean):
    square, error, pull = average(lambda rng: draw_on_off(rng, mean, 1.0))
    assert abs(square) < 2.5 * error
    assert error < 0.004
    assert 0.8 < pull < 1.15


def test_bias_of_on_off_counts():
    rng = np.random.default_rng(0)
    results = [
        measure_bias_spread(draw_on_off(rng, 20, 0.5, 0.05, delta=0.2))
        for _ in range(100)
    ]
    delta, error = get_mean([_.delta.value for _ in results])
    assert abs(delta - 0.2) < 2.5 * error


def test_no_bias_for_any_total():
    """Given their sum, counts without error have an f squared of exactly 0."""
    # all but 1e-17 of the outcomes
    n = np.arange(450, 751)
    counts = [ApertureCounts([[_, 1200 - _]], [[600.0, 600.0]]) for _ in n]
    values = [measure_bias_spread(_).f_squared for _ in counts]
    mean = np.sum(stats.binom.pmf(n, 1200, 0.5) * values)
    assert_allclose(mean, 0, atol=1e-12)


def test_noise_of_the_template_is_no_spread():
    for spread in (0, 0.05):
        square, error, pull = average(
            lambda rng, spread=spread: draw_template(rng, 100, 400, spread),
            template_counts=400,
        )
        assert abs(square - spread**2) < 2.5 * error
        assert 0.8 < pull < 1.2


def test_fitted_norm():
    """A norm fitted to the field of view takes its share from the error of delta."""
    rng, share, n, mean = np.random.default_rng(0), 0.5, 20, 50
    deltas, errors, squares = [], [], []
    for _ in range(400):
        counts = rng.poisson(mean, (1, n))
        norm = (counts.sum() + rng.poisson(mean * n)) / (2 * mean * n)
        result = measure_bias_spread(
            ApertureCounts(counts, np.full((1, n), mean * norm)), norm_share=share / n
        )
        deltas.append(result.delta.value)
        errors.append(result.delta.error)
        squares.append(result.f_squared)
    assert_allclose(np.std(deltas), np.mean(errors), rtol=0.1)
    square, error = get_mean(squares)
    assert abs(square) < 2.5 * error


# Errors that know of shared runs


@pytest.mark.parametrize("n_runs", [20, pytest.param(45, marks=pytest.mark.slow)])
@pytest.mark.parametrize("spread", [0, 0.05, 0.1])
def test_coverage(n_runs, spread):
    values = measure_toys(Toy(spread, n_runs, delta=0.1), 200)
    covered = {name: np.mean(_) for name, _ in values.items() if "%" in name}
    # 3 standard errors below 64 and 93%, and above 72 and 97% where f is measured
    for name, part in covered.items():
        assert part > (0.54 if "68%" in name else 0.875), name
    if spread == 0.1:
        for name in ("f", "f_other", "total", "total_other"):
            assert covered[f"{name} 68%"] < 0.8
            assert covered[f"{name} 95%"] < 0.995
    assert np.std(values["delta"]) < 1.15 * np.mean(values["delta_err"])
    bias, error = get_mean(values["f_squared"])
    assert abs(bias) < 3 * error


@pytest.mark.slow
def test_coverage_of_correlated_apertures():
    """Another field differs by more if neighbours have the same error."""
    values = measure_toys(Toy(0.1, scale=0.3, mean=200), 80)
    # without the correlation f of another field was covered by 35 and 73%
    for name in ("f", "f_other", "delta_other"):
        assert np.mean(values[f"{name} 68%"]) > 0.48
        assert np.mean(values[f"{name} 95%"]) > 0.845


@pytest.mark.slow
def test_errors_of_single_runs():
    values = measure_toys(Toy(0.05, run_spread=0.2), 200)
    bias, error = get_mean(values["f_squared"])
    assert abs(bias) < 3 * error
    assert 0.85 < np.std(values["f_squared"]) / np.mean(values["f_squared_err"]) < 1.15


def test_a_copy_of_a_set_tells_nothing():
    one, five = (measure_bias_spread(make_counts(n_sets=_)) for _ in (1, 5))
    for name in ("delta", "f", "f_other", "total", "total_other"):
        assert_allclose(getattr(one, name)[:5], getattr(five, name)[:5], rtol=1e-6)
    assert one.n_runs == pytest.approx(five.n_runs)


def test_order_does_not_matter():
    counts = make_counts()
    rng = np.random.default_rng(1)
    order = [rng.permutation(_) for _ in counts.counts.shape]
    shuffled = ApertureCounts(
        counts.counts[np.ix_(*order)], counts.background[np.ix_(*order)]
    )
    first, second = measure_bias_spread(counts), measure_bias_spread(shuffled)
    assert_allclose(first.total[:5], second.total[:5])
    assert_allclose(first.f_other[:5], second.f_other[:5])


def test_nights():
    """Norms that a night has in common are one."""
    rng = np.random.default_rng(0)
    pulls = []
    for _ in range(100):
        norms = np.repeat(1 + rng.normal(0, 0.05, 8), 4)[:, np.newaxis, np.newaxis]
        counts = rng.poisson(50 * norms, (32, 1, 30))
        background = np.full(counts.shape, 50.0)
        night = np.arange(32) // 4
        result = measure_bias_spread(ApertureCounts(counts, background, runs=night))
        pulls.append(result.delta.value / result.delta.error)
    assert result.n_runs == pytest.approx(8)
    assert_allclose(np.std(pulls), np.sqrt(7 / 5), rtol=0.25)


def test_stacked_sets_say_that_runs_are_not_known():
    counts = make_counts()
    stacked = ApertureCounts(counts.counts.sum(axis=0), counts.background.sum(axis=0))
    known, unknown = measure_bias_spread(counts), measure_bias_spread(stacked)
    assert (known.has_runs, unknown.has_runs) == (True, False)
    assert np.isnan(unknown.n_runs)
    assert unknown.f_squared == pytest.approx(known.f_squared)
    assert unknown.delta.value == pytest.approx(known.delta.value)
    # three copies are taken for three sets
    assert unknown.delta.error < known.delta.error / 1.5


def test_no_error_below_that_of_counts():
    for seed in range(50):
        counts = make_counts(seed, n_runs=4, n_sets=1, spread=0)
        total = counts.counts.sum()
        result = measure_bias_spread(counts)
        assert result.delta.error >= np.sqrt(total) / counts.background.sum() * 0.999


def test_total_holds_bias_and_spread():
    result = measure_bias_spread(draw_apertures(np.random.default_rng(0), 400, 0.1))
    delta, f = result.delta.value, result.f.value
    assert result.total.value == pytest.approx(np.hypot(delta, f * (1 + delta)))
    assert result.total.low < result.total.value < result.total.high
    assert result.total.high < result.total.upper_limit
    row = result.total.to_row("total")
    names = ["total", "total_err", "total_lo", "total_hi", "total_ul"]
    assert list(row) == names
    assert row["total_ul"] == result.total.upper_limit


# What is not measurable


def test_too_few_runs():
    result = measure_bias_spread(make_counts(n_runs=2))
    assert not result.f.is_measurable
    assert np.isnan(result.total.value)
    for name in ("delta", "delta_other", "f", "f_other", "total", "total_other"):
        reason = getattr(result, name).reason
        assert reason.startswith("there are 2.0 independent OFF observations, fewer ")


def test_one_aperture_has_a_bias():
    result = measure_bias_spread(make_counts(n=1))
    assert result.delta.is_measurable
    assert result.delta.low < result.delta.value < result.delta.high
    assert result.f.reason == "the counts are in fewer than two independent apertures"
    assert result.total.reason == result.f.reason


def test_too_few_counts():
    result = measure_bias_spread(ApertureCounts([[1, 2, 0]], [[2.0, 2.0, 2.0]]))
    assert result.delta.reason == "there are 6.0 background counts, fewer than 10"
    result = measure_bias_spread(ApertureCounts(np.ones((1, 12)), np.ones((1, 12))))
    assert result.delta.is_measurable
    assert "would not be seen in these counts" in result.f.reason
    nothing = ApertureCounts(np.zeros((1, 12)), np.ones((1, 12)))
    assert measure_bias_spread(nothing).delta.reason.startswith("there are no counts")
    no_off = ApertureCounts(
        np.full((1, 3), 99), counts_off=np.zeros((1, 3)), alpha=np.ones((1, 3))
    )
    assert "no OFF counts" in measure_bias_spread(no_off).delta.reason


def test_apertures_without_prediction_are_left_out():
    counts = make_counts()
    values, background = counts.counts.copy(), counts.background.copy()
    background[..., :3] = 0
    first = measure_bias_spread(ApertureCounts(values, background))
    second = measure_bias_spread(ApertureCounts(values[..., 3:], background[..., 3:]))
    assert_allclose(first.f[:5], second.f[:5])
    assert_allclose(first.delta[:5], second.delta[:5])


def test_wrong_input():
    ones = np.ones((4, 2, 3))
    with pytest.raises(ValueError, match="Give either 'background', or"):
        ApertureCounts(ones)
    with pytest.raises(ValueError, match="or \\(n_sets, n_apertures\\) for stacked"):
        ApertureCounts(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="'background' must have the shape of"):
        ApertureCounts(ones, ones[0])
    with pytest.raises(ValueError, match="must be finite and not negative, got -1"):
        ApertureCounts(ones, -ones)
    with pytest.raises(ValueError, match="'runs' must have 4 names"):
        ApertureCounts(ones, ones, runs=[1, 2])
    counts = ApertureCounts(100 * ones, 100 * ones)
    with pytest.raises(ValueError, match="'positions' must have the shape \\(3, 2\\)"):
        measure_bias_spread(counts, positions=np.ones((2, 2)))
    with pytest.raises(ValueError, match="Apertures must be independent"):
        measure_bias_spread(counts, positions=np.ones((3, 2)))
    with pytest.raises(ValueError, match="'template_counts' must be above 0, got 0"):
        measure_bias_spread(counts, template_counts=0)
    with pytest.raises(ValueError, match="'norm_share' adds up to 1.5 in a set"):
        measure_bias_spread(counts, norm_share=0.5)
    # all that was scaled has no bias that could be measured
    assert measure_bias_spread(counts, norm_share=1 / 3).delta.error == 0


# Intervals


def test_interval_of_a_sum_of_squares_is_exact():
    """Squares of n Gaussians: the interval is that of chi2."""
    n, noise, square = 12, 0.3, 0.5
    interval = get_square_interval(square, noise, lambda x: 2 * (x + noise) ** 2 / n)
    for tail, end in zip((0.841345, 0.158655, 0.05), interval[2:5], strict=True):
        exact = n * (square + noise) / stats.chi2.ppf(tail, n) - noise
        assert_allclose(end, exact, rtol=1e-5)


def test_interval_of_other_squares_is_exact():
    interval = get_square_interval(0.5, 0, lambda x: 2 * x**2 / 12, n_other=20)
    assert_allclose(interval.upper_limit, 0.5 * stats.f.ppf(0.95, 20, 12), rtol=1e-5)


def test_a_negative_square_has_the_limit_of_zero():
    options = {"noise": 1.0, "get_variance": lambda x: (1 + x) ** 2 / 50}
    below, zero = (get_square_interval(_, **options) for _ in (-0.3, 0.0))
    assert below[2:5] == zero[2:5]
    assert take_root(below).value == 0
    assert take_root(below).error > 0


# Values of runs


@pytest.mark.parametrize(
    "n_runs", [25, *(pytest.param(_, marks=pytest.mark.slow) for _ in (18, 45))]
)
def test_coverage_of_norms(n_runs):
    values = measure_norm_toys(n_runs, 0.05, 0.03, 150)
    for name, covered in values.items():
        if "%" in name:
            assert np.mean(covered) > (0.56 if "68%" in name else 0.89), name
    for name in ("mean", "spread"):
        ratio = np.std(values[name]) / np.mean(values[f"{name}_err"])
        assert 0.8 < ratio < 1.2


def test_repeated_runs_are_one():
    rng = np.random.default_rng(0)
    values, errors = rng.normal(1, 0.05, 20), np.full(20, 0.02)
    once = measure_run_spread(values, errors)
    runs = np.tile(np.arange(20), 5)
    again = measure_run_spread(values[runs], errors[runs], runs)
    assert_allclose(once.spread[2:5], again.spread[2:5])
    assert_allclose(once.mean[:5], again.mean[:5])
    assert once.other_err == pytest.approx(again.other_err)
    assert (again.n_values, again.n_runs) == (100, 20)


def test_no_spread_has_a_limit():
    values = 1 + 0.001 * np.arange(-5, 6)
    result = measure_run_spread(values, np.full(11, 0.05))
    assert result.spread.value == result.spread.low == 0
    # of ten degrees of freedom, as if the values scattered by their errors
    limit = 0.05 * np.sqrt(10 / stats.chi2.ppf(0.05, 10) - 1)
    assert result.spread.upper_limit == pytest.approx(limit)
    # a prior is never narrower than what the mean is known to
    assert result.other_err > result.mean.error


def test_spread_of_two_runs_is_not_measurable():
    result = measure_run_spread([1, 2, 1], [0.1, 0.1, 0.1], ["a", "b", "a"])
    assert "2 different observations" in result.spread.reason
    assert np.isnan(result.other_err)
    with pytest.raises(ValueError, match="must have one shape"):
        measure_run_spread([1, 2], [0.1])
    with pytest.raises(ValueError, match="errors above 0, got 2.0 \\+- 0.0"):
        measure_run_spread([1, 2, 3], [0.1, 0, 0.1])
