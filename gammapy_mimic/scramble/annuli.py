"""Annuli around the camera centre, in deg."""

import numpy as np
from regions import PolygonSkyRegion

from ..exclusion.sky_regions import make_exclusion
from ..utils.coordinates import get_offset, get_vectors

__all__ = ["get_region_radius", "is_in_annulus", "merge_intervals"]


def is_in_annulus(offset, mean, width):
    """Whether offsets are in an annulus of a mean radius and half width, all in deg."""
    return np.abs(offset - mean) < width


def merge_intervals(intervals):
    """Merge intervals (low, high) that overlap. Shape (n, 2) before and after."""
    merged = []
    for low, high in sorted(map(tuple, intervals)):
        if merged and low < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    return np.reshape(merged, (-1, 2))


def get_region_radius(region):
    """Radius of the circle around the centre of a region that holds it, in deg.

    Parameters
    ----------
    region : `~regions.SkyRegion`
        Region, see `~gammapy_mimic.exclusion.check_regions`.

    Returns
    -------
    radius : float
        Radius, in deg: the default half width of an annulus.
    """
    if isinstance(region, PolygonSkyRegion):
        exclusion = make_exclusion(region)
        return get_offset(exclusion.axes @ get_vectors(region.vertices)).max()
    for name in ("radius", "outer_radius"):
        if hasattr(region, name):
            return getattr(region, name).to_value("deg")
    prefix = "outer_" if hasattr(region, "outer_width") else ""
    width, height = (
        getattr(region, prefix + name).to_value("deg") for name in ("width", "height")
    )
    is_rectangle = "Rectangle" in type(region).__name__
    return np.hypot(width, height) / 2 if is_rectangle else max(width, height) / 2
