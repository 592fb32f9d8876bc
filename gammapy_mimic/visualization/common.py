"""What several plots have in common."""

import astropy.units as u
import numpy as np
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke
from regions import CircleSkyRegion

__all__ = ["draw_regions", "format_band", "format_name", "plot_mesh", "set_limits"]

TARGET_COLOR = "#c2410c"
MIMIC_COLOR = "#2563a8"
COLORS = (MIMIC_COLOR, TARGET_COLOR, "#15803d", "#7e22ce", "#a16207", "#0e7490")
NO_DATA_COLOR = "#e5e7eb"
HEADROOM = 1.35  # of a linear axis, for the legend
N_VERTICES = 100
MARGIN = 0.04  # of the height, for the label of a region
LABEL_STYLE = {
    "fontsize": "x-small",
    "parse_math": False,
    "path_effects": [withStroke(linewidth=2, foreground="white")],
}


def format_band(row, name="e", unit="TeV"):
    """Format a band of a table, such as "0.5 to 1 TeV".

    Parameters
    ----------
    row : `~astropy.table.Row` or dict
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
    low, high = (u.Quantity(row[f"{name}_{_}"], unit).value for _ in ("min", "max"))
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
    return "All mimics" if name == "all" else name.capitalize()


def draw_regions(ax, image, regions, color):
    """Draw regions with their names, where they fit and hide no other.

    Parameters
    ----------
    ax : `~astropy.visualization.wcsaxes.WCSAxes`
        Axes, which are limited to the image.
    image : `~gammapy.maps.WcsNDMap`
        Image.
    regions : `~gammapy_mimic.exclusion.ExclusionRegions` or list of \
            `~regions.SkyRegion`
        Regions. Those of a list have no names.
    color : str
        Colour.
    """
    names = getattr(regions, "names", [""] * len(regions))
    boxes = []
    for region, name in zip(regions, names, strict=True):
        outline = _draw_region(ax, image.geom.wcs, region, color)
        _draw_label(ax, image.data.shape[::-1], outline, name, color, boxes)


def _draw_region(ax, wcs, region, color):
    """Draw the outline of a region. Return its pixels, in the shape (n, 2)."""
    if isinstance(region, CircleSkyRegion):
        # a circle of the sphere, as in a mask, is not one of the picture
        angles = np.linspace(0, 360, N_VERTICES, endpoint=False) * u.deg
        outline = region.center.directional_offset_by(angles, region.radius)
        patch = Polygon(np.transpose(outline.to_pixel(wcs)))
    else:
        patch = region.to_pixel(wcs).as_artist()
    patch.set(edgecolor=color, facecolor="none", linewidth=1.2, fill=False)
    ax.add_patch(patch)
    return patch.get_path().transformed(patch.get_patch_transform()).vertices


def _draw_label(ax, size, outline, name, color, boxes):
    """Write a name above an outline, or below, where it hides no other name.

    Its box, in pixels of the figure, is added to those of the others.
    """
    x, y = (outline.min(axis=0) + outline.max(axis=0)) / 2 / size
    if not (name and 0 < x < 1 and 0 < y < 1):
        return
    style = LABEL_STYLE | {"color": color}
    # towards the middle of the picture, so that it does not reach out
    alignment = "left" if x < 1 / 3 else "center" if x < 2 / 3 else "right"
    label = ax.text(x, y, name, ha=alignment, transform=ax.transAxes, **style)
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


def set_limits(ax, image):
    """Limit axes to an image, whatever else is drawn on them.

    Parameters
    ----------
    ax : `~astropy.visualization.wcsaxes.WCSAxes`
        Axes.
    image : `~gammapy.maps.WcsNDMap`
        Image.
    """
    height, width = image.data.shape
    ax.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))


def plot_mesh(ax, x_edges, y_edges, values, label, extend="neither", **kwargs):
    """Plot values in bins, with a colour bar.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Axes.
    x_edges, y_edges : `~numpy.ndarray`
        Edges of the bins.
    values : `~numpy.ndarray`
        Values. Shape (n_y, n_x).
    label : str
        Label of the colour bar.
    extend : str, optional
        Ends of the colour bar that have arrows. Default is "neither".
    **kwargs : dict
        Options of `~matplotlib.axes.Axes.pcolormesh`.
    """
    mesh = ax.pcolormesh(x_edges, y_edges, values, **kwargs)
    ax.figure.colorbar(mesh, ax=ax, label=label, extend=extend)
