"""What is known of the spread of a field that all mimic sets have."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.aperture_counts import ApertureCounts
from gammapy_mimic.estimators.calibration import calibrate_significance
from gammapy_mimic.estimators.counting import BandCounts

N_RUNS, MEAN = 10, 40


def draw_counts(rng, n_circles, n_sets, spread=0.1):
    """Sets of runs of their own, which have the errors of a field in common."""
    field = 1 + rng.normal(0, spread, n_circles)
    used = np.kron(np.eye(n_sets), np.ones((N_RUNS, 1)))[..., np.newaxis]
    counts = rng.poisson(MEAN * field, (N_RUNS * n_sets, 1, n_circles)) * used
    counts = ApertureCounts(counts, MEAN * used * np.ones(n_circles))
    return BandCounts(counts, np.zeros((n_sets, n_circles)))


@pytest.mark.parametrize("n_sets", [1, 5, 20])
def test_sets_make_no_circles(n_sets):
    """A field of six circles is as good as unknown, however often it is measured."""
    counts = draw_counts(np.random.default_rng(0), 6, n_sets)
    systematic = counts.find_systematic()
    assert_allclose(systematic.f_dof, 5)
    result = counts.measure()
    variance = result.f_squared_err**2 + result.field_err**2
    square = max(result.f_squared, 0) + 1 / systematic.f_background
    assert_allclose(2 * square**2 / systematic.f_dof, variance)


def test_noise_of_many_sets():
    """Sets tell the errors of circles better."""
    rng = np.random.default_rng(0)
    few, many = (draw_counts(rng, 30, n).find_systematic() for n in (2, 20))
    assert_allclose(few.f_squared, 0.01, rtol=0.6)
    assert few.f_dof == many.f_dof
    assert many.f_background > 3 * few.f_background > 3 * MEAN * N_RUNS / 2


def test_two_circles():
    """They are enough for a calibration, as one is."""
    rng = np.random.default_rng(0)
    for n_circles in (1, 2):
        known = draw_counts(rng, n_circles, 5).find_systematic()._asdict()
        del known["set_variance"]
        calibration = calibrate_significance(5.0, 400.0, **known)
        assert 0 < calibration.significance < 5
