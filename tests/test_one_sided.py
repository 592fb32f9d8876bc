"""What one side of a pair lacks is said of that side, and stops nobody else."""

import copy
from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from gammapy.data import DataStore, Observations

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.data.irfs import get_background_version
from gammapy_mimic.simulate import (
    make_irfs,
    simulate_datastore,
    simulate_observations,
)

from .helpers import ANY_CONDITIONS, replace, replace_events

CRITERIA = {**ANY_CONDITIONS, "galactic_latitude": None}
OPTIONS = {"criteria": CRITERIA, "distribution": "irf", "kl_max": 1}


@pytest.fixture(scope="module")
def observations():
    irfs = partial(make_irfs, rate=0.3)
    return simulate_observations(8, irfs=irfs, random_state=7)


def scale_background(observation, factor):
    """Copy of an observation with another rate."""
    bkg = copy.deepcopy(observation.bkg)
    bkg.data = bkg.data * factor
    return replace(observation, bkg=bkg)


def keep_low_energies(observation):
    events = observation.events
    keep = events.energy < 0.4 * u.TeV
    assert keep.any()
    return replace_events(observation, events.table[keep])


BLANKS = {
    "zero": partial(scale_background, factor=0),
    "nan": partial(scale_background, factor=np.nan),
    "none": partial(replace, bkg=None),
}


def test_target_without_counts_in_the_bins(observations, caplog):
    """The plan of the others is made, and the target has no mimic."""
    targets = Observations([observations[0], keep_low_energies(observations[1])])
    selector = KLBackgroundSelector(Observations(observations[4:]), criteria=CRITERIA)
    plan = selector.make_plan(targets, n_sets=1)
    assert plan.partners(1).keys() == {1}
    assert plan.questionable == [(2, "no_mimic")]
    assert "No OFF observation matches OBS_ID 2" in caplog.text
    assert "'no_common_counts': 4 of 4" in caplog.text
    with pytest.raises(ValueError, match="no good OFF observation for OBS_ID 2"):
        selector.make_background(targets[1])


def test_off_observation_without_counts_in_the_bins(observations):
    off = [keep_low_energies(observations[4]), *observations[5:]]
    selector = KLBackgroundSelector(Observations(off), criteria=CRITERIA)
    table = selector.rank(observations[0])
    assert table["STATUS"][table["OFF_OBS_ID"] == 5] == "rejected"


@pytest.mark.parametrize("name", BLANKS)
def test_off_observation_whose_irf_predicts_nothing(observations, name):
    """Rejected with a reason, and not part of a template."""
    off = [BLANKS[name](observations[4]), *observations[5:]]
    selector = KLBackgroundSelector(Observations(off), **OPTIONS)
    table = selector.rank(observations[0])
    row = table[table["OFF_OBS_ID"] == 5][0]
    assert row["STATUS"] == "rejected"
    assert row["REASONS"] in ("threshold", "no_common_counts")
    assert set(table["STATUS"][table["OFF_OBS_ID"] != 5]) == {"ok"}
    used = selector.make_background(observations[0]).meta["OBS_IDS"].split(",")
    assert sorted(used) == ["6", "7", "8"]


@pytest.mark.parametrize("name", BLANKS)
def test_target_whose_irf_predicts_nothing(observations, name, caplog):
    targets = Observations([observations[0], BLANKS[name](observations[1])])
    selector = KLBackgroundSelector(Observations(observations[4:]), **OPTIONS)
    plan = selector.make_plan(targets, n_sets=1)
    assert plan.questionable == [(2, "no_mimic")]
    assert "No OFF observation matches OBS_ID 2" in caplog.text
    with pytest.raises(ValueError, match="OBS_ID 2( has no background IRF|\\. The)"):
        selector.make_background(targets[1])


def change_background(path):
    """Another dependence on energy, of the same size on disk."""
    with fits.open(path, memmap=False) as hdu_list:
        data = hdu_list["BACKGROUND"].data
        factor = np.geomspace(1, 0.001, data["BKG"].shape[1]).reshape(-1, 1, 1)
        data["BKG"] = data["BKG"] * factor
        hdu_list.writeto(path, overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [1, 5], ids=["target", "off"])
def test_ranking_by_irfs_that_have_changed(tmp_path, changed):
    """On disk and in memory: the table is made again, and only then."""
    irfs = partial(make_irfs, rate=0.1)
    simulate_datastore(tmp_path / "store", 8, irfs=irfs, random_state=1)
    store = DataStore.from_dir(tmp_path / "store")
    off = store.get_observations([5, 6, 7, 8])
    selector = KLBackgroundSelector(off, **OPTIONS)

    def rank(selector, path=None):
        table = selector.rank(store.obs(1), path)
        return table["OFF_OBS_ID", "KL_CORR"].as_array().tolist(), table.meta

    path = tmp_path / "kl_1.ecsv"
    before, meta = rank(selector, path)
    assert rank(selector, path) == (before, meta)
    change_background(tmp_path / f"store/data/obs_id_{changed:06d}.fits")
    new = KLBackgroundSelector(off, **OPTIONS)
    after, _ = rank(new)
    assert after != before
    assert rank(selector)[0] == after
    assert rank(selector, path)[0] == after
    assert rank(new, path)[0] == after


def test_version_of_a_background(observations, tmp_path):
    first = get_background_version(observations[0])
    assert first == get_background_version(copy.deepcopy(observations[0]))
    assert first != get_background_version(scale_background(observations[0], 1.01))
    assert get_background_version(replace(observations[0], bkg=None)) is None
