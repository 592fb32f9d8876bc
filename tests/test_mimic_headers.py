"""Headers of mimics, and the index of their stores, tell of target and OFF field."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz
from gammapy.data import DataStore, Observations
from numpy.testing import assert_allclose

from gammapy_mimic import MimicMaker
from gammapy_mimic.data import write_datastore

from .helpers import find_data, need_runs, remove_location

NAMES = ("RA", "DEC", "ALT", "AZ", "ZEN")


def edit(observation, remove=(), **keys):
    """Observation in memory with other keys in its header."""
    observation = observation.copy(in_memory=True)
    header = observation.events.table.meta
    for key in remove:
        header.pop(key, None)
    header.update(keys)
    return observation


def get_altaz(observation):
    """Altitude and azimuth of the pointing in the middle, by astropy."""
    gti, location = observation.gti, observation.observatory_earth_location
    middle = gti.time_start[0] + (gti.time_stop[-1] - gti.time_start[0]) / 2
    frame = AltAz(obstime=middle, location=location)
    position = observation.pointing.fixed_icrs.transform_to(frame)
    return {"ALT": position.alt.deg, "AZ": position.az.deg}


def make_mimic(target, off, **options):
    maker = MimicMaker(Observations([off]), {target.obs_id: off.obs_id}, **options)
    return maker.make_observation(target)


class TestHeader:
    @pytest.mark.parametrize("time", ["target", "off"])
    @pytest.mark.parametrize("remove", [["ALT_PNT", "AZ_PNT", "ZEN_PNT"], ["AZ_PNT"]])
    @pytest.mark.parametrize("of_target", [True, False])
    def test_what_it_lacks_is_computed(self, stores, remove, of_target, time):
        target, off = stores["targets"].obs(1), stores["off"].obs(101)
        edited = edit(target if of_target else off, remove)
        pair = (edited, off) if of_target else (target, edited)
        header = make_mimic(*pair, time=time).events.table.meta
        for observation, suffix in ((target, "PNT"), (off, "ORG")):
            original = observation.events.table.meta
            expected = get_altaz(observation)
            for name in ("ALT", "AZ"):
                # rounded, and of the middle without dead time
                value = header[f"{name}_{suffix}"]
                assert_allclose(value, original[f"{name}_PNT"], atol=0.01)
                if f"{name}_PNT" in remove and of_target == (suffix == "PNT"):
                    assert_allclose(value, expected[name], atol=1e-6)
        assert edited.events.table.meta.get("AZ_PNT") is None

    def test_zenith_alone(self, stores):
        off = edit(stores["off"].obs(101), ["ALT_PNT", "AZ_PNT"], ZEN_PNT=33.0)
        header = make_mimic(stores["targets"].obs(1), off).events.table.meta
        assert (header["ALT_ORG"], header["ZEN_ORG"]) == (57.0, 33.0)

    def test_no_number(self, stores):
        off = edit(stores["off"].obs(101), ["ZEN_PNT"], ALT_PNT="", AZ_PNT="none")
        header = make_mimic(stores["targets"].obs(1), off).events.table.meta
        expected = get_altaz(off)
        assert_allclose(header["ALT_ORG"], expected["ALT"], atol=1e-6)
        assert_allclose(header["AZ_ORG"], expected["AZ"], atol=1e-6)

    def test_never_that_of_the_other(self, stores):
        """Without a location nothing can be computed."""
        names = [f"{_}_PNT" for _ in ("ALT", "AZ", "ZEN")]
        target = remove_location(edit(stores["targets"].obs(1), names))
        header = make_mimic(target, stores["off"].obs(101)).events.table.meta
        assert "ALT_ORG" in header
        assert not set(names) & set(header)

    def test_mimic_of_a_mimic(self, stores):
        first = make_mimic(stores["targets"].obs(1), stores["off"].obs(101))
        again = make_mimic(stores["targets"].obs(2), edit(first, XY_ORG=1.0))
        header = again.events.table.meta
        assert header["MIM_OBS"] == 1
        assert_allclose(header["RA_ORG"], first.pointing.fixed_icrs.ra.deg)
        assert "XY_ORG" not in header


def check_index(observations, store, names):
    """The index has the pointing of the target, and that of the OFF observation."""
    table = store.obs_table
    for observation in observations:
        header = observation.events.table.meta
        (row,) = table[table["OBS_ID"] == observation.obs_id]
        for name in names:
            for suffix in ("PNT", "ORG"):
                assert row[f"{name}_{suffix}"] == header[f"{name}_{suffix}"]
        for suffix in ("PNT", "ORG"):
            assert row[f"ZEN_{suffix}"] + row[f"ALT_{suffix}"] == pytest.approx(90)
    for name in NAMES:
        assert table[f"{name}_ORG"].unit == u.deg


class TestIndex:
    def test_simulated(self, stores, tmp_path):
        maker = MimicMaker(stores["off"], {1: 101, 2: 106, 3: 103})
        mimics = maker.make_observations(stores["targets"].get_observations())
        write_datastore(mimics, tmp_path / "mimics")
        check_index(mimics, DataStore.from_dir(tmp_path / "mimics"), NAMES)

    @pytest.mark.parametrize("n_mimics", [0, 1])
    def test_not_of_what_is_no_mimic(self, stores, tmp_path, n_mimics):
        observations = [stores["targets"].obs(2)]
        if n_mimics:
            first = stores["targets"].obs(1)
            observations.append(make_mimic(first, stores["off"].obs(101)))
        write_datastore(observations, tmp_path / "store")
        table = DataStore.from_dir(tmp_path / "store").obs_table
        assert ("RA_ORG" in table.colnames) == bool(n_mimics)
        if n_mimics:
            values = np.ma.filled(table["ALT_ORG"][table["OBS_ID"] == 2], np.nan)
            assert np.isnan(values).all()

    def test_conditions_of_gadf(self, stores, tmp_path):
        keys = {"TRGRATE": 310.0, "ZTRGRATE": 300.0, "BROKPIX": 0.02}
        keys |= {"AIRTEMP": 12.5, "PRESSURE": 820.0, "RELHUM": 0.3, "NSBLEVEL": 1.5}
        off = edit(stores["off"].obs(101), **keys)
        write_datastore([make_mimic(stores["targets"].obs(1), off)], tmp_path / "store")
        (row,) = DataStore.from_dir(tmp_path / "store").obs_table
        assert {key: row[key] for key in keys} == keys
        units = [row.table[_].unit for _ in ("TRGRATE", "AIRTEMP", "PRESSURE")]
        assert units == [u.Hz, u.deg_C, u.hPa]

    @pytest.mark.parametrize(
        ("folder", "pairs", "names"),
        [
            (["hess-dl3-dr1"], {23523: 20275, 20136: 20339}, NAMES[:4]),
            (["veritas", "crab-point-like-ED"], {64080: 64081}, NAMES[:4]),
        ],
    )
    def test_real(self, tmp_path, folder, pairs, names):
        store = DataStore.from_dir(find_data(*folder))
        obs_ids = need_runs(store, *pairs, *pairs.values())[: len(pairs)]
        targets = store.get_observations(obs_ids, required_irf=[])
        mimics = MimicMaker(store, pairs).make_observations(targets)
        write_datastore(mimics, tmp_path / "mimics")
        check_index(mimics, DataStore.from_dir(tmp_path / "mimics"), names)
        original, made = store.obs_table, DataStore.from_dir(tmp_path / "mimics")
        for target, off in pairs.items():
            (row,) = made.obs_table[made.obs_table["OBS_ID"] == target]
            for name in ("ALT", "AZ"):
                for obs_id, suffix in ((target, "PNT"), (off, "ORG")):
                    (expected,) = original[original["OBS_ID"] == obs_id]
                    assert_allclose(
                        row[f"{name}_{suffix}"], expected[f"{name}_PNT"], atol=1e-4
                    )
