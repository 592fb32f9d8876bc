"""What mimics say about a position, by hand: calibrated significance, and flux."""

import astropy.units as u
import numpy as np
from astropy.table import Table
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.flux import average_flux
from gammapy_mimic.estimators.measurement import ALL, Measurement, get_bands
from gammapy_mimic.estimators.tables import TARGET, Comparison, tabulate_position

VALUES = np.array([-1.2, 0.4, 0.9, 2.0, -0.3, 0.1])
VALUE = 4.0


def compare_spectra(values):
    """Observations that are stacked: one value for each mimic set."""
    measurements = [
        Measurement(None, None, None, np.array([value]), None)
        for value in [*values, VALUE]
    ]
    names = [*(f"mimic_{_}" for _ in range(len(values))), TARGET]
    measurements = dict(zip(names, measurements, strict=True))
    return Comparison(measurements, get_bands([1, 10] * u.TeV))


def test_mean_and_width_of_few_sets():
    (row,) = tabulate_position(compare_spectra(VALUES))
    width = np.std(VALUES, ddof=1)
    calibrated = (VALUE - VALUES.mean()) / width
    assert_allclose(row["significance"], VALUE)
    assert_allclose(row["mimic_mean"], VALUES.mean())
    assert_allclose(row["mimic_width"], width)
    assert_allclose(row["calibrated"], calibrated)
    # errors of the mean and, in quadrature, of the width
    error = np.sqrt(1 / 5 + calibrated**2 / (2 * 5))
    assert_allclose(row["calibrated_err"], error)
    assert (row["n_larger"], row["n_sample"]) == (0, 6)
    assert_allclose(row["p_value"], 1 / 7)


def test_one_set_has_no_width():
    (row,) = tabulate_position(compare_spectra(VALUES[:1]))
    assert np.isnan([row["mimic_width"], row["calibrated"]]).all()


def test_mean_and_scatter_of_spurious_flux():
    """The error of the mean is that of a set over the root of their number."""
    flux = VALUES * 1e-13 * u.Unit("cm-2 s-1")
    table = Table({"name": [f"mimic_{_}" for _ in range(len(flux))], "flux": flux})
    table["band"] = ALL
    table["e_min"], table["e_max"] = 1 * u.TeV, 10 * u.TeV
    table["flux_err"] = table["flux_ul"] = 2e-13 * flux.unit
    (row,) = average_flux(table)
    assert_allclose(row["mean"], np.mean(flux.value))
    assert_allclose(row["std"], np.std(flux.value, ddof=1))
    assert_allclose(row["mean_err"], row["std"] / np.sqrt(6))
    assert_allclose(row["statistical_err"], 2e-13)
    assert row["n_sets"] == 6
