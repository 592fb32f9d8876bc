"""Data that make no sense become no mimic, no template and no row of an index."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner
from gammapy.data import DataStore
from gammapy.makers import MapDatasetMaker
from regions import CircleSkyRegion

from gammapy_mimic import MimicMaker, ScrambleMaker
from gammapy_mimic.data import (
    find_broken_files,
    open_datastore,
    write_background,
    write_datastore,
)
from gammapy_mimic.makers.reduction import reduce_observations
from gammapy_mimic.scripts.main import cli
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.simulate import make_irfs, simulate_datastore
from gammapy_mimic.template import make_template

from .helpers import find_runs, make_reference


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("bad") / "store"
    return simulate_datastore(
        path, 6, irfs=partial(make_irfs, rate=0.05), random_state=1
    )


def spoil(original, path, change, obs_ids=(5,)):
    """Copy a store, and change the HDUs of the files of some observations."""
    shutil.copytree(original.hdu_table.base_dir, path)
    for obs_id in obs_ids:
        file = path / "data" / f"obs_id_{obs_id:06d}.fits"
        with fits.open(file, memmap=False) as hdu_list:
            change(hdu_list)
            hdu_list.writeto(file, overwrite=True)
    return DataStore.from_dir(path)


def set_header(hdu="EVENTS", **keys):
    return lambda hdu_list: hdu_list[hdu].header.update(keys)


def set_value(name, value, hdu="EVENTS", rows=slice(None)):
    def change(hdu_list):
        hdu_list[hdu].data[name][rows] = value

    return change


def set_unit(name, unit):
    def change(hdu_list):
        hdu_list["EVENTS"].columns[name].unit = unit

    return change


def set_gti(*intervals):
    """Set the GTI, in hours from the start of the one that is there."""

    def change(hdu_list):
        begin, old = hdu_list["GTI"].data["START"][0], hdu_list["GTI"]
        times = begin + 3600 * np.array(intervals, dtype=float).T
        columns = [
            fits.Column(name, "D", "s", array=values)
            for name, values in zip(("START", "STOP"), times, strict=True)
        ]
        new = fits.BinTableHDU.from_columns(columns, header=old.header, name="GTI")
        hdu_list[hdu_list.index_of("GTI")] = new

    return change


FAR = CircleSkyRegion(SkyCoord(180, 89, unit="deg"), 0.3 * u.deg)
"""A source in no field of view."""

FIRST = slice(0, 3)
FAULTS = {
    "unit of RA": (set_unit("RA", "s"), "RA with the unit 's'"),
    "unit of DEC": (set_unit("DEC", "TeV"), "DEC with the unit 'TeV'"),
    "RA": (
        set_value("RA", 1080, rows=FIRST),
        r"3 events without a valid RA .*, the first of 1080 in row 1",
    ),
    "DEC": (
        set_value("DEC", 120, rows=FIRST),
        r"3 events without a valid DEC .*, the first of 120 in row 1",
    ),
    "no ENERGY": (
        set_value("ENERGY", 0, rows=FIRST),
        "3 events without a valid ENERGY .*, the first of 0 in row 1",
    ),
    "negative ENERGY": (
        set_value("ENERGY", -1, rows=FIRST),
        "3 events without a valid ENERGY .*, the first of -1 in row 1",
    ),
    "TIME": (
        set_value("TIME", np.nan, rows=FIRST),
        "3 events without a valid TIME .*, the first of nan in row 1",
    ),
    "NaN in GTI": (set_gti((0, np.nan)), "1 GTI without a valid STOP"),
    "reversed GTI": (set_gti((0.2, 0)), "1 GTI that end before they start"),
    "GTI that overlap": (set_gti((0, 0.3), (0.2, 0.4)), "1 GTI that overlap"),
    "GTI before": (set_gti((-9, -8)), "no event of .* in the good time"),
    "GTI too long": (set_gti((0, 9)), "1 GTI that reach more than 1 h beyond"),
    "one GTI of two after": (set_gti((0, 0.4), (7, 8)), "1 GTI that reach more than"),
    "negative DEADC": (
        set_header(DEADC=-1.0),
        r"a header without a valid DEADC \(above 0, up to 1\) but -1",
    ),
    "no DEADC": (set_header(DEADC=0.0), "DEADC .* but 0"),
    "large DEADC": (set_header(DEADC=1.5), "DEADC .* but 1.5"),
    "far RA_PNT": (set_header(RA_PNT=20.0), "RA_PNT 20.* more than 10 deg"),
    "DEC_PNT": (set_header(DEC_PNT=99.0), "DEC_PNT .* but 99"),
    "NaN in RA_PNT": (set_header(RA_PNT="none"), "the pointing .* is not valid"),
    "OBS_ID": (
        set_header(OBS_ID=7),
        "OBS_ID 7 in the header of the events, and 5 in the index",
    ),
    "OBS_ID of none": (set_header(OBS_ID=-1), "OBS_ID -1 in the header"),
    "part of an OBS_ID": (set_header(OBS_ID=5.5), "OBS_ID 5.5 in the header"),
}


def read_reason(reasons):
    return f"OBS_ID 5: {dict(reasons)[5]}"


def run(call):
    with pytest.raises((ValueError, OSError)) as info:
        call()
    return str(info.value)


DOORS = {
    "mimic": lambda store, target: run(
        lambda: MimicMaker(store, {1: 5}).make_observation(target)
    ),
    "scramble": lambda store, _: run(
        lambda: ScrambleMaker(None, "azimuth").make_observation(store.obs(5))
    ),
    "no source to scramble": lambda store, _: run(
        lambda: ScrambleMaker([FAR]).make_observation(store.obs(5))
    ),
    "template": lambda store, _: run(lambda: make_template([store.obs(5)])),
    "index": lambda store, _: read_reason(OffIndex.create(store).broken.iterrows()),
    "files": lambda store, _: read_reason(find_broken_files(store, [4, 5])),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fault", FAULTS)
def test_refused(original, tmp_path, fault, door):
    change, match = FAULTS[fault]
    store = spoil(original, tmp_path / "store", change)
    text = DOORS[door](store, original.obs(1))
    # what, and where
    assert pytest.RaisesExc(ValueError, match=match).matches(ValueError(text)), text
    assert "OBS_ID 5" in text
    assert "obs_id_000005.fits" in text


def test_public_rows_pass(original, tmp_path):
    """A dead time that follows, a GTI for each half, RA below 0: all are right."""

    def change(hdu_list):
        hdu_list["EVENTS"].header.remove("DEADC")
        hdu_list["EVENTS"].data["RA"] -= 360
        set_gti((0, 0.2), (0.2, 0.45))(hdu_list)

    store = spoil(original, tmp_path / "store", change)
    assert find_broken_files(store, [5]) == {}
    expected = original.obs(5).observation_live_time_duration.to_value("s")
    mimic = MimicMaker(store, {1: 5}).make_observation(original.obs(1))
    fraction = 0.45 * 3600 * 0.9 / expected
    livetime = mimic.observation_live_time_duration.to_value("s")
    assert livetime == pytest.approx(expected * fraction, rel=1e-6)


def test_renamed_in_memory(original):
    """OBS_IDs are those of the index, or of who renames an observation."""
    off = original.obs(5).copy(in_memory=True, obs_id=55)
    mimic = MimicMaker([off], {1: 55}).make_observation(original.obs(1))
    assert mimic.events.table.meta["MIM_OBS"] == 55


def test_real_runs_pass(hess_store):
    runs = find_runs(hess_store)
    assert find_broken_files(hess_store, runs) == {}


def test_real_veritas_runs_pass(veritas_store):
    assert find_broken_files(veritas_store, find_runs(veritas_store)) == {}


def drop_column(path, name, column):
    table = Table.read(path / name)
    table.remove_column(column)
    table.write(path / name, overwrite=True)


def set_obs_id(path, old, new):
    for name in ("obs-index.fits.gz", "hdu-index.fits.gz"):
        table = Table.read(path / name)
        values = table["OBS_ID"].astype(type(new))
        values[values == old] = new
        table["OBS_ID"] = values
        table.write(path / name, overwrite=True)


OBS, HDU = "obs-index.fits.gz", "hdu-index.fits.gz"
INDEX_FAULTS = {
    "no OBS_ID": (lambda path: drop_column(path, OBS, "OBS_ID"), "column 'OBS_ID'"),
    "no HDU": (lambda path: drop_column(path, HDU, "OBS_ID"), "column 'OBS_ID'"),
    "no folder": (lambda path: drop_column(path, HDU, "FILE_DIR"), "'FILE_DIR'"),
    "no pointing": (lambda path: drop_column(path, OBS, "RA_PNT"), "RA_PNT"),
    "-1": (lambda path: set_obs_id(path, 5, -1), "OBS_ID -1 is not valid"),
    "5.5": (lambda path: set_obs_id(path, 5, 5.5), "OBS_ID 5.5 is not valid"),
}


def invoke(*args):
    """Call a command: its error, as one who reads only errors sees it."""
    code = "from gammapy_mimic.scripts.main import main; main()"
    args = [sys.executable, "-c", code, "--quiet", *map(str, args)]
    result = subprocess.run(args, capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    return result


def make_rank_args(store):
    options = ["livetime=null", "airmass=null", "galactic-latitude=null"]
    args = ["rank", "--datastore", store, "--target-obs", "1", "--off-obs", "4,5,6"]
    return [*args, *(_ for option in options for _ in ("-c", option))]


@pytest.mark.parametrize("fault", INDEX_FAULTS)
def test_index_tables(original, tmp_path, fault):
    change, match = INDEX_FAULTS[fault]
    path = tmp_path / "store"
    shutil.copytree(original.hdu_table.base_dir, path)
    change(path)
    if fault != "no pointing":
        with pytest.raises(ValueError, match=match):
            open_datastore(path)
    result = CliRunner().invoke(cli, list(map(str, make_rank_args(path))))
    assert isinstance(result.exception, ValueError)
    assert re.search(match, str(result.exception))


def remove_keys(*keys):
    def change(hdu_list):
        for key in keys:
            hdu_list["EVENTS"].header.remove(key)

    return change


def remove_gti(hdu_list):
    del hdu_list["GTI"]


NEEDED = {
    "GTI": remove_gti,
    "RA_PNT": remove_keys("RA_PNT"),
    "MJDREFI": remove_keys("MJDREFI"),
    "DEADC": remove_keys("DEADC", "LIVETIME"),
}


@pytest.mark.parametrize("obs_id", [1, 5])
@pytest.mark.parametrize("what", NEEDED)
def test_missing_is_named(original, tmp_path, what, obs_id):
    store = spoil(original, tmp_path / "store", NEEDED[what], [obs_id])
    path = store.hdu_table.base_dir / "data"
    files = [path / f"obs_id_00000{_}.fits" for _ in (1, 5)]
    out = tmp_path / "out.fits"
    result = CliRunner().invoke(cli, ["convert", *map(str, files), str(out)])
    texts = [
        run(lambda: MimicMaker(store, {1: 5}).make_observation(store.obs(1))),
        str(result.exception),
        dict(OffIndex.create(store).broken.iterrows())[obs_id],
        find_broken_files(store, [1, 5])[obs_id],
    ]
    if obs_id == 1:
        args = list(map(str, make_rank_args(store.hdu_table.base_dir)))
        texts.append(str(CliRunner().invoke(cli, args).exception))
    for text in texts:
        assert what in text
        assert f"obs_id_00000{obs_id}.fits" in text


def test_target_without_dead_time_is_reduced(original, tmp_path):
    store = spoil(original, tmp_path / "store", remove_keys("DEADC"), [1])
    datasets = [
        reduce_observations(
            make_reference(original.obs(1)),
            _.get_observations([1]),
            [MapDatasetMaker()],
        )[0]
        for _ in (store, original)
    ]
    exposures = [_.exposure.data for _ in datasets]
    np.testing.assert_allclose(*exposures, rtol=1e-6)


def test_left_out_is_said_though_quiet(original, tmp_path):
    store = spoil(original, tmp_path / "store", set_header(DEADC=-1.0), [5])
    result = invoke(*make_rank_args(store.hdu_table.base_dir))
    assert result.returncode == 0
    assert "1 of 3 observations cannot be used" in result.stderr
    assert "OBS_ID 5" in result.stderr
    assert "DEADC" in result.stderr


# ----------------------------------------------------------------------- written stores


def remove_prefixes(hdu_list):
    """As in CTA-1DC, where HDUCLAS4 does not tell of which IRF it is."""
    for hdu in hdu_list[3:]:
        hdu.header["HDUCLAS4"] = hdu.header["HDUCLAS4"].rpartition("_")[2]


def test_copy_of_irfs_without_prefix(original, tmp_path):
    obs_ids = range(1, 7)
    store = spoil(original, tmp_path / "store", remove_prefixes, obs_ids)
    mimics = MimicMaker(store, {1: 5}).make_observations(store.get_observations([1]))
    write_datastore(mimics, tmp_path / "copy", irfs="copy")
    copy = open_datastore(tmp_path / "copy").obs(1)
    for name in ("aeff", "edisp", "psf", "bkg"):
        expected = getattr(store.obs(5), name)
        np.testing.assert_array_equal(getattr(copy, name).data, expected.data)
        assert type(getattr(copy, name)) is type(expected)


def test_store_is_read_before_it_is_put_in_place(original, tmp_path):
    def spoil_psf(hdu_list):
        hdu_list["PSF_2D_TABLE"].columns["RPSF"].unit = "no unit"

    store = spoil(original, tmp_path / "store", spoil_psf)
    for irfs in ("copy", "link"):
        match = "is not written: Gammapy cannot read the psf of OBS_ID 5 back"
        with pytest.raises(ValueError, match=match):
            write_datastore(store.get_observations([4, 5]), tmp_path / "x", irfs)
        assert not (tmp_path / "x").exists()


# -------------------------------------------------------------------------------- links


def set_place(path, file_dir, file_name=None, rows=slice(0, 5)):
    table = Table.read(path / HDU)
    values = np.asarray(table["FILE_DIR"]).astype("U300")
    values[rows] = file_dir
    table["FILE_DIR"] = values
    if file_name is not None:
        names = np.asarray(table["FILE_NAME"]).astype("U300")
        names[rows] = file_name
        table["FILE_NAME"] = names
    table.write(path / HDU, overwrite=True)


class TestLinks:
    @pytest.fixture
    def store(self, original, tmp_path):
        shutil.copytree(original.hdu_table.base_dir, tmp_path / "store")
        return tmp_path / "store"

    @pytest.fixture
    def other(self, store, tmp_path):
        shutil.copytree(store, tmp_path / "other")
        return tmp_path / "other"

    def test_own_folder(self, store, tmp_path):
        open_datastore(store)
        (tmp_path / "link").symlink_to(store)
        open_datastore(tmp_path / "link")

    @pytest.mark.parametrize("kind", ["relative", "absolute", "symlink"])
    def test_out(self, store, other, kind):
        if kind == "symlink":
            shutil.rmtree(store / "data")
            (store / "data").symlink_to(other / "data")
        else:
            place = {"relative": "../other/data", "absolute": str(other / "data")}
            header = fits.getheader(store / HDU, 1)
            set_place(store, place[kind])
            with fits.open(store / HDU, mode="update") as hdu_list:
                # our own stores may link to what they say, and nothing else
                hdu_list[1].header["CREATOR"] = header.get("CREATOR", "")
        match = f"Row 1 of the HDU index in {store} leads .*other/data.*links"
        with pytest.raises(ValueError, match=match):
            open_datastore(store)
        open_datastore(store, links=[other])
        with pytest.raises(ValueError, match=match):
            open_datastore(store, links=[store.parent / "oth"])

    def test_foreign_record_is_not_believed(self, store, other):
        set_place(store, "../other/data")
        for creator, is_own in (("someone", False), ("gammapy-mimic 1", True)):
            with fits.open(store / HDU, mode="update") as hdu_list:
                hdu_list[1].header.update(CREATOR=creator, LINK1="../other")
            if is_own:
                open_datastore(store)
            else:
                with pytest.raises(ValueError, match="leads out of that folder"):
                    open_datastore(store)

    def test_stores_that_we_write(self, store, tmp_path):
        name = tmp_path / "in a folder é" / "deep" / "mimic"
        pool = open_datastore(store)
        mimics = MimicMaker(pool, {1: 5}).make_observations(pool.get_observations([1]))
        write_datastore(mimics, name)
        again = open_datastore(name)
        assert again.obs(1).bkg.data.shape == pool.obs(5).bkg.data.shape
        write_datastore(again.get_observations(), tmp_path / "second")
        second = open_datastore(tmp_path / "second")
        template = make_template(pool.get_observations([4, 5]))
        write_background(second, tmp_path / "third", {1: template})
        assert open_datastore(tmp_path / "third").obs(1).aeff is not None
        # moved together they still fit
        (tmp_path / "moved").mkdir()
        for part in ("store", "third", "second"):
            (tmp_path / part).rename(tmp_path / "moved" / part)
        open_datastore(tmp_path / "moved" / "third")

    @pytest.mark.parametrize("kind", ["pipe", "device"])
    def test_no_regular_file(self, store, tmp_path, kind):
        file = store / "data" / "obs_id_000005.fits"
        links = []
        file.unlink()
        if kind == "pipe":
            os.mkfifo(file)
        else:
            file.symlink_to("/dev/zero")
            links = ["/dev"]
        with pytest.raises(OSError, match="is not a regular file"):
            open_datastore(store, links)
        pool = DataStore.from_dir(store)
        assert "regular file" in find_broken_files(pool, [5])[5]
        match = "is not a regular file" if kind == "pipe" else "leads out .* /dev/zero"
        for make in (OffIndex.create, lambda pool: MimicMaker(pool, {1: 5})):
            with pytest.raises((OSError, ValueError), match=match):
                make(pool)
        args = ["convert", str(file), str(file), str(tmp_path / "out.fits")]
        assert "regular file" in str(CliRunner().invoke(cli, args).exception)
