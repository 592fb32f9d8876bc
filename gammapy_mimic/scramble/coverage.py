"""Part of the field of view that is covered by regions."""

from typing import NamedTuple

import numpy as np

from ..exclusion.sky_regions import is_excluded
from ..utils.coordinates import (
    from_polar,
    get_azimuth,
    get_offset,
    get_ring_area,
    make_ring,
)

__all__ = [
    "Coverage",
    "draw_in_ring",
    "get_fov_radius",
    "measure_coverage",
]

BINS_PER_REGION = 40  # bins of offset in the diameter of the smallest region
BIN_WIDTH = 0.002, 0.02  # deg
OFFSET_QUANTILE, OFFSET_FACTOR = 0.99, 1.5


class Coverage(NamedTuple):
    """Part of the field of view that is covered by regions, in fine bins of offset."""

    edges: np.ndarray
    """Edges of the bins, in deg. Shape (n_bins + 1,)."""
    fraction: np.ndarray
    """Part of the background that is covered by any region: that of the solid angle
    times the mean density. Shape (n_bins,)."""
    region_fraction: np.ndarray
    """Part of the solid angle covered by each region. Shape (n_regions, n_bins)."""
    points: np.ndarray
    """Offset (deg) and azimuth (rad) of points that fill the regions. Shape (2, n)."""
    starts: np.ndarray
    """Index of the first point of each bin, in which they are sorted. Shape of edges.
    """
    exclusions: tuple
    """Regions (`~gammapy_mimic.exclusion.sky_regions.Exclusion`) in the FoV's frame."""
    density: np.ndarray
    """Density of the background at the points, relative to others of the same bin.
    Shape (n,), of ones for a background that depends on the offset alone."""

    def find_bin(self, offset):
        """Find the bins of offsets, in deg; those beyond the last are in the last."""
        # the bins have equal width
        idx = (np.asarray(offset) / self.edges[1]).astype(int)
        return idx.clip(0, len(self.fraction) - 1)

    def is_inside(self, offset, azimuth):
        """Whether positions are inside any region."""
        return is_excluded(from_polar(offset, azimuth), self.exclusions)


def get_fov_radius(offset):
    """Radius of the field of view, in deg, from the offsets of its events.

    The largest offset would not do: H.E.S.S. DR1 has a few events at 20 to 60 deg.
    """
    return float(
        min(np.quantile(offset, OFFSET_QUANTILE) * OFFSET_FACTOR, np.max(offset))
    )


def measure_coverage(exclusions, fov_radius):
    """Measure which part of each offset is covered by regions.

    Each region is filled with points of equal solid angle, so that small regions are
    measured as well as large ones.

    Parameters
    ----------
    exclusions : list of `~gammapy_mimic.exclusion.sky_regions.Exclusion`
        Regions, in the frame of the FoV.
    fov_radius : float
        Radius of the FoV, in deg.

    Returns
    -------
    coverage : `Coverage`
        Coverage up to the radius of the FoV.
    """
    diameter = 2 * min([np.degrees(_.radius) for _ in exclusions], default=1)
    width = np.clip(diameter / BINS_PER_REGION, *BIN_WIDTH)
    n_bins = int(np.ceil(fov_radius / width))
    edges = np.linspace(0, fov_radius, n_bins + 1)
    total = get_ring_area(edges[:-1], edges[1:])

    union, per_region, points, point_bins = np.zeros(n_bins), [], [], []
    for idx, exclusion in enumerate(exclusions):
        radius = np.degrees(exclusion.radius)
        vectors = exclusion.axes.T @ make_ring(0.0, float(radius))
        weight = get_ring_area(0, radius) / vectors.shape[1]
        vectors = vectors[:, is_excluded(vectors, [exclusion])]
        offset = get_offset(vectors)
        vectors, offset = vectors[:, offset < fov_radius], offset[offset < fov_radius]
        bins = np.searchsorted(edges, offset, side="right") - 1
        counts = np.bincount(bins, minlength=n_bins)
        per_region.append(np.minimum(counts * weight / total, 1))
        # what an earlier region covers as well is counted once
        new = ~is_excluded(vectors, exclusions[:idx])
        union += np.bincount(bins[new], minlength=n_bins) * weight
        points.append([offset[new], get_azimuth(vectors[:, new])])
        point_bins.append(bins[new])

    points = np.concatenate([np.empty((2, 0)), *points], axis=1)
    point_bins = np.concatenate([np.empty(0, dtype=int), *point_bins])
    order = np.argsort(point_bins, kind="stable")
    return Coverage(
        edges=edges,
        fraction=np.minimum(union / total, 1),
        region_fraction=np.reshape(per_region, (-1, n_bins)),
        points=points[:, order],
        starts=np.searchsorted(point_bins[order], np.arange(n_bins + 1)),
        exclusions=tuple(exclusions),
        density=np.ones(points.shape[1]),
    )


def draw_in_ring(low, high, rng):
    """Draw offsets that are uniform in solid angle, in deg."""
    cos = rng.uniform(np.cos(np.radians(high)), np.cos(np.radians(low)))
    offset = np.degrees(np.arccos(cos.clip(-1, 1)))
    # rounding must not move an event over the edge of an annulus
    return offset.clip(np.nextafter(low, 180), np.nextafter(high, 0))
