"""The plan that rankings make."""

import logging

import numpy as np

from .plan import MimicPlan
from .ranker import describe_failure

__all__ = ["make_ranked_plan"]

log = logging.getLogger(__name__)

PAIR_COLUMNS = [
    *("KL_DIV", "KL_CORR", "P_VALUE", "DELTA_RMS", "LIVETIME", "LIVETIME_RATIO"),
    *("DELTA_ZENITH", "STATUS"),
]
"""Columns of a plan that tell of a pair, as rankings do."""


def make_ranked_plan(rankings, **options):
    """Make the plan that pairs targets with OFF observations by their KL_CORR.

    A pair with the status "large_kl" is made only where there is no better one.

    Parameters
    ----------
    rankings : iterable of `~astropy.table.Table`
        Ranking of the same OFF observations for each target, with its OBS_ID in
        ``meta["OBS_ID"]``.
    **options : dict, optional
        Options of `~gammapy_mimic.selection.plan.assign_partners`.

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
    # what cannot be compared is not refused, but comes after all others
    cost = np.nan_to_num(matrices["KL_CORR"], nan=np.inf)
    worst = np.max(cost, where=np.isfinite(cost), initial=0)
    cost = np.where(is_rejected, np.inf, np.minimum(cost, worst + 1))
    return MimicPlan.from_cost(
        np.array([_.meta["OBS_ID"] for _ in tables]),
        np.array(tables[0]["OFF_OBS_ID"]),
        cost,
        matrices,
        avoid=matrices["STATUS"] == "large_kl",
        **options,
    )
