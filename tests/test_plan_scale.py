"""Each mimic asks a plan for the pairs of its set: they are found once."""

import pickle

import numpy as np
import pytest
from astropy.table import Table

from gammapy_mimic.selection import MimicPlan


@pytest.fixture
def plan():
    obs_ids, sets = np.tile(np.arange(1, 301), 2), np.repeat([1, 2], 300)
    table = Table({"OBS_ID": obs_ids, "MIMIC_SET": sets})
    table["OFF_OBS_ID"], table["ONTIME"] = 10**6 + obs_ids, 1700.0
    table["CUT_START"] = np.where(obs_ids % 2, 3.0, np.nan)
    table["CUT_STOP"] = table["CUT_START"] + 900
    return MimicPlan(table)


def test_pairs_are_found_once(plan):
    pairs = plan._pairs
    assert plan.partners(1)[7] == 10**6 + 7
    assert plan.cuts(2)[7] == (3.0, 903.0)
    assert 8 not in plan.cuts(2)
    assert plan._pairs is pairs


def test_an_edit_is_seen(plan):
    """Whatever was asked for before, and what is given is no way to edit."""
    plan.partners(1)[1] = 5
    plan.cuts(1).clear()
    assert plan.partners(1)[1] == 10**6 + 1
    assert plan.cuts(1)[1] == (3.0, 903.0)
    plan.table["OFF_OBS_ID"][0] = 9
    assert plan.partners(1)[1] == 9
    plan.table["CUT_START"][0] = np.nan
    assert 1 not in plan.cuts(1)
    plan.table["STATUS"][0] = "large_kl"
    assert 1 not in plan.partners(1, questionable=False)
    plan.table["MIMIC_SET"][0] = 3
    assert (plan.sets, plan.partners(3)) == ([1, 2, 3], {1: 9})
    plan.table.remove_row(0)
    assert plan.sets == [1, 2]


def test_pickled(plan):
    """Other processes find them again."""
    expected = plan.partners(1)
    size = len(pickle.dumps(MimicPlan(plan.table)))
    assert len(pickle.dumps(plan)) == size
    assert pickle.loads(pickle.dumps(plan)).partners(1) == expected
