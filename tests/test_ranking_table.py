"""What rankings tell of candidates, for one target or many."""

import numpy as np
import pytest
from gammapy.data import DataStore
from numpy.testing import assert_array_equal

from gammapy_mimic.selection import MatchCriteria, OffIndex
from gammapy_mimic.selection.conditions import get_scatter
from gammapy_mimic.selection.cuts import get_ontime
from gammapy_mimic.selection.ranking import rank_observations

CRITERIA = MatchCriteria(galactic_latitude=None, field_radius="0.01 deg")


@pytest.fixture(scope="module")
def index(stores):
    return OffIndex.create(stores["off"])


def test_reasons_of_many_criteria(index):
    """Each by its name, in one order, however many there are."""
    rng = np.random.default_rng(0)
    table = index.table.copy()
    names = [f"C{_:03d}" for _ in range(100)]
    for name in names:
        table[name] = rng.integers(0, 2, len(table)).astype(float)
    off = OffIndex(table, index.counts, index.fraction, index.binning)
    columns = {name: {"max_difference": 0.5} for name in names}
    target = off.select(off.obs_ids[:1])
    ranking = rank_observations(target, off, MatchCriteria(columns=columns))
    ranking.sort("OFF_OBS_ID")
    for row, reasons in zip(off.table, ranking["REASONS"], strict=True):
        expected = [_ for _ in names if row[_] != table[_][0]]
        assert [_ for _ in reasons.split(", ") if _ in names] == expected


def test_good_time(index):
    ranking = rank_observations(index.select([101]), index, CRITERIA)
    rows = np.searchsorted(index.obs_ids, ranking["OFF_OBS_ID"])
    assert_array_equal(ranking["ONTIME"], get_ontime(index.table)[rows])
    assert ranking["ONTIME"].unit == "s"
    assert np.all(ranking["ONTIME"] >= ranking["LIVETIME"])


def test_table_that_gammapy_has_indexed(stores):
    """`select_obs_id` of an observation table leaves an index of its rows in it."""
    store = DataStore.from_dir(stores["off"].hdu_table.base_dir)
    expected = OffIndex.create(store)
    store = DataStore.from_dir(stores["off"].hdu_table.base_dir)
    store.obs_table.select_obs_id([105, 101])
    assert len(store.obs_table.indices) == 1
    store.obs_table = store.obs_table[::-1]
    index = OffIndex.create(store)
    assert_array_equal(index.obs_ids, expected.obs_ids)
    assert index.checksum == expected.checksum


def test_one_target_without_livetime(stores, index):
    """It is not compared there, and all is the same for the others."""
    targets = OffIndex.create(stores["targets"])

    def rank(targets):
        skip = CRITERIA.check_columns(targets.conditions, index.conditions)
        for obs_id in targets.obs_ids:
            target = targets.select([obs_id])
            options = target.conditions[0], index.conditions, skip
            rejected = CRITERIA.reject(*options)
            yield rank_observations(target, index, CRITERIA, rejected=rejected)

    expected = list(rank(targets))
    targets.table["LIVETIME"][1] = np.nan
    del targets.conditions
    tables = list(rank(targets))
    assert not any("livetime" in _ for _ in tables[1]["REASONS"])
    assert np.isnan(tables[1]["LIVETIME_RATIO"]).all()
    for row in (0, 2):
        assert_array_equal(tables[row]["STATUS"], expected[row]["STATUS"])
        assert_array_equal(tables[row]["DISTANCE"], expected[row]["DISTANCE"])


def test_conditions_of_a_selection(index):
    """Those of the rows, whether they were known or are read again."""
    arrays = index.counts, index.fraction
    known = OffIndex(index.table, *arrays, index.binning, aeff=index.aeff)
    before = known.select([102, 105]).conditions
    _ = known.conditions
    after = known.select([102, 105]).conditions
    for name in ("obs_id", "livetime", "elevation", "mjd", "effective_area"):
        assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.columns.keys() == before.columns.keys()


def test_scatter_where_most_are_equal():
    """It is 0 only where all are equal."""
    values = np.append(np.full(60, 4.0), np.full(40, 3.0))
    assert get_scatter(values) == pytest.approx(np.sqrt(0.4))
    assert get_scatter(np.full(7, 0.1)) == 0
    azimuth = np.append(np.full(60, 350.0), np.full(20, 10.0))
    assert get_scatter(azimuth, "azimuth") > 0
