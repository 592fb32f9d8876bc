"""Metadata that follow from the good time and the dead time are never copied."""

from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from gammapy.data import GTI, DataStore, Observations
from numpy.testing import assert_allclose
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.data import write_datastore
from gammapy_mimic.data.headers import derive_header
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.simulate import make_irfs, simulate_datastore, simulate_observations

from .helpers import ANY_CONDITIONS, cut_gti, replace_events

CRITERIA = {**ANY_CONDITIONS, "galactic_latitude": None}
DATES = {"DATE-OBS": "", "TIME-OBS": "", "DATE-END": "", "TIME-END": "", "DATE-AVG": ""}
N_OBS = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "store"
    irfs = partial(make_irfs, rate=0.1)
    return simulate_datastore(path, N_OBS, irfs=irfs, random_state=1)


def select_late(observation):
    interval = [observation.tstart + 10 * u.min, observation.gti.time_stop[-1]]
    return observation.select_time(Time(interval))


PARTS = {
    "whole": lambda _: _,
    "select_time": select_late,
    "in memory": lambda _: select_late(_.copy(in_memory=True)),
    "gap": cut_gti,
    "both": lambda _: select_late(cut_gti(_)),
}


def check_header(header, observation):
    """What is said of an observation is what it is."""
    gti = observation.gti
    reference = Time(header["MJDREFI"], header["MJDREFF"], format="mjd", scale="tt")
    start, stop = gti.time_start[0], gti.time_stop[-1]
    expected = {
        "ONTIME": gti.time_sum,
        "LIVETIME": observation.observation_live_time_duration,
        "TSTART": start - reference,
        "TSTOP": stop - reference,
    }
    for key, value in expected.items():
        assert_allclose(header[key], value.to_value("s"), rtol=1e-12, atol=1e-6)
        assert isinstance(header[key], float)
    assert_allclose(header["DEADC"], header["LIVETIME"] / header["ONTIME"])
    for suffix, time in {"OBS": start, "END": stop}.items():
        text = f"{header[f'DATE-{suffix}']}T{header[f'TIME-{suffix}']}"
        assert abs(Time(text, scale="tt") - time) < 1 * u.ms
    if "DATE-AVG" in header:
        middle = start + (stop - start) / 2
        assert abs(Time(header["DATE-AVG"], scale="tt") - middle) < 1 * u.ms
    assert_allclose(header["TELAPSE"], (stop - start).to_value("s"))


def check_time_info(observation):
    info, gti = observation.meta.time_info, observation.gti
    assert abs(info.time_start - gti.time_start[0]) < 1 * u.us
    assert abs(info.time_stop - gti.time_stop[-1]) < 1 * u.us


def check_store(path, observations):
    write_datastore(observations, path)
    store = DataStore.from_dir(path)
    for observation in observations:
        written = store.obs(observation.obs_id)
        check_header(written.events.table.meta, written)
        check_time_info(written)
        for name in ("observation_time_duration", "observation_live_time_duration"):
            value, expected = (getattr(_, name) for _ in (written, observation))
            assert_allclose(value.to_value("s"), expected.to_value("s"))
        is_row = store.obs_table["OBS_ID"] == observation.obs_id
        (row,) = store.obs_table[is_row]
        header = written.events.table.meta
        for key in ("ONTIME", "LIVETIME", "DEADC", "TSTART", "TSTOP"):
            assert_allclose(row[key], header[key], rtol=1e-12)
        assert row["EVENT_COUNT"] == count_good(observation)
        assert f"{row['DATE-OBS']}T{row['TIME-OBS']}" == written.tstart.tt.isot
    return store


def count_good(observation):
    time, gti = observation.events.time, observation.gti
    edges = zip(gti.time_start, gti.time_stop, strict=True)
    return int(np.any([(time >= low) & (time <= high) for low, high in edges], 0).sum())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("time", ["target", "off"])
def test_mimic(store, tmp_path, part, time):
    off, target = PARTS[part](store.obs(5)), store.obs(1)
    maker = MimicMaker(Observations([off]), {1: 5}, time=time)
    mimic = maker.make_observation(target)
    check_header(mimic.events.table.meta, mimic)
    check_time_info(mimic)
    for name in ("observation_time_duration", "observation_live_time_duration"):
        value, expected = (getattr(_, name).to_value("s") for _ in (mimic, off))
        assert_allclose(value, expected)
    assert len(mimic.events.table) == count_good(off) == count_good(mimic)
    begin = target if time == "target" else off
    assert abs(mimic.tstart - begin.tstart) < 1 * u.us
    check_store(tmp_path / "mimic", [mimic])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("method", ["annulus", "fill", "azimuth"])
def test_scramble(store, part, method):
    observation = PARTS[part](store.obs(5))
    center = observation.pointing.fixed_icrs.directional_offset_by(0 * u.deg, 1 * u.deg)
    region = CircleSkyRegion(center, 0.3 * u.deg)
    scrambled = ScrambleMaker([region], method).make_observation(observation)
    check_header(scrambled.events.table.meta, scrambled)
    check_time_info(scrambled)
    assert count_good(scrambled) == len(scrambled.events.table)
    # of a filtered observation, too, the good time is that of the observation
    gtis = [_.gti.time_sum.to_value("s") for _ in (scrambled, observation)]
    assert_allclose(*gtis)


@pytest.mark.parametrize("part", PARTS)
def test_index(store, tmp_path, part):
    observations = Observations([PARTS[part](store.obs(_)) for _ in (5, 6)])
    written = check_store(tmp_path / "part", observations)
    for pool in (observations, written, written.get_observations()):
        table = OffIndex.create(pool).table
        livetime = [_.observation_live_time_duration for _ in observations]
        assert_allclose(table["LIVETIME"].quantity.to("s"), u.Quantity(livetime, "s"))
        start = [(_.tstart - written.obs_table.time_ref) for _ in observations]
        assert_allclose(table["TSTART"], [_.to_value("s") for _ in start], atol=1e-5)
        assert table["EVENT_COUNT"].tolist() == [count_good(_) for _ in observations]


def test_time_request_counts_what_is_there(store, tmp_path):
    parts = Observations([select_late(store.obs(_)) for _ in range(5, 9)])
    write_datastore(parts, tmp_path / "parts")
    pools = parts, DataStore.from_dir(tmp_path / "parts")
    chosen = []
    for pool in pools:
        selector = KLBackgroundSelector(pool, CRITERIA, time_request="30 min")
        chosen.append(selector.select(store.obs(1))["OFF_OBS_ID"].tolist())
        meta = selector.make_background(store.obs(1)).meta
        livetime = parts[0].observation_live_time_duration.to_value("s")
        assert 1800 <= meta["LIVETIME"] < 1800 + livetime
    assert chosen[0] == chosen[1]


def test_edited_headers_are_not_believed(store, tmp_path):
    observation = store.obs(5).copy(in_memory=True)
    wrong = {"LIVETIME": 1.0, "ONTIME": 2.0, "TSTART": 3.0, "DATE-OBS": "never"}
    observation.events.table.meta.update(wrong)
    check_store(tmp_path / "x", [observation])


@pytest.mark.parametrize("scale", ["utc", "tai", "tt"])
def test_dates_are_in_the_time_scale_of_the_header(scale):
    reference = Time("2012-01-01", scale=scale)
    gti = GTI.create([100] * u.s, [200] * u.s, reference)
    header = {**DATES, "MJD-OBS": 0.0, "MJDREFI": 55927, "MJDREFF": 0.0}
    header["TIMESYS"] = scale
    keys = derive_header(header, gti, 0.5)
    assert_allclose([keys["TSTART"], keys["TSTOP"]], [100, 200], atol=1e-5)
    assert (keys["DATE-OBS"], keys["TIME-OBS"]) == ("2012-01-01", "00:01:40.000")
    assert keys["DATE-AVG"] == "2012-01-01T00:02:30.000"
    assert_allclose(keys["MJD-OBS"], 55927 + 100 / 86400)
    assert keys["TIMESYS"] == scale.upper()
    assert_allclose(keys["LIVETIME"], 50)


def select(store, table):
    hdu_table = store.hdu_table[store.hdu_table["OBS_ID"] > 4]
    off = DataStore(hdu_table, table)
    selector = KLBackgroundSelector(off, CRITERIA, time_request="40 min")
    return selector.select(store.obs(1))["OFF_OBS_ID"].tolist()


@pytest.fixture(scope="module")
def right(store):
    return select(store, store.obs_table[4:])


class TestUnknownLivetime:
    @pytest.mark.parametrize(
        "names",
        [
            ["LIVETIME"],
            ["LIVETIME", "ONTIME", "DEADC"],
            ["TSTART", "TSTOP", "LIVETIME"],
            ["ALT_PNT", "ZEN_PNT"],
        ],
    )
    def test_absent(self, store, right, names):
        table = store.obs_table[4:]
        table.remove_columns(names)
        assert select(store, table) == right

    @pytest.mark.parametrize("value", ["masked", np.nan, 0.0, -99.0])
    def test_no_value(self, store, right, value):
        table = store.obs_table[4:]
        if value == "masked":
            mask = table["OBS_ID"] == right[0]
            table["LIVETIME"] = np.ma.array(table["LIVETIME"], mask=mask)
        else:
            table["LIVETIME"][table["OBS_ID"] == right[0]] = value
        assert select(store, table) == right

    def test_values_are_those_of_the_index(self, store):
        table = store.obs_table[4:]
        names = ["LIVETIME", "ONTIME", "DEADC", "TSTART", "TSTOP", "ALT_PNT"]
        hdu_table = store.hdu_table[store.hdu_table["OBS_ID"] > 4]
        expected = OffIndex.create(DataStore(hdu_table, table)).table
        absent = table.copy()
        absent.remove_columns([*names, "ZEN_PNT"])
        index = OffIndex.create(DataStore(hdu_table, absent))
        for name in names:
            assert_allclose(index.table[name], expected[name], rtol=1e-9)
            assert index.table[name].unit == expected[name].unit
        # also if nothing is read anew
        again = index.update(DataStore(hdu_table, absent))
        assert_allclose(again.conditions.livetime, expected["LIVETIME"])

    def test_not_known_at_all(self, store, tmp_path, caplog):
        table = store.obs_table[4:]
        index = OffIndex.create(Observations([store.obs(_) for _ in range(5, 9)]))
        index.table["LIVETIME"][1] = np.nan
        off = DataStore(store.hdu_table, table)
        selector = KLBackgroundSelector(off, CRITERIA, time_request="10 h", index=index)
        selected = selector.select(store.obs(1))["OFF_OBS_ID"]
        assert 6 not in selected
        assert "The livetime of OBS_ID 6 is not known" in caplog.text
        index = OffIndex.create(Observations([store.obs(_) for _ in range(5, 9)]))
        index.table["LIVETIME"] = np.nan
        selector = KLBackgroundSelector(off, CRITERIA, time_request="1 h", index=index)
        with pytest.raises(ValueError, match="of which none has one"):
            selector.select(store.obs(1))


def test_units_of_the_obs_table(store):
    table = store.obs_table.copy()
    expected = OffIndex.create(DataStore(store.hdu_table, table)).conditions
    table["ZEN_PNT"] = table["ZEN_PNT"].quantity.to("rad")
    table["ALT_PNT"] = table["ALT_PNT"].quantity.to("arcmin")
    table["LIVETIME"] = table["LIVETIME"].quantity.to("min")
    table["RA_PNT"] = table["RA_PNT"].quantity.to("hourangle")
    table["DEC_PNT"] = table["DEC_PNT"].quantity.to("rad")
    table["RA_OBJ"] = table["RA_OBJ"].quantity.to("rad")
    table["TSTART"] = table["TSTART"].quantity.to("d")
    table["MUONEFF"] = 100 * table["MUONEFF"] * u.percent
    conditions = OffIndex.create(DataStore(store.hdu_table, table)).conditions
    for name in ("elevation", "livetime", "muon_efficiency", "mjd", "azimuth"):
        assert_allclose(getattr(conditions, name), getattr(expected, name), rtol=1e-9)
    for name in ("pointing", "target"):
        separation = getattr(conditions, name).separation(getattr(expected, name))
        assert separation.max() < 1e-6 * u.deg
    table["LIVETIME"].unit = "deg"
    with pytest.raises(ValueError, match="LIVETIME with the unit 'deg'"):
        OffIndex.create(DataStore(store.hdu_table, table))


def test_file_of_the_whole_run_is_not_changed(store):
    before = store.obs(5).events.table.meta["LIVETIME"]
    off = select_late(store.obs(5))
    MimicMaker(Observations([off]), {1: 5}).make_observation(store.obs(1))
    location = store.hdu_table.hdu_location(5, hdu_type="events")
    assert fits.getheader(location.path(), "EVENTS")["LIVETIME"] == before


def test_events_without_reference_time_take_that_of_the_gti(tmp_path):
    (observation,) = simulate_observations(1, irfs=partial(make_irfs, rate=0.05))
    table = observation.events.table.copy()
    for key in ("MJDREFI", "MJDREFF", "TIMESYS"):
        del table.meta[key]
    observation = replace_events(observation, table)
    check_store(tmp_path / "x", [observation])
