"""Names and values that a result or its estimator cannot use are named."""

import dataclasses

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from gammapy.maps import Map, MapAxis
from numpy.testing import assert_array_equal

from gammapy_mimic.estimators import (
    MimicSystematics,
    MimicSystematicsEstimator,
    make_bias_map,
)
from gammapy_mimic.estimators.checks import to_sets

from .test_systematics import make_spectra
from .test_systematics_faults import CENTER, make_geom, make_sets

NAMES = ["Wolter ä", "b", "c"]


@pytest.fixture(scope="module")
def result():
    """Maps of sets with a name that is not ASCII, and a flux."""
    geom = make_geom(width=1)
    sets = dict(zip(NAMES, make_sets(n_sets=3, geom=geom), strict=True))
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=1, name="energy_true")
    exposure = Map.from_geom(geom.to_image().to_cube([axis]), unit="m2 s", data=1e10)
    for datasets in sets.values():
        datasets[0].exposure = exposure
    return MimicSystematicsEstimator(position=CENTER).run(sets)


@pytest.fixture(scope="module")
def spectra():
    return MimicSystematicsEstimator().run(make_spectra(0, n_sets=3))


def test_names_that_fits_would_change():
    sets = make_sets(n_sets=2, geom=make_geom(width=1))
    for name in ("a ", " a", "", "a\n"):
        with pytest.raises(ValueError, match="spaces") as error:
            to_sets(dict(zip(["a", name], sets, strict=True)))
        assert repr(name) in str(error.value)


def test_round_trip_of_names_and_units(result, tmp_path):
    result.write(tmp_path / "result.fits")
    again = MimicSystematics.read(tmp_path / "result.fits")
    assert again.names == list(again.maps) == result.names == NAMES
    assert again.missing == result.missing
    assert result.tables.keys() == again.tables.keys() >= {"flux", "spurious_flux"}
    for name, table in result.tables.items():
        for column in table.colnames:
            before, after = table[column], again.tables[name][column]
            assert before.unit == after.unit, (name, column)
            assert_array_equal(before, after)


def test_result_can_be_compared(result):
    """A table or an array has no == that is one value: a result is itself alone."""
    assert result == result
    tables = {name: table.copy() for name, table in result.tables.items()}
    assert result != dataclasses.replace(result, tables=tables)
    bias = make_bias_map([], [1, 10] * u.TeV)
    assert bias != dataclasses.replace(bias, ratio=bias.ratio.copy())
    assert len({result, result.maps["b"], result.maps["c"]}) == 3
    assert result.maps["b"] != result.maps["c"]


def test_table_without_bands(result):
    tables = {**result.tables, "losses": Table({"name": ["b", "c"]})}
    result = MimicSystematics(tables, result.correlation_radius, 10)
    assert len(result.select("losses")) == 2
    assert len(result.select("losses", name="b")) == 1
    with pytest.raises(ValueError, match="'losses' has no column 'band'"):
        result.select("losses", 0)


def test_maps_that_there_are_not(result, spectra):
    for function in (result.get_significance, lambda _: result.plot_map(name=_)):
        with pytest.raises(ValueError, match=r"no map of 'd'. Choose from \['Wolter"):
            function("d")
    with pytest.raises(ValueError, match="no map of 'd'"):
        result.plot_distribution(names=["d"])
    for function in (
        spectra.get_significance,
        spectra.plot_map,
        spectra.plot_distribution,
    ):
        with pytest.raises(
            ValueError, match=r"no map of .*Spectra have none: use plot_maximum"
        ):
            function()


def test_plots_that_there_are_not(result, spectra):
    with pytest.raises(ValueError, match=r"no bias map: .*datasets.stack = false"):
        result.plot_bias()
    for function in (spectra.plot_bias, lambda: spectra.apply_bias_correction(None)):
        with pytest.raises(ValueError, match="no bias map: .*spectra"):
            function()
    with pytest.raises(ValueError, match=r"by: 'offse'. Choose from .*'offset'"):
        result.plot_systematics(by="offse")
    biased = dataclasses.replace(result, bias=make_bias_map([], [1, 10] * u.TeV))
    with pytest.raises(ValueError, match=r"band 1. Choose from 0 to 0"):
        biased.plot_bias(band=1)
    with pytest.raises(ValueError, match="quantity: 'rato'. Choose from .*'ratio'"):
        biased.plot_bias(quantity="rato")
    other = MimicSystematicsEstimator().run(make_sets(n_sets=2, geom=make_geom(1)))
    with pytest.raises(ValueError, match="no table 'flux': it was not asked for"):
        other.plot_flux()


@pytest.mark.parametrize("value", [None, "10", [10, 20], 10 * u.one, np.inf])
def test_min_background(value):
    match = "min_background must be a number, 0 or more, got"
    with pytest.raises(ValueError, match=match):
        MimicSystematicsEstimator(min_background=value)
    MimicSystematicsEstimator(min_background=np.float32(5))


@pytest.mark.parametrize("value", ["2", 1.5, [2], 2 * u.one])
def test_n_jobs(value):
    with pytest.raises(ValueError, match="n_jobs must be a whole number"):
        MimicSystematicsEstimator(n_jobs=value)
    MimicSystematicsEstimator(n_jobs=np.int64(2))


@pytest.mark.parametrize(
    "value",
    [
        "low",
        [0, 1] * u.TeV,
        [-1, 1] * u.TeV,
        [1, np.inf] * u.TeV,
        [1, np.nan] * u.TeV,
        [[1, 2], [3, 4]] * u.TeV,
        ["a", "b"],
        [1, 2],
    ],
)
def test_energy_edges(value):
    with pytest.raises(ValueError, match="energy_edges must be .*rise.* like TeV, got"):
        MimicSystematicsEstimator(energy_edges=value)


@pytest.mark.parametrize("value", [None, 0.1, "wide", "1 TeV"])
def test_correlation_radius(value):
    with pytest.raises(ValueError, match="correlation_radius must be .*, got"):
        MimicSystematicsEstimator(value)


@pytest.mark.parametrize("value", ["wide", [-1, 1] * u.deg, [0, np.inf] * u.deg])
def test_offset_edges(value):
    with pytest.raises(ValueError, match="offset_edges must be .*rise.* like deg, got"):
        MimicSystematicsEstimator(offset_edges=value)
    MimicSystematicsEstimator(offset_edges=[0, 1] * u.deg)


def test_misspelt_parameter():
    for value in (None, CENTER):
        with pytest.raises(AttributeError, match="no parameter 'positon'"):
            MimicSystematicsEstimator().positon = value
