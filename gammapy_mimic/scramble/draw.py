"""Draw new positions of events, that hold no trace of the regions."""

import numpy as np

from .annuli import is_in_annulus, merge_intervals
from .coverage import draw_in_ring
from .estimate import (
    OutsideEvents,
    estimate_interval,
    find_covered_intervals,
    warn_of_wider_annulus,
)
from .gradient import tilt_coverage

__all__ = ["draw_annulus", "draw_azimuth", "draw_fill"]

PLACE_TRIES = 20


def draw_azimuth(size, rng):
    """Draw azimuths, in rad. Shape (size,)."""
    return rng.uniform(-np.pi, np.pi, size)


def draw_annulus(offset, energy, is_inside, annuli, coverage, energy_edges, rng):
    """Give the events of annuli new positions that hold no trace of the regions.

    Parameters
    ----------
    offset, energy : `~numpy.ndarray`
        Offsets, in deg, and energies. Shape (n,).
    is_inside : `~numpy.ndarray` of bool
        Whether events are inside any region. Shape (n,).
    annuli : list of tuple of float
        Mean radius and half width of each annulus, in deg. Those that overlap are
        made one.
    coverage : `Coverage`
        Regions. The acceptance is measured outside of them.
    energy_edges : `~numpy.ndarray`
        Bands of energy, in the unit of ``energy``, in which the acceptance is measured.
        Those with few events are merged.
    rng : `~numpy.random.Generator`
        Random generator.

    Returns
    -------
    idx : `~numpy.ndarray` of int
        Indices of the events that get a new position. Shape (m,).
    offset, azimuth : `~numpy.ndarray`
        New offsets, in deg, and azimuths, in rad. Shape (m,).

    Raises
    ------
    ValueError
        If there is no event outside the regions to measure the acceptance.
    """
    selected = np.zeros(len(offset), dtype=bool)
    for annulus in annuli:
        selected |= is_in_annulus(offset, *annulus)
    idx = np.nonzero(selected)[0]
    old_offset, old_energy = offset[idx], energy[idx]
    new_offset = old_offset.copy()
    outside = OutsideEvents.create(offset, energy, is_inside, coverage)
    ranges = [(max(mean - width, 0), mean + width) for mean, width in annuli]
    for low, high in merge_intervals(ranges):
        # edges that are not rounded to others than those of the selection
        inside = (old_offset >= low - 1e-9) & (old_offset <= high + 1e-9)
        if inside.any():
            parts = old_energy[inside], outside, (low, high)
            new_offset[inside] = _draw_offsets(*parts, coverage, energy_edges, rng)
    return idx, new_offset, draw_azimuth(len(idx), rng)


def _draw_offsets(energy, outside, interval, coverage, energy_edges, rng):
    """Draw offsets of events from the acceptance in an interval, by bands of energy."""
    estimate = estimate_interval(coverage, interval, outside, energy_edges)
    warn_of_wider_annulus(coverage, interval, estimate)
    low, high = interval
    outside, shape = estimate.outside, estimate.profile.shape
    in_interval = (outside.offset > low) & (outside.offset < high)
    density = np.bincount(
        np.ravel_multi_index((estimate.bands, outside.bins), shape),
        weights=in_interval + estimate.weight,
        minlength=np.prod(shape),
    ).reshape(shape)
    far = np.bincount(estimate.bands, estimate.far_weight, minlength=shape[0])
    density += far[:, np.newaxis] * estimate.profile

    bands = np.digitize(energy, estimate.band_edges)
    if not density.sum(axis=1)[np.unique(bands)].all():
        raise ValueError(
            f"The regions hold all events between {low:.2f} and {high:.2f} deg, "
            "nothing is left to measure the acceptance. Use smaller or fewer regions, "
            "or a larger width."
        )
    bins = _draw_bins(density, bands, rng)
    lower = coverage.edges[bins].clip(*interval)
    upper = coverage.edges[bins + 1].clip(*interval)
    return draw_in_ring(lower, upper, rng)


def _draw_bins(density, bands, rng):
    """Draw a bin from the density of shape (n_bands, n_bins), for events of bands."""
    n_bands, n_bins = density.shape
    cumulative = np.cumsum(density, axis=1)
    total = cumulative[:, -1:]
    # those of the bands one after the other, to search in all of them at once
    cumulative /= np.where(total > 0, total, 1)
    cumulative += np.arange(n_bands)[:, np.newaxis]
    draw = bands + rng.uniform(size=len(bands))
    bins = np.searchsorted(cumulative.ravel(), draw, side="right") - bands * n_bins
    return bins.clip(0, n_bins - 1)


def draw_fill(offset, energy, is_inside, coverage, energy_edges, rng, vectors=None):
    """Draw events that replace those inside of the regions.

    Parameters
    ----------
    offset, energy : `~numpy.ndarray`
        Offsets, in deg, and energies. Shape (n,).
    is_inside : `~numpy.ndarray` of bool
        Whether events are inside any region. Shape (n,).
    coverage : `Coverage`
        Regions.
    energy_edges : `~numpy.ndarray`
        Bands of energy, in the unit of ``energy``, in which the offsets of what is
        extrapolated are drawn. Those with few events are merged.
    rng : `~numpy.random.Generator`
        Random generator.
    vectors : `~numpy.ndarray`, optional
        Directions of the events, in the frame of the FoV. With them, the copies follow
        a gradient that is significant. Shape (3, n).

    Returns
    -------
    idx : `~numpy.ndarray` of int
        Indices of the events outside that are copied. Shape (m,).
    offset, azimuth : `~numpy.ndarray`
        Offsets, in deg, and azimuths, in rad, of the copies, inside of the regions.
        Shape (m,).

    Raises
    ------
    ValueError
        If there is no event outside the regions to measure the acceptance.
    """
    outside = OutsideEvents.create(offset, energy, is_inside, coverage)
    if is_inside.any() and is_inside.all():
        raise ValueError(
            f"All {len(offset)} events are inside the regions, nothing is left to "
            "measure the background. Use smaller or fewer regions."
        )
    if vectors is not None:
        coverage = tilt_coverage(coverage, outside, vectors)
    none = np.empty(0, dtype=int)
    results = [(none, np.empty(0), none)]
    for interval in find_covered_intervals(coverage):
        estimate = estimate_interval(coverage, interval, outside, energy_edges)
        warn_of_wider_annulus(coverage, interval, estimate)
        weight = estimate.weight + estimate.far_weight
        number = np.floor(weight + rng.uniform(size=len(weight))).astype(int)
        copied = np.repeat(np.arange(len(weight)), number)
        bins = estimate.outside.bins[copied]
        new_offset = estimate.outside.offset[copied]
        draw = rng.uniform(size=len(copied)) * weight[copied]
        far = np.nonzero(draw >= estimate.weight[copied])[0]
        bins[far] = _draw_bins(estimate.profile, estimate.bands[copied[far]], rng)
        lower, upper = coverage.edges[bins[far]], coverage.edges[bins[far] + 1]
        new_offset[far] = draw_in_ring(lower, upper, rng)
        results.append((estimate.outside.idx[copied], new_offset, bins))
    idx, new_offset, bins = map(np.concatenate, zip(*results, strict=True))
    return idx, *_place(new_offset, bins, coverage, rng)


def _place(offset, bins, coverage, rng):
    """Draw azimuths so that events are inside of the regions, at their offsets.

    Where no azimuth is found, as in the tip of a region, the position is that of a
    point in the same bin of offset.
    """
    offset, azimuth = offset.copy(), np.empty(len(offset))
    todo = np.arange(len(offset))
    cumulative = np.concatenate([[0], np.cumsum(coverage.density)])
    starts = cumulative[coverage.starts]
    sums = np.diff(starts)
    for trial in range(PLACE_TRIES + 1):
        if not len(todo):
            break
        draw = starts[bins[todo]] + rng.uniform(size=len(todo)) * sums[bins[todo]]
        idx = np.searchsorted(cumulative, draw, side="right") - 1
        point_offset, azimuth[todo] = coverage.points[:, idx]
        if trial == PLACE_TRIES:
            offset[todo] = point_offset
            break
        # points are about as far apart as bins are wide
        spread = coverage.edges[1] / np.maximum(offset[todo], 1e-6)
        azimuth[todo] += rng.uniform(-0.5, 0.5, len(todo)) * np.minimum(spread, np.pi)
        todo = todo[~coverage.is_inside(offset[todo], azimuth[todo])]
    return offset, azimuth
