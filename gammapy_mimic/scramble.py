r"""Hide sources in the background around them. Arrays only.

All positions are those of the field of view (FoV): the offset from the camera centre,
and the azimuth around it, that is the position angle from north to east.

The background that a region hides is estimated from events outside all regions. At
an offset of which the regions cover a part c, every event outside stands for
:math:`c / (1 - c)` events inside. `draw_fill` copies each with this probability. A
Poisson process of which each event is kept with a probability is again a Poisson
process, so that the copies have the expectation and the variance of a field without
source, jointly in offset and energy, whatever the number of events is. (A Poisson
number with the measured expectation would have a larger variance, by 56% for a region
of 0.3 deg at an offset of 0.2 deg.)

Where the regions cover more than half, an event outside is not asked to stand for more
than one inside. The rest is borrowed from other offsets, corrected for solid angle and
for an acceptance that goes locally as :math:`\exp(b r^2)`, with b from the events
outside in the same band of energy.
"""

import logging
from typing import NamedTuple

import numpy as np

from .binning import make_ring
from .sky_regions import find_excluded, get_offset

__all__ = [
    "Coverage",
    "draw_annulus",
    "draw_azimuth",
    "draw_fill",
    "estimate_background",
    "find_annulus",
    "get_azimuth",
    "get_fov_radius",
    "make_bands",
    "measure_coverage",
    "merge_intervals",
    "to_fov_vectors",
    "turn_fov_columns",
]

log = logging.getLogger(__name__)

BINS_PER_REGION = 40  # bins of offset in the diameter of the smallest region
BIN_WIDTH = 0.002, 0.02  # deg
WINDOW_STEP = 0.1  # deg, by which the offsets to borrow from grow
WINDOW_MARGIN = 0.7  # deg, beyond the window, where the slope of the acceptance is fit
BORROWED_MAX = 0.5  # events that are borrowed from an event outside, on average
BAND_EVENTS = 50  # events outside that a band of energy needs
COVERED = 0.9  # part of an offset bin from which on little is left outside
SLOPE_MAX = 20.0  # deg-2

OFFSET_QUANTILE, OFFSET_FACTOR = 0.99, 1.5
ORIENTATION_OFFSET = 0.1  # deg, from which on rounding does not matter
ORIENTATION_CONCENTRATION = 0.9


class Coverage(NamedTuple):
    """Part of the field of view that is covered by regions, in fine bins of offset."""

    edges: np.ndarray
    """Edges of the bins, in deg. Shape (n_bins + 1,)."""
    fraction: np.ndarray
    """Part of the solid angle that is covered by any region. Shape (n_bins,)."""
    region_fraction: np.ndarray
    """Part that is covered by each region. Shape (n_regions, n_bins)."""
    points: np.ndarray
    """Offset (deg) and azimuth (rad) of points that fill the regions. Shape (2, n)."""
    starts: np.ndarray
    """Index of the first point of each bin, in which they are sorted. Shape of edges.
    """
    exclusions: tuple
    """Regions (`~gammapy_mimic.sky_regions.Exclusion`) in the frame of the FoV."""

    def find_bin(self, offset):
        """Find the bins of offsets, in deg; those beyond the last are in the last."""
        # the bins have equal width
        idx = (np.asarray(offset) / self.edges[1]).astype(int)
        return idx.clip(0, len(self.fraction) - 1)

    def is_inside(self, offset, azimuth):
        """Whether positions are inside any region."""
        return find_excluded(to_fov_vectors(offset, azimuth), self.exclusions)


def to_fov_vectors(offset, azimuth):
    """Make unit vectors in the FoV, for offsets in deg and azimuths in rad."""
    offset = np.radians(offset)
    sin = np.sin(offset)
    return np.array([sin * np.sin(azimuth), sin * np.cos(azimuth), np.cos(offset)])


def get_azimuth(vectors):
    """Azimuth of vectors of the FoV from north to east, in rad. Shape (n,)."""
    return np.arctan2(vectors[0], vectors[1])


def get_fov_radius(offset):
    """Radius of the field of view, in deg, from the offsets of its events.

    The largest offset would not do: H.E.S.S. DR1 has a few events at 20 to 60 deg.
    """
    return float(
        min(np.quantile(offset, OFFSET_QUANTILE) * OFFSET_FACTOR, np.max(offset))
    )


def find_annulus(offset, mean, width):
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


def measure_coverage(exclusions, fov_radius):
    """Measure which part of each offset is covered by regions.

    Each region is filled with points of equal solid angle, so that small regions are
    measured as well as large ones.

    Parameters
    ----------
    exclusions : list of `~gammapy_mimic.sky_regions.Exclusion`
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
    total = _solid_angle(edges[:-1], edges[1:])

    union, per_region, points, point_bins = np.zeros(n_bins), [], [], []
    for idx, exclusion in enumerate(exclusions):
        radius = np.degrees(exclusion.radius)
        vectors = exclusion.axes.T @ make_ring(0.0, float(radius))
        weight = _solid_angle(0, radius) / vectors.shape[1]
        vectors = vectors[:, find_excluded(vectors, [exclusion])]
        offset = get_offset(vectors)
        vectors, offset = vectors[:, offset < fov_radius], offset[offset < fov_radius]
        bins = np.searchsorted(edges, offset, side="right") - 1
        counts = np.bincount(bins, minlength=n_bins)
        per_region.append(np.minimum(counts * weight / total, 1))
        # what an earlier region covers as well is counted once
        new = ~find_excluded(vectors, exclusions[:idx])
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
    )


def _solid_angle(low, high):
    """Solid angle of rings, in deg2 for small offsets."""
    return 2 * (np.cos(np.radians(low)) - np.cos(np.radians(high))) * np.degrees(180.0)


def _draw_in_ring(low, high, rng):
    """Draw offsets that are uniform in solid angle, in deg."""
    cos = rng.uniform(np.cos(np.radians(high)), np.cos(np.radians(low)))
    offset = np.degrees(np.arccos(cos.clip(-1, 1)))
    # rounding must not move an event over the edge of an annulus
    return offset.clip(np.nextafter(low, 180), np.nextafter(high, 0))


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
    for edge, number in zip(edges, counts, strict=False):
        total, rest = total + number, rest - number
        if total >= BAND_EVENTS and rest >= BAND_EVENTS:
            kept.append(edge)
            total = 0
    return np.array(kept)


class _Estimate(NamedTuple):
    """What the events outside of the regions tell of the background inside of them."""

    own: np.ndarray
    """Expected events inside at the same offset, for each event. Shape (n,)."""
    borrowed: np.ndarray
    """Expected events inside at other offsets, for each event. Shape (n,)."""
    bands: np.ndarray
    """Band of energy of each event. Shape (n,)."""
    missing: np.ndarray
    """Relative expectation in the bins that borrow. Shape (n_bands, n_bins)."""


def _estimate(coverage, interval, offset, bands):
    """Estimate the background in the regions, in an interval of offset.

    ``offset`` and ``bands`` are those of all events outside. Shape (n,).
    """
    low, high = interval
    edges, fraction = coverage.edges, coverage.fraction
    lower, upper = edges[:-1].clip(low, high), edges[1:].clip(low, high)
    part = np.divide(
        fraction, 1 - fraction, out=np.ones_like(fraction), where=fraction < 1
    ).clip(max=1)
    in_interval = (offset > low) & (offset < high) & (offset < edges[-1])
    bins = coverage.find_bin(offset)
    own = np.where(in_interval, part[bins], 0.0)

    area = _solid_angle(lower, upper) * np.maximum(2 * fraction - 1, 0)
    missing = np.zeros((bands.max(initial=0) + 1, len(fraction)))
    borrowed = np.zeros(len(offset))
    if not area.any():
        return _Estimate(own, borrowed, bands, missing)

    x_bins = ((edges[:-1] + edges[1:]) / 2) ** 2
    free = _solid_angle(edges[:-1], edges[1:]) * (1 - fraction)
    # what is left of an event outside, after it stood for events at its own offset
    capacity = np.where(upper > lower, 1 - part, 1) * (part < 1)
    room = free * capacity
    window = _find_window(edges, area, room)
    x_mean = np.average(x_bins, weights=area)
    in_window = (offset < edges[-1]) & window[bins]
    fit_window = _widen(edges, window, WINDOW_MARGIN)
    in_fit = (offset < edges[-1]) & fit_window[bins]
    common = _fit_slope(x_bins[fit_window], free[fit_window], offset[in_fit] ** 2)
    for band in range(len(missing)):
        in_band = bands == band
        slope = common
        if np.sum(in_band & in_fit) >= BAND_EVENTS:
            x = offset[in_band & in_fit] ** 2
            slope = _fit_slope(x_bins[fit_window], free[fit_window], x, common)
        missing[band] = area * np.exp(slope * (x_bins - x_mean))
        donors = in_band & in_window
        scale = missing[band].sum() / room[window].sum()
        borrowed[donors] = scale * capacity[bins[donors]]
        borrowed[donors] *= np.exp(slope * (x_mean - offset[donors] ** 2))
    if np.any(fraction[area > 0] > COVERED):
        log.warning(
            f"The regions leave less than {1 - COVERED:.0%} of some offsets between "
            f"{low:.2f} and {high:.2f} deg. Measuring the background there in a wider "
            f"annulus, {edges[:-1][window][0]:.2f} to {edges[1:][window][-1]:.2f} deg."
        )
    return _Estimate(own, borrowed, bands, missing)


def _find_window(edges, area, room):
    """Find the bins around those that borrow with enough room to borrow from."""
    window = area > 0
    for margin in np.arange(WINDOW_STEP, edges[-1] + WINDOW_STEP, WINDOW_STEP):
        window = _widen(edges, area > 0, margin)
        if BORROWED_MAX * room[window].sum() >= area.sum():
            return window
    if not room[window].any():
        raise ValueError(
            f"The regions cover all offsets up to {edges[-1]:.2f} deg, nothing is left "
            "to measure the background. Use smaller or fewer regions."
        )
    return window


def _widen(edges, selected, margin):
    """Select all bins within a margin of the selected ones."""
    low, high = edges[:-1][selected][0], edges[1:][selected][-1]
    return (edges[1:] > low - margin) & (edges[:-1] < high + margin)


def _fit_slope(x_bins, area, x, prior=0.0):
    """Fit b of a density exp(b x) per solid angle, by its likelihood."""
    if len(x) < 2 or not area.any():
        return prior
    mean, slope = np.mean(x), prior
    for _ in range(30):
        exponent = slope * x_bins
        weights = area * np.exp(exponent - exponent.max())
        expected = np.average(x_bins, weights=weights)
        variance = np.average((x_bins - expected) ** 2, weights=weights)
        if not variance > 0:
            return prior
        step = (mean - expected) / variance
        slope = float(np.clip(slope + np.clip(step, -2, 2), -SLOPE_MAX, SLOPE_MAX))
        if abs(step) < 1e-6:
            break
    return slope


def _draw_missing(estimate, coverage, donors, interval, rng):
    """Draw bins for what is borrowed from events, and offsets in them."""
    cumulative = np.cumsum(estimate.missing, axis=1)
    bands = estimate.bands[donors]
    draw = rng.uniform(size=len(donors)) * cumulative[bands, -1]
    bins = np.empty(len(donors), dtype=int)
    for band in np.unique(bands):
        in_band = bands == band
        idx = np.searchsorted(cumulative[band], draw[in_band], side="right")
        bins[in_band] = idx.clip(max=coverage.fraction.size - 1)
    return bins, _draw_in_bins(coverage, bins, interval, rng)


def _draw_in_bins(coverage, bins, interval, rng):
    low = coverage.edges[bins].clip(*interval)
    high = coverage.edges[bins + 1].clip(*interval)
    return _draw_in_ring(low, high, rng)


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
        selected |= find_annulus(offset, *annulus)
    new_offset = offset.copy()
    outside = ~is_inside
    ranges = [(max(mean - width, 0), mean + width) for mean, width in annuli]
    for interval in merge_intervals(ranges):
        # edges that are not rounded to others than those of the selection
        events = np.nonzero(selected & (offset >= interval[0] - 1e-9))[0]
        events = events[offset[events] <= interval[1] + 1e-9]
        if len(events):
            parts = offset, energy, outside, events, interval
            new_offset[events] = _draw_offsets(*parts, coverage, energy_edges, rng)
    idx = np.nonzero(selected)[0]
    return idx, new_offset[idx], draw_azimuth(len(idx), rng)


def _draw_offsets(
    offset, energy, outside, events, interval, coverage, energy_edges, rng
):
    """Draw offsets of events from the acceptance in an interval, by bands of energy."""
    local = events[outside[events] & (offset[events] < coverage.edges[-1])]
    energy_edges = make_bands(energy[local], energy_edges)
    donors = np.nonzero(outside)[0]
    bands = np.digitize(energy[donors], energy_edges)
    estimate = _estimate(coverage, interval, offset[donors], bands)
    is_local = np.zeros(len(offset), dtype=bool)
    is_local[local] = True
    # most events are not near the annulus
    used = is_local[donors] | (estimate.borrowed > 0)
    donors, bands = donors[used], bands[used]
    estimate = estimate._replace(
        own=estimate.own[used], borrowed=estimate.borrowed[used], bands=bands
    )

    result = np.empty(len(events))
    event_bands = np.digitize(energy[events], energy_edges)
    for band in np.unique(event_bands):
        idx = np.nonzero(event_bands == band)[0]
        weights = np.where(is_local[donors], 1 + estimate.own, 0) * (bands == band)
        borrowed = estimate.borrowed * (bands == band)
        cumulative = np.cumsum(np.concatenate([weights, borrowed]))
        if not cumulative[-1] > 0:
            raise ValueError(
                f"The regions hold all events between {interval[0]:.2f} and "
                f"{interval[1]:.2f} deg, nothing is left to measure the acceptance. "
                "Use smaller or fewer regions, or a larger width."
            )
        draw = rng.uniform(size=len(idx)) * cumulative[-1]
        chosen = np.searchsorted(cumulative, draw, side="right")
        chosen = chosen.clip(max=len(cumulative) - 1)
        is_own = chosen < len(donors)
        own = idx[is_own]
        bins = coverage.find_bin(offset[donors[chosen[is_own]]])
        result[own] = _draw_in_bins(coverage, bins, interval, rng)
        others = chosen[~is_own] - len(donors)
        result[idx[~is_own]] = _draw_missing(estimate, coverage, others, interval, rng)[
            1
        ]
    return result


def draw_fill(offset, energy, is_inside, coverage, energy_edges, rng):
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
        Bands of energy, in the unit of ``energy``, for what is borrowed from other
        offsets. Those with few events are merged.
    rng : `~numpy.random.Generator`
        Random generator.

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
    outside = np.nonzero(~is_inside)[0]
    results = [(np.empty(0, dtype=int), *np.empty((2, 0)))]
    parts = offset, energy, is_inside, coverage, energy_edges
    for interval, estimate in _estimate_all(*parts):
        copies = []
        total = estimate.own + estimate.borrowed
        number = np.floor(total + rng.uniform(size=len(total))).astype(int)
        donors = np.repeat(np.arange(len(total)), number)
        is_own = rng.uniform(size=len(donors)) * total[donors] < estimate.own[donors]
        own, others = donors[is_own], donors[~is_own]
        own_offset = offset[outside[own]]
        bins = coverage.find_bin(own_offset)
        copies.append((outside[own], own_offset, bins))
        bins, other_offset = _draw_missing(estimate, coverage, others, interval, rng)
        copies.append((outside[others], other_offset, bins))
        idx, new_offset, bins = map(np.concatenate, zip(*copies, strict=True))
        results.append((idx, *_place(new_offset, bins, coverage, rng)))
    return tuple(map(np.concatenate, zip(*results, strict=True)))


def _estimate_all(offset, energy, is_inside, coverage, energy_edges):
    """Estimate the background, in each interval of offsets that regions cover."""
    outside = ~is_inside
    covered = np.concatenate([[0], coverage.fraction > 0, [0]]).astype(int)
    steps = np.diff(covered)
    edges = coverage.edges
    intervals = zip(edges[steps > 0], edges[steps < 0], strict=True)
    for interval in intervals:
        local = outside & (offset > interval[0]) & (offset < interval[1])
        band_edges = make_bands(energy[local], energy_edges)
        bands = np.digitize(energy[outside], band_edges)
        in_interval = (offset >= interval[0]) & (offset < interval[1])
        if np.any(in_interval & is_inside) and not np.any(outside):
            raise ValueError(
                f"All {len(offset)} events are inside the regions, nothing is left to "
                "measure the background. Use smaller or fewer regions."
            )
        yield interval, _estimate(coverage, interval, offset[outside], bands)


def _place(offset, bins, coverage, rng, n_tries=20):
    """Draw azimuths so that events are inside of the regions, at their offsets.

    Where no azimuth is found, as in the tip of a region, the position is that of a
    point in the same bin of offset.
    """
    offset, azimuth = offset.copy(), np.empty(len(offset))
    todo = np.arange(len(offset))
    size = coverage.starts[1:] - coverage.starts[:-1]
    for trial in range(n_tries + 1):
        if not len(todo):
            break
        idx = coverage.starts[bins[todo]] + np.floor(
            rng.uniform(size=len(todo)) * size[bins[todo]]
        ).astype(int)
        point_offset, azimuth[todo] = coverage.points[:, idx]
        if trial == n_tries:
            offset[todo] = point_offset
            break
        # points are about as far apart as bins are wide
        spread = np.diff(coverage.edges)[0] / np.maximum(offset[todo], 1e-6)
        azimuth[todo] += rng.uniform(-0.5, 0.5, len(todo)) * np.minimum(spread, np.pi)
        todo = todo[~coverage.is_inside(offset[todo], azimuth[todo])]
    return offset, azimuth


def estimate_background(offset, energy, is_inside, coverage, energy_edges):
    """Estimate the background events in each region.

    Parameters
    ----------
    offset, energy, is_inside, coverage, energy_edges
        As for `draw_fill`.

    Returns
    -------
    expected : `~numpy.ndarray`
        Expected background in each region. Shape (n_regions,).
    error : `~numpy.ndarray`
        Its statistical error. Shape (n_regions,).
    """
    fraction = coverage.fraction
    share = coverage.region_fraction / np.where(fraction > 0, fraction, 1)
    bins = coverage.find_bin(offset[~is_inside])
    expected, variance = np.zeros((2, len(share)))
    estimates = _estimate_all(offset, energy, is_inside, coverage, energy_edges)
    for _, estimate in estimates:
        total = estimate.missing.sum(axis=1, keepdims=True)
        missing = estimate.missing / np.where(total > 0, total, 1)
        weights = estimate.own * share[:, bins]
        weights += estimate.borrowed * (share @ missing.T)[:, estimate.bands]
        expected += weights.sum(axis=1)
        variance += (weights**2).sum(axis=1)
    return expected, np.sqrt(variance)


def turn_fov_columns(x, y, old, new, donors=None, seconds=None, new_seconds=None):
    """Turn coordinates of a frame that is fixed in the FoV or in the camera.

    The orientation of the frame, which may turn with time, and whether it is a mirror
    image (GADF's DETX has the opposite sign of ``fov_lon``) are found from the events.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Coordinates of the events, of any unit. Shape (n,), in the order of time.
    old : tuple of `~numpy.ndarray`
        Offsets, in deg, and azimuths, in rad, of the events. Shape (n,).
    new : tuple of `~numpy.ndarray`
        Offsets and azimuths to which events are moved. Shape (m,).
    donors : `~numpy.ndarray` of int
        Indices of the events that are moved. Shape (m,).
    seconds, new_seconds : `~numpy.ndarray`
        Times of the events, and times at which they are placed, if these are others.
        Shapes (n,) and (m,).

    Returns
    -------
    x, y : `~numpy.ndarray` or None
        Coordinates of the moved events, None if they do not fit the positions.
    """
    offset, azimuth = old
    z = np.asarray(x, dtype=float) + 1j * np.asarray(y, dtype=float)
    on_sphere = _is_longitude_and_latitude(z, offset)
    z = _to_plane(z) if on_sphere else z
    good = np.nonzero((offset > ORIENTATION_OFFSET) & (abs(z) > 0))[0]
    if len(good) < 3:
        return None
    turn = {sign: np.angle(z) + sign * azimuth for sign in (1, -1)}
    fit = {
        sign: abs(np.mean(np.exp(1j * np.diff(angle[good]))))
        for sign, angle in turn.items()
    }
    sign = max(fit, key=fit.get)
    if not fit[sign] > ORIENTATION_CONCENTRATION:
        return None
    # close to the centre, or at another time, that of the next event in time
    if new_seconds is None:
        orientation = turn[sign][good[_find_nearest(good, donors)]]
    else:
        good = good[np.argsort(seconds[good])]
        orientation = turn[sign][good[_find_nearest(seconds[good], new_seconds)]]
    new_offset, new_azimuth = new
    radius = _project(abs(z[good]), offset[good], new_offset)
    turned = radius * np.exp(1j * (orientation - sign * new_azimuth))
    if on_sphere:
        turned = _to_sphere(turned)
    return turned.real, turned.imag


def _is_longitude_and_latitude(z, offset):
    """Whether coordinates are angles in deg on the sphere, and not in a plane.

    So they are in Gammapy's ``FoVICRSFrame``: 0.005 deg at an offset of 3 deg.
    """
    if np.nanmax(abs(z)) > 180:
        return False
    error = _project(abs(z), offset, offset) - abs(z)
    sphere_error = abs(_to_plane(z)) - offset
    return np.median(abs(sphere_error)) < np.median(abs(error))


def _to_plane(z):
    """From longitude and latitude in deg to an equidistant plane."""
    lon, lat = np.radians(z.real), np.radians(z.imag)
    x, y = np.sin(lon) * np.cos(lat), np.sin(lat)
    offset = np.arctan2(np.hypot(x, y), np.cos(lon) * np.cos(lat))
    return np.degrees(offset) * np.exp(1j * np.arctan2(y, x))


def _to_sphere(z):
    """From an equidistant plane to longitude and latitude in deg."""
    offset, angle = np.radians(abs(z)), np.angle(z)
    x, y = np.sin(offset) * np.cos(angle), np.sin(offset) * np.sin(angle)
    return np.degrees(np.arctan2(x, np.cos(offset))) + 1j * np.degrees(np.arcsin(y))


def _project(radius, offset, new_offset):
    """Distances from the centre at other offsets, in the projection that fits best."""
    errors, results = [], []
    for projection in (np.positive, np.tan, np.sin):
        projected = projection(np.radians(offset))
        scale = np.sum(radius) / np.sum(projected)
        errors.append(np.median(abs(radius - scale * projected)))
        results.append(scale * projection(np.radians(new_offset)))
    return results[np.argmin(errors)]


def _find_nearest(values, wanted):
    """Find the nearest of sorted values, at least two of them."""
    idx = np.searchsorted(values, wanted).clip(1, len(values) - 1)
    return idx - (wanted - values[idx - 1] < values[idx] - wanted)
