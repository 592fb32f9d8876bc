"""Plot of a plan."""

import matplotlib.pyplot as plt
import numpy as np

from ..data.obs_ids import NO_PARTNER

__all__ = ["plot_plan"]

DELTA_ZENITH_MIN = 1  # deg, range of the colours


def plot_plan(plan, ax=None):
    """Plot a plan: the partner of every target in every set.

    The colour is the difference of the zenith angles.

    Parameters
    ----------
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    obs_ids = np.unique(plan.table["OBS_ID"])
    delta = np.full((len(obs_ids), len(plan.sets)), np.nan)
    for row in plan.table:
        idx = np.searchsorted(obs_ids, row["OBS_ID"])
        column = plan.sets.index(row["MIMIC_SET"])
        delta[idx, column] = row["DELTA_ZENITH"]
        has_partner = row["OFF_OBS_ID"] != NO_PARTNER
        label = str(row["OFF_OBS_ID"]) if has_partner else "none"
        ax.text(column, idx, label, ha="center", va="center", fontsize="small")
    # differences below a degree do not matter, and shall look so
    limit = np.max(np.abs(delta), initial=DELTA_ZENITH_MIN, where=np.isfinite(delta))
    limits = {"vmin": -limit, "vmax": limit}
    # pale, so that the text can be read
    image = ax.imshow(delta, cmap="RdBu", alpha=0.6, aspect="auto", **limits)
    ax.figure.colorbar(image, ax=ax, label="Zenith angle, OFF - target [deg]")
    ax.set_xticks(range(len(plan.sets)), plan.sets)
    ax.set_yticks(range(len(obs_ids)), obs_ids)
    ax.set_xlabel("Mimic set")
    ax.set_ylabel("Target OBS_ID")
    return ax
