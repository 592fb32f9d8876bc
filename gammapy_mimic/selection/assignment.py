"""Which candidates are the partners of which targets, in all mimic sets."""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..data.obs_ids import NO_PARTNER
from ..utils.checks import check_integer
from ..utils.random import random_generator
from .candidates import Candidates

__all__ = ["assign_partners", "check_draws", "solve_levels"]

EXACT = 2**32
"""Sum of costs up to which the last level, numbers up to 1, is exact to 1e-6."""


def check_draws(n_sets, n_best, random_state):
    """Raise an error if these are no options of `assign_partners`."""
    check_integer("n_sets", n_sets)
    check_integer("random_state", random_state, minimum=0)
    if n_best is not None:
        check_integer("n_best", n_best)


class _Drawn(NamedTuple):
    """Candidates that may become the partner of a target. Arrays (n_candidates,)."""

    candidates: Candidates
    off: np.ndarray
    """Index among all OFF observations."""
    not_best: np.ndarray
    """By how many places one is beyond the best."""
    order: np.ndarray
    """What is small for those that come first. Shape (n_sets, n_candidates)."""


def assign_partners(
    candidates,
    off_obs_ids,
    n_targets=None,
    n_sets=5,
    randomise=True,
    n_best=None,
    random_state=0,
):
    """Assign OFF observations to targets, without reuse inside a mimic set.

    Every set is an assignment problem that minimises, in this order: targets without
    partner, partners that are refused, partners that are not among the best, pairs of
    earlier sets, OFF observations of earlier sets, and a random number (with
    `randomise`) or the cost. For one target, it draws by the odds.

    Of each target no more candidates are kept than can ever be its partner: in a set,
    ``n_targets`` OFF observations can be taken at most, and as many in each set before.

    Parameters
    ----------
    candidates : iterable of `~gammapy_mimic.selection.candidates.Candidates`
        Candidates of each target.
    off_obs_ids : `~numpy.ndarray` of int
        All OFF observations, rising, of which the random numbers are drawn. Shape
        (n_off,).
    n_targets : int, optional
        Number of targets. Default is to count them, for which all candidates are held
        at once.
    n_sets : int, optional
        Number of sets. Default is 5.
    randomise : bool, optional
        Whether to draw among the best candidates of each target. Default is True.
    n_best : int, optional
        Number of best candidates, unless those of a target have their own. Default is
        all.
    random_state : int, optional
        Seed. Default is 0.

    Returns
    -------
    kept : list of `~gammapy_mimic.selection.candidates.Candidates`
        Candidates of each target that were kept.
    partners : `~numpy.ndarray` of int
        Index of the partner among them, -1 for none. Shape (n_sets, n_targets).

    Raises
    ------
    ValueError
        If the number of sets or of candidates is no positive integer.
    """
    check_draws(n_sets, n_best, random_state)
    if n_targets is None:
        candidates = [*candidates]
        n_targets = len(candidates)
    n_off = len(off_obs_ids)
    options = off_obs_ids, n_targets * n_sets, n_sets, randomise, n_best, random_state
    drawn = [_draw(_, *options) for _ in candidates]
    if not randomise:
        drawn = _normalise(drawn)
    n_targets = len(drawn)
    # each above what the sum of a level over all targets can be
    n_uses = n_targets * (n_sets + 1)
    bounds = n_targets * n_off + 1, n_uses, n_uses, n_targets + 1
    bounds = n_targets + 1, n_targets + 1, *bounds
    partners = np.full((n_sets, n_targets), NO_PARTNER)
    used_off = np.zeros(n_off)
    used_pairs = [np.zeros(len(_.off)) for _ in drawn]
    for idx_set in range(n_sets):
        partners[idx_set] = _assign_set(drawn, idx_set, used_off, used_pairs, bounds)
        for idx, row in enumerate(partners[idx_set]):
            if row != NO_PARTNER:
                used_off[drawn[idx].off[row]] += 1
                used_pairs[idx][row] += 1
    return [_.candidates for _ in drawn], partners


def _draw(candidates, off_obs_ids, n_kept, n_sets, randomise, n_best, random_state):
    """Draw the order of the candidates of a target, and keep the first of each set."""
    off = np.searchsorted(off_obs_ids, candidates.off_obs_ids)
    n_best = n_best if candidates.n_best is None else candidates.n_best
    not_best = np.zeros(len(off))
    if n_best is not None and n_best < len(off):
        not_best = np.maximum(_get_ranks(candidates.cost) - n_best + 1.0, 0)
    order = np.tile(candidates.cost, (n_sets, 1))
    if randomise:
        for idx_set in range(n_sets):
            # one of each target, so that another target changes none of its numbers
            args = "MimicPlan", candidates.obs_id, idx_set + 1
            generator = random_generator(random_state, *args)
            # of clocks that run at the rate of their odds, each is the first by them
            log_times = np.log(generator.exponential(size=len(off_obs_ids))[off])
            if candidates.log_odds is not None:
                log_times -= candidates.log_odds
            # ranks keep the order where all are far away
            order[idx_set] = _get_ranks(log_times) / len(off_obs_ids)
    if len(off) > n_kept:
        first = [np.lexsort((_, not_best))[:n_kept] for _ in order]
        rows = np.unique(first)
        candidates = candidates.select(rows)
        off, not_best, order = off[rows], not_best[rows], order[:, rows]
    return _Drawn(candidates, off, not_best, order)


def _get_ranks(values):
    """Ranks of values, from 0, the last ones of those that are NaN."""
    ranks = np.empty(len(values), dtype=int)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks


def _normalise(drawn):
    """Scale the costs of all targets to numbers from 0 to 1, which NaN are."""
    costs = np.concatenate([_.candidates.cost for _ in drawn])
    is_known = ~np.isnan(costs)
    low, high = (f(costs, where=is_known, initial=0) for f in (np.min, np.max))
    high += not is_known.all()
    scale = max(high - low, np.finfo(float).tiny)
    return [
        _._replace(order=(np.nan_to_num(_.order, nan=high) - low) / scale)
        for _ in drawn
    ]


def _assign_set(drawn, idx_set, used_off, used_pairs, bounds):
    """Assign the partners of one set: index for each target, -1 for none."""
    rows, chosen, levels = [], [], []
    for idx, (target, used) in enumerate(zip(drawn, used_pairs, strict=True)):
        values = target.not_best, used, used_off[target.off], target.order[idx_set]
        # as many as there are targets: one of them is left by all others
        best = np.lexsort(values[::-1])[: len(drawn)]
        rows.append(np.full(len(best), idx))
        chosen.append(best)
        refused = np.full(len(target.off), float(target.candidates.is_refused))
        levels.append(np.stack([refused, *values])[:, best])
    columns = [target.off[_] for target, _ in zip(drawn, chosen, strict=True)]
    rows, columns, entries = (np.concatenate(_) for _ in (rows, columns, chosen))
    levels = np.concatenate(levels, axis=1)

    # one more column for each target is that of no partner
    n_targets, blank = len(drawn), np.arange(len(drawn))
    is_blank = np.repeat([0.0, 1.0], [len(rows), n_targets])
    levels = np.hstack([levels, np.zeros((len(levels), n_targets))])
    columns = np.append(columns, len(used_off) + blank)
    found = solve_levels(np.append(rows, blank), columns, [is_blank, *levels], bounds)
    return np.append(entries, np.full(n_targets, NO_PARTNER))[found]


def solve_levels(rows, columns, levels, bounds):
    """Choose one entry of each row of a sparse matrix, and no two of one column.

    Those with the smallest sum of the first level; of all choices that have it, those
    with the smallest sum of the second, and so on. Levels are solved together
    (`scipy.optimize.linear_sum_assignment`) as far as one number can tell them. Each
    solution leaves to the next the entries that are part of any that is as good: those
    without reduced cost, and the columns of a negative price in use.

    Parameters
    ----------
    rows, columns : `~numpy.ndarray` of int
        Row and column of each entry. Every row must have one. Shape (n_entries,).
    levels : list of `~numpy.ndarray`
        Not negative: whole numbers, but for the last, which is up to 1. Shape
        (n_entries,).
    bounds : list of int
        For each level, a number above all sums of it over rows.

    Returns
    -------
    chosen : `~numpy.ndarray` of int
        Chosen entry of each row. Shape (n_rows,).
    """
    shape = rows.max() + 1, columns.max() + 1
    entries, is_needed = np.arange(len(rows)), np.zeros(shape[1], dtype=bool)
    for cost, bound in _merge_levels(levels, bounds):
        row, column = rows[entries], columns[entries]
        matrix = np.full(shape, np.inf)
        matrix[row, column] = cost[entries] - bound * is_needed[column]
        _, found = linear_sum_assignment(matrix)
        gains, prices = _get_prices(matrix, found)
        is_open = matrix[row, column] == gains[row] + prices[column]
        is_chosen = found[row] == column
        chosen = entries[is_chosen]
        entries, is_needed = entries[is_open | is_chosen], is_needed | (prices < 0)
    return chosen[np.argsort(rows[chosen])]


def _merge_levels(levels, bounds):
    """Merge levels to costs, with a bound above every sum of them over rows."""
    *pairs, last = zip(levels, bounds, strict=True)
    merged = [last]
    for level, bound in reversed(pairs):
        cost, unit = merged[-1]
        if not level.any():
            continue
        if unit * bound <= EXACT:
            merged[-1] = cost + unit * level, unit * bound
        else:
            merged.append((level, bound))
    return merged[::-1]


def _get_prices(matrix, found):
    """Solve the dual problem of an assignment, given its solution.

    Parameters
    ----------
    matrix : `~numpy.ndarray`
        Costs. Shape (n_rows, n_columns).
    found : `~numpy.ndarray` of int
        Column of each row in the solution. Shape (n_rows,).

    Returns
    -------
    gains, prices : `~numpy.ndarray`
        Numbers for rows and columns whose sum is no more than the cost of any entry,
        and equal to it in the solution. Prices are 0 for columns that are not used,
        and not above it for others. Shapes (n_rows,) and (n_columns,).
    """
    own = matrix[np.arange(len(found)), found]
    # what a row pays more for the column of another one
    excess = matrix[:, found] - own[:, np.newaxis]
    price = np.zeros(len(found))
    # Bellman and Ford: there is no shorter way with more steps than rows
    for _ in itertools.repeat(None, len(found)):
        lower = np.minimum(price, np.min(excess + price[:, np.newaxis], axis=0))
        if np.array_equal(lower, price):
            break
        price = lower
    prices = np.zeros(matrix.shape[1])
    prices[found] = price
    return own - price, prices
