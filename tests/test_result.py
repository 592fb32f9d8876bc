"""The result of the estimator has types, and the estimator is one of Gammapy."""

import dataclasses

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from gammapy.datasets import Datasets
from gammapy.estimators import Estimator
from gammapy.maps import Map
from gammapy.modeling.models import PointSpatialModel, PowerLawSpectralModel
from gammapy.stats import CashCountsStatistic, WStatCountsStatistic
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion
from scipy import stats

from gammapy_mimic.estimators import (
    MimicSystematics,
    MimicSystematicsEstimator,
    Verdict,
)
from gammapy_mimic.estimators.measurement import ALL, get_bands
from gammapy_mimic.estimators.statistics import get_expected_mean
from gammapy_mimic.report import make_answer, make_report

from .test_systematics_faults import CENTER, make_geom, make_sets

EDGES = [1, 3.162, 10] * u.TeV


@pytest.fixture(scope="module")
def result():
    """Three sets and a target, in two bands of energy."""
    geom = make_geom(width=2, n_energies=2)
    *sets, target = make_sets(n_sets=4, geom=geom)
    estimator = MimicSystematicsEstimator("0.1 deg", EDGES, position=CENTER)
    return estimator.run(sets, target)


# Bands, names and positions


def test_bands(result):
    """A band is a column, whatever the order of rows."""
    assert [_.band for _ in result.bands] == ["0", "1", ALL]
    assert_allclose(result.bands[1].e_min.to_value("GeV"), 3162.27766)
    for name in ("significance", "systematics", "maximum", "position"):
        table = result.tables[name]
        assert set(table["band"]) == {"0", "1", ALL}, name
        shuffled = {**result.tables, name: table[::-1]}
        other = dataclasses.replace(result, tables=shuffled)
        assert str(other.judgement) == str(result.judgement)
        for band in (0, "1", ALL):
            before, after = (_.select(name, band)[0] for _ in (result, other))
            rows = result.select(name, band)[::-1]
            assert after["e_min"] == before["e_min"] == rows[0]["e_min"]
    assert [_.band for _ in get_bands([1, 10] * u.TeV)] == [ALL]


def test_select(result):
    (row,) = result.select("significance", 1, name="mimic_2")
    assert (row["name"], row["band"]) == ("mimic_2", "1")
    assert len(result.select("significance", band=None, name="target")) == 3
    match = r"'significance' has no band 2. Choose from \['0', '1', 'all'\]"
    with pytest.raises(ValueError, match=match):
        result.select("significance", 2)
    with pytest.raises(ValueError, match=r"no name 'mimic_9'. Choose from \['mimic_1'"):
        result.select("significance", name="mimic_9")
    with pytest.raises(ValueError, match=r"no column 'set'. Choose from \['name'"):
        result.select("significance", set="mimic_1")
    with pytest.raises(ValueError, match="no table 'bias'"):
        result.select("bias")


def test_maps_have_the_bands_as_an_axis(result):
    assert result.names == ["mimic_1", "mimic_2", "mimic_3"]
    assert list(result.maps) == list(result.background) == [*result.names, "target"]
    maps = result.maps["target"]
    axis = maps.bands.geom.axes["energy"]
    edges = [_.e_min for _ in result.bands[:2]] + [result.bands[1].e_max]
    assert_allclose(axis.edges.value, u.Quantity(edges).value)
    assert_array_equal(maps.get_image(1).data, maps.bands.data[1])
    assert_array_equal(maps.get_image().data, maps.total.data[0])
    for band in (-1, 2, "low"):
        with pytest.raises(
            ValueError, match=rf"no band {band!r}, choose from \['0', '1"
        ):
            maps.get_image(band)
    # what the tables describe
    for band in (0, 1, ALL):
        for name in (*result.names, "target", ALL):
            values = result.get_significance(name, band)
            (row,) = result.select("significance", band, name=name)
            assert row["n_positions"] == len(values)
            assert_allclose([row["mean"], row["width"]], [values.mean(), values.std()])
            assert row["n_above_3"] == np.sum(values > 3)


def test_position_is_a_position(result, tmp_path):
    result.write(tmp_path / "result.fits")
    again = MimicSystematics.read(tmp_path / "result.fits")
    for _ in (result, again):
        assert isinstance(_.position, SkyCoord)
        assert _.position.separation(CENTER) < 1e-12 * u.deg
        assert isinstance(_.correlation_radius, Angle)
        assert _.correlation_radius == Angle("0.1 deg")
    assert str(again.judgement) == str(result.judgement)


def test_names_of_sets_are_kept(tmp_path):
    """Also in upper and lower case, and with spaces."""
    names = ["A", "a", "not scrambled"]
    geom = make_geom(width=1)
    sets = dict(zip(names, make_sets(n_sets=3, geom=geom), strict=True))
    result = MimicSystematicsEstimator().run(sets)
    result.write(tmp_path / "result.fits")
    again = MimicSystematics.read(tmp_path / "result.fits")
    assert again.names == list(again.maps) == names
    for name in names:
        assert_array_equal(again.maps[name].total.data, result.maps[name].total.data)


# Verdict


def test_verdict_is_a_value():
    *sets, target = make_sets(n_sets=4, geom=make_geom(width=1.5))
    result = MimicSystematicsEstimator().run(sets)
    assert result.judgement.question == "systematics"
    assert result.judgement.excess is None
    source = target[0].copy(name="source")
    source.counts.data[0, 15, 15] += 300
    result = MimicSystematicsEstimator().run(sets, source)
    excess = result.judgement.excess
    assert result.judgement.question == "maximum"
    assert excess.verdict is Verdict.NOT_EXPLAINED
    assert (excess.n_larger, excess.number) == (0, 10_000)
    assert excess.p_value == 1 / 10_001
    (row,) = result.select("maximum")
    assert (excess.mean, excess.spread) == (row["mimic_mean"], row["mimic_std"])
    assert result.judgement.has_source
    assert result.judgement.few_sets


# Expected mean


@pytest.mark.parametrize("alpha", [0, 0.2, 1, 3])
@pytest.mark.parametrize("background", [20, 60])
def test_mean_of_a_perfect_background(alpha, background):
    """Against the sum over all counts."""
    n_on = np.arange(0, 10 * background)
    p_on = stats.poisson.pmf(n_on, background)
    if alpha == 0:
        values, weights = CashCountsStatistic(n_on, background).sqrt_ts, p_on
    else:
        n_on, n_off = np.meshgrid(n_on, np.arange(0, int(10 * background / alpha)))
        weights = p_on * stats.poisson.pmf(n_off, background / alpha)
        values = WStatCountsStatistic(n_on, n_off, alpha).sqrt_ts
    mean = np.sum(weights * np.nan_to_num(values))
    expected = get_expected_mean(background / (1 + alpha), alpha)
    assert_allclose(mean, expected, atol=2e-3, rtol=0.1)


# One set


@pytest.mark.slow
def test_one_set(caplog, tmp_path):
    """Its maps, mean and width are there; what sets are needed for is not known."""
    *sets, target = make_sets(n_sets=4)
    result = MimicSystematicsEstimator("0.1 deg", position=CENTER).run(sets[:1], target)
    assert "There is one mimic set" in caplog.text
    three = MimicSystematicsEstimator("0.1 deg").run(sets)
    assert_array_equal(
        result.maps["mimic_1"].total.data, three.maps["mimic_1"].total.data
    )
    rows = [_.select("significance", name="mimic_1")[0] for _ in (result, three)]
    total = result.select("significance", name=ALL)[0]
    for name in ("mean", "mean_err", "expected_mean", "width", "width_err"):
        assert rows[0][name] == rows[1][name] == total[name]
    (row,) = result.select("systematics")
    # a spread between positions is known of one set, that between sets is not
    names = ("mean", "width", "delta", "delta_err", "f_squared", "f_ul", "total_ul")
    assert np.isfinite([row[_] for _ in names]).all()
    for name in ("mean_err", "width_err", "n_runs"):
        assert np.isnan(row[name]), name
    assert "not measurable: the mimics are worth 1.0 independent OFF" in str(result)
    assert not result.judgement.biased
    result.write(tmp_path / "result.fits")
    again = MimicSystematics.read(tmp_path / "result.fits")
    assert str(again) == str(result)
    make_report(again, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nan" not in " ".join(make_answer(again).lines)
    assert "There is one mimic set: the scatter between sets is not known" in text


# An estimator of Gammapy


def test_estimator():
    mask = Map.from_geom(make_geom().to_image(), data=True, dtype=bool)
    options = {
        "correlation_radius": "0.2 deg",
        "energy_edges": EDGES,
        "position": CENTER,
        "exclusion_mask": mask,
        "offset_edges": [0, 60] * u.arcmin,
        "radii": [6, 30] * u.arcmin,
        "regions": [CircleSkyRegion(CENTER, 0.3 * u.deg)],
        "nights": {1: "2004-01-01"},
        "min_background": 5,
        "spectral_model": PowerLawSpectralModel(),
        "spatial_model": PointSpatialModel(),
        "flux": False,
        "n_jobs": 2,
    }
    estimator = MimicSystematicsEstimator(**options)
    assert isinstance(estimator, Estimator)
    assert estimator.config_parameters.keys() == options.keys()
    assert_allclose(estimator.config_parameters["offset_edges"].to_value("deg"), [0, 1])
    text = str(estimator)
    assert all(name in text for name in options)
    copy = estimator.copy()
    copy.correlation_radius = "0.3 deg"
    assert estimator.correlation_radius == Angle("0.2 deg")
    assert copy.correlation_radius == Angle("0.3 deg")
    assert copy.position is not estimator.position


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("correlation_radius", "-0.1 deg", "a positive angle"),
        ("correlation_radius", ["0.1 deg", "0.2 deg"], "a positive angle"),
        ("energy_edges", [10, 1] * u.TeV, "two or more and rise.*"),
        ("energy_edges", 1 * u.TeV, "two or more and rise.*"),
        ("offset_edges", [1, 1] * u.deg, "two or more and rise.*"),
        ("position", "83 deg, 22 deg", "a SkyCoord"),
        ("position", SkyCoord([1, 2], [3, 4], unit="deg"), "a SkyCoord"),
        ("exclusion_mask", np.ones(3), "a Map"),
        ("spectral_model", "pl", "a SpectralModel"),
        ("min_background", -1, "a number, 0 or more"),
        ("min_background", np.nan, "a number, 0 or more"),
        ("n_jobs", 0, "a whole number, 1 or more"),
    ],
)
def test_attributes_are_checked(name, value, match):
    """When they are given, and when they are set."""
    with pytest.raises(ValueError, match=rf"{name} must be {match}, got"):
        MimicSystematicsEstimator(**{name: value})
    estimator = MimicSystematicsEstimator()
    before = getattr(estimator, name)
    with pytest.raises(ValueError, match=rf"{name} must be {match}, got"):
        setattr(estimator, name, value)
    assert getattr(estimator, name) is before


def test_attributes_have_units():
    estimator = MimicSystematicsEstimator()
    with pytest.raises(ValueError, match=r"energy_edges must be .* like TeV, got.*deg"):
        estimator.energy_edges = [1, 2] * u.deg
    estimator.energy_edges = [1000, 2000] * u.GeV
    assert_allclose(estimator.energy_edges.value, [1, 2])
    with pytest.raises(AttributeError, match="has no parameter 'correlation_radus'"):
        estimator.correlation_radus = "0.2 deg"


def test_radius_that_was_set_later_is_used():
    sets = make_sets(n_sets=2, geom=make_geom(width=1))
    estimator = MimicSystematicsEstimator("0.1 deg")
    estimator.correlation_radius = "0.2 deg"
    before = MimicSystematicsEstimator("0.2 deg").run(sets)
    assert str(estimator.run(Datasets(_) for _ in sets)) == str(before)
