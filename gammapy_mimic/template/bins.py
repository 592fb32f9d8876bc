"""Bins of a template in energy and position in the field of view."""

import functools
import itertools

import astropy.units as u
import numpy as np
from gammapy.irf import Background2D, Background3D
from gammapy.maps import MapAxes, MapAxis

from ..data.irfs import is_in_safe_range
from ..exclusion.sky_regions import Exclusions, check_regions
from ..utils.coordinates import (
    from_fov_lon_lat,
    get_offset,
    get_ring_area,
    make_ring,
    to_fov_lon_lat,
)

__all__ = ["TemplateBins", "get_center"]


CELL_SIZE = 0.02  # deg, of the cells that tell how much of a bin is masked
RING_STEP = 4  # of the points of rings: fractions are true to 1e-3
DIMENSIONS = {"2d": Background2D, "3d": Background3D}
DEFAULT_AXES = {
    "energy": ((0.1, 100), 24),
    "offset": ((0, 2.5), 10),
    "fov_lon": ((-2.5, 2.5), 20),
    "fov_lat": ((-2.5, 2.5), 20),
}
"""Bounds, in TeV or deg, and numbers of bins."""
LIMITS = {"energy": (0, np.inf), "offset": (0, 90)}
"""Limits of the edges, in TeV or deg. Else -90 to 90 deg."""


class TemplateBins:
    """Bins of a template in energy and FoV position, and regions that are left out.

    Directions in the FoV are unit vectors. Their components are those towards growing
    RA or azimuth, which is decreasing ``fov_lon``, growing ``fov_lat``, and the
    pointing.

    Parameters
    ----------
    axes : list of `~gammapy.maps.MapAxis`
        Axes "energy" and "offset", or "energy", "fov_lon" and "fov_lat".
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Regions. Default is none.
    """

    def __init__(self, axes, exclusion_regions=()):
        # as they are after writing and reading: log in energy, linear in position
        energy, *position = axes
        axis = MapAxis.from_energy_edges(energy.edges, name="energy", interp="log")
        self.axes = MapAxes(
            [axis, *(MapAxis.from_edges(_.edges, name=_.name) for _ in position)]
        )
        self._exclusions = Exclusions(check_regions(exclusion_regions))
        self.has_default_energy = False

    @classmethod
    def create(cls, dimension="2d", exclusion_regions=(), **axes):
        """Create from a dimension and axes.

        Parameters
        ----------
        dimension : {"2d", "3d"}
            Dimension.
        exclusion_regions : list of `~regions.SkyRegion`, optional
            Regions. Default is none.
        **axes : dict of `~gammapy.maps.MapAxis`
            Axes by name. What is missing or None has a default, see `make_template`.

        Returns
        -------
        bins : `TemplateBins`
            Bins.

        Raises
        ------
        ValueError
            If the dimension, a region, or name, unit or range of an axis is not valid.
        """
        if dimension not in DIMENSIONS:
            raise ValueError(
                f"dimension must be one of {list(DIMENSIONS)}, got {dimension!r}."
            )
        names = DIMENSIONS[dimension].required_axes
        for name, axis in axes.items():
            if axis is not None and name not in names:
                raise ValueError(
                    f"A template with dimension={dimension!r} has the axes {names}, "
                    f"not {name!r}."
                )
        axes = {name: axes.get(name) for name in names}
        bins = cls([_get_axis(*_) for _ in axes.items()], exclusion_regions)
        # of a default axis, which is wide, empty ends are no reason for a warning
        bins.has_default_energy = axes["energy"] is None
        return bins

    @property
    def is_3d(self):
        """Whether the rate depends on the FoV position, not on the offset alone."""
        return len(self.axes) == 3

    @functools.cached_property
    def energy_edges(self):
        """Edges of the energy bins, in TeV. Shape (n_energy + 1,)."""
        return self.axes["energy"].edges.to_value("TeV")

    @functools.cached_property
    def energy_width(self):
        """Widths of the energy bins, in TeV. As a column, (n_energy, 1)."""
        return np.diff(self.energy_edges)[:, np.newaxis]

    @functools.cached_property
    def energy(self):
        """Centres of the energy bins, log in energy, in TeV. Shape (n_energy,)."""
        return self.axes["energy"].center.to_value("TeV")

    @functools.cached_property
    def position_edges(self):
        """Edges of offset, or of longitude and latitude, in deg. List of arrays."""
        return [axis.edges.to_value("deg") for axis in self.axes[1:]]

    @functools.cached_property
    def position(self):
        """Centres of the bins, in deg. Shape (1 or 2, n_position)."""
        return _get_grid([get_center(_) for _ in self.position_edges])

    @functools.cached_property
    def offset(self):
        """Offset of the centres, in deg. Shape (n_position,)."""
        if not self.is_3d:
            return self.position[0]
        return get_offset(from_fov_lon_lat(*self.position))

    @functools.cached_property
    def spread(self):
        """Mean square distance from the centres, in deg2. Shape (n_position,)."""
        widths = [np.diff(_) for _ in self.position_edges]
        return (_get_grid(widths) ** 2).sum(axis=0) / 12

    @property
    def offset_max(self):
        """Offset of the farthest corner, in deg."""
        corner = [np.abs(_).max() for _ in self.position_edges]
        return get_offset(from_fov_lon_lat(*corner)) if self.is_3d else corner[0]

    @functools.cached_property
    def solid_angle(self):
        """Solid angles of the bins, in sr. Shape (n_position,)."""
        return _get_solid_angle(*self.position_edges)

    @functools.cached_property
    def cells(self):
        """Fine cells of the FoV: vectors, bins, and weights.

        Shapes (3, n_cells), (n_cells,) and (1 + n_axes, n_cells). The weights are the
        fraction of the solid angle of the bin, and this times the distance in position
        from the mean of the bin, in deg: their sums in a bin are 1 and 0.
        """
        if self.is_3d:
            edges = []
            for wide in self.position_edges:
                # each bin has a whole number of cells, so that none is in two bins
                n_cells = np.ceil(np.diff(wide) / CELL_SIZE).astype(int)
                parts = map(np.linspace, wide[:-1], wide[1:], n_cells + 1)
                starts = np.concatenate([part[:-1] for part in parts])
                edges.append(np.append(starts, wide[-1]))
            position = _get_grid([get_center(_) for _ in edges])
            vectors = from_fov_lon_lat(*position)
            bins = self.find(vectors)
            fraction = _get_solid_angle(*edges) / self.solid_angle[bins]
        else:
            edges = itertools.pairwise(self.position_edges[0])
            rings = [make_ring(*_)[:, ::RING_STEP] for _ in edges]
            vectors = np.concatenate(rings, axis=1)
            position = get_offset(vectors)[np.newaxis]
            # the points of a ring stand for equal solid angles
            n_points = rings[0].shape[1]
            bins = np.repeat(np.arange(len(rings)), n_points)
            fraction = np.full(len(bins), 1 / n_points)
        mean = [np.bincount(bins, fraction * _)[bins] for _ in position]
        return vectors, bins, np.concatenate([[fraction], fraction * (position - mean)])

    def find(self, vectors):
        """Find the position bins of directions in the FoV, -1 outside. Shape (n,)."""
        position = to_fov_lon_lat(vectors) if self.is_3d else [get_offset(vectors)]
        indices, inside = [], True
        for values, edges in zip(position, self.position_edges, strict=True):
            indices.append(np.searchsorted(edges, values, side="right") - 1)
            inside &= (indices[-1] >= 0) & (indices[-1] < len(edges) - 1)
        shape = [len(edges) - 1 for edges in self.position_edges]
        idx = np.ravel_multi_index(indices, shape, mode="clip")
        return np.where(inside, idx, -1)

    def find_near_exclusions(self, pointing):
        """Find the regions that reach into the FoV of a pointing, a vector."""
        near = self._exclusions.find_near(pointing, self.offset_max)
        return [self._exclusions.exclusions[_] for _ in near]

    def get_covered_mask(self, energy_min, energy_max):
        """Whether energy bins lie in a range, in TeV. Shape (n_energy,)."""
        return is_in_safe_range(self.energy_edges, energy_min, energy_max)

    def slice_energy(self, start, stop):
        """Get the bins with the energy bins from start to before stop."""
        edges = self.energy_edges[start : stop + 1] * u.TeV
        energy_axis = MapAxis.from_energy_edges(edges, name="energy")
        return type(self)([energy_axis, *self.axes[1:]])


def get_center(edges):
    """Centers of bins with these edges."""
    return (edges[:-1] + edges[1:]) / 2


def _get_grid(centers):
    """All combinations, of shape (n_axes, n)."""
    return np.reshape(np.meshgrid(*centers, indexing="ij"), (len(centers), -1))


def _get_solid_angle(*edges):
    """Solid angle, in sr, of rings, or of rectangles in longitude and latitude."""
    if len(edges) == 1:
        return get_ring_area(edges[0][:-1], edges[0][1:])
    lon, lat = map(np.radians, edges)
    return np.multiply.outer(np.diff(lon), np.diff(np.sin(lat))).ravel()


def _get_axis(name, axis):
    """Check an axis, or make the default."""
    unit = "TeV" if name == "energy" else "deg"
    if axis is None:
        bounds, n_bins = DEFAULT_AXES[name]
        interp = "log" if name == "energy" else "lin"
        axis = MapAxis.from_bounds(*bounds, n_bins, interp=interp, name=name, unit=unit)
    if axis.name != name:
        raise ValueError(
            f"The {name} axis must have the name {name!r}, got {axis.name!r}."
        )
    if not axis.unit.is_equivalent(unit):
        raise ValueError(
            f"The {name} axis must have a unit like {unit!r}, got {str(axis.unit)!r}."
        )
    low, high = LIMITS.get(name, (-90, 90))
    edges = axis.edges.to_value(unit)
    if not (edges[0] >= low and edges[-1] <= high):
        raise ValueError(
            f"The {name} axis must lie between {low} and {high} {unit}, "
            f"got {edges[0]:.4g} to {edges[-1]:.4g} {unit}."
        )
    return axis
