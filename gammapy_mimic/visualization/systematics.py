"""Plots of what mimic sets say about a background."""

import matplotlib.pyplot as plt
import numpy as np

from .common import (
    COLORS,
    HEADROOM,
    MIMIC_COLOR,
    NO_DATA_COLOR,
    TARGET_COLOR,
    format_band,
    plot_mesh,
)

__all__ = ["plot_bias_map", "plot_flux", "plot_maximum", "plot_systematics"]

RATIO_MIN, RATIO_MAX = 0.05, 0.5  # range of the colours of the bias map
QUANTITIES = ("ratio", "significance")
OUTLIER = 1.6  # times the largest value of mimics, beyond which an arrow is drawn


def plot_systematics(result, ax=None, by="energy"):
    """Plot the fractional systematic error of the background.

    A value that is larger than 0 with 95% confidence has its error, others are an
    arrow at the upper limit (95%).

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    by : {"energy", "offset"}, optional
        What is on the x axis. Default is "energy".

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.

    Raises
    ------
    ValueError
        If ``by`` is not valid, or there are no bands of offset.
    """
    names = {"energy": ("e", "offset", "deg"), "offset": ("offset", "e", "TeV")}
    if by not in names:
        raise ValueError(f"Invalid by: {by!r}. Choose from {list(names)}.")
    ax = plt.gca() if ax is None else ax
    table = result.tables["systematics"]
    x_name, other, unit = names[by]
    if by == "offset":
        table = table[table["offset_band"] != "all"]
        if not len(table):
            raise ValueError("The result has no bands of offset. Give offset_edges.")
    column = f"{'offset_' if by == 'energy' else ''}band"
    groups = list(dict.fromkeys(table[column].tolist()))
    for idx, group in enumerate(groups):
        rows = table[table[column] == group]
        label = format_band(rows[0], other, unit) or "all offsets"
        # side by side, so that errors of several lines can be read
        shift = (idx - (len(groups) - 1) / 2) * 0.08
        for row in rows:
            low, high = row[f"{x_name}_min"], row[f"{x_name}_max"]
            middle = low + (0.5 + shift) * (high - low)
            if by == "energy":
                middle = low * (high / low) ** (0.5 + shift)
            is_pale = by == "energy" and row["band"] == "all" and len(rows) > 1
            options = {"color": COLORS[idx % len(COLORS)]}
            options["alpha"] = 0.5 if is_pale else 1
            _plot_value(ax, row, middle, [[middle - low], [high - middle]], options)
        # one entry of the legend, whether there are values or limits
        ax.plot([], [], "o", color=COLORS[idx % len(COLORS)], label=label)
    if not np.isfinite(table["f_ul"]).any():
        _write_nothing(ax)
    ax.set_ylim(0, HEADROOM * ax.get_ylim()[1])
    ax.set_ylabel("Systematic error of the background [%]")
    ax.set_xlabel("Offset [deg]")
    if by == "energy":
        edges = np.unique([table["e_min"], table["e_max"]])
        ax.set_xscale("log")
        ax.set_xlim(edges[0] / 1.06, edges[-1] * 1.06)
        ax.set_xticks(edges, [f"{_:.3g}" for _ in edges])
        # minor ticks have labels on short logarithmic axes
        ax.set_xticks([], minor=True)
        ax.set_xlabel("Energy [TeV]")
    ax.legend(fontsize="small", loc="upper right")
    ax.grid(alpha=0.3)
    return ax


def _write_nothing(ax):
    """Say on empty axes why they are empty."""
    text = "nothing was measured\n(too few sets, or positions with enough background)"
    options = {"transform": ax.transAxes, "ha": "center", "va": "center"}
    ax.text(0.5, 0.5, text, fontsize="small", **options)


def _plot_value(ax, row, x, xerr, options):
    """Plot a systematic error with its error, or its upper limit."""
    options = options | {"xerr": xerr, "capsize": 2, "lw": 1.5}
    if row["is_measured"]:
        ax.errorbar(x, 100 * row["f"], yerr=100 * row["f_err"], fmt="o", **options)
    elif np.isfinite(row["f_ul"]):
        limit = 100 * row["f_ul"]
        ax.errorbar(x, limit, fmt="none", **options)
        style = {"arrowstyle": "<|-", "color": options["color"], "lw": 1.5}
        style |= {"alpha": options["alpha"], "shrinkA": 0, "shrinkB": 0}
        place = {"xytext": (0, -14), "textcoords": "offset points"}
        ax.annotate("", (x, limit), arrowprops=style, **place)


def plot_bias_map(bias, band=0, ax=None, quantity="ratio"):
    """Plot the map of counts over prediction in the field of view.

    Parameters
    ----------
    bias : `~gammapy_mimic.estimators.BiasMap`
        Bias map.
    band : int, optional
        Index of the band of energy. Default is 0.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    quantity : {"ratio", "significance"}, optional
        Ratio, or its difference from 1 over the statistical error. Default is "ratio".

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.

    Raises
    ------
    ValueError
        If there is no such band or quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"Invalid quantity: {quantity!r}. Choose from {QUANTITIES}.")
    if band not in range(len(bias.ratio)):
        n_bands = len(bias.ratio)
        raise ValueError(f"There is no band {band!r}. Choose from 0 to {n_bands - 1}.")
    ax = plt.gca() if ax is None else ax
    valid = bias.error > 0
    values = np.where(valid, getattr(bias, quantity), np.nan)
    if quantity == "ratio":
        spread = np.max(np.abs(values - 1), where=valid, initial=0)
        # noise alone shall not look like a bias, nor one bin hide the others
        spread = np.clip(spread, RATIO_MIN, RATIO_MAX)
        style = {"vmin": 1 - spread, "vmax": 1 + spread, "cmap": "PuOr_r"}
        label = "Counts / prediction"
    else:
        style = {"vmin": -5, "vmax": 5, "cmap": "RdBu_r"}
        label = r"Deviation from 1 [$\sigma$]"
    style |= {"rasterized": True, "extend": "both"}
    edges = bias.position_edges.to_value("deg")
    plot_mesh(ax, edges, edges, values[band], label, **style)
    low, high = bias.energy_edges.to_value("TeV")[band : band + 2]
    ax.set_title(format_band({"e_min": low, "e_max": high}))
    ax.set_facecolor(NO_DATA_COLOR)
    ax.set_aspect("equal")
    # east is to the left, as on the sky
    ax.set_xlim(edges[-1], edges[0])
    ax.set_xlabel("East of the pointing [deg]")
    ax.set_ylabel("North of the pointing [deg]")
    return ax


def plot_maximum(result, ax=None):
    """Plot the largest significance of each mimic set and of the target, by energy.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    table, bands = result.tables["significance"], result.bands
    names = [_.band for _ in reversed(bands)]
    y = np.array([names.index(_) for _ in table["band"]])
    mimics, targets = (np.isin(table["name"], _) for _ in (result.names, ["target"]))
    x = table["maximum"]
    options = {"color": MIMIC_COLOR, "alpha": 0.6, "zorder": 2, "label": "mimic sets"}
    ax.plot(x[mimics], y[mimics], "o", **options)
    # what would make all others small is an arrow
    largest = OUTLIER * np.fmax.reduce(x[mimics], initial=5)
    options = {"color": TARGET_COLOR, "markersize": 12, "zorder": 3, "ls": "none"}
    stars, arrows = targets & (x < largest), targets & (x >= largest)
    if np.isfinite(x[targets]).any():
        ax.plot(x[stars], y[stars], "*", label="target", **options)
        ax.plot(np.full(arrows.sum(), largest), y[arrows], ">", **options)
    for value, height in zip(x[arrows], y[arrows], strict=True):
        options = {"textcoords": "offset points", "ha": "right", "xytext": (-9, -4)}
        ax.annotate(rf"{value:.1f} $\sigma$", (largest, height), **options)
    if not np.isfinite(table["maximum"]).any():
        _write_nothing(ax)
    labels = [format_band(_._asdict()) for _ in reversed(bands)]
    ax.set_yticks(range(len(bands)), labels)
    ax.set_ylim(-0.6, len(bands) - 0.4)
    ax.set_xlabel(r"Largest significance [$\sigma$]")
    ax.set_ylabel("Energy")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(fontsize="small", loc="best")
    return ax


def plot_flux(result, ax=None):
    """Plot the flux of a source that is fitted in each mimic set.

    Dots with errors are the sets, bars the mean and the standard deviation of the sets.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.

    Raises
    ------
    ValueError
        If there is no flux, with the reason.
    """
    table, means = (result.to_table(_) for _ in ("flux", "spurious_flux"))
    ax = plt.gca() if ax is None else ax
    bands = means["band"].tolist()
    x = np.array([bands.index(_) for _ in table["band"]], dtype=float)
    for idx in range(len(bands)):
        # sets of a band side by side
        x[x == idx] += np.linspace(-0.25, 0.25, np.sum(x == idx))
    label = "mimic sets, statistical error"
    style = {"fmt": "o", "color": MIMIC_COLOR, "markersize": 4, "label": label}
    ax.errorbar(x, table["flux"], yerr=table["flux_err"], **style)
    label = "mean ± standard deviation of the sets"
    style = {"width": 0.7, "color": TARGET_COLOR, "alpha": 0.2, "label": label}
    x, mean, std = np.arange(len(means)), means["mean"], means["std"]
    ax.bar(x, 2 * std, bottom=mean - std, **style)
    ax.hlines(mean, x - 0.35, x + 0.35, color=TARGET_COLOR)
    ax.axhline(0, color="black", lw=0.8)
    ax.set_xticks(range(len(means)), [format_band(_) for _ in means])
    ax.margins(y=0.25)
    ax.set_xlabel("Energy")
    ax.set_ylabel("Spurious flux [cm$^{-2}$ s$^{-1}$]")
    ax.legend(fontsize="small", loc="upper center", ncols=2)
    ax.grid(axis="y", alpha=0.3)
    return ax
