"""Regions of the sky that are left out, tested against many positions at once.

A region is the same part of the sky for every pointing. Circles and annuli are those
of the sphere, the edges of polygons are great circles, and other shapes are drawn in an
equidistant projection around their centre.
"""

import inspect
import operator
from typing import NamedTuple

import numpy as np
from astropy.coordinates import FK5, ICRS, Galactic, SkyCoord
from astropy.wcs import WCS
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    CompoundSkyRegion,
    EllipseAnnulusSkyRegion,
    EllipseSkyRegion,
    PixCoord,
    PixelRegion,
    PolygonSkyRegion,
    RectangleAnnulusSkyRegion,
    RectangleSkyRegion,
    Regions,
    SkyRegion,
)

from ..utils.coordinates import get_vectors, is_touching, local_axes, to_lon_lat

__all__ = [
    "Exclusion",
    "Exclusions",
    "check_regions",
    "find_inside",
    "is_excluded",
    "make_exclusion",
    "regions_to_text",
]

REGION_CLASSES = (
    CircleSkyRegion,
    CircleAnnulusSkyRegion,
    EllipseSkyRegion,
    EllipseAnnulusSkyRegion,
    RectangleSkyRegion,
    RectangleAnnulusSkyRegion,
    PolygonSkyRegion,
)
REGION_FRAMES = (ICRS(), FK5(), Galactic())
REGION_PRECISION = 20  # decimals of a text that gives back the same numbers
POLYGON_RADIUS_MAX = 80  # deg

PIXEL_SIZE = 0.01  # deg, of the plane in which regions are drawn


class Exclusion(NamedTuple):
    """A region, drawn in a plane that touches the sphere at its centre."""

    axes: np.ndarray
    """Unit vectors to the east, to the north and to the centre. Shape (3, 3)."""
    radius: float
    """Radius of a circle that holds the region, in rad."""
    region: PixelRegion
    """Region in the plane, with pixels of `PIXEL_SIZE`."""
    is_polygon: bool
    """Whether the plane shows great circles as lines, else true separations."""

    def turn(self, frame):
        """Turn into another frame, by a matrix of shape (3, 3)."""
        return self._replace(axes=self.axes @ frame.T)


class Exclusions:
    """Regions, from which those are found that reach into a field of view.

    They are drawn here, and not for each observation or in each process.

    Parameters
    ----------
    regions : list of `~regions.SkyRegion`
        Regions, see `check_regions`.
    """

    def __init__(self, regions):
        self.exclusions = [make_exclusion(_) for _ in regions]
        self.centers = np.reshape([_.axes[2] for _ in self.exclusions], (-1, 3)).T
        self.radii = np.degrees([_.radius for _ in self.exclusions])

    def find_near(self, pointing, radius):
        """Find the regions that may reach into a field of view.

        Parameters
        ----------
        pointing : `~numpy.ndarray`
            Unit vector. Shape (3,).
        radius : float
            Radius of the field of view, in deg.

        Returns
        -------
        idx : `~numpy.ndarray`
            Indices of the regions.
        """
        pointing = pointing[:, np.newaxis]
        touching = is_touching(pointing, radius, self.centers, self.radii)
        return np.flatnonzero(touching)


def find_inside(vectors, exclusion):
    """Find the vectors that are inside a region.

    Parameters
    ----------
    vectors : `~numpy.ndarray`
        Unit vectors, in the frame of the exclusion's axes. Shape (3, n).
    exclusion : `Exclusion`
        Region.

    Returns
    -------
    idx : `~numpy.ndarray`
        Indices of the vectors.
    """
    cos = exclusion.axes[2] @ vectors
    # few are near, and only they are worth the projection
    idx = np.nonzero(cos >= np.cos(exclusion.radius))[0]
    x, y, z = exclusion.axes @ vectors[:, idx]
    if exclusion.is_polygon:
        scale = 1 / z
    else:
        sin = np.hypot(x, y)
        scale = np.arctan2(sin, z) / np.where(sin > 0, sin, 1)
    scale = np.degrees(scale) / PIXEL_SIZE
    # in a map of the sky, right ascension grows to the left
    return idx[exclusion.region.contains(PixCoord(-x * scale, y * scale))]


def is_excluded(vectors, exclusions):
    """Whether vectors, of shape (3, n), are inside any of the regions. Shape (n,)."""
    excluded = np.zeros(vectors.shape[1], dtype=bool)
    for exclusion in exclusions:
        excluded[find_inside(vectors, exclusion)] = True
    return excluded


def check_regions(regions, name="exclusion_regions", radius=None):
    """Check regions, and leave out what does not matter for the part of the sky.

    Parameters
    ----------
    regions : list of `~regions.SkyRegion` or `~astropy.coordinates.SkyCoord`, or None
        Regions, of which unions are divided into their parts, or positions.
    name : str, optional
        Name of the parameter, for errors. Default is "exclusion_regions".
    radius : `~astropy.coordinates.Angle`, optional
        Radius of the circles around positions. Default is None, for no positions.

    Returns
    -------
    regions : list of `~regions.SkyRegion`
        Regions without attributes for drawing.

    Raises
    ------
    TypeError, ValueError
        If a region is not valid, a position has no radius, or a radius no position.
    """
    if regions is None:
        return []
    if isinstance(regions, SkyCoord):
        regions = [regions]
    if isinstance(regions, SkyRegion | str):
        raise TypeError(f"{name} must be a list of SkyRegion, got {regions!r}")
    regions = list(regions)
    if radius is not None and not any(isinstance(_, SkyCoord) for _ in regions):
        raise ValueError(
            f"The radius is for positions (SkyCoord), but {name} has none. Regions "
            "have a size of their own."
        )
    name = name.removesuffix("s").replace("_", " ")
    parts = [part for region in regions for part in _get_parts(region, name, radius)]
    plain = []
    for part in parts:
        cls = next((_ for _ in REGION_CLASSES if isinstance(part, _)), None)
        if cls is None:
            names = [_.__name__ for _ in REGION_CLASSES]
            raise ValueError(
                f"Invalid {name}: {part!r}. Choose from {names}, or unions."
            )
        if not part.meta.get("include", True):
            raise ValueError(
                f"The {name} {part!r} has include=False, which stands for "
                "the sky around it. Pass the regions to be left out."
            )
        position = part.vertices if cls is PolygonSkyRegion else part.center
        # region files keep the name of a frame, but not its equinox
        if not any(position.frame.is_equivalent_frame(_) for _ in REGION_FRAMES):
            names = [_.name for _ in REGION_FRAMES]
            raise ValueError(
                f"The {name} {part!r} has the frame {position.frame.name!r}. "
                f"Choose from {names} (J2000)."
            )
        names = set(inspect.signature(cls).parameters) - {"meta", "visual"}
        plain.append(cls(**{_: getattr(part, _) for _ in names}))
    return plain


def _get_parts(region, name, radius):
    if isinstance(region, SkyCoord):
        if radius is None:
            raise ValueError(
                f"Invalid {name}: {region!r} is a SkyCoord, which needs a radius. Pass "
                "CircleSkyRegion(position, radius)."
            )
        return [CircleSkyRegion(center, radius) for center in region.reshape(-1)]
    if not isinstance(region, CompoundSkyRegion):
        return [region]
    if region.operator is not operator.or_:
        raise ValueError(
            f"The {name} {region!r} is not a union. Pass a list of regions."
        )
    halves = region.region1, region.region2
    return [part for half in halves for part in _get_parts(half, name, radius)]


def make_exclusion(region):
    """Prepare a region for tests.

    Parameters
    ----------
    region : `~regions.SkyRegion`
        Region, see `check_regions`.

    Returns
    -------
    exclusion : `Exclusion`
        Region in its own plane.
    """
    is_polygon = isinstance(region, PolygonSkyRegion)
    if is_polygon:
        # regions gives a polygon no centre
        vertices = region.vertices.icrs
        lon, lat = to_lon_lat(get_vectors(vertices).mean(axis=1))
        center = SkyCoord(lon, lat, unit="deg")
        reach = vertices.separation(center).deg.max()
        # the plane, in which great circles are lines, ends at 90 deg
        if reach > POLYGON_RADIUS_MAX:
            raise ValueError(
                f"The polygon {region!r} reaches {reach:.0f} deg from its centre. "
                f"Divide it into parts of less than {POLYGON_RADIUS_MAX} deg."
            )
    else:
        lon, lat = region.center.icrs.ra.deg, region.center.icrs.dec.deg
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ("RA---TAN", "DEC--TAN") if is_polygon else ("RA---ARC", "DEC--ARC")
    wcs.wcs.crval = lon, lat
    wcs.wcs.crpix = 1, 1
    wcs.wcs.cdelt = -PIXEL_SIZE, PIXEL_SIZE
    # at a pole the default would be turned by 180 deg
    wcs.wcs.lonpole = 180

    pixel_region = region.to_pixel(wcs)
    box = pixel_region.bounding_box
    # the box ends at the centres of pixels
    x = max(abs(box.ixmin), abs(box.ixmax)) + 1
    y = max(abs(box.iymin), abs(box.iymax)) + 1
    radius = np.radians(np.hypot(x, y) * PIXEL_SIZE)
    radius = np.arctan(radius) if is_polygon else min(radius, np.pi)
    return Exclusion(local_axes(lon, lat), radius, pixel_region, is_polygon)


def regions_to_text(regions):
    """Write regions as text in the ds9 format, from which the same can be read."""
    return Regions(regions).serialize(format="ds9", precision=REGION_PRECISION)
