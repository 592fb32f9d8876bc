"""Estimate the background in regions from the events outside of them."""

import logging
from typing import NamedTuple

import numpy as np

from ..utils.coordinates import get_ring_area
from .borrow import borrow

__all__ = [
    "Donors",
    "Estimate",
    "estimate_background",
    "estimate_interval",
    "find_covered_intervals",
    "make_bands",
    "warn_of_wider_annulus",
]

log = logging.getLogger(__name__)

BAND_EVENTS = 50  # events outside that a band of energy needs
COVERED = 0.9  # part of an offset bin from which on little is left outside


class Donors(NamedTuple):
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
    def find(cls, offset, energy, is_inside, coverage):
        """Find the events outside of the regions, up to the last bin of offset.

        Parameters are those of `~gammapy_mimic.scramble.draw.draw_fill`.
        """
        idx = np.nonzero(~is_inside & (offset < coverage.edges[-1]))[0]
        offset = offset[idx]
        return cls(idx, offset, energy[idx], coverage.find_bin(offset))

    def select(self, selected):
        """Select some of them, by their indices."""
        return Donors(*[values[selected] for values in self])


class Estimate(NamedTuple):
    """Background in the regions, in an interval of offset."""

    donors: Donors
    """Events outside that stand for events inside. Shape (n,)."""
    own: np.ndarray
    """Expected events inside at the same offset, for each donor. Shape (n,)."""
    borrowed: np.ndarray
    """Expected events inside at other offsets, for each donor. Shape (n,)."""
    bands: np.ndarray
    """Band of energy of each donor. Shape (n,)."""
    band_edges: np.ndarray
    """Energies between the bands. Shape (n_bands - 1,)."""
    missing: np.ndarray
    """How what is borrowed is distributed in offset. The sum in a band is 1, or 0
    where nothing is. Shape (n_bands, n_bins)."""


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


def estimate_interval(coverage, interval, donors, energy_edges):
    """Estimate the background in the regions, in an interval of offset.

    Parameters
    ----------
    coverage : `~gammapy_mimic.scramble.coverage.Coverage`
        Regions.
    interval : tuple of float
        Lowest and highest offset, in deg.
    donors : `Donors`
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
        If nothing is left outside from which to borrow.
    """
    low, high = interval
    fraction = coverage.fraction
    in_interval = (donors.offset > low) & (donors.offset < high)
    energy = donors.energy[np.nonzero(in_interval)[0]]
    band_edges = make_bands(energy, energy_edges)
    part = np.divide(
        fraction, 1 - fraction, out=np.ones_like(fraction), where=fraction < 1
    ).clip(max=1)

    lower, upper = (
        coverage.edges[:-1].clip(low, high),
        coverage.edges[1:].clip(low, high),
    )
    area = get_ring_area(lower, upper) * np.maximum(2 * fraction - 1, 0)
    missing = np.zeros((len(band_edges) + 1, len(fraction)))
    borrowed = np.zeros(len(donors.idx))
    if area.any():
        # what is left of an event outside after it stood for events at its own offset
        capacity = np.where(upper > lower, 1 - part, 1) * (part < 1)
        borrowed, missing = borrow(coverage, area, capacity, donors, band_edges)
    # indices, as arrays of bool are slow
    used = np.nonzero(in_interval | (borrowed > 0))[0]
    donors = donors.select(used)
    own = np.where(in_interval[used], part[donors.bins], 0.0)
    bands = np.digitize(donors.energy, band_edges)
    return Estimate(donors, own, borrowed[used], bands, band_edges, missing)


def warn_of_wider_annulus(coverage, interval, estimate):
    """Warn if regions leave little of some offsets. See `estimate_interval`."""
    low, high = interval
    in_interval = (coverage.edges[1:] > low) & (coverage.edges[:-1] < high)
    offset = estimate.donors.offset[estimate.borrowed > 0]
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
    donors = Donors.find(offset, energy, is_inside, coverage)
    expected, variance = np.zeros((2, len(share)))
    for interval in find_covered_intervals(coverage):
        estimate = estimate_interval(coverage, interval, donors, energy_edges)
        weights = estimate.own * share[:, estimate.donors.bins]
        weights += estimate.borrowed * (share @ estimate.missing.T)[:, estimate.bands]
        expected += weights.sum(axis=1)
        variance += (weights**2).sum(axis=1)
    return expected, np.sqrt(variance)
