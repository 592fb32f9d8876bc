"""Effective areas at the energies compared count in the distance."""

import copy
import logging
import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from gammapy.data import DataStore, Observations
from gammapy.irf import EffectiveAreaTable2D
from gammapy.maps import MapAxis
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.data.irfs import interpolate_area
from gammapy_mimic.selection import MatchCriteria, OffIndex
from gammapy_mimic.selection.binning import FoVBinning
from gammapy_mimic.selection.conditions import Conditions, get_scatter
from gammapy_mimic.selection.ranking import rank_observations
from gammapy_mimic.simulate import make_irfs, make_point_like, simulate_observations

from .helpers import make_obs_table, replace
from .test_common_bins import make_candidates, make_shape

CENTERS = FoVBinning.create().energy_centers
CURVE = 1e5 * CENTERS**0.3
OPEN = {"livetime": None, "airmass": None, "galactic_latitude": None, "zenith": None}


def make_index(factors, first=1, seed=0):
    """Index of observations of one shape, with areas that differ by factors."""
    rng = np.random.default_rng(seed)
    index = make_candidates(rng, len(factors), shape=make_shape(), first=first)
    return set_areas(index, np.outer(factors, CURVE))


def set_areas(index, aeff):
    arrays = index.counts, index.fraction
    return OffIndex(index.table, *arrays, index.binning, aeff=np.asarray(aeff))


def rank(target, off, **criteria):
    criteria = MatchCriteria(**OPEN, field_radius="0.1 deg", **criteria)
    table = rank_observations(target, off, criteria)
    table.sort("OFF_OBS_ID")
    return table


def get_ratios(target, off, is_compared=None):
    is_compared = np.ones(len(CENTERS), bool) if is_compared is None else is_compared
    return off.conditions.get_area_ratios(target.conditions[0], is_compared)


@pytest.fixture(scope="module")
def observations():
    return simulate_observations(3, zenith=("20 deg", "50 deg"))


class TestRead:
    @pytest.mark.parametrize("make", [dict, make_point_like])
    def test_as_gammapy_does(self, observations, make):
        """Of all events, or of those in a circle; the same from a file."""
        observation = observations[0]
        aeff = make(make_irfs("35 deg"))["aeff"]
        held = replace(observation, aeff=aeff)
        index = OffIndex.create(Observations([held]))
        expected = aeff.evaluate(energy_true=CENTERS * u.TeV, offset=0.5 * u.deg)
        assert_allclose(index.aeff[0], expected.to_value("m2"), rtol=1e-6)
        table = aeff.to_table_hdu().data
        assert_allclose(interpolate_area(table, CENTERS), index.aeff[0], rtol=1e-6)

    def test_units(self):
        aeff = make_irfs("35 deg")["aeff"]
        table = aeff.to_table()
        expected = interpolate_area(table, CENTERS)
        table["EFFAREA"] = table["EFFAREA"].quantity.to("cm2")
        for name, unit in {"ENERG": "GeV", "THETA": "rad"}.items():
            for end in ("LO", "HI"):
                table[f"{name}_{end}"] = table[f"{name}_{end}"].quantity.to(unit)
        assert_allclose(interpolate_area(table, CENTERS), expected)

    @pytest.mark.parametrize("offset", [0.0, 0.4, 0.7])
    def test_single_offset(self, offset):
        """Archives of point-like IRFs may have one offset only."""
        axes = [
            MapAxis.from_energy_edges([1, 10, 100] * u.TeV, name="energy_true"),
            MapAxis.from_nodes([offset] * u.deg, name="offset"),
        ]
        data = [[3e4], [5e4]] * u.m**2
        table = EffectiveAreaTable2D(axes=axes, data=data).to_table()
        area = interpolate_area(table, np.array([2, 10**0.5, 10, 10**1.5, 40]))
        assert_allclose(area, [np.nan, 3e4, 4e4, 5e4, np.nan])

    def test_odd_tables(self):
        table = make_irfs("35 deg")["aeff"].to_table()
        table["ENERG_LO"][0, :4] = table["ENERG_LO"][0, 3]
        table["ENERG_HI"][0, :4] = table["ENERG_HI"][0, 3]
        with pytest.raises(ValueError, match="energies or offsets that do not rise"):
            interpolate_area(table, CENTERS)
        del table["EFFAREA"]
        with pytest.raises(KeyError, match="EFFAREA"):
            interpolate_area(table, CENTERS)

    def test_unknown_areas_are_no_fault(self, observations):
        aeff = copy.deepcopy(observations[1].aeff)
        aeff.data[aeff.axes["energy_true"].center < 2 * u.TeV] = np.nan
        parts = [
            replace(observations[0], aeff=None),
            replace(observations[1], aeff=aeff),
        ]
        index = OffIndex.create(Observations([*parts, observations[2]]))
        assert len(index) == 3
        assert np.isnan(index.aeff[0]).all()
        assert np.isnan(index.aeff[1, :2]).all()
        assert np.all(index.aeff[1, 3:] > 0)
        assert np.all(index.aeff[2] > 0)

    def test_table_of_another_kind(self, stores, tmp_path):
        folder = stores["off"].hdu_table.base_dir
        shutil.copytree(folder, tmp_path / "store")
        store = DataStore.from_dir(tmp_path / "store")
        expected = OffIndex.create(store)
        location = store.hdu_table.hdu_location(101, "aeff")
        name = location.hdu_name
        for hdu in (
            fits.ImageHDU(np.ones((2, 2)), name=name),
            fits.BinTableHDU(Table({"SPECRESP": [1.0]}), name=name),
        ):
            with fits.open(location.path(), memmap=False) as hdu_list:
                hdu_list[name] = hdu
                hdu_list.writeto(location.path(), overwrite=True)
            index = OffIndex.create(store)
            assert np.isnan(index.aeff[0]).all()
            assert_array_equal(index.aeff[1:], expected.aeff[1:])
            assert_array_equal(index.counts, expected.counts)


class TestIndex:
    def test_round_trip_and_update(self, stores, tmp_path):
        store = stores["off"]
        index = OffIndex.create(store)
        assert index.aeff.shape == (8, len(CENTERS))
        assert np.all(index.aeff > 0)
        index.write(tmp_path / "index.fits")
        other = OffIndex.read(tmp_path / "index.fits")
        assert_array_equal(other.aeff, index.aeff)
        part = OffIndex.create(store.get_observations([103, 104, 106]))
        assert_array_equal(part.update(store).aeff, index.aeff)
        assert part.update(store).checksum == index.checksum
        assert_array_equal(index.select([103, 106]).aeff, index.aeff[[2, 5]])
        changed = index.aeff.copy()
        changed[3, 2] *= 1.001
        assert set_areas(index, changed).checksum != index.checksum
        with pytest.raises(ValueError, match="read-only"):
            index.aeff[0] = 1

    def test_older_index_is_made_anew(self, stores, tmp_path):
        index = OffIndex.create(stores["off"])
        index.write(tmp_path / "index.fits")
        fits.setval(tmp_path / "index.fits", "IDX_VERS", value=3)
        with pytest.raises(ValueError, match="version 3 .* version 6. Create it anew"):
            OffIndex.read(tmp_path / "index.fits")


class TestRatio:
    def test_factor_of_two(self):
        """All by ln 2, and no difference between candidates changes."""
        factors = np.random.default_rng(1).lognormal(0, 0.2, 12)
        target, off = make_index([1.0], first=1000), make_index(factors)
        ratios = get_ratios(target, off)
        assert_allclose(ratios, np.log(factors))
        double = set_areas(off, 2 * off.aeff)
        assert_allclose(get_ratios(target, double) - ratios, np.log(2))
        both = get_ratios(set_areas(target, 2 * target.aeff), double)
        assert_allclose(both, ratios, atol=1e-12)
        # both ways
        back = [get_ratios(off.select([_]), target)[0] for _ in off.obs_ids]
        assert_allclose(back, -ratios)

    def test_energies_that_are_compared_count_alike(self):
        target, off = make_index([1.0], first=1000), make_index([1.0, 1.0])
        slopes = np.exp(np.outer([0.1, -0.2], np.arange(8)))
        off = set_areas(off, off.aeff * slopes)
        is_compared = np.arange(8) >= 5
        ratios = get_ratios(target, off, is_compared)
        assert_allclose(ratios, [0.1 * 6, -0.2 * 6])
        # whatever stands in the others
        other = np.where(is_compared, off.aeff, np.nan)
        assert_allclose(get_ratios(target, set_areas(off, other), is_compared), ratios)
        assert np.isnan(get_ratios(target, off, np.zeros(8, bool))).all()

    def test_zero_is_not_known(self):
        target, off = make_index([1.0], first=1000), make_index([2.0, 2.0, 2.0])
        areas = off.aeff.copy()
        areas[0, :6], areas[1] = 0, 0
        ratios = get_ratios(target, set_areas(off, areas))
        assert_allclose(ratios, [np.log(2), np.nan, np.log(2)])


class TestDistance:
    def test_formula(self):
        """By the robust scatter of the archive, or by the limit."""
        factors = np.random.default_rng(2).lognormal(0, 0.2, 30)
        target, off = make_index([1.0], first=1000), make_index(factors)
        weights = {"rate": 0}
        distance = rank(target, off, weights=weights)["DISTANCE"]
        expected = np.abs(np.log(factors))
        assert_allclose(distance, expected / get_scatter(np.log(factors)))
        options = {"weights": weights | {"effective_area": 4}, "effective_area": 1.3}
        table = rank(target, off, **options)
        assert_allclose(table["DISTANCE"], 2 * expected / np.log(1.3))
        is_refused = np.array(table["REASONS"]) == "effective_area"
        assert 0 < is_refused.sum() < 30
        assert_array_equal(is_refused, expected > np.log(1.3))
        weights["effective_area"] = 0
        assert not rank(target, off, weights=weights)["DISTANCE"].any()

    def test_two_instruments(self):
        """The nearest are those of the target's instrument."""
        rng = np.random.default_rng(3)
        is_large = np.arange(40) % 2 == 0
        factors = rng.lognormal(np.where(is_large, np.log(1.5), 0), 0.05)
        off = make_index(factors)
        for factor, own in ((1.5, is_large), (1.0, ~is_large)):
            target = make_index([factor], first=1000)
            table = rank(target, off)
            nearest = np.argsort(table["DISTANCE"])[:20]
            assert own[nearest].all()
            # without areas nothing tells them apart
            blank = set_areas(off, np.full_like(off.aeff, np.nan))
            nearest = np.argsort(rank(target, blank)["DISTANCE"])[:20]
            assert not own[nearest].all()

    def test_most_of_one_instrument(self):
        """What is equal for most of an archive tells the others from them."""
        factors = np.where(np.arange(40) < 28, 1.0, 1.5)
        for factor in (1.0, 1.5):
            table = rank(make_index([factor], first=1000), make_index(factors))
            nearest = np.argsort(table["DISTANCE"])[: np.sum(factors == factor)]
            assert np.all(factors[nearest] == factor)

    def test_unknown(self, caplog):
        """As far as a scale if the target's is known, else it does not count."""
        factors = np.random.default_rng(4).lognormal(0, 0.2, 30)
        target, off = make_index([1.0], first=1000), make_index(factors)
        areas = off.aeff.copy()
        areas[3] = np.nan
        options = {"weights": {"rate": 0}, "effective_area": 2}
        table = rank(target, set_areas(off, areas), **options)
        assert_allclose(table["DISTANCE"][3], 1)
        assert table["STATUS"][3] != "rejected"
        blank = set_areas(target, np.full_like(target.aeff, np.nan))
        assert "effective_area" not in caplog.text
        assert not rank(blank, off, **options)["DISTANCE"].any()
        # who asks for a limit is told, once
        message = "No column in the observation table for ['effective_area']"
        assert caplog.text.count(message) == 1
        with pytest.raises(ValueError, match=r"Set \['effective_area'\] to None"):
            rank(blank, off, strict=True, muon_efficiency=None, **options)

    def test_default_needs_none(self, caplog):
        blank = Conditions.from_obs_table(
            make_obs_table({"OBS_ID": [1], "RA_PNT": [2.0], "DEC_PNT": [3.0]}),
            np.full((1, 8), np.nan),
        )
        assert blank.effective_area is None
        with caplog.at_level(logging.WARNING):
            MatchCriteria(**OPEN).check_columns(blank)
        assert caplog.text == ""
