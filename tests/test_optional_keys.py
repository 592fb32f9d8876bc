"""Keys of headers that are absent: as in Gammapy, or one error that names them."""

import shutil
from functools import partial

import astropy.units as u
import pytest
from astropy.io import fits
from click.testing import CliRunner
from gammapy.data import DataStore, Observation, Observations
from numpy.testing import assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.data import write_datastore, write_observation
from gammapy_mimic.scripts.main import cli
from gammapy_mimic.simulate import make_irfs, simulate_datastore
from gammapy_mimic.template import make_template

from .helpers import ANY_CONDITIONS, replace

CRITERIA = {**ANY_CONDITIONS, "galactic_latitude": None}
OPTIONAL = {
    "EVENTS": [
        *("TIMESYS", "TIMEREF", "TIMEUNIT", "OBJECT", "RA_OBJ", "DEC_OBJ", "OBS_MODE"),
        *("TELESCOP", "INSTRUME", "DATE-OBS", "TIME-OBS", "DATE-END", "ALT_PNT"),
        *("AZ_PNT", "ZEN_PNT", "GLON_PNT", "N_TELS", "TELLIST", "CREATOR", "HDUVERS"),
        *("HDUCLASS", "EV_CLASS", "RADESYS", "EQUINOX", "TSTART", "TSTOP", "ONTIME"),
        *("LIVETIME", "DEADC", "TELAPSE", "MUONEFF", "NSBLEVEL", "QUALITY", "OBS_ID"),
        "ORIGIN",
    ],
    "GTI": ["TIMESYS", "TIMEREF", "TIMEUNIT", "HDUCLASS", "HDUCLAS1", "HDUVERS"],
    "EFFECTIVE AREA": ["LO_THRES", "HI_THRES", "TELESCOP"],
    "BACKGROUND": ["FOVALIGN", "HDUVERS"],
}
NEEDED = {
    "EVENTS": ["MJDREFI", "MJDREFF", "GEOLON", "GEOLAT", "ALTITUDE", "RA_PNT"],
    "GTI": ["MJDREFI", "MJDREFF"],
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "store"
    irfs = partial(make_irfs, rate=0.05)
    return simulate_datastore(path, 16, irfs=irfs, random_state=1)


def remove(original, path, hdu_name, *keys):
    """Copy a store without some keys."""
    shutil.copytree(original.hdu_table.base_dir, path)
    for file in (path / "data").glob("*.fits"):
        with fits.open(file, memmap=False) as hdu_list:
            for key in keys:
                hdu_list[hdu_name].header.remove(key, ignore_missing=True)
            hdu_list.writeto(file, overwrite=True)
    return DataStore.from_dir(path)


def make_all(store, path):
    """Do with a store what can be done, and give the mimic as it is read back."""
    target, off = store.obs(1), store.get_observations(range(3, 17))
    selector = KLBackgroundSelector(off, CRITERIA, time_request="40 min")
    plan = selector.make_plan(Observations([target]), n_sets=1)
    region = CircleSkyRegion(off[0].pointing.fixed_icrs, 0.3 * u.deg)
    scrambler = ScrambleMaker([region], random_state=0)
    scrambled = scrambler.make_observation(off[0])
    assert len(scrambled.events.table) == len(off[0].events.table)
    maker = MimicMaker(store, plan, scramble=scrambler, background=selector)
    mimic = maker.make_observation(target)
    make_template(off)
    write_datastore([mimic, scrambled], path)
    written = DataStore.from_dir(path).obs(1)
    assert_array_equal(written.events.table["RA"], mimic.events.table["RA"])
    assert written.observation_live_time_duration > 0 * u.s
    written.bkg.to_table_hdu()
    return written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hdu_name", "key"),
    [(name, key) for name, keys in OPTIONAL.items() for key in keys],
)
def test_optional(original, tmp_path, hdu_name, key):
    store = remove(original, tmp_path / "store", hdu_name, key)
    written = make_all(store, tmp_path / "mimic")
    info, expected = written.gti, original.obs(1).gti
    assert abs(info.time_start[0] - expected.time_start[0]) < 1 * u.ms


@pytest.mark.parametrize(
    ("hdu_name", "key"), [(name, _) for name, keys in NEEDED.items() for _ in keys]
)
def test_needed(original, tmp_path, hdu_name, key):
    store = remove(original, tmp_path / "store", hdu_name, key)
    target = original.obs(1)
    region = CircleSkyRegion(original.obs(5).pointing.fixed_icrs, 0.3 * u.deg)
    for call in (
        lambda: MimicMaker(store, {1: 5}).make_observation(target),
        lambda: make_template([store.obs(5)]),
        lambda: ScrambleMaker([region]).make_observation(store.obs(5)),
        lambda: write_datastore([store.obs(5)], tmp_path / "written"),
    ):
        with pytest.raises(ValueError, match=f"OBS_ID 5 .*{key}"):
            call()


def test_dead_time_from_livetime(original, tmp_path):
    store = remove(original, tmp_path / "store", "EVENTS", "DEADC")
    mimic = MimicMaker(store, {1: 5}).make_observation(store.obs(1))
    expected = original.obs(5).observation_live_time_duration
    assert abs(mimic.observation_live_time_duration - expected) < 1 * u.ms
    keys = "DEADC", "LIVETIME"
    store = remove(original, tmp_path / "other", "EVENTS", *keys)
    with pytest.raises(ValueError, match="OBS_ID 5 .* neither DEADC nor LIVETIME"):
        MimicMaker(store, {1: 5}).make_observation(original.obs(1))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["TIMESYS", "OBJECT", "OBS_MODE", "DEADC", "DATE-OBS"])
def test_convert(original, tmp_path, key):
    store = remove(original, tmp_path / "store", "EVENTS", key)
    names = [str(store.hdu_table.hdu_location(_, "events").path()) for _ in (1, 5)]
    out = tmp_path / "out.fits"
    result = CliRunner().invoke(cli, ["convert", *names, str(out)])
    assert result.exit_code == 0, result.output
    assert Observation.read(out).obs_id == 1


def test_in_memory(original, tmp_path):
    observation = original.obs(5).copy(in_memory=True)
    for key in OPTIONAL["EVENTS"]:
        observation.events.table.meta.pop(key, None)
    write_observation(observation, tmp_path / "x.fits")
    again = Observation.read(tmp_path / "x.fits")
    expected = observation.observation_live_time_duration
    assert abs(again.observation_live_time_duration - expected) < 1 * u.ms


def test_template_of_a_target_without_dead_time_key(original, tmp_path):
    """It follows from LIVETIME and ONTIME, on both sides of a pair."""
    store = remove(original, tmp_path / "store", "EVENTS", "DEADC")
    selector = KLBackgroundSelector(
        store.get_observations([3, 4, 5, 6]),
        CRITERIA,
        kl_max=1,
    )
    bkg = selector.make_background(store.obs(1))
    assert bkg.meta["DEADC"] == pytest.approx(0.9)
    observation = replace(store.obs(1), gti=None)
    with pytest.raises(ValueError, match="OBS_ID 1 has no GTI"):
        selector.make_background(observation, obs_ids=[5])
