"""Plots of significance maps and of their distribution."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from .common import (
    MIMIC_COLOR,
    NO_DATA_COLOR,
    TARGET_COLOR,
    draw_regions,
    format_band,
    format_name,
    set_limits,
)

__all__ = [
    "plot_significance",
    "plot_significance_distribution",
    "plot_significance_map",
]

STEP = 0.25  # of the distribution
LIMIT = 10  # largest significance of the distribution
SIZE = (5.2, 4.4)  # of a panel


def plot_significance_map(
    result,
    name=None,
    band="all",
    ax=None,
    limit=5,
    regions=(),
    position=None,
    add_cbar=False,
):
    """Plot the significance map of the target or of a mimic set.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    name : str, optional
        "target", "mimic_1" and so on. Default is the target, or without one the first
        set.
    band : str or int, optional
        Index of the band of energy, or "all" (default).
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Axes with the projection of the map. Default is new ones.
    limit : float, optional
        Range of the colours, plus and minus. Default is 5.
    regions : `~gammapy_mimic.exclusion.ExclusionRegions` or list, optional
        Regions to draw, with their names if they have any. Default is none.
    position : `~astropy.coordinates.SkyCoord`, optional
        Position to mark. Default is none.
    add_cbar : bool, optional
        Whether to add a colour bar. Default is False.

    Returns
    -------
    ax : `~astropy.visualization.wcsaxes.WCSAxes`
        Axes.
    """
    if name is None:
        name = "target" if "target" in result.maps else result.names[0]
    image = result.get_map(name, band)
    ax = image.plot(ax=ax, cmap="RdBu_r", vmin=-limit, vmax=limit)
    if position is not None:
        x, y = image.geom.wcs.world_to_pixel(position)
        ax.plot(x, y, "+", color="black", markersize=9, markeredgewidth=1.5)
    set_limits(ax, image)
    draw_regions(ax, image, regions, "black")
    ax.set_facecolor(NO_DATA_COLOR)
    ax.set_title(format_name(name))
    if add_cbar:
        ax.figure.colorbar(ax.images[0], ax=ax, label=r"Significance [$\sigma$]")
    return ax


def plot_significance_distribution(result, names=None, band="all", ax=None):
    """Plot distributions of the significance.

    They are of the positions with enough background, that of the target where it has no
    known source. That of all mimics, or the only one, is filled; the line is the
    Gaussian with its mean and width, the dashed one that of a perfect background.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    names : list of str, optional
        Names of mimic sets, "all" for all of them together, "target". Default is "all",
        and "target" if there is one.
    band : str or int, optional
        Index of the band of energy, or "all" (default).
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    if names is None:
        names = ["all", "target"] if "target" in result.maps else ["all"]
    samples = {name: result.get_significance(name, band) for name in names}
    values = np.concatenate(list(samples.values()))
    low = max(np.floor(np.min(values, initial=-5)), -LIMIT)
    high = min(np.ceil(np.max(values, initial=6)), LIMIT)
    bins = np.arange(low, high + STEP, STEP)
    x = np.linspace(low, high, 400)
    for idx, (name, sample) in enumerate(samples.items()):
        if not len(sample):
            continue
        row = result.select("significance", band, name=name)[0]
        is_filled = name == "all" or len(names) == 1
        color = plt.get_cmap("viridis")(idx / len(names))
        color = TARGET_COLOR if name == "target" else color
        style = {"color": color, "histtype": "step", "lw": 1.5}
        label = format_name(name)
        if is_filled:
            style = {"color": MIMIC_COLOR, "histtype": "stepfilled", "alpha": 0.35}
            text = f"mean {row['mean']:.3f} ± {row['mean_err']:.3f}\n"
            text += f"width {row['width']:.3f} ± {row['width_err']:.3f}"
            y = norm.pdf(x, row["mean"], row["width"])
            ax.plot(x, y, color=MIMIC_COLOR, label=text)
        else:
            label += f": width {row['width']:.2f}, at most {row['maximum']:.1f}"
        # a source would make the bins too many: what is beyond is in the last bin
        inside = np.clip(sample, low, high - STEP / 2)
        ax.hist(inside, bins, density=True, label=label, **style)
    ax.plot(x, norm.pdf(x), color="black", ls="--", lw=1, label="mean 0, width 1")
    ax.set_yscale("log")
    ax.set_title(format_band(result.select("significance", band)[0]))
    ax.set_xlabel(r"Significance [$\sigma$]")
    ax.set_ylabel(r"Probability density [$1/\sigma$]")
    legend = ax.legend(loc="upper right", fontsize="small")
    # on a log scale, three lines of the legend need one decade above the data
    n_lines = sum(text.get_text().count("\n") + 1 for text in legend.get_texts())
    # below the density of a single position
    bottom = 0.3 / max(1, *map(len, samples.values())) / STEP
    ax.set_ylim(bottom, 10 ** (n_lines / 3))
    return ax


def plot_significance(result, names=None, regions=(), title=None):
    """Draw a figure with significance maps, and their distributions over each other.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    names : list of str, optional
        Names of mimic sets, or "target". Default is all that there are.
    regions : list of `~regions.SkyRegion`, optional
        Regions to draw in the maps. Default is none.
    title : str, optional
        Title. Default is none.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        Figure.
    """
    names = list(result.maps) if names is None else list(names)
    n_rows = -(-(len(names) + 1) // 3)
    n_columns = -(-(len(names) + 1) // n_rows)
    size = SIZE[0] * n_columns, SIZE[1] * n_rows
    figure = plt.figure(figsize=size, layout="constrained")
    for idx, name in enumerate(names, start=1):
        # axes of the sky need it before the map is drawn
        projection = result.get_map(name).geom.wcs
        ax = figure.add_subplot(n_rows, n_columns, idx, projection=projection)
        plot_significance_map(result, name, ax=ax, regions=regions, add_cbar=True)
    ax = figure.add_subplot(n_rows, n_columns, len(names) + 1)
    plot_significance_distribution(result, names, ax=ax)
    if title:
        figure.suptitle(title)
    return figure
