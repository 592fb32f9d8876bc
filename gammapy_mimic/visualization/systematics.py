"""Plots of what mimic sets say about a background."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from .common import (
    COLORS,
    MIMIC_COLOR,
    NO_DATA_COLOR,
    TARGET_COLOR,
    format_band,
    plot_mesh,
)

__all__ = ["plot_bias_map", "plot_flux", "plot_maximum", "plot_systematics"]

RATIO_MIN, RATIO_MAX = 0.05, 0.5  # range of the colours of the bias map
QUANTITIES = ("ratio", "significance")
RADIUS_WIDTH = 1.1  # half width of the boxes of a radius
LABELS = {
    "energy": "Energy [TeV]",
    "offset": "Offset [deg]",
    "radius": "Radius [deg]",
    "distance": "Distance of OFF observation and target",
}
TABLES = {"radius": "scales", "distance": "distance"}  # others are of "systematics"
LINEAR = ("offset", "distance")
FLUX_OUTLIER = 3  # times the largest flux of mimics, beyond which an arrow is drawn
OUTLIER = 1.6  # times the largest value of mimics, beyond which an arrow is drawn


def plot_systematics(result, ax=None, by="energy"):
    """Plot bias and spread of the background.

    A point is the bias, counts over prediction minus 1, with its error. The box around
    it is the spread; where this is not significant, a dashed one has the height of its
    upper limit (95%).

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    by : {"energy", "offset", "radius", "distance"}, optional
        What is on the x axis. Default is "energy". "distance" is that of the conditions
        of OFF observation and target, if the plan was given, for all energies.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.

    Raises
    ------
    ValueError
        If ``by`` is not valid, or there are no bands of offset, no radii or distances.
    """
    if by not in LABELS:
        raise ValueError(f"Invalid by: {by!r}. Choose from {list(LABELS)}.")
    ax = plt.gca() if ax is None else ax
    table = result.to_table(TABLES.get(by, "systematics"))
    if by == "distance":
        # bands side by side would look like pairs of other distances
        table = table[table["band"] == "all"]
    if by == "offset":
        table = table[table["offset_band"] != "all"]
        if not len(table):
            raise ValueError("The result has no bands of offset. Give offset_edges.")
    name, unit = ("offset", "deg") if by == "energy" else ("e", "TeV")
    column = "offset_band" if by == "energy" else "band"
    groups = list(dict.fromkeys(table[column].tolist()))
    for idx, group in enumerate(groups):
        rows = table[table[column] == group]
        color = COLORS[idx % len(COLORS)]
        for row in rows:
            low, high = _get_range(row, by)
            if by == "energy" and row["band"] == "all" and len(rows) > 1:
                # all energies are a frame behind their bands
                _plot_background_error(ax, row, low, high, color, alpha=0.35)
                continue
            # side by side, so that several lines can be read
            edges = np.linspace(*_scale(by, low, high), 2 * len(groups) + 1)
            first, last = edges[2 * idx], edges[2 * idx + 2]
            _plot_background_error(ax, row, *_unscale(by, first, last), color)
        label = format_band(rows[0], name, unit) or "all offsets"
        ax.plot([], [], "o", color=color, label=label)
    if not np.isfinite(table["delta"]).any():
        _write_nothing(ax)
    ax.axhline(0, color="black", lw=0.8)
    ax.margins(y=0.15)
    ax.set_ylabel("Counts / prediction - 1 [%]")
    ax.set_xlabel(LABELS[by])
    if by not in LINEAR:
        _set_log_axis(ax, table, by)
    ax.legend(fontsize="small", loc="best")
    ax.grid(alpha=0.3)
    return ax


def _get_range(row, by):
    """Range of a row on the x axis."""
    if by == "radius":
        return row["radius"] / RADIUS_WIDTH, row["radius"] * RADIUS_WIDTH
    name = "e" if by == "energy" else by
    return row[f"{name}_min"], row[f"{name}_max"]


def _scale(by, *values):
    return values if by in LINEAR else np.log(values)


def _unscale(by, *values):
    return values if by in LINEAR else np.exp(values)


def _set_log_axis(ax, table, by):
    ax.set_xscale("log")
    names = ["radius"] if by == "radius" else ["e_min", "e_max"]
    ticks = np.unique([table[_] for _ in names])
    margin = 1.3 if by == "radius" else 1.06
    ax.set_xlim(ticks[0] / margin, ticks[-1] * margin)
    ax.set_xticks(ticks, [f"{_:.3g}" for _ in ticks])
    # minor ticks have labels on short logarithmic axes
    ax.set_xticks([], minor=True)


def _plot_background_error(ax, row, low, high, color, alpha=1.0):
    """Plot bias and spread, in percent, from one x to another one."""
    if not np.isfinite(row["delta"]):
        return
    delta, error = 100 * row["delta"], 100 * row["delta_err"]
    is_frame = alpha < 1
    spread, style = row["f"], {"fc": color, "alpha": 0.25 * alpha, "lw": 0}
    if not row["f_lo"] > 0 or is_frame:
        spread = row["f"] if row["f_lo"] > 0 else row["f_ul"]
        line = "-" if row["f_lo"] > 0 else "--"
        style = {"fc": "none", "ec": color, "ls": line, "lw": 1, "alpha": alpha}
    if np.isfinite(spread):
        half = 100 * spread * (1 + row["delta"])
        ax.add_patch(Rectangle((low, delta - half), high - low, 2 * half, **style))
        # patches do not widen the axes on their own
        ax.update_datalim([(low, delta - half), (high, delta + half)])
        ax.autoscale_view()
    if not is_frame:
        middle = np.sqrt(low * high) if low > 0 else (low + high) / 2
        xerr = [[middle - low], [high - middle]]
        style = {"fmt": "o", "color": color, "markersize": 4, "capsize": 2, "lw": 1.5}
        ax.errorbar(middle, delta, yerr=error, xerr=xerr, **style)


def _write_nothing(ax):
    """Say on empty axes why they are empty."""
    text = "nothing was measured\n(too few sets, or positions with enough background)"
    options = {"transform": ax.transAxes, "ha": "center", "va": "center"}
    ax.text(0.5, 0.5, text, fontsize="small", **options)


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

    With a target, both are those of its positions without known sources, as in the
    table "maximum".

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
    table = table[np.isin(table["name"], [*result.names, "target"])]
    names = [_.band for _ in reversed(bands)]
    y = np.array([names.index(_) for _ in table["band"]])
    targets = np.array(table["name"] == "target")
    mimics, x = ~targets, _find_maxima(result, table)
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
    if not np.isfinite(x).any():
        _write_nothing(ax)
    labels = [format_band(_._asdict()) for _ in reversed(bands)]
    ax.set_yticks(range(len(bands)), labels)
    ax.set_ylim(-0.6, len(bands) - 0.4)
    ax.set_xlabel(r"Largest significance [$\sigma$]")
    ax.set_ylabel("Energy")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(fontsize="small", loc="best")
    return ax


def _find_maxima(result, table):
    """Largest significance of each row at the positions of the target, or NaN."""
    # spectra have no positions
    if not result.maps:
        return np.array(table["maximum"])
    samples = [
        result.get_significance(row["name"], row["band"], is_source_free=True)
        for row in table
    ]
    return np.array([np.max(_) if len(_) else np.nan for _ in samples])


def plot_flux(result, ax=None):
    """Plot the flux of a source that is fitted in each mimic set and in the target.

    Dots with errors are the sets, bars the mean and the standard deviation of the sets,
    the star is the target, and an arrow one that is far above.

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
    target, table = (table[(table["name"] == "target") == _] for _ in (True, False))
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
    if len(target):
        highest = np.array([*(table["flux"] + table["flux_err"]), *(mean + std)])
        # without a flux of mimics, none is far above
        is_known = np.isfinite(highest).any()
        limit = (
            FLUX_OUTLIER * np.fmax.reduce(highest, initial=0) if is_known else np.inf
        )
        _plot_target_flux(ax, target, bands, limit)
    ax.axhline(0, color="black", lw=0.8)
    ax.set_xticks(range(len(means)), [format_band(_) for _ in means])
    ax.margins(y=0.25)
    ax.set_xlabel("Energy")
    ax.set_ylabel("Flux [cm$^{-2}$ s$^{-1}$]")
    ax.legend(fontsize="small", loc="upper center", ncols=3)
    ax.grid(axis="y", alpha=0.3)
    return ax


def _plot_target_flux(ax, table, bands, highest):
    """Plot the flux of the target, as an arrow with its number above the highest."""
    color, label = TARGET_COLOR, "target"
    for row in table:
        x, flux = bands.index(row["band"]), row["flux"]
        style = {"color": color, "markersize": 12, "label": label, "zorder": 3}
        # which would make all others small
        if flux > highest:
            ax.plot(x, highest, "^", ls="none", **style)
            options = {"textcoords": "offset points", "xytext": (10, -4)}
            ax.annotate(f"{flux:.2g}", (x, highest), **options)
        else:
            ax.errorbar(x, flux, yerr=row["flux_err"], fmt="*", **style)
        # one for all in the legend
        label = None
