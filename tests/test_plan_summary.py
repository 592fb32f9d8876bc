"""A plan says what it is worth: OFF time, reuse, and what its sets share."""

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from gammapy_mimic.selection import MimicPlan

from .helpers import select_runs
from .test_cut import set_ontime
from .test_plan import NO_LATITUDE, make_tables

HOUR = 3600.0


def make_plan(rows, livetime=0.5 * HOUR, deadc=0.9, target=0.25 * HOUR):
    """A plan of rows of OBS_ID, MIMIC_SET, OFF_OBS_ID, and the part in hours."""
    names = ["OBS_ID", "MIMIC_SET", "OFF_OBS_ID", "CUT_START", "CUT_STOP"]
    table = Table(rows=rows, names=names, dtype=[int, int, int, float, float])
    for name in names[3:]:
        table[name] *= HOUR / deadc
    table["LIVETIME"] = livetime
    table["ONTIME"] = livetime / deadc
    table["LIVETIME_RATIO"] = livetime / target
    return MimicPlan(table)


nan = np.nan


def test_independent_sets():
    plan = make_plan([(1, 1, 11, 0, 0.25), (1, 2, 12, 0.1, 0.35), (1, 3, 13, 0, 0.25)])
    summary = plan.make_summary()
    assert summary.n_sets == 3
    assert_allclose(summary.target_livetime, 0.25 * HOUR)
    assert_allclose(summary.off_livetime, 0.75 * HOUR)
    assert_allclose(summary.livetime_ratio, 3)
    assert_allclose(summary.n_effective, 3)
    assert (summary.max_reuse, summary.mean_reuse) == (1, 1)
    assert summary.max_shared == 0
    assert summary.warning == ""
    assert str(summary) == (
        "An OFF observation is in 1 set at most. With what sets share counted once, "
        "OFF observations have 0.8 h of livetime, 3.00 times that of the targets. "
        "3 sets are worth 3.0 independent ones."
    )


def test_two_halves_of_an_observation_are_independent():
    plan = make_plan([(1, 1, 11, 0, 0.25), (1, 2, 11, 0.25, 0.5)])
    summary = plan.make_summary()
    assert_allclose(summary.n_effective, 2)
    assert_allclose(summary.livetime_ratio, 2)
    assert (summary.max_reuse, summary.mean_reuse) == (2, 2)
    # though the pair is in both sets
    assert summary.n_repeated == 1
    assert summary.is_independent
    assert summary.warning == ""


def test_overlap_and_whole():
    """A part of 0.25 h, one that begins 0.05 h later, and the whole of 0.5 h."""
    rows = [(1, 1, 11, 0, 0.25), (1, 2, 11, 0.05, 0.3), (1, 3, 11, nan, nan)]
    summary = make_plan(rows).make_summary()
    rho = 0.2 / 0.25, 0.25 / np.sqrt(0.25 * 0.5), 0.25 / np.sqrt(0.25 * 0.5)
    assert_allclose(summary.n_effective, 9 / (3 + 2 * sum(rho)))
    assert_allclose(summary.max_shared, 0.8)
    assert summary.most_shared == (1, 2)
    assert summary.n_shared == 3
    assert_allclose(summary.off_livetime, 0.5 * HOUR)
    assert "Mimic sets 1 and 2 share 80% of their OFF livetime" in summary.warning
    assert "3 sets are worth 1.2 independent ones" in summary.warning


def test_same_sets_are_worth_one():
    rows = [(_, k, 10 + _, nan, nan) for k in (1, 2) for _ in (1, 2)]
    summary = make_plan(rows).make_summary()
    assert_allclose(summary.n_effective, 1)
    assert summary.n_repeated == 2
    assert "share 100%" in summary.warning
    assert "2 pairs of target and OFF observation" in summary.warning


def test_one_pair_is_there_twice():
    rows = [(1, 1, 11, nan, nan), (1, 2, 11, nan, nan), (2, 1, 12, nan, nan)]
    rows.append((2, 2, 13, nan, nan))
    warning = make_plan(rows).make_summary().warning
    assert "1 pair of target and OFF observation is in more than one" in warning


def test_less_off_time_than_target_time():
    rows = [(_, 1, 10 + _, nan, nan) for _ in (1, 2)]
    summary = make_plan(rows, livetime=0.3 * HOUR, target=0.5 * HOUR).make_summary()
    assert "OFF observations have 60% of the livetime of the targets" in summary.warning
    assert "0.6 h for 1.0 h. Use wider criteria or more" in summary.warning
    # one set of OFF observations that the criteria accept
    enough = make_plan(rows, livetime=0.46 * HOUR, target=0.5 * HOUR)
    assert enough.make_summary().warning == ""


@given(
    starts=st.lists(st.floats(0, 0.25), min_size=1, max_size=6),
    repeats=st.booleans(),
)
def test_laws(starts, repeats):
    """Between one set and all of them, and each event once."""
    rows = [
        (1, k, 11 if repeats else 10 + k, start, start + 0.25)
        for k, start in enumerate(starts, start=1)
    ]
    summary = make_plan(rows).make_summary()
    seconds = np.zeros(5000, dtype=bool)
    for start in starts:
        seconds[round(start * 10000) : round((start + 0.25) * 10000)] = True
    union = seconds.sum() / 10000 if repeats else 0.25 * len(starts)
    assert summary.off_livetime / HOUR == pytest.approx(union, abs=2e-3)
    assert 1 - 1e-9 <= summary.n_effective <= len(starts) + 1e-9
    assert summary.livetime_ratio >= 1 - 1e-9


def test_not_known():
    summary = MimicPlan.create({1: 11, 2: 12, 3: -1}).make_summary()
    assert np.isnan(summary.livetime_ratio)
    assert np.isnan(summary.n_effective)
    assert (summary.max_reuse, summary.mean_reuse) == (1, 1)
    assert "livetime is not known" in str(summary)
    assert summary.warning == ""
    assert len(summary.to_table()) == 1


def test_no_partner():
    summary = MimicPlan.create({1: -1}).make_summary()
    assert summary.n_sets == 0
    assert np.isnan(summary.livetime_ratio)
    assert str(summary)


def test_without_good_time():
    """As if there were no dead time."""
    plan = make_plan([(1, 1, 11, nan, nan), (1, 2, 12, nan, nan)])
    plan.table["ONTIME"] = np.nan
    assert_allclose(plan.make_summary().off_livetime, HOUR)


def test_told_once_where_the_plan_is_made(caplog):
    targets, off = (set_ontime(_) for _ in make_tables(n_targets=3, n_off=3))
    MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, n_sets=3)
    (record,) = [_ for _ in caplog.records if "share" in _.message]
    assert record.levelname == "WARNING"
    assert "independent ones" in record.message
    assert len(record.message) < 400


def test_table():
    plan = make_plan([(1, 1, 11, 0, 0.25), (1, 2, 11, 0.05, 0.3)])
    table = plan.make_summary().to_table()
    assert table["OFF_LIVETIME"].unit == "h"
    assert_allclose(table["OFF_LIVETIME"], 0.3)
    assert_allclose(table["MAX_SHARED"], 0.8)


def test_pairs():
    plan = MimicPlan(
        Table({"OBS_ID": [2, 1, 1], "OFF_OBS_ID": [11, 12, 13], "MIMIC_SET": [1, 1, 2]})
    )
    assert plan.to_pairs() == [(1, 12), (2, 11), (1, 13)]
    assert plan.to_pairs(mimic_set=2) == [(1, 13)]
    assert MimicPlan.create({1: 11, 2: -1}).to_pairs() == [(1, 11)]
    with pytest.raises(ValueError, match="no mimic set 3"):
        plan.to_pairs(3)


@pytest.mark.parametrize("livetime", ["cut", "whole"])
def test_hess_sets_that_share_most(hess_store, caplog, livetime):
    """Both sets of MSH 15-52 are of nearly the same OFF runs."""
    targets, off = (select_runs(hess_store, _) for _ in ("msh1552", "offdata"))
    plan = MimicPlan.from_obs_tables(targets, off, n_sets=2, livetime=livetime)
    summary = plan.make_summary()
    assert summary.max_shared > 0.7
    assert summary.n_effective < 1.2
    assert "Mimic sets 1 and 2 share" in caplog.text
    assert len(plan.partners(1)) == {"cut": 20, "whole": 19}[livetime]
    shared = {*plan.off_obs_ids(1)} & {*plan.off_obs_ids(2)}
    assert summary.max_shared == pytest.approx(
        len(shared) / len(plan.partners(1)), abs=0.05
    )


def test_hess_sets_that_do_not(hess_store, caplog):
    targets, off = (select_runs(hess_store, _) for _ in ("pks2155_flare", "offdata"))
    plan = MimicPlan.from_obs_tables(targets, off, n_sets=2)
    assert_allclose(plan.make_summary().n_effective, 2)
    assert "share" not in caplog.text
