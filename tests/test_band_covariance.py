"""Covariance of the error of a background between bands, from counts alone."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.aperture_counts import ApertureCounts
from gammapy_mimic.estimators.band_covariance import fit_covariance

from .band_toys import (
    BAND_BACKGROUND,
    LOG_ENERGY,
    N_APERTURES,
    N_BANDS,
    N_SETS,
    X,
    draw_mimics,
    fit_norms,
    get_truth,
    measure,
    simulate_fits,
)

SIZE = 0.05


def measure_toys(n_toys, *args, seed=0, **options):
    """Spread of each toy. Shape (n_toys, n_bands, n_bands)."""
    rng = np.random.default_rng(seed)
    return np.array(
        [measure(draw_mimics(rng, *args, **options)).spread for _ in range(n_toys)]
    )


@pytest.mark.parametrize(
    ("kind", "level"), [("norm", "runs"), ("tilt", "apertures"), ("bands", "runs")]
)
def test_spread_is_that_of_targets(kind, level):
    """Whether the errors are those of runs, which a set averages, or of places."""
    values = measure_toys(25, kind, SIZE, level, scale=10)
    error = values.std(axis=0) / np.sqrt(len(values))
    difference = np.abs(values.mean(axis=0) - get_truth(kind, SIZE))
    # what is not negative is a bit too large where nothing is planted
    assert np.all(difference < 4 * error + 0.15 * SIZE**2)


def test_spread_of_apertures_is_not_divided_by_runs():
    """An error that all runs have does not shrink with their number."""
    few, many = (
        np.trace(measure_toys(8, "norm", SIZE, "apertures", n_runs=_, scale=10).mean(0))
        for _ in (12, 40)
    )
    assert_allclose(few, many, rtol=0.5)


def test_no_error():
    """Counts alone make no spread that matters, and a covariance that is positive."""
    result = measure(draw_mimics(np.random.default_rng(0), "norm", 0.0))
    n_counts = N_SETS * N_APERTURES * BAND_BACKGROUND
    assert np.all(result.delta_err > 0.9 / np.sqrt(n_counts))
    assert np.all(np.sqrt(np.diag(result.spread)) < 0.7 / np.sqrt(BAND_BACKGROUND))
    assert np.linalg.eigvalsh(result.covariance).min() > 0
    assert np.all(np.abs(result.delta) < 5 * result.delta_err)


def test_noise_of_a_template_is_taken_out():
    """It is the same in all sets, and independent in the bands."""
    rng = np.random.default_rng(3)
    noise = 0.1
    counts = draw_mimics(rng, "norm", 0.0, scale=10)
    changed = [
        ApertureCounts(_.counts, _.background / rng.normal(1, noise, N_APERTURES))
        for _ in counts
    ]
    with_noise = measure(changed).spread
    assert_allclose(np.trace(with_noise), N_BANDS * noise**2, rtol=0.4)
    without = measure(changed, template_variances=np.full(N_BANDS, noise**2)).spread
    assert np.trace(without) < 0.4 * np.trace(with_noise)


def test_runs_that_are_not_known():
    """Each set is one, and there are fewer degrees of freedom."""
    counts = draw_mimics(np.random.default_rng(1), "norm", SIZE, n_runs=30)
    known = measure(counts)
    sums = [[_.sum(axis=0) for _ in (one.counts, one.background)] for one in counts]
    unknown = measure([ApertureCounts(*_) for _ in sums])
    assert_allclose(unknown.delta, known.delta)
    assert unknown.dof < known.dof
    with pytest.raises(ValueError, match=r"2\.0 independent .*, fewer than 3"):
        measure([ApertureCounts(a[:2], b[:2]) for a, b in sums])


def test_measured_background():
    """OFF counts have noise of their own, which is no spread."""
    rng = np.random.default_rng(6)
    for size in (0.0, SIZE):
        counts = [
            ApertureCounts(
                one.counts,
                counts_off=rng.poisson(one.background * 5),
                alpha=np.where(one.background > 0, 0.2, 0),
            )
            for one in draw_mimics(rng, "norm", size, "apertures", scale=10)
        ]
        result = measure(counts)
        root = np.sqrt(np.diag(result.spread))
        assert_allclose(root[:3], size, atol=0.02)
        assert np.all(np.abs(result.delta) < 5 * result.delta_err)


def test_places_and_parts():
    """Of spectra, apertures are parts of the target, and no places of their own."""
    counts = draw_mimics(np.random.default_rng(2), "bands", SIZE, "apertures")
    places, parts = (measure(counts, has_places=_) for _ in (True, False))
    assert_allclose(np.trace(places.spread), N_BANDS * SIZE**2, rtol=0.6)
    assert np.trace(parts.spread) < 0.5 * np.trace(places.spread)


def test_norm_that_was_fitted_to_all_bands():
    """What a fit takes from one band and gives to another is no error of bands."""
    rng = np.random.default_rng(4)
    moments = []
    for _ in range(20):
        fitted, shares = fit_norms(draw_mimics(rng, "norm", SIZE))
        moments.append(measure(fitted, norm_shares=shares).spread)
    largest = np.mean(moments, axis=0)[:2, :2]
    assert_allclose(largest, 0, atol=0.03 * SIZE**2)


def test_shared_runs_count_once():
    """The same sets once more tell nothing more."""
    counts = draw_mimics(np.random.default_rng(5), "norm", SIZE)
    twice = [
        dataclasses.replace(
            one,
            counts=np.tile(one.counts, (1, 2, 1)),
            background=np.tile(one.background, (1, 2, 1)),
            runs=np.tile(one.runs, (1, 2)),
        )
        for one in counts
    ]
    once, twice = measure(counts), measure(twice)
    assert_allclose(twice.spread, once.spread, atol=0.1 * SIZE**2)
    assert_allclose(twice.delta_err, once.delta_err, rtol=0.1)
    assert_allclose(twice.dof, once.dof, rtol=0.3)


def test_fit_of_norm_tilt_and_diagonal():
    """Exact for what it is, and never negative."""
    own = np.arange(N_BANDS) * 1e-4
    true = 1e-3 + 2e-4 * np.outer(X, X) + np.diag(own)
    assert_allclose(fit_covariance(true, np.full(N_BANDS, 1e-3), X), true)
    assert_allclose(fit_covariance(-true, np.full(N_BANDS, 1e-3), X), 0, atol=1e-12)
    assert_allclose(LOG_ENERGY - LOG_ENERGY.mean(), X)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["norm", "bands"])
def test_intervals_of_flux_and_index(kind):
    """68% hold the truth with the penalty, and far fewer without."""
    covered = simulate_fits(kind, SIZE, "runs", n_toys=60)
    assert_allclose(covered["with"].mean(axis=0), 0.68, atol=0.18)
    assert np.all(covered["without"].mean(axis=0) < 0.45)


def test_noise_of_the_template_of_the_target():
    """It is an error of the background as well: intervals of fits cover the truth."""
    covered = simulate_fits("norm", 0.01, "apertures", n_toys=60, template_err=0.04)
    error = np.sqrt(0.68 * 0.32 / 60)
    for values in covered["with"].T:
        assert abs(values.mean() - 0.69) < 2.5 * error
    assert covered["without"].mean() < 0.5


def test_template_of_the_target_may_be_another():
    counts = draw_mimics(np.random.default_rng(0), "norm", 0.01, template_err=0.05)
    options = {"template_variances": np.full(N_BANDS, 0.05**2)}
    same, exact, larger = (
        measure(counts, **options | others)
        for others in ({}, {"target_variances": 0.0}, {"target_variances": 0.1**2})
    )
    assert_allclose(same.spread, exact.spread)
    assert_allclose(same.covariance - exact.covariance, 0.05**2 * np.eye(N_BANDS))
    assert_allclose(larger.covariance - exact.covariance, 0.1**2 * np.eye(N_BANDS))
    assert_allclose(same.delta_err, larger.delta_err)
    # of spectra, the scatter of runs has it already
    for others in ({}, {"target_variances": 0.1**2}):
        spectra = measure(counts, has_places=False, **options | others)
        assert_allclose(
            spectra.covariance, measure(counts, has_places=False).covariance
        )
