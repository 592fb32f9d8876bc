"""Columns of moved events that follow from their position and time."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, angular_separation
from astropy.table import Column
from astropy.time import Time
from astropy.utils import iers
from gammapy.data import DataStore, Observations
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import MimicMaker, ScrambleMaker
from gammapy_mimic.utils.coordinates import get_altaz

from .helpers import find_data, remove_location

ARCSEC = 1 / 3600
SITES = {
    "hess": EarthLocation(lon=16.50 * u.deg, lat=-23.27 * u.deg, height=1835 * u.m),
    "veritas": EarthLocation(lon=-110.95 * u.deg, lat=31.67 * u.deg, height=1277 * u.m),
}


def transform(position, times, location):
    return position.transform_to(AltAz(obstime=times, location=location))


def add_columns(observation):
    """Event columns with an own unit and description, and values that are wrong."""
    observation = observation.copy(in_memory=True)
    table = observation.events.table
    number = len(table)
    table["ALT"] = Column(np.zeros(number, "f4"), unit="rad", description="altitude")
    table["AZ"] = Column(np.zeros(number), description="azimuth")
    table["GLON"] = Column(np.zeros(number), unit="deg")
    return observation


def check_columns(observation):
    """The law: events are as far from the pointing as they are on the sky."""
    table = observation.events.table
    assert "GLON" not in table.colnames
    assert (table["ALT"].unit, table["AZ"].unit) == (u.rad, u.deg)
    assert table["ALT"].description == "altitude"
    alt, az = (table[_].quantity.to_value("deg") for _ in ("ALT", "AZ"))
    assert np.all((az >= 0) & (az < 360))
    location = observation.observatory_earth_location
    pointing = observation.pointing.fixed_icrs
    frame = transform(pointing, observation.events.time, location)
    angles = np.radians([az, alt, frame.az.deg, frame.alt.deg])
    offset = np.degrees(angular_separation(*angles))
    # aberration differs over the field of view
    expected = observation.events.radec.separation(pointing).deg
    assert_allclose(offset, expected, atol=2 * ARCSEC)
    expected = transform(observation.events.radec, observation.events.time, location)
    separation = SkyCoord(az, alt, unit="deg").separation(
        SkyCoord(expected.az.deg, expected.alt.deg, unit="deg")
    )
    assert separation.arcsec.max() < 0.1


class TestGetAltAz:
    @pytest.mark.parametrize("site", SITES)
    @pytest.mark.parametrize(("hours", "arcsec"), [(0.25, 0.05), (1, 0.2), (24, 1.5)])
    def test_is_that_of_astropy(self, site, hours, arcsec):
        rng = np.random.default_rng(0)
        seconds = rng.uniform(-3600, 3600, 200) * hours
        lon = rng.uniform(0, 360, 200)
        lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
        for date in ("2004-03-26T02:57:46", "2012-10-13T11:00:00"):
            reference = Time(date, scale="tt")
            alt, az = get_altaz(lon, lat, seconds, reference, SITES[site])
            position = SkyCoord(lon, lat, unit="deg")
            expected = transform(position, reference + seconds * u.s, SITES[site])
            result = SkyCoord(az, alt, unit="deg")
            expected = SkyCoord(expected.az.deg, expected.alt.deg, unit="deg")
            assert result.separation(expected).arcsec.max() < arcsec

    def test_needs_no_network(self, monkeypatch):
        """Also for times that no table has, whatever the user has set."""
        monkeypatch.setattr(iers.conf, "auto_download", True)

        def download(*args, **kwargs):
            raise AssertionError("download")

        monkeypatch.setattr(iers.iers, "download_file", download)
        monkeypatch.setattr(iers.IERS_Auto, "iers_table", None)
        with warnings.catch_warnings(action="error"):
            for date in ("1965-01-01", "2019-01-01", "2055-01-01"):
                args = Time(date, scale="tt"), SITES["hess"]
                alt, _ = get_altaz(np.array([10.0]), np.array([-20.0]), [0.0], *args)
                assert np.isfinite(alt).all()
        assert iers.conf.auto_download


class TestMimics:
    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "obs_id"), [("off", 101), ("altaz", 201)])
    @pytest.mark.parametrize("time", ["target", "off"])
    def test_columns_hold(self, stores, name, obs_id, time):
        if (name, time) == ("altaz", "off"):
            pytest.skip("not allowed")
        off = Observations([add_columns(stores[name].obs(obs_id))])
        maker = MimicMaker(off, {1: obs_id}, time=time)
        check_columns(maker.make_observation(stores["targets"].obs(1)))
        assert_array_equal(off[0].events.table["AZ"], 0)

    def test_without_location_they_are_left_out(self, stores):
        off = remove_location(add_columns(stores["off"].obs(101)))
        target = remove_location(stores["targets"].obs(1).copy(in_memory=True))
        mimic = MimicMaker(Observations([off]), {1: 101}).make_observation(target)
        assert not {"ALT", "AZ", "GLON"} & set(mimic.events.table.colnames)

    def test_unit_that_is_no_angle(self, stores):
        off = add_columns(stores["off"].obs(101))
        off.events.table["ALT"].unit = "m"
        maker = MimicMaker(Observations([off]), {1: 101})
        names = maker.make_observation(stores["targets"].obs(1)).events.table.colnames
        assert "ALT" not in names
        assert "AZ" in names


class TestScrambled:
    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["annulus", "fill", "azimuth"])
    def test_columns_hold(self, stores, method):
        observation = add_columns(stores["off"].obs(101))
        position = observation.pointing.fixed_icrs
        position = position.directional_offset_by(0 * u.deg, 0.7 * u.deg)
        region = CircleSkyRegion(position, 0.3 * u.deg)
        maker = ScrambleMaker([region], method, random_state=1)
        made = maker.make_observation(observation)
        assert made.events.table.meta["SCR_NEVT"] > 0
        check_columns(made)

    def test_untouched_observation_keeps_its_columns(self, stores):
        observation = add_columns(stores["off"].obs(101))
        region = CircleSkyRegion(SkyCoord(0, 89, unit="deg"), 0.3 * u.deg)
        made = ScrambleMaker([region]).make_observation(observation)
        assert "GLON" in made.events.table.colnames
        assert_array_equal(made.events.table["AZ"], 0)


def test_veritas():
    """Its ALT and AZ are without precession, 0.18 deg away from those of astropy."""
    store = DataStore.from_dir(find_data("veritas", "crab-point-like-ED"))
    first, second = (store.obs(_, required_irf=[]) for _ in store.obs_ids[:2])
    plan = {first.obs_id: second.obs_id}
    mimic = MimicMaker(store, plan).make_observation(first)
    table, old = mimic.events.table, second.events.table
    for name in ("ALT", "AZ"):
        assert table[name].unit == old[name].unit == u.deg
    location = first.observatory_earth_location
    expected = transform(mimic.events.radec, mimic.events.time, location)
    result = SkyCoord(table["AZ"], table["ALT"])
    expected = SkyCoord(expected.az, expected.alt)
    assert result.separation(expected).arcsec.max() < 0.1
