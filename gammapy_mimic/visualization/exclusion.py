"""Plots of exclusion regions."""

import astropy.units as u
from matplotlib.patheffects import withStroke

from ..exclusion.core import ExclusionRegions
from .common import draw_region, set_limits

__all__ = ["plot_exclusion_regions"]

COLOR = "tab:red"
LABEL_STYLE = {
    "color": COLOR,
    "fontsize": "x-small",
    "path_effects": [withStroke(linewidth=2, foreground="white")],
}
MARGIN = 0.04  # of the height, for a label


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
    boxes = []
    for region, name in zip(regions, regions.names, strict=True):
        outline = draw_region(ax, image.geom.wcs, region, COLOR)
        _plot_label(ax, image.data.shape[::-1], outline, name, boxes)
    return ax


def _plot_label(ax, size, outline, name, boxes):
    """Write a name above an outline, or below, where it hides no other name.

    Its box, in pixels of the figure, is added to those of the others.
    """
    x, y = (outline.min(axis=0) + outline.max(axis=0)) / 2 / size
    if not (name and 0 < x < 1 and 0 < y < 1):
        return
    # towards the middle of the picture, so that it does not reach out
    alignment = "left" if x < 1 / 3 else "center" if x < 2 / 3 else "right"
    label = ax.text(x, y, name, ha=alignment, transform=ax.transAxes, **LABEL_STYLE)
    low, high = outline[:, 1].min() / size[1], outline[:, 1].max() / size[1]
    for y_label, side in ((high, "bottom"), (low, "top")):
        label.set(y=y_label, va=side)
        box = label.get_window_extent()
        # a label that is cut is worse than none
        is_in = MARGIN < y_label < 1 - MARGIN
        if is_in and not any(box.overlaps(_) for _ in boxes):
            boxes.append(box)
            return
    label.remove()
