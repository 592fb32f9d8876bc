"""Compressed files are decompressed once, whatever order they are read in."""

import gzip
import io
import shutil

import numpy as np
import pytest
from astropy.io import fits
from gammapy.data import DataStore
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gammapy_mimic.data.files import KeptGzipFile, open_fits
from gammapy_mimic.selection import OffIndex

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("compressed") / "bytes.gz"
    path.write_bytes(gzip.compress(CONTENT))
    return path


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 110_000), st.integers(-1, 30_000)), max_size=8
    )
)
def test_reads_as_gzip_does(path, steps):
    with KeptGzipFile(path) as file, gzip.open(path) as expected:
        for position, size in steps:
            assert file.seek(position) == position
            expected.seek(position)
            content = file.read(size)
            assert content == expected.read(size)
            assert file.tell() == position + len(content)
            assert file.seek(3, io.SEEK_CUR) == position + len(content) + 3


@pytest.fixture
def compressed(tmp_path):
    hdus = [fits.ImageHDU(np.arange(n * 1000.0), name=f"N{n}") for n in (1, 20, 3)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits.gz")
    return tmp_path / "a.fits.gz"


def test_nothing_is_decompressed_again(compressed, monkeypatch):
    """Which is what going back is for a file that keeps nothing."""
    moves, seek = [], gzip.GzipFile.seek

    def note(self, *args):
        moves.append(args)
        return seek(self, *args)

    monkeypatch.setattr(gzip.GzipFile, "seek", note)
    with open_fits(compressed) as hdu_list:
        for n in (3, 1, 20):
            assert_array_equal(hdu_list[f"N{n}"].data, np.arange(n * 1000.0))
    assert moves == []


@pytest.mark.parametrize("name", ["plain.fits.gz", "compressed.fits"])
def test_whatever_the_name(compressed, name):
    path = compressed.with_name(name)
    content = compressed.read_bytes()
    path.write_bytes(gzip.decompress(content) if "plain" in name else content)
    with open_fits(path) as hdu_list:
        assert_array_equal(hdu_list["N3"].data, np.arange(3000.0))


def test_index_of_compressed_files(stores, tmp_path):
    """The same, and a file that is cut is named."""
    store = stores["off"]
    shutil.copytree(store.hdu_table.base_dir, tmp_path / "store")
    other = DataStore.from_dir(tmp_path / "store")
    for obs_id in (101, 102):
        path = other.hdu_table.hdu_location(obs_id, "events").path()
        path.write_bytes(gzip.compress(path.read_bytes()))
    path.write_bytes(path.read_bytes()[:20_000])
    index = OffIndex.create(other)
    assert list(index.broken["OBS_ID"]) == [102]
    expected = OffIndex.create(store)
    rows = expected.obs_ids != 102
    assert_array_equal(index.counts, expected.counts[rows])
    assert_array_equal(index.aeff, expected.aeff[rows])
