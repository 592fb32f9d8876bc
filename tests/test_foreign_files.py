"""Files that are none, and index rows that lead out of a store the user opened."""

import os
import shutil

import pytest
from astropy.io import fits
from gammapy.data import DataStore, HDUIndexTable, Observations

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.data import (
    find_broken_files,
    open_datastore,
    select_datastore,
    write_background,
    write_datastore,
)
from gammapy_mimic.data.irfs import get_fov_alignment, get_safe_range
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.template import make_template

from .helpers import find_data


@pytest.fixture
def folder(tmp_path, stores):
    """Copy of a store."""
    source = stores["off"].hdu_table.base_dir
    return shutil.copytree(source, tmp_path / "store")


def lead_out(folder, row=0, hdu_type="events"):
    """Move the file of a row elsewhere, and let rows of one HDU lead there."""
    other = folder.parent / "elsewhere"
    other.mkdir()
    table = HDUIndexTable.read(folder / "hdu-index.fits.gz")
    del table.meta["BASE_DIR"]
    name = table["FILE_NAME"][row].strip()
    shutil.copy(folder / table["FILE_DIR"][row].strip() / name, other / name)
    dirs = table["FILE_DIR"].astype("U99")
    dirs[(table["FILE_NAME"] == name) & (table["HDU_TYPE"] == hdu_type)] = str(other)
    table["FILE_DIR"] = dirs
    # nobody says that our package wrote it
    table.meta.pop("CREATOR", None)
    table.write(folder / "hdu-index.fits.gz", overwrite=True)
    return other


class TestLinks:
    """A store that the user opened with Gammapy is a folder that the user named."""

    @pytest.fixture(params=["events", "bkg"])
    def store(self, request, folder):
        self.other = lead_out(folder, hdu_type=request.param)
        return DataStore.from_dir(folder)

    @pytest.mark.parametrize(
        "use",
        [
            lambda store, _: OffIndex.create(store),
            lambda store, _: MimicMaker(store, {1: 101}),
            lambda store, _: KLBackgroundSelector(store),
            lambda store, _: KLBackgroundSelector(select_datastore(store, [101])),
            lambda store, path: write_background(store, path, {101: None}),
        ],
    )
    def test_other_folder(self, store, use, tmp_path):
        base = store.hdu_table.base_dir
        match = f"Row . of the HDU index in {base} leads out .*elsewhere.*links"
        with pytest.raises(ValueError, match=match) as caught:
            use(store, tmp_path / "out")
        assert "open_datastore(folder, links=[...])" in str(caught.value)

    def test_named_folder(self, store):
        """Once named, a folder stays so, also for some of the observations."""
        base = store.hdu_table.base_dir
        named = open_datastore(base, links=[self.other])
        for pool in (named, select_datastore(named, [101, 102])):
            assert len(OffIndex.create(pool))
            MimicMaker(pool, {1: 101})
        with pytest.raises(ValueError, match="leads out"):
            open_datastore(base)


def test_stores_of_gammapy(stores):
    """Without a folder, all files were named."""
    base = stores["off"].hdu_table.base_dir
    files = sorted((base / "data").glob("*.fits"))[:2]
    store = DataStore.from_events_files(files)
    assert len(OffIndex.create(store)) == 2


@pytest.mark.parametrize(
    "names",
    [("hess-dl3-dr1",), ("veritas", "crab-point-like-ED")],
)
def test_real_stores(names):
    store = DataStore.from_dir(find_data(*names))
    assert KLBackgroundSelector(store).off_observations is store


KINDS = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": os.mkdir,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["events", "gti", "aeff", "edisp", "psf", "bkg"])
def test_no_regular_file(folder, kind, part):
    """Whatever part of an observation it is, nothing waits for its end."""
    other = lead_out(folder, hdu_type=part)
    observation = DataStore.from_dir(folder).obs(101, [])
    (file,) = other.iterdir()
    file.unlink()
    KINDS[kind](file)
    match = f"{file} is not a regular file. Replace it by a file."
    uses = {
        "scramble": lambda: ScrambleMaker(None, "azimuth").make_observation(
            observation
        ),
        "template": lambda: make_template(Observations([observation])),
        "alignment": lambda: get_fov_alignment(observation),
        "range": lambda: get_safe_range(observation),
        "write": lambda: write_datastore([observation], folder.parent / "new", "copy"),
    }
    del uses["range" if part != "aeff" else "alignment"]
    if part != "bkg":
        uses.pop("alignment", None)
    for use in uses.values():
        with pytest.raises(OSError, match=match):
            use()
    with pytest.raises(OSError, match="is not a regular file"):
        open_datastore(folder, links=[other, "/dev"])
    assert match in find_broken_files(DataStore.from_dir(folder), [101])[101]


def test_index_that_is_no_file(folder, tmp_path):
    """Of a store that would be replaced."""
    index = folder / "hdu-index.fits.gz"
    assert fits.getheader(index, 1)["CREATOR"]
    observations = DataStore.from_dir(folder).get_observations([101])
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(OSError, match="is not a regular file"):
        write_datastore(observations, folder, overwrite=True)
