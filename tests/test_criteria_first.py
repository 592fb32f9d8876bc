"""What the conditions reject is not compared, and changes nothing of the others."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.data.irfs import is_in_safe_range
from gammapy_mimic.selection import MatchCriteria, OffIndex, ranking
from gammapy_mimic.selection.divergence import compare_counts
from gammapy_mimic.selection.ranking import (
    get_common_masks,
    get_seen_mask,
    rank_observations,
)
from gammapy_mimic.visualization import plot_ranking

from .helpers import ANY_CONDITIONS
from .test_common_bins import EDGES, make_index, make_shape, make_target

DIVERGENCES = ("KL_DIV", "KL_CORR", "P_VALUE", "DELTA_RMS", "RATE_RATIO")
NO_LIMITS = {"livetime": None, "galactic_latitude": None, "field_radius": "0.1 deg"}


def make_criteria(**limits):
    return MatchCriteria.create(NO_LIMITS | {"exclude_obs_ids": range(1, 31)} | limits)


@pytest.fixture(scope="module")
def pool():
    """A target and 60 candidates of two shapes, with exclusion regions.

    Some have a high threshold.
    """
    rng = np.random.default_rng(0)
    fraction = rng.uniform(0.6, 1, (60, 6))
    shapes = np.array([make_shape(1 + 0.3 * (_ % 2)) for _ in range(60)])
    counts = rng.poisson(20_000 * shapes * fraction[:, np.newaxis])
    energy_min = np.where(np.arange(60) % 7 == 0, EDGES[3], 0)
    target, off = (
        make_target(rng, n_events=20_000),
        make_index(counts, energy_min, fraction=fraction),
    )
    for index in (target, off):
        index.table["ZEN_PNT"] = 20.0 + index.obs_ids % 10
        index.table["LIVETIME"] = 1600.0
    return target, off


def assert_same(table, expected):
    assert table.colnames == expected.colnames
    for name in table.colnames:
        assert_array_equal(table[name], expected[name], err_msg=name)


def test_what_conditions_reject_is_not_compared(pool):
    table = rank_observations(*pool, make_criteria())
    is_excluded = np.array(table["OFF_OBS_ID"]) <= 30
    assert set(table["REASONS"][is_excluded]) == {"exclude_obs_ids"}
    assert set(table["STATUS"][is_excluded]) == {"rejected"}
    for name in DIVERGENCES:
        assert np.isnan(table[name][is_excluded]).all()
        assert np.isfinite(table[name][table["STATUS"] == "ok"]).all()
    # what is known without events is told of all
    assert np.isfinite(table["DISTANCE"]).all()


@pytest.mark.parametrize("order", ["conditions", "kl"])
@pytest.mark.parametrize("kl_max", [0.00125, None])
def test_the_others_are_as_without_it(pool, order, kl_max):
    """Also what the veto makes of them, which is fitted to all that are accepted."""
    target, off = pool
    options = make_criteria(), kl_max, None, None, order
    table = rank_observations(target, off, *options)
    expected = rank_observations(target, off.select(range(31, 61)), *options)
    assert ("large_kl" in expected["STATUS"]) == (kl_max is not None)
    is_other = np.array(table["OFF_OBS_ID"]) > 30
    assert_same(table[is_other], expected)


def test_as_if_all_were_compared(stores):
    """Of a simulated archive, in one go, with what was not accepted among them."""
    off, targets = (OffIndex.create(stores[_]) for _ in ("off", "targets"))
    limits = {"rate": 5, "exclude_obs_ids": [102, 105, 107]}
    criteria = MatchCriteria(**ANY_CONDITIONS | limits)
    edges = off.binning.energy_edges
    for obs_id in targets.obs_ids:
        target = targets.select([obs_id])
        table = rank_observations(target, off, criteria)
        table.sort("OFF_OBS_ID")
        rejected = criteria.reject(target.conditions[0], off.conditions)
        accepted = ~np.any([*rejected.values()], axis=0)
        assert 0 < accepted.sum() < len(off)
        energies, off_energies = (
            is_in_safe_range(edges, _.table["ENERGY_MIN"], _.table["ENERGY_MAX"])
            for _ in (target, off)
        )
        counts, fraction = (
            np.concatenate([getattr(_, name) for _ in (target, off)])
            for name in ("ring_counts", "fraction")
        )
        own, *others = get_seen_mask(counts, fraction)
        args = target.counts[0], energies[0], own, off_energies, np.array(others)
        bins, covers = get_common_masks(*args, accepted)
        seen = bins & covers[:, np.newaxis, np.newaxis]
        shapes = compare_counts(target.counts[0], off.counts, seen * 1.0, seen * 1.0)
        for name in ("kl_div", "kl_corr", "p_value", "delta_rms"):
            values, expected = table[name.upper()], getattr(shapes, name)
            assert np.isnan(values[~accepted]).all()
            assert_allclose(values[accepted], expected[accepted], rtol=1e-9, atol=1e-14)
        rate_ratio = (shapes.ratio / table["LIVETIME_RATIO"])[accepted]
        assert_allclose(table["RATE_RATIO"][accepted], rate_ratio, rtol=1e-9)


def test_blocks_do_not_matter(pool, monkeypatch):
    expected = rank_observations(*pool, make_criteria())
    monkeypatch.setattr(ranking, "N_BLOCK", 7)
    assert_same(rank_observations(*pool, make_criteria()), expected)


def test_a_candidate_is_compared_as_it_is_alone(pool):
    """To the bit, however many steps others need."""
    target, off = pool
    fractions = (_.fraction[:, np.newaxis] for _ in pool)
    _, fraction_off = np.broadcast_arrays(off.counts, [*fractions][1])
    together = compare_counts(target.counts[0], off.counts, 1.0, fraction_off)
    for idx in range(0, 60, 7):
        row = slice(idx, idx + 1)
        args = off.counts[row], 1.0, fraction_off[row]
        alone = compare_counts(target.counts[0], *args)
        for values, value in zip(together, alone, strict=True):
            assert_array_equal(values[row], value)


def test_scatter_of_all_rates_as_a_scale(pool):
    """Without a limit of the rate: it is that of all, so that all are compared."""
    criteria = make_criteria(rate=None)
    assert criteria.needs_all_rates
    assert np.isfinite(rank_observations(*pool, criteria)["RATE_RATIO"]).sum() > 30
    assert not make_criteria(rate=None, weights={"rate": 0}).needs_all_rates


def test_threshold_of_all_that_conditions_accept(pool):
    """It is told, although only those that they reject have bins in common."""
    target, off = pool
    energy_min = np.where(off.obs_ids > 30, EDGES[-2] * 1.1, 0)
    off = make_index(off.counts, energy_min)
    off.table["ZEN_PNT"], off.table["LIVETIME"] = 20.0, 1600.0
    table = rank_observations(target, off, make_criteria())
    reasons = dict(zip(table["OFF_OBS_ID"], table["REASONS"], strict=True))
    assert {reasons[_] for _ in range(31, 61)} == {"threshold"}


def test_no_candidate(pool):
    table = rank_observations(*pool, make_criteria(exclude_obs_ids=range(1, 61)))
    assert set(table["REASONS"]) == {"exclude_obs_ids"}
    assert np.isnan(table["KL_CORR"]).all()


def test_more_criteria_than_bits(pool):
    """Every one of them is told."""
    limits, changed = {f"C{_}": {"max_difference": 0.0} for _ in range(70)}, []
    for index in pool:
        table = index.table.copy()
        for name in limits:
            table[name] = index.obs_ids % 2 + 1.0
        changed.append(OffIndex(table, index.counts, index.fraction, index.binning))
    table = rank_observations(*changed, MatchCriteria(columns=limits, **NO_LIMITS))
    reasons = dict(zip(table["OFF_OBS_ID"], table["REASONS"], strict=True))
    assert reasons[2] == ""
    assert reasons[3].split(", ") == sorted(limits)


def test_plot_of_what_is_compared(pool):
    table = rank_observations(*pool, make_criteria())
    _, ax = plt.subplots()
    plot_ranking(table, np.asarray(table["OFF_OBS_ID"]), "x", ax=ax)
    labels = [_.get_text() for _ in ax.get_legend().get_texts()]
    n_drawn = sum(int(_.split("(")[1].rstrip(")")) for _ in labels)
    assert n_drawn == np.isfinite(table["KL_CORR"]).sum()
