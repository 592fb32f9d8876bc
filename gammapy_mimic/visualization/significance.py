"""Plots of significance maps and of their distribution."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

__all__ = [
    "plot_significance",
    "plot_significance_distribution",
    "plot_significance_distributions",
    "plot_significance_map",
]


def plot_significance_map(significance, ax=None, limit=5):
    """Plot a significance map.

    Parameters
    ----------
    significance : `~gammapy.maps.WcsNDMap`
        Significance map without energy axis.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Axes with the projection of the map. Default is new ones.
    limit : float, optional
        Range of the colours, plus and minus. Default is 5.

    Returns
    -------
    ax : `~astropy.visualization.wcsaxes.WCSAxes`
        Axes.
    """
    ax = significance.plot(ax=ax, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.figure.colorbar(ax.images[0], ax=ax, label="Significance")
    return ax


def plot_significance_distribution(distribution, ax=None, bins=None):
    """Plot a significance distribution, with its Gaussian fit and the standard one.

    Parameters
    ----------
    distribution : `~gammapy_mimic.estimators.SignificanceDistribution`
        Distribution.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    bins : `~numpy.ndarray`, optional
        Bin edges. Default is -6 to 8 in steps of 0.25, wider if values lie outside.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    values = distribution.values
    bins = _make_bins([values]) if bins is None else bins
    ax.hist(values, bins, density=True, histtype="stepfilled", alpha=0.4)
    _plot_gaussian(
        ax,
        bins,
        distribution.mean,
        distribution.width,
        color="tab:red",
        label=(
            f"mean {distribution.mean:+.3f} ± {distribution.mean_error:.3f}\n"
            f"width {distribution.width:.3f} ± {distribution.width_error:.3f}"
        ),
    )
    _plot_gaussian(ax, bins, 0, 1, color="black", ls="--", label="mean 0, width 1")
    return _format_distribution(ax, values.size)


def plot_significance_distributions(distributions, total=None, ax=None):
    """Plot significance distributions over each other.

    Parameters
    ----------
    distributions : list of `~gammapy_mimic.estimators.SignificanceDistribution`
        Distributions, as a rule one for each mimic set.
    total : `~gammapy_mimic.estimators.SignificanceDistribution`, optional
        All of them together, drawn with its Gaussian fit. Default is None.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    bins = _make_bins([_.values for _ in distributions])
    for idx, distribution in enumerate(distributions):
        ax.hist(
            distribution.values,
            bins,
            density=True,
            histtype="step",
            color=plt.get_cmap("viridis")(idx / len(distributions)),
            label=distribution.name,
        )
    if total is not None:
        plot_significance_distribution(total, ax=ax, bins=bins)
    return _format_distribution(ax, max(_.values.size for _ in distributions))


def plot_significance(significance, distribution, title=None):
    """Draw a figure with a significance map and its distribution.

    Parameters
    ----------
    significance : `~gammapy.maps.WcsNDMap`
        Significance map without energy axis.
    distribution : `~gammapy_mimic.estimators.SignificanceDistribution`
        Distribution.
    title : str, optional
        Title. Default is None.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        Figure.
    """
    figure = plt.figure(figsize=(11, 4.5), layout="constrained")
    projection = significance.geom.wcs
    plot_significance_map(significance, figure.add_subplot(121, projection=projection))
    plot_significance_distribution(distribution, figure.add_subplot(122))
    if title:
        figure.suptitle(title)
    return figure


def _make_bins(values, step=0.25):
    low = min(-6, *(np.floor(np.min(_)) for _ in values))
    high = max(8, *(np.ceil(np.max(_)) for _ in values))
    return np.arange(low, high + step, step)


def _plot_gaussian(ax, bins, mean, width, **kwargs):
    x = np.linspace(bins[0], bins[-1], 400)
    ax.plot(x, norm.pdf(x, mean, width), **kwargs)


def _format_distribution(ax, n_values):
    ax.set_yscale("log")
    ax.set_ylim(0.3 / n_values, 1)
    ax.set_xlabel("Significance")
    ax.set_ylabel("Probability density")
    ax.legend(loc="upper right", fontsize="small")
    return ax
