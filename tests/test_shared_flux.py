"""Spurious fluxes of sets that share events."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.flux import SpuriousFlux, describe_flux

N_SETS = 5


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_spread_is_that_of_sets_that_share_nothing(share):
    """What sets have in common is not in their scatter, but it is in a target's."""
    rng, shape, noise = np.random.default_rng(0), (2000, N_SETS), 0.5
    own, common = rng.normal(size=shape), rng.normal(size=(shape[0], 1))
    flux = np.hypot(1, noise) * (np.sqrt(1 - share) * own + np.sqrt(share) * common)
    repetition = 1 + (N_SETS - 1) * share
    results = [describe_flux(_, np.full(N_SETS, noise), repetition) for _ in flux]
    results = SpuriousFlux(*np.transpose(results))
    assert_allclose(np.mean(results.std**2), 1 + noise**2, rtol=0.06)
    # what is not negative is a bit too large
    assert 0.97 < np.mean(results.spread**2) < 1.2
    other = rng.normal(size=shape[0])
    inside = (other > -results.sys_errp) & (other < results.sys_errn)
    assert np.mean(inside) > 0.6


def test_sets_of_the_same_events_tell_no_spread():
    result = describe_flux(np.array([1.0, 1.1, 0.9]), np.full(3, 0.5), 3.0)
    assert np.isnan([result.std, result.spread, result.sys_errn]).all()
    assert_allclose(result.mean_err, 0.5)
