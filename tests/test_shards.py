"""An index that is made in shards is that which is made at once, to the bit."""

import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from numpy.testing import assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.selection.shards import parse_shard

from .test_scripts import assert_fails, run


@pytest.fixture(scope="module")
def folder(stores, tmp_path_factory):
    """A datastore with a file that is cut, and one that is gone."""
    path = tmp_path_factory.mktemp("shards") / "store"
    shutil.copytree(stores["off"].hdu_table.base_dir, path)
    first, last = _find_files(path, 101, 108)
    first.write_bytes(first.read_bytes()[:5000])
    last.unlink()
    return path


def _find_files(path, *obs_ids):
    table = DataStore.from_dir(path).hdu_table
    for obs_id in obs_ids:
        row = table[(table["OBS_ID"] == obs_id) & (table["HDU_TYPE"] == "events")][0]
        yield path / row["FILE_DIR"] / row["FILE_NAME"]


@pytest.fixture(scope="module")
def regions():
    return [CircleSkyRegion(SkyCoord(329.7, -30.2, unit="deg"), 0.4 * u.deg)]


@pytest.fixture(scope="module")
def expected(folder, regions):
    return OffIndex.create(DataStore.from_dir(folder), exclusion_regions=regions)


@pytest.fixture(scope="module", params=[1, 3, 11])
def shards(folder, regions, request):
    store, numbers = DataStore.from_dir(folder), range(1, request.param + 1)
    return [
        OffIndex.create(store, exclusion_regions=regions, shard=(_, request.param))
        for _ in numbers
    ]


@pytest.fixture(scope="module")
def thirds(stores):
    return [OffIndex.create(stores["off"], shard=(_, 3)) for _ in (1, 2, 3)]


def assert_same(index, expected):
    assert index.checksum == expected.checksum
    assert index.archive is None
    assert index.table.meta == expected.table.meta
    for tables in ((index.table, expected.table), (index.broken, expected.broken)):
        names, other_names = (_.colnames for _ in tables)
        assert names == other_names
        for column, other in zip(*(_.columns.values() for _ in tables), strict=True):
            assert_array_equal(column, other)
            assert (column.dtype, column.unit) == (other.dtype, other.unit)
    for name in ("counts", "half_counts", "fraction", "aeff"):
        values, others = getattr(index, name), getattr(expected, name)
        assert_array_equal(values, others)
        assert values.dtype == others.dtype


class TestMerge:
    def test_equals_one_made_at_once(self, shards, expected):
        assert_same(OffIndex.merge(shards[::-1]), expected)

    @pytest.mark.slow
    def test_files(self, shards, expected, tmp_path):
        """Also those of shards in which no observation can be used, or none is."""
        paths = [tmp_path / f"part{_}.fits" for _ in range(len(shards))]
        for shard, path in zip(shards, paths, strict=True):
            shard.write(path)
            again = OffIndex.read(path)
            assert again.checksum == shard.checksum
            assert_array_equal(again.archive, np.arange(101, 109))
        merged = OffIndex.merge(paths)
        merged.write(tmp_path / "merged.fits")
        expected.write(tmp_path / "expected.fits")
        contents = [
            (tmp_path / f"{_}.fits").read_bytes() for _ in ("merged", "expected")
        ]
        assert contents[0] == contents[1]

    def test_observations_without_a_table(self, folder, stores):
        """Conditions are those of their headers."""
        store = stores["off"]
        expected = OffIndex.create(store.get_observations())
        observations = [*store.get_observations()]
        shards = [OffIndex.create(observations, shard=f"{_}/3") for _ in (1, 2, 3)]
        assert_same(OffIndex.merge(shards), expected)

    def test_a_shard_is_completed(self, shards, folder, expected):
        assert_same(shards[0].update(DataStore.from_dir(folder)), expected)


class TestErrors:
    def test_gap(self, thirds):
        match = "OBS_ID 102, 105, 108: in none of 2 shards, so that 3 of 8 obs"
        with pytest.raises(ValueError, match=match):
            OffIndex.merge(thirds[::2])

    def test_gap_of_broken_ones(self, folder):
        """They are in a shard as well."""
        store = DataStore.from_dir(folder)
        shards = [OffIndex.create(store, shard=(_, 8)) for _ in range(2, 9)]
        with pytest.raises(ValueError, match="OBS_ID 101: in none of 7 shards"):
            OffIndex.merge(shards)

    def test_duplicates(self, thirds, tmp_path):
        match = "OBS_ID 101, 104, 107: in more than one of 4 shards. Give each"
        with pytest.raises(ValueError, match=match):
            OffIndex.merge([*thirds, thirds[0]])
        thirds[0].write(tmp_path / "part.fits")
        with pytest.raises(ValueError, match="in more than one of 2 shards"):
            OffIndex.merge([tmp_path / "part.fits"] * 2)

    def test_another_number_of_shards(self, thirds, stores):
        fourth = OffIndex.create(stores["off"], shard=(1, 4))
        with pytest.raises(ValueError, match="OBS_ID 101, 105: in more than one of 4"):
            OffIndex.merge([*thirds, fourth])

    def test_another_archive(self, thirds, stores):
        observations = stores["off"].get_observations()[1:]
        other = OffIndex.create(observations, shard=(1, 3))
        match = "shard 2 and shard 1 are shards of two archives: .*has OBS_ID 101"
        with pytest.raises(ValueError, match=match):
            OffIndex.merge([thirds[0], other])

    def test_other_bins(self, thirds, stores, regions):
        options = {"exclusion_regions": regions, "shard": (2, 3)}
        other = OffIndex.create(stores["off"], **options)
        with pytest.raises(ValueError, match="different bins or exclusion regions"):
            OffIndex.merge([thirds[0], other, thirds[2]])

    def test_no_shard(self, thirds, stores):
        with pytest.raises(ValueError, match="shard 2 is an index of its own"):
            OffIndex.merge([thirds[0], OffIndex.create(stores["off"])])
        with pytest.raises(ValueError, match="There are no shards"):
            OffIndex.merge([])

    def test_a_shard_is_no_index_of_a_pool(self, thirds, stores):
        match = "The index is a shard, with 3 of 8 observations. Use OffIndex.merge"
        with pytest.raises(ValueError, match=match):
            KLBackgroundSelector(stores["off"], index=thirds[0])

    def test_dates_from_which_time_is_counted(self, thirds):
        changed = OffIndex.merge(thirds).table.copy()
        changed.meta["MJDREFI"] += 1
        second = thirds[1]
        rows = np.isin(changed["OBS_ID"], second.obs_ids)
        arrays = second.counts, second.fraction, second.binning
        other = OffIndex(changed[rows], *arrays, archive=second.archive)
        with pytest.raises(ValueError, match="count time from different dates"):
            OffIndex.merge([thirds[0], other, thirds[2]])

    @pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", (1, 2, 3), "1/0"])
    def test_nonsense(self, shard, stores):
        with pytest.raises(ValueError, match="A shard must be K/N, such as 3/100"):
            OffIndex.create(stores["off"], shard=shard)

    def test_numbers(self):
        assert parse_shard(" 3 / 100 ") == parse_shard((3, 100)) == (3, 100)


class TestCommands:
    def test_index_in_shards(self, stores, regions, tmp_path, capsys):
        """As in a batch system: one command a shard, and one that merges."""
        store = stores["off"].hdu_table.base_dir
        exclude = ("--exclude", "329.7,-30.2,0.4")
        parts = [tmp_path / f"part{_}.fits" for _ in (1, 2)]
        for number, part in enumerate(parts, start=1):
            args = "--shard", f"{number}/2", "--out", part, *exclude
            assert run("index", store, *args) == 0
            text = capsys.readouterr().out
            assert f"Wrote the shard {number} of 2 of 4 observations, 0 oth" in text
        assert run("index-merge", *parts, "--out", tmp_path / "off.idx") == 0
        assert "the index of 8 observations of 2 shards" in capsys.readouterr().out
        assert run("index", store, "--out", tmp_path / "once.fits", *exclude) == 0
        merged, once = (OffIndex.read(tmp_path / _) for _ in ("off.idx", "once.fits"))
        assert_same(merged, once)
        expected = OffIndex.create(stores["off"], exclusion_regions=regions)
        assert_array_equal(once.counts, expected.counts)

    def test_errors(self, stores, tmp_path, capsys):
        store, out = stores["off"].hdu_table.base_dir, tmp_path / "part.fits"
        for shard in ("3/2", "x"):
            args = "index", store, "--shard", shard, "--out", out
            assert_fails(capsys, out, "must be K/N", *args, code=2)
        assert run("index", store, "--shard", "1/2", "--out", out) == 0
        assert_fails(capsys, out, "exists", "index", store, "--out", out)
        args = "index-merge", out, "--out", tmp_path / "off.idx"
        assert_fails(capsys, out, "OBS_ID 102, 104, 106, 108: in none of 1", *args)
        out.write_text("mine")
        args = "index", store, "--out", out, "--overwrite"
        assert_fails(capsys, out, "not an index", *args)
        assert out.read_text() == "mine"
