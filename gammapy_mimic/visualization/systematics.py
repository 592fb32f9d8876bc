"""Plots of what mimic sets say about a background."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

__all__ = [
    "plot_bias_map",
    "plot_flux",
    "plot_maximum",
    "plot_mimic_distribution",
    "plot_mimic_map",
    "plot_systematics",
]

TARGET_COLOR = "#c2410c"
MIMIC_COLOR = "#2563a8"
COLORS = ("#2563a8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0e7490")
STEP = 0.25  # of the distribution
RATIO_MIN, RATIO_MAX = 0.05, 0.5  # range of the colours of the bias map
OUTLIER = 1.6  # times the largest value of mimics, beyond which an arrow is drawn


def get_bands(result):
    """Bands of energy of a result.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.

    Returns
    -------
    bands : list of str
        Such as "0.5 to 1 TeV". The last one is all energies, unless there is only one.
    """
    table = result.tables["significance"]
    return [format_band(_) for _ in table[table["name"] == table["name"][0]]]


def format_band(row, name="e", unit="TeV"):
    """Format a band of a table, such as "0.5 to 1 TeV".

    Parameters
    ----------
    row : `~astropy.table.Row`
        Row with the columns ``e_min`` and ``e_max``.
    name : {"e", "offset"}, optional
        Name of the columns. Default is "e".
    unit : str, optional
        Unit. Default is "TeV".

    Returns
    -------
    text : str
        Text, "" if the row has no such band.
    """
    low, high = row[f"{name}_min"], row[f"{name}_max"]
    return f"{low:.3g} to {high:.3g} {unit}" if np.isfinite(low) else ""


def format_name(name):
    """Name of a set as a text: "mimic_1" is "Mimic set 1".

    Parameters
    ----------
    name : str
        Name in the tables of the result.

    Returns
    -------
    text : str
        Text.
    """
    if name.startswith("mimic_"):
        return f"Mimic set {name.removeprefix('mimic_')}"
    return name.capitalize()


def is_measured(row):
    """Whether a systematic error is larger than 0, with 95% confidence.

    The upper limit of its square is as far above the value as the lower limit is below.

    Parameters
    ----------
    row : `~astropy.table.Row`
        Row of the table "systematics".

    Returns
    -------
    is_measured : bool
        Whether the lower limit is positive.
    """
    return bool(2 * row["f_squared"] > row["f_ul"] ** 2)


def plot_mimic_map(
    result, name="target", band=-1, ax=None, limit=5, regions=(), position=None
):
    """Plot the significance map of the target or of a mimic set.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    name : str, optional
        "target" (default), "mimic_1" and so on.
    band : int, optional
        Index of the band of energy. Default is the last, all energies.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Axes with the projection of the map. Default is new ones.
    limit : float, optional
        Range of the colours, plus and minus. Default is 5.
    regions : list of `~regions.SkyRegion`, optional
        Regions to draw. Default is none.
    position : `~astropy.coordinates.SkyCoord`, optional
        Position to mark. Default is none.

    Returns
    -------
    ax : `~astropy.visualization.wcsaxes.WCSAxes`
        Axes.
    """
    significance = result.maps[f"{name}_{band % len(get_bands(result))}"]
    ax = significance.plot(ax=ax, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for region in regions:
        region.to_pixel(significance.geom.wcs).plot(
            ax=ax, edgecolor="black", facecolor="none", lw=1
        )
    if position is not None:
        x, y = significance.geom.wcs.world_to_pixel(position)
        ax.plot(x, y, "+", color="black", markersize=9, markeredgewidth=1.5)
    height, width = significance.data.shape[-2:]
    ax.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))
    ax.set_facecolor("#e5e7eb")
    ax.set_title(format_name(name))
    return ax


def plot_mimic_distribution(result, band=-1, ax=None):
    """Plot the distributions of the significance of the target and of all mimics.

    That of the target is of the positions where it has no known source.

    The line is the Gaussian with mean and width of the table "systematics", the dashed
    one that of a perfect background.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    band : int, optional
        Index of the band of energy. Default is the last, all energies.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    mimics, target = select_values(result, band)
    values = mimics if target is None else np.append(mimics, target)
    # a source would make the bins too many: what is beyond is in the last bin
    low = max(np.floor(np.min(values, initial=-5)), -10)
    high = min(np.ceil(np.max(values, initial=6)), 10)
    bins = np.arange(low, high + STEP, STEP)

    options = {"color": MIMIC_COLOR, "histtype": "stepfilled", "alpha": 0.35}
    _plot_histogram(ax, mimics, bins, label="all mimics", **options)
    if target is not None:
        options = {"color": TARGET_COLOR, "histtype": "step", "lw": 1.5}
        target = np.clip(target, low, high - STEP / 2)
        _plot_histogram(ax, target, bins, label="target", **options)
    row = select_total(result, band)
    x = np.linspace(low, high, 400)
    if np.isfinite(row["mean"]) and row["width"] > 0:
        label = f"mimics: mean {row['mean']:+.2f}, width {row['width']:.2f}"
        y = norm.pdf(x, row["mean"], row["width"])
        ax.plot(x, y, color=MIMIC_COLOR, label=label)
    ax.plot(x, norm.pdf(x), color="black", ls="--", lw=1, label="mean 0, width 1")
    ax.set_yscale("log")
    # with room for the legend
    ax.set_ylim(0.3 / max(len(mimics), 1) / STEP, 100)
    ax.set_title(get_bands(result)[band])
    ax.set_xlabel(r"Significance [$\sigma$]")
    ax.set_ylabel(r"Probability density [$1/\sigma$]")
    ax.legend(loc="upper right", fontsize="small")
    return ax


def _plot_histogram(ax, values, bins, **kwargs):
    """Plot a normalised histogram, nothing if there are no values."""
    if len(values):
        ax.hist(values, bins, density=True, **kwargs)


def select_values(result, band=-1):
    """Select the significances of all mimics, and of the target where it is blank.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    band : int, optional
        Index of the band of energy. Default is the last, all energies.

    Returns
    -------
    mimics, target : `~numpy.ndarray`
        Significances of the positions that have one. The target's are those outside of
        its known sources, see `~gammapy_mimic.estimators.MimicSystematics`. None for no
        target.
    """
    suffix = f"_{band % len(get_bands(result))}"
    maps = {
        name.removesuffix(suffix): values
        for name, values in result.maps.items()
        if name.endswith(suffix)
    }
    target = maps.pop("target", None)
    mimics = np.concatenate([_.data.ravel() for _ in maps.values()])
    if target is not None:
        blank = True if result.blank is None else result.blank.data
        target = target.data[np.isfinite(target.data) & blank]
    return mimics[np.isfinite(mimics)], target


def select_total(result, band=-1):
    """Select the row of all offsets of the table "systematics".

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    band : int, optional
        Index of the band of energy. Default is the last, all energies.

    Returns
    -------
    row : `~astropy.table.Row`
        Row.
    """
    table = result.tables["systematics"]
    return table[~np.isfinite(table["offset_min"])][band]


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
        If there are no bands of offset.
    """
    ax = plt.gca() if ax is None else ax
    table = result.tables["systematics"]
    names = {"energy": ("e", "offset", "deg"), "offset": ("offset", "e", "TeV")}
    x_name, other, unit = names[by]
    if by == "offset":
        table = table[np.isfinite(table["offset_min"])]
        if not len(table):
            raise ValueError("The result has no bands of offset.")
    labels = [format_band(_, other, unit) or "all offsets" for _ in table]
    groups = list(dict.fromkeys(labels))
    for idx, label in enumerate(groups):
        rows = table[np.array(labels) == label]
        shift = (idx - (len(groups) - 1) / 2) * 0.08
        for number, row in enumerate(rows):
            low, high = row[f"{x_name}_min"], row[f"{x_name}_max"]
            middle = low + (0.5 + shift) * (high - low)
            if by == "energy":
                middle = low * (high / low) ** (0.5 + shift)
            is_all = by == "energy" and number == len(rows) - 1 and len(rows) > 1
            options = {"color": COLORS[idx % len(COLORS)], "alpha": 0.5}
            options = options if is_all else options | {"alpha": 1}
            _plot_value(ax, row, middle, [[middle - low], [high - middle]], options)
        ax.plot([], [], "o", color=COLORS[idx % len(COLORS)], label=label)
    if not np.isfinite(table["f_ul"]).any():
        _write_nothing(ax)
    # with room for the legend
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    ax.set_ylabel("Systematic error of the background [%]")
    ax.set_xlabel("Offset [deg]")
    if by == "energy":
        edges = np.unique([table["e_min"], table["e_max"]])
        ax.set_xscale("log")
        ax.set_xlim(edges[0] / 1.06, edges[-1] * 1.06)
        ax.set_xticks(edges, [f"{_:.3g}" for _ in edges])
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
    if is_measured(row):
        ax.errorbar(x, 100 * row["f"], yerr=100 * row["f_err"], fmt="o", **options)
    elif np.isfinite(row["f_ul"]):
        limit = 100 * row["f_ul"]
        ax.errorbar(x, limit, fmt="none", **options)
        style = {"arrowstyle": "-|>", "color": options["color"], "lw": 1.5}
        style |= {"alpha": options["alpha"], "shrinkA": 0, "shrinkB": 0}
        ax.annotate(
            "",
            (x, limit),
            xytext=(0, -14),
            textcoords="offset points",
            arrowprops=style | {"arrowstyle": "<|-"},
        )


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
    """
    ax = plt.gca() if ax is None else ax
    valid = bias.error > 0
    values = np.where(valid, getattr(bias, quantity), np.nan)
    if quantity == "ratio":
        spread = np.max(np.abs(values - 1), where=valid, initial=0)
        spread = np.clip(spread, RATIO_MIN, RATIO_MAX)
        limits, label = (1 - spread, 1 + spread), "Counts / prediction"
    else:
        limits, label = (-5, 5), r"Deviation from 1 [$\sigma$]"
    edges = bias.position_edges.to_value("deg")
    image = ax.pcolormesh(
        edges,
        edges,
        values[band],
        cmap="PuOr_r" if quantity == "ratio" else "RdBu_r",
        vmin=limits[0],
        vmax=limits[1],
        rasterized=True,
    )
    ax.figure.colorbar(image, ax=ax, label=label, extend="both")
    low, high = bias.energy_edges.to_value("TeV")[band : band + 2]
    ax.set_title(format_band({"e_min": low, "e_max": high}))
    ax.set_facecolor("#e5e7eb")
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
    table = result.tables["significance"]
    bands = np.array([format_band(_) for _ in table])
    is_target = table["name"] == "target"
    names = list(dict.fromkeys(bands))
    largest = OUTLIER * np.fmax.reduce(table["maximum"][~is_target], initial=5)
    for idx, name in enumerate(names):
        y = len(names) - 1 - idx
        label = idx == 0
        mimics = table["maximum"][(bands == name) & ~is_target]
        options = {"color": MIMIC_COLOR, "alpha": 0.6, "zorder": 2}
        label_mimic = "mimic sets" if label else None
        ax.plot(mimics, np.full(len(mimics), y), "o", label=label_mimic, **options)
        values = table["maximum"][(bands == name) & is_target]
        for value in values[np.isfinite(values)]:
            label_target = "target" if label else None
            marker = "*" if value < largest else ">"
            options = {"color": TARGET_COLOR, "markersize": 12, "zorder": 3}
            x = min(value, largest)
            ax.plot(x, y, marker, ls="none", label=label_target, **options)
            if value > largest:
                options = {"textcoords": "offset points", "ha": "right"}
                text = rf"{value:.1f} $\sigma$"
                ax.annotate(text, (x, y), xytext=(-9, -4), **options)
    if not np.isfinite(table["maximum"]).any():
        _write_nothing(ax)
    ax.set_yticks(range(len(names)), names[::-1])
    ax.set_ylim(-0.6, len(names) - 0.4)
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
    """
    ax = plt.gca() if ax is None else ax
    table, means = (result.tables[_] for _ in ("flux", "spurious_flux"))
    bands = np.array([format_band(_) for _ in table])
    names = [format_band(_) for _ in means]
    for idx, (name, row) in enumerate(zip(names, means, strict=True)):
        rows = table[bands == name]
        label = idx == 0
        ax.errorbar(
            idx + np.linspace(-0.25, 0.25, len(rows)),
            rows["flux"],
            yerr=rows["flux_err"],
            fmt="o",
            color=MIMIC_COLOR,
            markersize=4,
            label="mimic sets, statistical error" if label else None,
        )
        ax.fill_between(
            [idx - 0.35, idx + 0.35],
            row["mean"] - row["std"],
            row["mean"] + row["std"],
            color=TARGET_COLOR,
            alpha=0.2,
            lw=0,
            label="mean ± standard deviation of the sets" if label else None,
        )
        ax.hlines(row["mean"], idx - 0.35, idx + 0.35, color=TARGET_COLOR)
    ax.axhline(0, color="black", lw=0.8)
    ax.set_xticks(range(len(names)), names)
    ax.margins(y=0.25)
    ax.set_xlabel("Energy")
    ax.set_ylabel("Spurious flux [cm$^{-2}$ s$^{-1}$]")
    ax.legend(fontsize="small", loc="upper center", ncols=2)
    ax.grid(axis="y", alpha=0.3)
    return ax
