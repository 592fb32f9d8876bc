"""Plots of background IRFs."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from .common import plot_mesh

__all__ = [
    "plot_background",
    "plot_background_image",
    "plot_background_ratio",
    "plot_background_spectrum",
]


RATE_UNIT = "s-1 TeV-1 sr-1"
RATE_LABEL = f"Background rate [{RATE_UNIT}]"


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
    energies = _pick_energies(bkg) if energies is None else energies
    axis = _get_position_axis(bkg)
    rates = [_evaluate(bkg, energy, axis.center) for energy in energies]
    ax = _plot_lines(ax, axis, rates, energies.to("TeV"), label, **kwargs)
    # of bins without exposure nothing is drawn
    ax.set_yscale("log", nonpositive="mask")
    ax.set_ylabel(RATE_LABEL)
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
    if offsets is None:
        center = _get_position_axis(bkg).center
        offsets = _pick(center[center.value >= 0], 4)
    axis = bkg.axes["energy"]
    rates = [_evaluate(bkg, axis.center, offset) for offset in offsets]
    ax = _plot_lines(ax, axis, rates, offsets.to("deg"), label, **kwargs)
    ax.set_xscale("log")
    # of bins without exposure nothing is drawn
    ax.set_yscale("log", nonpositive="mask")
    ax.set_ylabel(RATE_LABEL)
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
    edges = x_axis.edges.value, y_axis.edges.value
    # empty bins have no logarithm
    scale = LogNorm(data[data > 0].min(), data.max())
    plot_mesh(ax, *edges, data, RATE_LABEL, norm=scale)
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
    energies = _pick_energies(bkg) if energies is None else energies
    axis = _get_position_axis(bkg)
    ratios = []
    for energy in energies:
        rate, expected = (_evaluate(_, energy, axis.center) for _ in (bkg, reference))
        # no rate where none is expected is no ratio of 0
        nothing = np.full_like(rate, np.nan)
        ratios.append(np.divide(rate, expected, out=nothing, where=expected > 0))
    ax = _plot_lines(ax, axis, ratios, energies.to("TeV"))
    ax.axhline(1, color="black", lw=0.5)
    ax.set_ylabel("Ratio of background rates")
    return ax


def _plot_lines(ax, axis, lines, labels, text="", **kwargs):
    """Plot lines against an axis, each with a quantity as label."""
    ax = plt.gca() if ax is None else ax
    for idx, (values, label) in enumerate(zip(lines, labels, strict=True)):
        name = f"{text} {label.value:.2g} {label.unit}".strip()
        style = {"color": f"C{idx}", "marker": ".", "label": name, **kwargs}
        ax.plot(axis.center.value, values, **style)
    ax.set_xlabel(f"{axis.name} [{axis.unit}]")
    ax.legend(fontsize="small")
    return ax


def _pick_energies(bkg):
    return _pick(bkg.axes["energy"].center, 4)


def _pick(values, number):
    """Pick values that are spread over an array."""
    # without the ends, where there are few counts
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
