"""Plots of the divergence of OFF observations."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import TwoSlopeNorm

__all__ = [
    "plot_kl_matrix",
    "plot_ranking",
]


STATUS_COLORS = {
    "ok": "tab:green",
    "differs": "tab:olive",
    "undecided": "tab:orange",
    "large_kl": "tab:red",
    "rejected": "lightgray",
}


def plot_ranking(table, values, label, ax=None):
    """Plot the divergence of ranked OFF observations against a condition.

    Those that are not compared, as the conditions reject them, are left out.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `~gammapy_mimic.KLBackgroundSelector.rank`.
    values : `~numpy.ndarray`
        Condition of each row, such as the airmass or the date. Shape (n_off,).
    label : str
        What the condition is.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    divergences = np.asarray(table["KL_CORR"])
    # the many rejected ones first, so that the good ones are on top
    for status, color in reversed(STATUS_COLORS.items()):
        mask = (np.asarray(table["STATUS"]) == status) & np.isfinite(divergences)
        if mask.any():
            x, y = np.asarray(values)[mask], divergences[mask]
            ax.plot(x, y, "o", ms=5, color=color, label=f"{status} ({mask.sum()})")
    ax.axhline(0, color="black", lw=0.5)
    ax.set_xlabel(label)
    ax.set_ylabel("KL divergence less noise, KL_CORR")
    if "OBS_ID" in table.meta:
        ax.set_title(f"OFF observations for OBS_ID {table.meta['OBS_ID']}")
    ax.legend(fontsize="small")
    return ax


def plot_kl_matrix(tables, ax=None, kl_max=None):
    """Plot the divergences of several targets from all OFF observations.

    Parameters
    ----------
    tables : list of `~astropy.table.Table`
        Tables of `~gammapy_mimic.KLBackgroundSelector.rank`, one a target, of the same
        OFF observations. Pairs that the criteria reject are left white.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    kl_max : float, optional
        Divergence at the middle of the colours. Default is 0.00125.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    kl_max = 0.00125 if kl_max is None else kl_max
    # each table is sorted by its own divergences
    sorted_tables = [_[np.argsort(_["OFF_OBS_ID"])] for _ in tables]
    matrix = [
        np.where(table["STATUS"] == "rejected", np.nan, table["KL_CORR"])
        for table in sorted_tables
    ]
    matrix = np.array(matrix)
    largest = max(np.max(matrix, initial=0, where=np.isfinite(matrix)), 2 * kl_max)
    norm_kl = TwoSlopeNorm(kl_max, vmin=0, vmax=largest)
    image = ax.imshow(matrix, norm=norm_kl, cmap="RdYlGn_r", aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="KL_CORR")
    off_obs_ids = sorted_tables[0]["OFF_OBS_ID"].tolist()
    ax.set_xticks(range(len(off_obs_ids)), off_obs_ids, rotation=90, fontsize=6)
    ax.set_yticks(range(len(tables)), [_.meta["OBS_ID"] for _ in tables], fontsize=6)
    ax.set_xlabel("OFF OBS_ID")
    ax.set_ylabel("Target OBS_ID")
    return ax
