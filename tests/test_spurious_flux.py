"""The spurious flux, by hand."""

import astropy.units as u
import numpy as np
from astropy.table import Table
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.flux import average_flux
from gammapy_mimic.estimators.measurement import ALL

UNIT = u.Unit("cm-2 s-1")
VALUES = np.array([-1.2, 0.4, 0.9, 2.0, -0.3, 0.1])


def test_mean_and_scatter_of_spurious_flux():
    """The error of the mean is that of a set over the root of their number."""
    flux = VALUES * 1e-13 * UNIT
    table = Table({"name": [f"mimic_{_}" for _ in range(len(flux))], "flux": flux})
    table["band"] = ALL
    table["e_min"], table["e_max"] = 1 * u.TeV, 10 * u.TeV
    table["flux_err"] = table["flux_ul"] = 5e-14 * flux.unit
    (row,) = average_flux(table)
    assert_allclose(row["mean"], np.mean(flux.value))
    assert_allclose(row["std"], np.std(flux.value, ddof=1))
    assert_allclose(row["mean_err"], row["std"] / np.sqrt(6))
    assert_allclose(row["statistical_err"], 5e-14)
    assert row["n_sets"] == 6


def test_error_of_a_mean_is_not_below_that_of_counts():
    """Sets may agree by chance."""
    table = Table({"name": ["mimic_1", "mimic_2"], "flux": [1.0, 1.0] * UNIT})
    table["band"] = ALL
    table["e_min"], table["e_max"] = 1 * u.TeV, 10 * u.TeV
    table["flux_err"] = table["flux_ul"] = 2 * UNIT
    (row,) = average_flux(table)
    assert_allclose(row["mean_err"], 2 / np.sqrt(2))
