"""Partners by levels, each of which counts more than all below it."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment

from gammapy_mimic.selection.assignment import assign_partners, solve_levels
from gammapy_mimic.utils.random import random_generator

from .helpers import assign, get_partners, make_candidates


def find_best(allowed, levels):
    """Smallest sums of levels, in their order, of all choices that there are."""
    n_rows, n_columns = allowed.shape
    rows = np.arange(n_rows)
    choices = itertools.permutations(range(n_columns), n_rows)
    choices = [_ for _ in map(list, choices) if allowed[rows, _].all()]
    return min(tuple(level[rows, _].sum() for level in levels) for _ in choices)


@pytest.mark.parametrize("seed", range(40))
def test_best_of_all_choices(seed):
    """Also where one number cannot tell the levels: they go up to 1e9."""
    rng = np.random.default_rng(seed)
    shape = 4, 6
    allowed = rng.uniform(size=shape) < 0.7
    allowed[:, :4] |= np.eye(4, dtype=bool)
    # few values, so that many choices are equal in the upper levels
    largest = 10 ** rng.integers(0, 10, 3)
    levels = [rng.choice([0, 0, 1, 2], shape) * float(_) for _ in largest]
    levels.append(rng.uniform(size=shape))
    rows, columns = np.nonzero(allowed)
    bounds = [*(8.0 * largest + 1), 5]
    chosen = solve_levels(rows, columns, [_[allowed] for _ in levels], bounds)
    assert_array_equal(rows[chosen], np.arange(4))
    assert len(np.unique(columns[chosen])) == 4
    sums = [level[rows[chosen], columns[chosen]].sum() for level in levels]
    assert_allclose(sums, find_best(allowed, levels), rtol=1e-12)


def test_random_order_below_large_costs():
    """Of 200 targets, of which 100 share 80 candidates, and that all want the same.

    In one number, costs were near 5e14 and left 0.06 of the random order: the places
    of the 80 that have a partner added up to 56, instead of 53.
    """
    n_targets, n_off, n_few = 200, 2000, 100
    cost = np.tile(np.linspace(0, 1, n_off), (n_targets, 1))
    others = np.random.default_rng(0).permutation(n_off)[80:]
    cost[:n_few, others] = np.inf
    obs_ids = np.arange(n_targets)
    partners = assign(cost, obs_ids, n_sets=1, n_best=1)[0]
    times = [
        random_generator(0, "MimicPlan", _, 1).exponential(size=n_off) for _ in obs_ids
    ]
    places = np.argsort(np.argsort(np.where(cost < np.inf, times, np.inf)))
    for rows in (obs_ids[:n_few], obs_ids[n_few:]):
        rows = rows[partners[rows] >= 0]
        assert len(rows) == (80 if rows[0] < n_few else n_few)
        # those that want the same can exchange their partners
        order = places[rows][:, partners[rows]]
        best = order[linear_sum_assignment(order)].sum()
        assert np.trace(order) == best


@pytest.mark.parametrize("options", [{}, {"n_best": 7}, {"randomise": False}])
@pytest.mark.parametrize("n_off", [12, 60, 500])
def test_candidates_that_are_not_kept_do_not_matter(n_off, options):
    """More than can be taken of a target are forgotten when it is drawn."""
    rng = np.random.default_rng(n_off)
    obs_ids, cost = np.arange(1, 7), rng.uniform(size=(6, n_off))
    cost[rng.uniform(size=cost.shape) < 0.3] = np.inf
    candidates, off = make_candidates(cost, obs_ids), np.arange(n_off)
    options |= {"n_sets": 4}
    few, partners = assign_partners(iter(candidates), off, 6, **options)
    many, expected = assign_partners(candidates, off, 1000, **options)
    assert max(len(_.cost) for _ in few) <= 4 * 4 * 6
    assert [len(_.cost) for _ in many] == [len(_.cost) for _ in candidates]
    assert_array_equal(get_partners(few, partners), get_partners(many, expected))


def test_another_target_changes_none_of_the_numbers():
    rng = np.random.default_rng(0)
    cost = rng.uniform(size=(3, 2000))
    partners = assign(cost, [1, 2, 3])
    assert_array_equal(assign(cost[:2], [1, 2]), partners[:, :2])
