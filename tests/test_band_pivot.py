"""Covariance of bands where a norm was fitted: a tilt pivots at most counts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.band_covariance import fit_covariance

from .band_toys import (
    BAND_BACKGROUND,
    N_BANDS,
    X,
    draw_mimics,
    fit_norms,
    measure,
    simulate_fits,
)

SIZE = 0.05
WEIGHTS = BAND_BACKGROUND / BAND_BACKGROUND.sum()
PIVOT = WEIGHTS @ X


@pytest.mark.parametrize("noise", [1 / BAND_BACKGROUND, np.full(N_BANDS, 1e-9)])
def test_tilt_around_any_energy(noise):
    """Its error is 0 there, and bands on both sides are anticorrelated."""
    for pivot in (PIVOT, 0.0, 1.0, X[-1]):
        true = 0.02**2 * np.outer(X - pivot, X - pivot)
        fitted = fit_covariance(true, noise, X)
        assert_allclose(fitted, true, atol=1e-3 * np.trace(true))
    true = 0.02**2 * np.outer(X - PIVOT, X - PIVOT)
    fitted = fit_covariance(true, noise, X)
    assert np.sqrt(WEIGHTS @ fitted @ WEIGHTS) < 0.01 * np.sqrt(np.trace(true))
    assert fitted[0, -1] < -0.99 * np.sqrt(fitted[0, 0] * fitted[-1, -1])


def test_what_a_norm_makes_of_single_bands():
    """The first has most of the counts, and what it is wrong goes to all others."""
    left = np.eye(N_BANDS) - WEIGHTS
    true = SIZE**2 * left @ left.T
    fitted = fit_covariance(true, 1 / BAND_BACKGROUND, X, WEIGHTS)
    assert_allclose(fitted, true, atol=0.02 * SIZE**2)


def test_fitted_covariance_is_one_and_not_below_the_moments():
    rng = np.random.default_rng(0)
    for weights in (0.0, WEIGHTS):
        for _ in range(20):
            moments = rng.normal(size=(N_BANDS, N_BANDS))
            moments = SIZE**2 * (moments + moments.T)
            fitted = fit_covariance(moments, 1 / BAND_BACKGROUND, X, weights)
            assert np.linalg.eigvalsh(fitted).min() > -1e-9
            assert np.all(np.diag(fitted) > np.diag(moments) - 1e-9)


def test_tilt_after_a_fitted_norm():
    """The sum of all bands is what was fitted."""
    rng = np.random.default_rng(1)
    spread = []
    for _ in range(10):
        fitted, shares = fit_norms(draw_mimics(rng, "tilt", SIZE, scale=10))
        spread.append(measure(fitted, norm_shares=shares).spread)
    spread = np.mean(spread, axis=0)
    slope = (X - PIVOT) / np.sqrt(np.mean(X**2))
    assert_allclose(np.sqrt(WEIGHTS @ spread @ WEIGHTS), 0, atol=0.2 * SIZE)
    assert_allclose(np.sqrt(spread[-1, -1]), SIZE * slope[-1], rtol=0.3)
    assert spread[0, -1] < 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tilt", "bands"])
def test_intervals_after_a_fitted_norm(kind):
    """68% hold the truth with the penalty.

    Without, about as many: the norm takes most of such an error away.
    """
    covered = simulate_fits(kind, SIZE, "runs", n_toys=60, has_norm=True)
    assert_allclose(covered["with"].mean(axis=0), 0.68, atol=0.18)
