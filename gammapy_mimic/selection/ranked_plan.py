"""The plan that rankings make."""

import itertools
import logging

import numpy as np

from ..data.obs_ids import shorten
from .candidates import Candidates, get_log_odds
from .plan import MimicPlan
from .ranker import Failure, describe_failure

__all__ = ["describe_unlike", "make_ranked_plan"]

log = logging.getLogger(__name__)

PAIR_COLUMNS = [
    *("KL_DIV", "KL_CORR", "P_VALUE", "DELTA_RMS", "ONTIME", "LIVETIME"),
    *("LIVETIME_RATIO", "RATE_RATIO", "DELTA_ZENITH", "DISTANCE", "ENERGY_MIN"),
    "STATUS",
]
"""Columns of a plan that tell of a pair, as rankings do."""

KEYS = {"conditions": "DISTANCE", "kl": "KL_CORR"}
"""What is small for a good partner, by ranking."""


def make_ranked_plan(
    rankings, ranking="conditions", n_best=None, n_targets=None, **options
):
    """Make the plan that pairs targets with OFF observations.

    Partners are the nearest, or drawn: the nearer the more often, with odds of
    ``exp(-DISTANCE**2 / 2)``, for the ranking "kl" all alike. A pair with the status
    "large_kl" is refused. If all candidates of a target are, only the nearest of them
    is its partner.

    Parameters
    ----------
    rankings : iterable of `~astropy.table.Table`
        Ranking of the same OFF observations for each target, with its OBS_ID in
        ``meta["OBS_ID"]``. They are taken one after the other, and none is kept.
    ranking : {"conditions", "kl"}, optional
        Whether the nearest is that of the smallest ``DISTANCE`` or ``KL_CORR``.
        Default is "conditions".
    n_best : int, optional
        Number of candidates to draw from, the nearest. Default is all.
    n_targets : int, optional
        Number of rankings. Default is to count them, which takes more memory.
    **options : dict, optional
        Options of `~gammapy_mimic.selection.MimicPlan.from_candidates`.

    Returns
    -------
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan. Targets without partner have the status "no_mimic".

    Raises
    ------
    ValueError
        If there is no candidate for any target.
    """
    rankings = iter(rankings)
    first = next(rankings)
    plan = MimicPlan.from_candidates(
        _find_candidates(itertools.chain([first], rankings), ranking),
        np.sort(first["OFF_OBS_ID"]),
        n_best=n_best,
        n_targets=n_targets,
        **options,
    )
    if plan.unlike:
        log.warning(describe_unlike(plan))
    return plan


def _find_candidates(rankings, ranking):
    """Find the candidates of targets, an error if none has any."""
    failures, n_targets = [], 0
    for table in rankings:
        n_targets += 1
        candidates = _get_candidates(table, ranking)
        if len(candidates.cost) == 0:
            failures.append(Failure.create(table))
            log.warning(
                f"No OFF observation matches OBS_ID {candidates.obs_id}. "
                f"{describe_failure(failures[-1:])}"
            )
        yield candidates
    if len(failures) == n_targets:
        raise ValueError(
            f"No OFF observation matches any of the {n_targets} targets. "
            f"{describe_failure(failures)}"
        )


def _get_candidates(table, ranking):
    """Get the candidates of a ranking, which is not changed."""
    status = np.asarray(table["STATUS"])
    is_large = status == "large_kl"
    rows = np.flatnonzero(~is_large & (status != "rejected"))
    is_unlike = len(rows) == 0
    if is_unlike:
        rows = np.flatnonzero(is_large)
    # in one order, as the random numbers are
    rows = rows[np.argsort(table["OFF_OBS_ID"][rows])]
    columns = {name: np.asarray(table[name])[rows] for name in PAIR_COLUMNS}
    is_drawn_by_odds = ranking == "conditions"
    return Candidates(
        obs_id=table.meta["OBS_ID"],
        off_obs_ids=np.asarray(table["OFF_OBS_ID"])[rows],
        # what cannot be compared is not refused, but comes after all others
        cost=columns[KEYS[ranking]],
        log_odds=get_log_odds(columns["DISTANCE"]) if is_drawn_by_odds else None,
        n_best=1 if is_unlike else None,
        columns=columns,
        is_refused=is_unlike,
    )


def describe_unlike(plan):
    """Say which targets no OFF observation is like.

    Parameters
    ----------
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.

    Returns
    -------
    text : str
        Sentences, with what may be the cause.
    """
    unlike = plan.unlike
    rows = plan.table[np.isin(plan.table["OBS_ID"], unlike)]
    n_targets = len(np.unique(plan.table["OBS_ID"]))
    return (
        f"{len(unlike)} of {n_targets} targets are unlike the archive, OBS_ID "
        f"{shorten(unlike)}: all their partners differ significantly, by "
        f"{np.nanmin(rows['DELTA_RMS']):.0%} rms at least. A source in the field that "
        "is not excluded, or another epoch of the instrument?"
    )
