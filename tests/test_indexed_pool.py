"""A pool of OFF observations and its index, which is made once."""

import os
import pickle
import shutil
import warnings

import astropy.units as u
import pytest
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.maps import MapAxis
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic.data.irfs import get_background_version
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.selection.indexed_pool import IndexedPool
from gammapy_mimic.selection.ranking import predict_counts

from .helpers import replace
from .runs import FORK

AXIS = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=3)
REGIONS = (CircleSkyRegion(SkyCoord(0, 0, unit="deg"), 1 * u.deg),)


@pytest.fixture(scope="module")
def index(stores):
    return OffIndex.create(stores["off"])


@pytest.fixture
def created(monkeypatch):
    """Pools of which an index was made from nothing."""
    calls, original = [], OffIndex.create

    def create(observations, *args, **options):
        calls.append(observations)
        return original(observations, *args, **options)

    monkeypatch.setattr(OffIndex, "create", create)
    return calls


def test_index_is_made_when_it_is_needed(stores, index, created):
    pool = IndexedPool(stores["off"])
    assert created == []
    assert pool.index.checksum == index.checksum
    assert pool.index is pool.index
    assert len(created) == 1


def test_index_is_made_before_it_is_sent(stores, index, created):
    sent = pickle.dumps(IndexedPool(stores["off"]))
    assert len(created) == 1
    assert pickle.loads(sent).index.checksum == index.checksum
    assert len(created) == 1


def test_index_has_the_bins_and_regions(stores):
    pool = IndexedPool(stores["off"], energy_axis=AXIS, exclusion_regions=REGIONS)
    assert pool.exclusion_regions == REGIONS
    expected = OffIndex.create(stores["off"], AXIS, exclusion_regions=REGIONS)
    assert pool.index.checksum == expected.checksum
    IndexedPool(stores["off"], expected, AXIS, exclusion_regions=REGIONS)
    assert IndexedPool(stores["off"], expected).exclusion_regions == list(REGIONS)


@pytest.mark.parametrize("interp", ["lin", "log"])
def test_edges_of_bins_decide(stores, index, interp):
    """Neither their unit nor how an axis interpolates, which an index does not tell."""
    edges, options = index.energy_axis.edges.to("GeV"), {"name": "energy"}
    axis = MapAxis.from_edges(edges, interp=interp, **options)
    pool = IndexedPool(stores["off"], index, energy_axis=axis)
    assert pool.index is index
    axis = MapAxis.from_edges(edges * 1.001, interp=interp, **options)
    with pytest.raises(ValueError, match="energy_axis differs"):
        IndexedPool(stores["off"], index, energy_axis=axis)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"energy_axis": AXIS}, "energy_axis differs from that of the index"),
        ({"exclusion_regions": REGIONS}, "The 1 exclusion_regions are not those of"),
    ],
    ids=["axis", "regions"],
)
def test_index_that_does_not_agree(stores, index, options, match):
    with pytest.raises(ValueError, match=match):
        IndexedPool(stores["off"], index, **options)


def test_index_of_more_observations(stores, index):
    pool = IndexedPool(stores["off"].get_observations([102, 104]), index)
    assert pool.index.obs_ids.tolist() == [102, 104]
    with pytest.raises(ValueError, match="has none of the off_observations"):
        IndexedPool(stores["targets"], index)


def test_files_that_have_changed(stores, tmp_path, created, caplog):
    shutil.copytree(stores["off"].hdu_table.base_dir, tmp_path / "off")
    store = DataStore.from_dir(tmp_path / "off")
    old = OffIndex.create(store)
    os.utime(store.hdu_table.hdu_location(103, "events").path(), (0, 0))
    pool = IndexedPool(store, old)
    assert "The files of OBS_ID 103 have changed" in caplog.text
    assert pool.index is old
    pool.make_index()
    assert pool.index.find_changed(store) == []
    # it was brought up to date, not made from nothing
    assert len(created) == 1


def test_file_of_the_index(stores, tmp_path, created, caplog):
    path = tmp_path / "index.fits"
    IndexedPool(stores["off"]).make_index(path, n_jobs=1)
    again = IndexedPool(stores["off"])
    again.make_index(path)
    assert len(created) == 1
    assert OffIndex.read(path).checksum == again.index.checksum
    other = IndexedPool(stores["off"], energy_axis=AXIS)
    other.make_index(path)
    assert "anew: energy_axis differs" in caplog.text
    assert OffIndex.read(path).energy_axis.nbin == AXIS.nbin


def test_targets_have_the_same_bins(stores):
    pool = IndexedPool(stores["off"], energy_axis=AXIS, exclusion_regions=REGIONS)
    targets = pool.index_targets(list(stores["targets"].get_observations())[::-1])
    assert targets.obs_ids.tolist() == [1, 2, 3]
    assert targets.binning is pool.index.binning


def test_predictions_are_made_once(stores, index):
    """Until the IRF is another one, or the bins are."""
    pool = IndexedPool(stores["off"], index)
    observation = pool.get(101).copy(in_memory=True)
    axes = index.energy_axis, index.offset_axis
    counts = pool.predict(observation, get_background_version(observation))
    assert_array_equal(counts, predict_counts(observation.bkg, *axes))
    assert pool.predict(observation, get_background_version(observation)) is counts
    observation.bkg.data *= 2
    double = pool.predict(observation, get_background_version(observation))
    assert_allclose(double, 2 * counts)
    bare = replace(observation, bkg=None)
    assert not pool.predict(bare, get_background_version(bare)).any()


@pytest.mark.slow
def test_processes_that_update_one_file(stores, index, tmp_path):
    """At any moment it is the index of one of them, each of which has its own."""
    path, n_jobs = tmp_path / "index.fits", 4
    pools = {
        "all": stores["off"],
        "some": stores["off"].get_observations([101, 104, 105]),
    }
    expected = {name: OffIndex.create(pool).checksum for name, pool in pools.items()}
    IndexedPool(pools["some"]).make_index(path)
    barrier = FORK.Barrier(n_jobs + 1)

    def work(name):
        barrier.wait()
        for _ in range(5):
            pool = IndexedPool(pools[name])
            pool.make_index(path)
            assert pool.index.checksum == expected[name]

    processes = [FORK.Process(target=work, args=(_,)) for _ in [*pools] * 2]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for process in processes:
            process.start()
    barrier.wait()
    seen = set()
    while any(_.is_alive() for _ in processes):
        seen.add(OffIndex.read(path).checksum)
    for process in processes:
        process.join()
    assert [_.exitcode for _ in processes] == [0] * n_jobs
    assert {OffIndex.read(path).checksum, *seen} <= {*expected.values()}
    assert list(tmp_path.iterdir()) == [path]
    # what was lost is read again, and nothing else is needed
    IndexedPool(stores["off"]).make_index(path)
    assert OffIndex.read(path).checksum == index.checksum
