"""The prior of the norm of another observation, from few of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.intervals import get_mean_interval
from gammapy_mimic.estimators.run_spread import measure_run_spread


@pytest.mark.parametrize("n_runs", [3, 4, 8])
def test_prior_is_that_of_student(n_runs):
    """Where errors are small, as for one more of n Gaussian values."""
    values = 1 + 0.1 * np.random.default_rng(n_runs).normal(size=n_runs)
    result = measure_run_spread(values, np.full(n_runs, 1e-3))
    error = np.std(values, ddof=1) * np.sqrt(1 + 1 / n_runs)
    exact = get_mean_interval(0, error, n_runs - 1).high
    assert_allclose(result.other_err, exact, rtol=0.05)
