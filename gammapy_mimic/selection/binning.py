"""Bins of energy and offset, and the part of the field of view that is seen."""

import itertools

import astropy.units as u
import numpy as np
from gammapy.maps import MapAxis

from ..exclusion.sky_regions import (
    Exclusions,
    check_regions,
    is_excluded,
)
from ..utils.coordinates import get_offset, local_axes, make_ring, to_vectors

__all__ = ["ENERGY_AXIS", "OFFSET_AXIS", "FoVBinning", "count_in_bins"]

ENERGY_AXIS = MapAxis.from_energy_bounds("0.5 TeV", "50 TeV", nbin=8)
"""Default energy axis: four bins a decade, from where most IACTs are sensitive."""

OFFSET_AXIS = MapAxis.from_bounds(0, 2.5, nbin=6, unit="deg", name="offset")
"""Default offset axis. Bins of equal width, as the counts of an IACT are spread over
them about evenly; the first of six bins of equal solid angle would reach to 1 deg."""


def count_in_bins(energy, offset, energy_edges, offset_edges, is_counted=True):
    """Count events in bins that hold their lower edge. Shape (n_energy, n_offset)."""
    # a histogram of numpy would take the last upper edge into its bin
    shape = len(energy_edges) - 1, len(offset_edges) - 1
    idx = [
        np.searchsorted(edges, values, side="right") - 1
        for edges, values in ((energy_edges, energy), (offset_edges, offset))
    ]
    valid = [(_ >= 0) & (_ < n) for _, n in zip(idx, shape, strict=True)]
    is_counted = valid[0] & valid[1] & is_counted
    idx = np.ravel_multi_index([_[is_counted] for _ in idx], shape)
    return np.bincount(idx, minlength=np.prod(shape)).reshape(shape)


class FoVBinning:
    """Bins of energy and offset, and regions whose events are not counted.

    A region is the same part of the sky for every pointing. Circles and annuli are
    those of the sphere, the edges of polygons are great circles, and other shapes are
    drawn in an equidistant projection around their centre.

    Parameters
    ----------
    energy_edges, offset_edges : `~numpy.ndarray`
        Edges of the bins, in TeV and in deg.
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Regions. Default is none.

    Raises
    ------
    TypeError, ValueError
        If a region is not valid.
    """

    def __init__(self, energy_edges, offset_edges, exclusion_regions=()):
        self.energy_edges = energy_edges
        self.offset_edges = offset_edges
        self.exclusion_regions = check_regions(exclusion_regions)
        self._exclusions = Exclusions(self.exclusion_regions)

    @classmethod
    def create(cls, energy_axis=None, offset_axis=None, exclusion_regions=()):
        """Create a binning from axes.

        Parameters
        ----------
        energy_axis : `~gammapy.maps.MapAxis`, optional
            Axis of the name "energy". Default is `ENERGY_AXIS`.
        offset_axis : `~gammapy.maps.MapAxis`, optional
            Axis of the name "offset". Default is `OFFSET_AXIS`.
        exclusion_regions : list of `~regions.SkyRegion`, optional
            Regions. Default is none.

        Returns
        -------
        binning : `FoVBinning`
            Binning.

        Raises
        ------
        TypeError, ValueError
            If an axis has the wrong name, unit or order, or a region is not valid.
        """
        energy_axis = ENERGY_AXIS if energy_axis is None else energy_axis
        offset_axis = OFFSET_AXIS if offset_axis is None else offset_axis
        return cls(
            _get_edges(energy_axis, "energy", "TeV"),
            _get_edges(offset_axis, "offset", "deg"),
            exclusion_regions,
        )

    @property
    def energy_axis(self):
        """Energy axis in TeV (`~gammapy.maps.MapAxis`)."""
        return MapAxis.from_energy_edges(self.energy_edges * u.TeV)

    @property
    def offset_axis(self):
        """Offset axis in deg (`~gammapy.maps.MapAxis`)."""
        return MapAxis.from_edges(self.offset_edges, unit="deg", name="offset")

    @property
    def energy_centers(self):
        """Centres of the energy bins in TeV, in the logarithm of energy."""
        return np.sqrt(self.energy_edges[:-1] * self.energy_edges[1:])

    @property
    def shape(self):
        """Numbers of bins in energy and in offset."""
        return len(self.energy_edges) - 1, len(self.offset_edges) - 1

    def count(self, ra, dec, energy, pointing, halves):
        """Count events, and find how much of each ring around the pointing is seen.

        Parameters
        ----------
        ra, dec : `~numpy.ndarray`
            Event positions (ICRS), in deg. Shape (n,).
        energy : `~numpy.ndarray`
            Energies, in TeV. Shape (n,).
        pointing : tuple of float
            RA and Dec of the pointing, in deg.
        halves : `~numpy.ndarray` of int
            Half that each event is in, 0 or 1. Shape (n,).

        Returns
        -------
        counts, half_counts : `~numpy.ndarray` of int
            Events outside all regions, all and those of half 0. Shape
            (n_energy, n_offset).
        fraction : `~numpy.ndarray` of float
            Part of the solid angle of each ring that is outside all regions. Shape
            (n_offset,).
        """
        frame = local_axes(*pointing)
        near = self._exclusions.find_near(frame[2], self.offset_edges[-1])
        # regions are turned into the field of view, where the points of a ring stay
        exclusions = [self._exclusions.exclusions[_].turn(frame) for _ in near]
        vectors = frame @ to_vectors(ra, dec)
        offset = get_offset(vectors)
        if exclusions:
            # events farther out are not counted, and need no test
            keep = offset < self.offset_edges[-1]
            keep[keep] = ~is_excluded(vectors[:, keep], exclusions)
            energy, offset, halves = energy[keep], offset[keep], halves[keep]
        args = energy, offset, self.energy_edges, self.offset_edges
        counts, half_counts = count_in_bins(*args), count_in_bins(*args, halves == 0)
        fraction = np.ones(self.shape[1])
        if exclusions:
            for idx, edges in enumerate(itertools.pairwise(self.offset_edges)):
                fraction[idx] -= is_excluded(make_ring(*edges), exclusions).mean()
        return counts, half_counts, fraction


def _get_edges(axis, name, unit):
    if not isinstance(axis, MapAxis):
        raise TypeError(f"{name}_axis must be a MapAxis, got {axis!r}")
    if axis.name != name:
        raise ValueError(f"{name}_axis must have the name {name!r}, got {axis.name!r}")
    try:
        edges = axis.edges.to_value(unit)
    except u.UnitConversionError:
        raise ValueError(
            f"{name}_axis must have a unit like {unit}, got '{axis.unit}'"
        ) from None
    if np.any(np.diff(edges) <= 0) or edges[0] < 0:
        raise ValueError(
            f"{name}_axis must have rising edges that are not negative, "
            f"got {edges} {unit}"
        )
    if name == "offset" and edges[-1] > 90:
        raise ValueError(f"offset_axis must end below 90 deg, got {edges[-1]} deg")
    return edges
