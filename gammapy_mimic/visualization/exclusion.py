"""Plots of exclusion regions."""

import astropy.units as u

from ..exclusion.core import ExclusionRegions
from .common import draw_regions, set_limits

__all__ = ["plot_exclusion_regions"]

COLOR = "tab:red"


def plot_exclusion_regions(regions, counts, ax=None, smooth="0.05 deg"):
    """Plot exclusion regions on a counts map.

    Parameters
    ----------
    regions : `~gammapy_mimic.exclusion.ExclusionRegions` or list of \
            `~regions.SkyRegion`
        Regions. Names are written where they fit and hide no other, if the centre of
        the region is in the picture.
    counts : `~gammapy.maps.WcsNDMap`
        Counts. They are summed over further axes.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Axes with the projection of the map. Default is new ones.
    smooth : `~astropy.units.Quantity` or str, optional
        Width of the Gaussian that smooths the counts, None for plain counts. Default is
        "0.05 deg".

    Returns
    -------
    ax : `~astropy.visualization.wcsaxes.WCSAxes`
        Axes.
    """
    if not isinstance(regions, ExclusionRegions):
        regions = ExclusionRegions(regions)
    image = counts.sum_over_axes(keepdims=False)
    if smooth is not None:
        image = image.smooth(u.Quantity(smooth))
    ax = image.plot(ax=ax, cmap="Greys", vmin=0)
    ax.figure.colorbar(ax.images[-1], ax=ax, label="Counts per pixel")
    set_limits(ax, image)
    draw_regions(ax, image, regions, COLOR)
    return ax
