"""An observation table may tell more time than the files have good time (GTI)."""

import logging

import numpy as np
import pytest
from gammapy.data import DataStore, Observations
from numpy.testing import assert_allclose

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.selection import OffIndex

from .faults import set_gti, spoil
from .helpers import ANY_CONDITIONS, replace
from .test_cut import select_first

OFF = range(101, 109)
GOOD_TIME = 0.3 * 3600


@pytest.fixture(scope="module")
def gaps(stores, tmp_path_factory):
    """A store whose index and headers ignore the gaps between its GTI."""
    path = tmp_path_factory.mktemp("gaps") / "store"
    return spoil(stores["off"], path, set_gti((0, 0.1), (0.2, 0.4)), OFF)


def read_times(index):
    return np.array([index.table[_] for _ in ("ONTIME", "LIVETIME", "DEADC")])


def test_good_time_counts(gaps, caplog):
    index = OffIndex.create(gaps)
    ontime, livetime, deadc = read_times(index)
    assert np.all(gaps.obs_table["ONTIME"] > 1500)
    assert_allclose(ontime, GOOD_TIME, atol=1e-5)
    assert_allclose(livetime, deadc * GOOD_TIME, atol=1e-5)
    assert_allclose(index.conditions.livetime, livetime)
    assert_allclose(index.ontime, ontime)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "8 observations" in record.message
    assert "OBS_ID 101, 102" in record.message


@pytest.mark.parametrize("name", ["ONTIME", "LIVETIME", "DEADC"])
def test_columns_that_are_missing(gaps, name):
    """Whatever the table tells of the three."""
    store = DataStore(gaps.hdu_table, gaps.obs_table.copy())
    store.obs_table.remove_column(name)
    times = read_times(OffIndex.create(store))
    assert_allclose(times, read_times(OffIndex.create(gaps)), rtol=1e-6)


def test_what_is_known_is_known_of_a_file_that_is_not_read_again(gaps, tmp_path):
    index = OffIndex.create(gaps)
    index.write(tmp_path / "index.fits")
    known = OffIndex.read(tmp_path / "index.fits")
    assert known.checksum == index.checksum
    assert known.update(gaps).checksum == index.checksum


@pytest.mark.slow
def test_files_without_a_table_agree(gaps):
    times = read_times(OffIndex.create(gaps))
    observations = gaps.get_observations()
    held = Observations([_.copy(in_memory=True) for _ in observations])
    for others in (observations, held):
        assert_allclose(read_times(OffIndex.create(others)), times, rtol=1e-6)


def test_rounded_times_stay(stores, caplog):
    store = DataStore(stores["off"].hdu_table, stores["off"].obs_table.copy())
    store.obs_table["ONTIME"] = np.ceil(store.obs_table["ONTIME"]) + 0.1
    ontime = OffIndex.create(store).table["ONTIME"].tolist()
    assert ontime == store.obs_table["ONTIME"].tolist()
    assert caplog.text == ""


@pytest.mark.slow
def test_a_plan_can_be_carried_out(gaps, stores):
    """Also where the parts begin after the gap."""
    targets = [select_first(_, 10) for _ in stores["targets"].get_observations()]
    # the plan is told by the time of a target, which a filter does not change
    targets = [replace(_, gti=_.gti) for _ in targets]
    selector = KLBackgroundSelector(gaps, criteria=ANY_CONDITIONS, kl_max=None)
    plan = selector.make_plan(targets, n_sets=2)
    assert np.isfinite(plan.table["CUT_STOP"]).all()
    for mimic_set in plan.sets:
        maker = MimicMaker(gaps, plan, mimic_set)
        for target in targets:
            mimic = maker.make_observation(target)
            assert_allclose(mimic.gti.time_sum.to_value("s"), 600, atol=0.01)
