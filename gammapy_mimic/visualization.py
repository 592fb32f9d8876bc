"""Plots. Every function draws what it is given on the axes it is given."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm, TwoSlopeNorm
from scipy.stats import norm

__all__ = [
    "plot_background",
    "plot_background_image",
    "plot_background_ratio",
    "plot_background_spectrum",
    "plot_kl_matrix",
    "plot_ranking",
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
            color=plt.get_cmap("viridis")(idx / max(len(distributions) - 1, 1)),
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


STATUS_COLORS = {
    "ok": "tab:green",
    "undecided": "tab:orange",
    "large_kl": "tab:red",
    "rejected": "lightgray",
}


def plot_ranking(table, values, label, ax=None):
    """Plot the divergence of ranked OFF observations against a condition.

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
    for status, color in reversed(STATUS_COLORS.items()):
        mask = np.asarray(table["STATUS"]) == status
        if mask.any():
            x, y = np.asarray(values)[mask], np.asarray(table["KL_CORR"])[mask]
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
        Divergence at the middle of the colours. Default is 0.02.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    kl_max = 0.02 if kl_max is None else kl_max
    sorted_tables = [_[np.argsort(_["OFF_OBS_ID"])] for _ in tables]
    matrix = np.array(
        [
            np.where(_["STATUS"] == "rejected", np.nan, _["KL_CORR"])
            for _ in sorted_tables
        ]
    )
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


def plot_background(bkg, ax=None, energies=None, label="", **kwargs):
    """Plot background rates against offset, one line for each energy.

    Parameters
    ----------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Background. Of a 3D one, along ``fov_lon``.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    energies : `~astropy.units.Quantity`, optional
        Energies. Default is four of the axis.
    label : str, optional
        Text before the energy in the legend. Default is none.
    **kwargs : dict
        Options of `~matplotlib.axes.Axes.plot`.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    axis = _get_position_axis(bkg)
    if energies is None:
        energies = _pick(bkg.axes["energy"].center, 4)
    for idx, energy in enumerate(energies):
        rate = _evaluate(bkg, energy, axis.center)
        name = f"{label} {energy.to_value('TeV'):.2g} TeV".strip()
        kwargs_line = {"color": f"C{idx}", "marker": ".", "label": name, **kwargs}
        ax.plot(axis.center.value, rate, **kwargs_line)
    ax.set_yscale("log")
    ax.set_xlabel(f"{axis.name} [{axis.unit}]")
    ax.set_ylabel(f"Background rate [{RATE_UNIT}]")
    ax.legend(fontsize="small")
    return ax


def plot_background_spectrum(bkg, ax=None, offsets=None, label="", **kwargs):
    """Plot background rates against energy, one line for each offset.

    Parameters
    ----------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Background. Of a 3D one, along ``fov_lon``.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    offsets : `~astropy.units.Quantity`, optional
        Offsets. Default is four of the axis.
    label : str, optional
        Text before the offset in the legend. Default is none.
    **kwargs : dict
        Options of `~matplotlib.axes.Axes.plot`.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    axis = _get_position_axis(bkg)
    if offsets is None:
        offsets = _pick(axis.center[axis.center.value >= 0], 4)
    energy = bkg.axes["energy"].center
    for idx, offset in enumerate(offsets):
        name = f"{label} {offset.to_value('deg'):.2g} deg".strip()
        kwargs_line = {"color": f"C{idx}", "marker": ".", "label": name, **kwargs}
        ax.plot(energy.to_value("TeV"), _evaluate(bkg, energy, offset), **kwargs_line)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("Energy [TeV]")
    ax.set_ylabel(f"Background rate [{RATE_UNIT}]")
    ax.legend(fontsize="small")
    return ax


def plot_background_image(bkg, ax=None, energy=None):
    """Plot a background as an image.

    Parameters
    ----------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Background.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    energy : `~astropy.units.Quantity`, optional
        Energy of the image of a 3D background, in FoV longitude and latitude. A 2D
        background is drawn in energy and offset. Default is the middle of the axis.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    quantity = bkg.quantity.to_value(RATE_UNIT)
    if bkg.has_offset_axis:
        x_axis, y_axis, data = bkg.axes["energy"], bkg.axes["offset"], quantity.T
        ax.set_xscale("log")
    else:
        axis = bkg.axes["energy"]
        idx = axis.nbin // 2 if energy is None else int(axis.coord_to_idx(energy)[0])
        x_axis, y_axis, data = bkg.axes["fov_lon"], bkg.axes["fov_lat"], quantity[idx].T
        ax.set_title(f"{axis.center[idx].to_value('TeV'):.2g} TeV")
        ax.set_aspect("equal")
    limits = data[data > 0].min(), data.max()
    image = ax.pcolormesh(
        x_axis.edges.value, y_axis.edges.value, data, norm=LogNorm(*limits)
    )
    ax.figure.colorbar(image, ax=ax, label=f"Background rate [{RATE_UNIT}]")
    ax.set_xlabel(f"{x_axis.name} [{x_axis.unit}]")
    ax.set_ylabel(f"{y_axis.name} [{y_axis.unit}]")
    return ax


def plot_background_ratio(bkg, reference, ax=None, energies=None):
    """Plot a background over another one against offset, one line for each energy.

    Parameters
    ----------
    bkg, reference : `~gammapy.irf.BackgroundIRF`
        Backgrounds, such as a template and the truth.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.
    energies : `~astropy.units.Quantity`, optional
        Energies. Default is four of the axis of ``bkg``.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = plt.gca() if ax is None else ax
    axis = _get_position_axis(bkg)
    if energies is None:
        energies = _pick(bkg.axes["energy"].center, 4)
    for energy in energies:
        ratio = _evaluate(bkg, energy, axis.center)
        expected = _evaluate(reference, energy, axis.center)
        ratio = np.divide(
            ratio, expected, out=np.full_like(ratio, np.nan), where=expected > 0
        )
        label = f"{energy.to_value('TeV'):.2g} TeV"
        ax.plot(axis.center.value, ratio, marker=".", label=label)
    ax.axhline(1, color="black", lw=0.5)
    ax.set_xlabel(f"{axis.name} [{axis.unit}]")
    ax.set_ylabel("Ratio of background rates")
    ax.legend(fontsize="small")
    return ax


RATE_UNIT = "s-1 TeV-1 sr-1"


def _pick(values, number):
    """Pick values that are spread over an array."""
    idx = np.linspace(0, len(values) - 1, number + 2)[1:-1]
    return values[np.unique(np.rint(idx).astype(int))]


def _get_position_axis(bkg):
    return bkg.axes["offset" if bkg.has_offset_axis else "fov_lon"]


def _evaluate(bkg, energy, position):
    """Background rate at an offset, or along the FoV longitude."""
    if bkg.has_offset_axis:
        coords = {"offset": np.abs(position)}
    else:
        coords = {"fov_lon": position, "fov_lat": np.zeros_like(position)}
    return np.nan_to_num(bkg.evaluate(energy=energy, **coords).to_value(RATE_UNIT))


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
