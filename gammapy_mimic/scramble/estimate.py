"""Estimate the background in regions from the events outside of them."""

import logging
from typing import NamedTuple

import numpy as np

from ..utils.coordinates import get_ring_area
from .extrapolation import extrapolate_background

__all__ = [
    "Estimate",
    "OutsideEvents",
    "estimate_background",
    "estimate_interval",
    "find_covered_intervals",
    "make_bands",
    "warn_of_wider_annulus",
]

log = logging.getLogger(__name__)

BAND_EVENTS = 50  # events outside that a band of energy needs
COVERED = 0.9  # part of an offset bin from which on little is left outside


class OutsideEvents(NamedTuple):
    """Events outside of the regions, which tell of the background inside of them."""

    idx: np.ndarray
    """Indices among all events. Shape (n,), as all others."""
    offset: np.ndarray
    """Offsets, in deg."""
    energy: np.ndarray
    """Energies."""
    bins: np.ndarray
    """Bins of offset of the coverage."""

    @classmethod
    def create(cls, offset, energy, is_inside, coverage):
        """Create from all events: those outside, up to the last bin of offset.

        Parameters are those of `~gammapy_mimic.scramble.draw.draw_fill`.
        """
        idx = np.nonzero(~is_inside & (offset < coverage.edges[-1]))[0]
        offset = offset[idx]
        return cls(idx, offset, energy[idx], coverage.find_bin(offset))

    def select(self, selected):
        """Select some of them, by their indices."""
        return OutsideEvents(*[values[selected] for values in self])


class Estimate(NamedTuple):
    """Background in the regions, in an interval of offset."""

    outside: OutsideEvents
    """Events outside that stand for events inside. Shape (n,)."""
    weight: np.ndarray
    """Expected events inside at the same offset, for each event outside. Shape (n,)."""
    far_weight: np.ndarray
    """Expected events inside at other offsets, for each event outside. Shape (n,)."""
    bands: np.ndarray
    """Band of energy of each event outside. Shape (n,)."""
    band_edges: np.ndarray
    """Energies between the bands. Shape (n_bands - 1,)."""
    profile: np.ndarray
    """How the events inside at other offsets are distributed in offset. The sum in a
    band is 1, or 0 where there are none. Shape (n_bands, n_bins)."""


def make_bands(energy, edges):
    """Make bands of energy that hold enough events.

    Parameters
    ----------
    energy : `~numpy.ndarray`
        Energies of the events that are measured in the bands. Shape (n,).
    edges : `~numpy.ndarray`
        Edges, in the same unit. Energies below and above are in bands of their own.

    Returns
    -------
    edges : `~numpy.ndarray`
        Edges between bands with `BAND_EVENTS` events or more, empty for one band.
    """
    counts = np.bincount(np.digitize(energy, edges), minlength=len(edges) + 1)
    kept, total, rest = [], 0, counts.sum()
    for edge, number in zip(edges, counts[:-1], strict=True):
        total, rest = total + number, rest - number
        if total >= BAND_EVENTS and rest >= BAND_EVENTS:
            kept.append(edge)
            total = 0
    return np.array(kept)


def find_covered_intervals(coverage):
    """Find the intervals of offset, in deg, that regions cover. Shape (n, 2)."""
    covered = np.concatenate([[0], coverage.fraction > 0, [0]]).astype(int)
    steps = np.diff(covered)
    return np.stack([coverage.edges[steps > 0], coverage.edges[steps < 0]], axis=1)


def estimate_interval(coverage, interval, outside, energy_edges):
    """Estimate the background in the regions, in an interval of offset.

    Parameters
    ----------
    coverage : `~gammapy_mimic.scramble.coverage.Coverage`
        Regions.
    interval : tuple of float
        Lowest and highest offset, in deg.
    outside : `OutsideEvents`
        All events outside of the regions.
    energy_edges : `~numpy.ndarray`
        Bands of energy. Those with few events are merged.

    Returns
    -------
    estimate : `Estimate`
        Background, with those events outside that it is made of.

    Raises
    ------
    ValueError
        If nothing is left outside from which to extrapolate.
    """
    low, high = interval
    fraction = coverage.fraction
    in_interval = (outside.offset > low) & (outside.offset < high)
    energy = outside.energy[np.nonzero(in_interval)[0]]
    band_edges = make_bands(energy, energy_edges)
    weights = np.divide(
        fraction, 1 - fraction, out=np.ones_like(fraction), where=fraction < 1
    ).clip(max=1)

    lower = coverage.edges[:-1].clip(low, high)
    upper = coverage.edges[1:].clip(low, high)
    hidden_area = get_ring_area(lower, upper) * np.maximum(2 * fraction - 1, 0)
    profile = np.zeros((len(band_edges) + 1, len(fraction)))
    far_weight = np.zeros(len(outside.idx))
    if hidden_area.any():
        # what is left of an event outside besides those at its own offset
        weight_max = np.where(upper > lower, 1 - weights, 1) * (weights < 1)
        far_weight, profile = extrapolate_background(
            coverage, hidden_area, weight_max, outside, band_edges
        )
    # indices, as arrays of bool are slow
    used = np.nonzero(in_interval | (far_weight > 0))[0]
    outside = outside.select(used)
    weight = np.where(in_interval[used], weights[outside.bins], 0.0)
    bands = np.digitize(outside.energy, band_edges)
    return Estimate(outside, weight, far_weight[used], bands, band_edges, profile)


def warn_of_wider_annulus(coverage, interval, estimate):
    """Warn if regions leave little of some offsets. See `estimate_interval`."""
    low, high = interval
    in_interval = (coverage.edges[1:] > low) & (coverage.edges[:-1] < high)
    offset = estimate.outside.offset[estimate.far_weight > 0]
    if len(offset) and coverage.fraction[in_interval].max() > COVERED:
        log.warning(
            f"The regions leave less than {1 - COVERED:.0%} of some offsets between "
            f"{low:.2f} and {high:.2f} deg. Measuring the background there in a wider "
            f"annulus, {offset.min():.2f} to {offset.max():.2f} deg."
        )


def estimate_background(offset, energy, is_inside, coverage, energy_edges):
    """Estimate the background events in each region.

    Parameters
    ----------
    offset, energy, is_inside, coverage, energy_edges
        As for `~gammapy_mimic.scramble.draw.draw_fill`.

    Returns
    -------
    expected : `~numpy.ndarray`
        Expected background in each region. Shape (n_regions,).
    error : `~numpy.ndarray`
        Its statistical error. Shape (n_regions,).
    """
    fraction = coverage.fraction
    share = coverage.region_fraction / np.where(fraction > 0, fraction, 1)
    outside = OutsideEvents.create(offset, energy, is_inside, coverage)
    expected, variance = np.zeros((2, len(share)))
    for interval in find_covered_intervals(coverage):
        estimate = estimate_interval(coverage, interval, outside, energy_edges)
        weights = estimate.weight * share[:, estimate.outside.bins]
        weights += estimate.far_weight * (share @ estimate.profile.T)[:, estimate.bands]
        expected += weights.sum(axis=1)
        variance += (weights**2).sum(axis=1)
    return expected, np.sqrt(variance)
