"""The plan that rankings make."""

import logging

import numpy as np

from ..data.obs_ids import shorten
from .plan import MimicPlan, get_log_odds
from .ranker import describe_failure

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


def make_ranked_plan(rankings, ranking="conditions", n_best=None, **options):
    """Make the plan that pairs targets with OFF observations.

    Partners are the nearest, or drawn: the nearer the more often, with odds of
    ``exp(-DISTANCE**2 / 2)``, for the ranking "kl" all alike. A pair with the status
    "large_kl" is refused. If all candidates of a target are, only the nearest of them
    is its partner.

    Parameters
    ----------
    rankings : iterable of `~astropy.table.Table`
        Ranking of the same OFF observations for each target, with its OBS_ID in
        ``meta["OBS_ID"]``.
    ranking : {"conditions", "kl"}, optional
        Whether the nearest is that of the smallest ``DISTANCE`` or ``KL_CORR``.
        Default is "conditions".
    n_best : int, optional
        Number of candidates to draw from, the nearest. Default is all.
    **options : dict, optional
        Options of `~gammapy_mimic.selection.MimicPlan.from_cost`.

    Returns
    -------
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan. Targets without partner have the status "no_mimic".

    Raises
    ------
    ValueError
        If there is no candidate for any target.
    """
    tables = []
    for table in rankings:
        if np.all(table["STATUS"] == "rejected"):
            log.warning(
                f"No OFF observation matches OBS_ID {table.meta['OBS_ID']}. "
                f"{describe_failure([table])}"
            )
        # in one order, as columns of the matrices
        tables.append(table[np.argsort(table["OFF_OBS_ID"])])

    matrices = {name: np.array([_[name] for _ in tables]) for name in PAIR_COLUMNS}
    is_rejected = matrices["STATUS"] == "rejected"
    if is_rejected.all():
        raise ValueError(
            f"No OFF observation matches any of the {len(tables)} targets. "
            f"{describe_failure(tables)}"
        )
    is_large = ~is_rejected & (matrices["STATUS"] == "large_kl")
    is_unlike = np.all(is_rejected | is_large, axis=1)
    is_refused = is_rejected | (is_large & ~is_unlike[:, np.newaxis])
    # what cannot be compared is not refused, but comes after all others
    values = np.nan_to_num(matrices[KEYS[ranking]], nan=np.inf)
    worst = np.max(values, where=np.isfinite(values), initial=0)
    cost = np.where(is_refused, np.inf, np.minimum(values, worst + 1))
    n_best = len(tables[0]) if n_best is None else n_best
    plan = MimicPlan.from_cost(
        np.array([_.meta["OBS_ID"] for _ in tables]),
        np.array(tables[0]["OFF_OBS_ID"]),
        cost,
        matrices,
        n_best=np.where(is_unlike, 1, n_best),
        log_odds=get_log_odds(matrices["DISTANCE"])
        if ranking == "conditions"
        else None,
        **options,
    )
    if plan.unlike:
        log.warning(describe_unlike(plan))
    return plan


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
