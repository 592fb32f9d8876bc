"""Plots of observations before and after they are scrambled."""

import matplotlib.pyplot as plt
import numpy as np

from .common import HEADROOM, plot_mesh

__all__ = [
    "plot_scramble",
    "plot_scramble_azimuth",
    "plot_scramble_energy",
    "plot_scramble_events",
    "plot_scramble_offset",
]

WHEN = ("before", "after", "difference")
REGION_COLOR = "red"


def plot_scramble_events(check, when="difference", ax=None):
    """Plot an image of the events, with the annuli and the regions in red.

    The colours end at the largest number of events after, so that a bright source may
    be brighter than they tell.

    Parameters
    ----------
    check : `~gammapy_mimic.scramble.check.ScrambleCheck`
        Check.
    when : {"before", "after", "difference"}, optional
        Which events. The default, "difference", is after less before.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.

    Raises
    ------
    ValueError
        If ``when`` is not valid.
    """
    if when not in WHEN:
        raise ValueError(f"Invalid when: {when!r}. Choose from {WHEN}.")
    ax = plt.gca() if ax is None else ax
    image = check.image
    data = getattr(image, when)
    is_difference = when == "difference"
    limit = max(data.max() if is_difference else image.after.max(), 1)
    low, cmap = (-limit, "PuOr_r") if is_difference else (0, "viridis")
    is_beyond = data.min() < low, data.max() > limit
    extend = {(0, 0): "neither", (0, 1): "max", (1, 0): "min", (1, 1): "both"}
    label = "Events after - before" if is_difference else "Events"
    style = {"vmin": low, "vmax": limit, "cmap": cmap, "extend": extend[is_beyond]}
    plot_mesh(ax, image.edges, image.edges, data, label, **style)

    if image.mask.any():
        axis = image.mask_axis
        options = {"colors": REGION_COLOR, "linewidths": 1.5}
        ax.contour(axis, axis, image.mask.astype(float), levels=[0.5], **options)
    if check.method == "annulus":
        for radius in np.ravel(check.intervals):
            options = {"fill": False, "color": REGION_COLOR, "ls": "--", "lw": 1.5}
            ax.add_patch(plt.Circle((0, 0), radius, **options))
    ax.set_aspect("equal")
    ax.set_title(when.capitalize())
    ax.set_xlabel("fov_lon [deg]")
    ax.set_ylabel("fov_lat [deg]")
    return ax


def plot_scramble_offset(check, ax=None):
    """Plot the offsets of events, with what is expected without source.

    The scrambled offsets have a red background.

    Parameters
    ----------
    check : `~gammapy_mimic.scramble.check.ScrambleCheck`
        Check.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = _plot_distribution(check.offset, ax)
    for low, high in check.intervals:
        ax.axvspan(low, high, color=REGION_COLOR, alpha=0.1, lw=0)
    ax.set_xlim(check.offset.edges[0], check.offset.edges[-1])
    ax.set_ylim(0, HEADROOM * ax.get_ylim()[1])
    ax.set_xlabel("Offset [deg]")
    return ax


def plot_scramble_azimuth(check, ax=None):
    """Plot the azimuths of the events at the scrambled offsets.

    Lines in red are at the centres of the regions.

    Parameters
    ----------
    check : `~gammapy_mimic.scramble.check.ScrambleCheck`
        Check.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = _plot_distribution(check.azimuth, ax)
    begin = check.azimuth.edges[0]
    # turned into the range of the axis
    for azimuth in (check.region_azimuths - begin) % 360 + begin:
        ax.axvline(azimuth, color=REGION_COLOR, ls=":")
    ax.set_xlim(begin, begin + 360)
    ax.set_ylim(0, HEADROOM * ax.get_ylim()[1])
    ax.set_xticks(begin + np.arange(0, 361, 90))
    ax.set_xlabel("Azimuth from north to east [deg]")
    ax.set_title(_describe_offsets(check), fontsize="medium")
    return ax


def plot_scramble_energy(check, ax=None):
    """Plot the energies of the events at the scrambled offsets.

    Parameters
    ----------
    check : `~gammapy_mimic.scramble.check.ScrambleCheck`
        Check.
    ax : `~matplotlib.axes.Axes`, optional
        Axes. Default is the current one.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        Axes.
    """
    ax = _plot_distribution(check.energy, ax)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(0.5, 10 * ax.get_ylim()[1])
    ax.set_xlabel("Energy [TeV]")
    ax.set_title(_describe_offsets(check), fontsize="medium")
    return ax


def plot_scramble(check):
    """Draw a figure with six panels: three images of the events, three distributions.

    Parameters
    ----------
    check : `~gammapy_mimic.scramble.check.ScrambleCheck`
        Check.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        Figure.
    """
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    for when, ax in zip(WHEN, axes[0], strict=True):
        plot_scramble_events(check, when, ax=ax)
    plot_scramble_offset(check, ax=axes[1, 0])
    plot_scramble_azimuth(check, ax=axes[1, 1])
    plot_scramble_energy(check, ax=axes[1, 2])
    figure.suptitle(
        f'OBS_ID {check.obs_id}, method "{check.method}": '
        f"{len(check.before.energy)} events before, {len(check.after.energy)} after"
    )
    return figure


def _plot_distribution(distribution, ax):
    ax = plt.gca() if ax is None else ax
    edges, before, after, expected, error = distribution
    ax.stairs(before, edges, color="black", label="before")
    ax.stairs(after, edges, color="tab:blue")
    # energies start above 0, and are in bins of their logarithm
    center = np.sqrt(edges[1:] * edges[:-1]) if edges[0] > 0 else edges[1:] / 2
    center = center if edges[0] > 0 else center + edges[:-1] / 2
    style = {"fmt": ".", "ms": 4, "color": "tab:blue", "label": "after"}
    ax.errorbar(center, after, np.sqrt(after), **style)
    if expected is not None and np.any(np.isfinite(expected)):
        label = "expected without source"
        ax.stairs(expected, edges, color="tab:orange", ls="--", label=label)
        band = {"fill": True, "color": "tab:orange", "alpha": 0.25}
        ax.stairs(expected + error, edges, baseline=expected - error, **band)
    ax.set_ylabel("Events")
    ax.legend(loc="upper right", fontsize="small")
    return ax


def _describe_offsets(check):
    texts = [f"{low:.2f} to {high:.2f}" for low, high in check.intervals[:3]]
    dots = ", ..." if len(check.intervals) > 3 else ""
    return f"Offsets {', '.join(texts)}{dots} deg"
