import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from gammapy.data import DataStore, Observation, Observations
from gammapy.data.event_list import EventListChecker
from gammapy.irf import Background3D
from gammapy.makers import MapDatasetMaker
from gammapy.maps import MapAxis
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic import MimicMaker
from gammapy_mimic.data import (
    find_broken_files,
    open_datastore,
    write_datastore,
    write_observation,
)
from gammapy_mimic.data.datastore import _to_gadf_alignment
from gammapy_mimic.data.observation import get_hdu

from .helpers import make_reference, replace, replace_events, to_old_hess


@pytest.fixture(scope="module")
def mimics(stores):
    maker = MimicMaker(stores["off"], {1: 101, 2: 106, 3: 103})
    return maker.make_observations(stores["targets"].get_observations())


def assert_same_observation(result, expected):
    for name in ("RA", "DEC", "ENERGY", "EVENT_ID"):
        assert_array_equal(result.events.table[name], expected.events.table[name])
    difference = result.events.time - expected.events.time
    assert np.max(np.abs(difference.to_value("s"))) < 1e-7
    assert_allclose(result.gti.time_sum.value, expected.gti.time_sum.value, atol=1e-7)
    assert abs((result.tstart - expected.tstart).to_value("s")) < 1e-7
    for name in ("aeff", "edisp", "psf", "bkg"):
        assert_array_equal(getattr(result, name).data, getattr(expected, name).data)
    assert result.bkg.fov_alignment == expected.bkg.fov_alignment
    assert result.meta.optional == expected.meta.optional
    assert result.meta.target.name == expected.meta.target.name
    for key in ("MIM_OBS", "RA_ORG", "MIM_SET", "CREATOR", "HDUVERS", "OBS_ID"):
        assert result.events.table.meta[key] == expected.events.table.meta[key]


@pytest.mark.parametrize("irfs", ["link", "copy"])
def test_round_trip(tmp_path, mimics, irfs):
    path = tmp_path / "store"
    write_datastore(mimics, path, irfs=irfs)
    store = DataStore.from_dir(path)

    assert store.obs_table["OBS_ID"].tolist() == [1, 2, 3]
    assert store.obs_table["MIM_OBS"].tolist() == [101, 106, 103]
    for observation in store.get_observations():
        expected = mimics[str(observation.obs_id)]
        assert_same_observation(observation, expected)

    reference = make_reference(mimics[0])
    result = MapDatasetMaker().run(reference, store.obs(1))
    expected = MapDatasetMaker().run(reference, mimics[0])
    for name in ("counts", "exposure", "background"):
        assert_allclose(
            getattr(result, name).data, getattr(expected, name).data, rtol=1e-9
        )


def test_linked_store_costs_its_events_only(tmp_path, mimics):
    write_datastore(mimics, tmp_path / "link")
    write_datastore(mimics, tmp_path / "copy", irfs="copy")
    table = DataStore.from_dir(tmp_path / "link").hdu_table
    written = table["FILE_DIR"] == "data"
    assert set(table["HDU_TYPE"][written]) == {"events", "gti"}
    assert all(_.startswith("..") for _ in table["FILE_DIR"][~written])
    with fits.open(tmp_path / "copy/data/obs_id_000001.fits") as hdu_list:
        names = [_.name for _ in hdu_list]
    assert names[1:3] == ["EVENTS", "GTI"]
    assert "BACKGROUND" in names


def test_copied_store_can_be_moved(tmp_path, mimics):
    write_datastore(mimics, tmp_path / "a" / "store", irfs="copy")
    (tmp_path / "b").mkdir()
    shutil.move(tmp_path / "a" / "store", tmp_path / "b" / "store")
    observation = DataStore.from_dir(tmp_path / "b" / "store").obs(1)
    assert_array_equal(observation.bkg.data, mimics[0].bkg.data)


def test_linked_stores_move_together_through_a_symbolic_link(tmp_path, stores, mimics):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_datastore(mimics, tmp_path / "link" / "store")
    observation = DataStore.from_dir(tmp_path / "real" / "store").obs(1)
    assert_array_equal(observation.bkg.data, mimics[0].bkg.data)


def check(store):
    checks = list(store.check(["obs_table", "hdu_table", "consistency"]))
    names = ["meta", "times", "coordinates_galactic", "coordinates_altaz"]
    for obs_id in store.obs_ids:
        events = store.obs(obs_id, required_irf="all-optional").events
        checks += EventListChecker(events).run(checks=names)
    return {_["msg"] for _ in checks}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # gammapy leaves files open
def test_gammapy_checks(tmp_path, mimics):
    write_datastore(mimics, tmp_path / "store")
    assert check(DataStore.from_dir(tmp_path / "store")) == set()


def test_irf_in_memory_is_written_with_the_links(tmp_path, stores):
    observation = stores["off"].obs(101)
    observation.bkg = Background3D(
        axes=observation.bkg.axes,
        data=2 * observation.bkg.data,
        unit=observation.bkg.unit,
        fov_alignment="ALTAZ",
    )
    write_datastore([observation], tmp_path / "store")
    store = DataStore.from_dir(tmp_path / "store")
    types = store.hdu_table["HDU_TYPE"][store.hdu_table["FILE_DIR"] == "data"]
    assert set(types) == {"events", "gti", "bkg"}
    assert_array_equal(store.obs(101).bkg.data, observation.bkg.data)
    assert store.obs(101).bkg.fov_alignment == "ALTAZ"


@pytest.mark.parametrize("old_header", [True, False])
@pytest.mark.parametrize("irfs", ["link", "copy"])
def test_reverse_lon_radec_is_gadf_valid(tmp_path, stores, old_header, irfs):
    """The background reads back with the same sense, and is RADEC on disk."""
    observation = stores["gradient"].obs(301).copy(in_memory=True)
    old = to_old_hess(observation)
    expected = MapDatasetMaker(["background"]).run(make_reference(old), old)
    if not old_header:
        old = replace(observation, bkg=old.bkg)

    write_datastore([old], tmp_path / "store", irfs=irfs)

    path = tmp_path / "store/data/obs_id_000301.fits"
    assert fits.getheader(path, "BACKGROUND")["FOVALIGN"] == "RADEC"
    again = DataStore.from_dir(tmp_path / "store").obs(301)
    assert again.bkg.fov_alignment == ("REVERSE_LON_RADEC" if old_header else "RADEC")
    result = MapDatasetMaker(["background"]).run(make_reference(again), again)
    assert_allclose(result.background.data, expected.background.data, rtol=1e-6)


def test_flip_of_an_axis_that_is_not_symmetric():
    axes = [
        MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2),
        MapAxis.from_edges([-1, 0, 2], unit="deg", name="fov_lon"),
        MapAxis.from_edges([-1, 0, 1], unit="deg", name="fov_lat"),
    ]
    bkg = Background3D(
        axes=axes,
        data=np.arange(8.0).reshape(2, 2, 2),
        unit="s-1 TeV-1 sr-1",
        fov_alignment="REVERSE_LON_RADEC",
    )
    flipped = _to_gadf_alignment(bkg, {})
    assert_allclose(flipped.axes["fov_lon"].edges.value, [-2, 0, 1])
    assert_array_equal(flipped.data, bkg.data[:, ::-1])
    assert bkg.fov_alignment == "REVERSE_LON_RADEC"


def test_file_round_trip(tmp_path, mimics):
    path = tmp_path / "mimic.fits.gz"
    write_observation(mimics[0], path)
    assert_same_observation(Observation.read(path), mimics[0])
    with pytest.raises(FileExistsError, match="exists"):
        write_observation(mimics[0], path)
    write_observation(mimics[1], path, overwrite=True)
    assert Observation.read(path).obs_id == 2
    assert os.listdir(tmp_path) == ["mimic.fits.gz"]


class TestBadInput:
    def test_no_observations(self, tmp_path):
        with pytest.raises(ValueError, match="no observations"):
            write_datastore([], tmp_path / "store")
        assert os.listdir(tmp_path) == []

    def test_twice_the_same(self, tmp_path, mimics):
        with pytest.raises(ValueError, match="OBS_ID 1 is there more than once"):
            write_datastore([mimics[0], mimics[0]], tmp_path / "store")
        assert os.listdir(tmp_path) == []

    def test_invalid_irfs(self, tmp_path, mimics):
        with pytest.raises(ValueError, match="Invalid irfs: 'none'"):
            write_datastore(mimics, tmp_path / "store", irfs="none")

    def test_folder_is_not_empty(self, tmp_path, mimics):
        path = tmp_path / "store"
        path.mkdir()
        write_datastore(mimics, path)
        with pytest.raises(FileExistsError, match="is not empty"):
            write_datastore(mimics[:1], path)
        assert len(DataStore.from_dir(path).obs_table) == 3
        write_datastore(mimics[:1], path, overwrite=True)
        assert len(DataStore.from_dir(path).obs_table) == 1
        assert os.listdir(tmp_path) == ["store"]

    def test_foreign_data_are_never_removed(self, tmp_path, mimics):
        path = tmp_path / "thesis"
        path.mkdir()
        (path / "thesis.tex").write_text("42")
        with pytest.raises(FileExistsError, match="not a datastore written by"):
            write_datastore(mimics, path, overwrite=True)
        assert (path / "thesis.tex").read_text() == "42"

    def test_links_into_the_store_that_is_replaced(self, tmp_path, mimics):
        path = tmp_path / "store"
        write_datastore(mimics, path, irfs="copy")
        observations = DataStore.from_dir(path).get_observations([1])
        with pytest.raises(ValueError, match="which is to be replaced"):
            write_datastore(observations, path, overwrite=True)
        assert len(DataStore.from_dir(path).obs_table) == 3
        write_datastore(observations, path, irfs="copy", overwrite=True)
        again = DataStore.from_dir(path).obs(1)
        assert_array_equal(again.bkg.quantity, mimics[0].bkg.quantity)

    def test_failure_while_writing_keeps_the_old_store(self, tmp_path, mimics):
        path = tmp_path / "store"
        write_datastore(mimics, path)

        def fail():
            yield mimics[0]
            raise OSError("disk on fire")

        with pytest.raises(OSError, match="disk on fire"):
            write_datastore(fail(), path, overwrite=True)
        assert len(DataStore.from_dir(path).obs_table) == 3
        assert os.listdir(tmp_path) == ["store"]

    def test_open_datastore(self, tmp_path, mimics):
        with pytest.raises(OSError, match="There is no datastore in"):
            open_datastore(tmp_path / "nowhere")
        with pytest.raises(OSError, match="hdu-index"):
            open_datastore(tmp_path)
        write_datastore(mimics, tmp_path / "store")
        (tmp_path / "store" / DataStore.DEFAULT_OBS_TABLE).unlink()
        with pytest.raises(OSError, match="obs-index"):
            open_datastore(tmp_path / "store")

    def test_empty_datastore(self, tmp_path, stores):
        for name in (DataStore.DEFAULT_HDU_TABLE, DataStore.DEFAULT_OBS_TABLE):
            table = getattr(stores["off"], f"{name[:3]}_table")
            table[:0].write(tmp_path / name)
        with pytest.raises(OSError, match="is empty"):
            open_datastore(tmp_path)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_find_broken_files(tmp_path, mimics, n_jobs):
    write_datastore(mimics, tmp_path, irfs="copy")
    store = DataStore.from_dir(tmp_path)
    assert find_broken_files(store, [1, 2, 3], n_jobs=n_jobs) == {}

    truncate(tmp_path / "data/obs_id_000002.fits")
    (tmp_path / "data/obs_id_000003.fits").unlink()
    broken = find_broken_files(store, [1, 2, 3, 4], n_jobs=n_jobs)

    assert set(broken) == {2, 3, 4}
    assert "obs_id_000002.fits" in broken[2]
    assert "not in the HDU index" in broken[4]


@pytest.mark.parametrize("what", ["no events", "invalid energy"])
def test_find_useless_events(tmp_path, stores, what):
    observation = stores["off"].obs(101).copy(in_memory=True)
    if what == "no events":
        observation = replace_events(observation, observation.events.table[:0])
    else:
        observation.events.table["ENERGY"][5] = np.nan
    write_datastore([observation], tmp_path, irfs="copy")
    broken = find_broken_files(DataStore.from_dir(tmp_path), [101])
    expected = {
        "no events": "no events",
        "invalid energy": "1 events without a valid ENERGY",
    }
    assert expected[what] in broken[101]


def test_find_broken_compressed_file(tmp_path, mimics):
    write_datastore(mimics[:1], tmp_path, irfs="copy")
    store = DataStore.from_dir(tmp_path)
    path = tmp_path / "data/obs_id_000001.fits.gz"
    write_observation(mimics[0], path)
    store.hdu_table.replace_column("FILE_NAME", [path.name] * len(store.hdu_table))
    assert find_broken_files(store, [1]) == {}
    truncate(path)
    assert list(find_broken_files(store, [1])) == [1]


def truncate(path, fraction=0.7):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(fraction * len(content))])


WRITE_FOR_EVER = """
import sys, itertools
from gammapy.data import DataStore
from gammapy_mimic.data import write_datastore

def observations(store):
    for obs_id in itertools.count(1):
        yield store.obs(101).copy(in_memory=True, obs_id=obs_id)

store = DataStore.from_dir(sys.argv[1])
write_datastore(observations(store), sys.argv[2], "copy", overwrite=True)
"""


def start_writing(source, path, **kwargs):
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(source), str(path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [True, False])
def test_killed_while_writing(tmp_path, stores, mimics, is_there):
    """Kill the process: the old store stays, or there is none."""
    path = tmp_path / "store"
    if is_there:
        write_datastore(mimics, path)
    process = start_writing(stores["off"].hdu_table.base_dir, path)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".store-*/store/data/*.fits"))) < 3:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)

    if is_there:
        assert len(DataStore.from_dir(path).obs_table) == 3
    else:
        assert not path.exists()


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))


@pytest.mark.slow
def test_disk_full(tmp_path, stores, mimics):
    """A file cannot grow any more: an error, the old store stays, no litter."""
    path = tmp_path / "store"
    write_datastore(mimics, path)
    process = start_writing(
        stores["off"].hdu_table.base_dir, path, preexec_fn=limit_file_size
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "OSError" in stderr.decode()
    assert len(DataStore.from_dir(path).obs_table) == 3
    assert os.listdir(tmp_path) == ["store"]


def test_input_is_unchanged(tmp_path, stores):
    lazy = stores["off"].obs(101)
    before = dict(lazy.__dict__)
    write_datastore(Observations([lazy]), tmp_path / "store")
    assert set(before) <= set(lazy.__dict__)
    assert get_hdu(lazy, "aeff") is before["_aeff_hdu"]
