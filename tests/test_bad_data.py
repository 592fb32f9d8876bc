"""Data that make no sense become no mimic, no template and no row of an index."""

import gzip
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

from .faults import (
    FAULTS,
    HDU,
    INDEX_FAULTS,
    NEEDED,
    OBS,
    remove_keys,
    set_gti,
    set_header,
    set_place,
    spoil,
)
from .helpers import find_runs, make_reference


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("bad") / "store"
    return simulate_datastore(
        path, 6, irfs=partial(make_irfs, rate=0.05), random_state=1
    )


FAR = CircleSkyRegion(SkyCoord(180, 89, unit="deg"), 0.3 * u.deg)
"""A source in no field of view."""


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


@pytest.mark.slow
def test_real_runs_pass(hess_store):
    runs = find_runs(hess_store)
    assert find_broken_files(hess_store, runs) == {}


def test_real_veritas_runs_pass(veritas_store):
    assert find_broken_files(veritas_store, find_runs(veritas_store)) == {}


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


@pytest.mark.slow
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


@pytest.mark.parametrize("name", [OBS, HDU])
@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.filterwarnings("ignore:Error validating header")
@pytest.mark.parametrize("part", [0, 0.5, 0.9])
def test_index_table_that_is_cut(original, tmp_path, name, is_packed, part):
    store = tmp_path / "store"
    shutil.copytree(original.hdu_table.base_dir, store)
    path = store / name
    content = path.read_bytes() if is_packed else gzip.decompress(path.read_bytes())
    # a file without its padding has all of its data
    content = content.rstrip(b"\0")
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(OSError, match=f"{path} cannot be read: "):
        open_datastore(store)
