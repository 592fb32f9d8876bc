r"""Gradient of the background over the field of view (FoV).

At each offset the density goes with the position x, in the plane of the FoV, as

.. math:: t(x) = (1 + g \cdot x / 2)^2

That is never negative, and in between of :math:`1 + g \cdot x` and
:math:`\exp(g \cdot x)`: from the same dipole it predicts what either of them has at
:math:`g \cdot x = 0.4` within 1.5%.
"""

import logging
from typing import NamedTuple

import numpy as np

from .coverage import Coverage
from .estimate import COVERED, find_covered_intervals

__all__ = ["tilt_coverage"]

log = logging.getLogger(__name__)

MARGIN = 0.7  # deg, around the offsets of a region, in which the gradient is fit
TS_MIN = 13.8  # with two degrees of freedom, one in 1000 fields without gradient
TILT_MAX = 1.5  # largest g x in the fit
N_STEPS, STEP_MIN = 20, 1e-4  # deg-1
SPOT_MIN = 0.5  # quadrupole over dipole: 1 for a source, g x / 4 for a gradient


class _Plane(NamedTuple):
    """Regions in the plane of the FoV."""

    coverage: Coverage
    """Coverage, in a background that depends on the offset alone."""
    xy: np.ndarray
    """Positions of its points to the east and to the north, in deg. Shape (2, n)."""
    square: np.ndarray
    """Mean square of a coordinate at each offset, in deg2. Shape (n_bins,)."""

    @classmethod
    def create(cls, coverage):
        offset, azimuth = coverage.points
        xy = offset * np.array([np.sin(azimuth), np.cos(azimuth)])
        edges = coverage.edges
        return cls(coverage, xy, (edges[1:] ** 2 + edges[:-1] ** 2) / 4)

    def get_mean(self, values):
        """Part that is covered times the mean of values there. Shape (..., n_bins)."""
        # the points are in the order of the bins
        shape = *values.shape[:-1], values.shape[-1] + 1
        sums = np.zeros(shape, dtype=values.dtype)
        np.cumsum(values, axis=-1, out=sums[..., 1:])
        starts = self.coverage.starts
        weight = self.coverage.fraction / np.maximum(np.diff(starts), 1)
        return np.diff(sums[..., starts], axis=-1) * weight

    def get_tilts(self, gradient):
        """Value of t at the points. Shape (n,)."""
        return (1 + gradient @ self.xy / 2) ** 2

    def get_total(self, gradient):
        """Mean of t at each offset. Shape (n_bins,)."""
        return 1 + gradient @ gradient * self.square / 4

    def get_dipole(self, gradient):
        """Mean position outside of the regions, in deg. Shape (2, n_bins)."""
        tilts = self.get_tilts(gradient)
        norm = self.get_total(gradient) - self.get_mean(tilts)
        mean = np.outer(gradient, self.square) - self.get_mean(tilts * self.xy)
        return mean / np.where(norm > 0, norm, 1)

    def get_moments(self):
        """Mean and covariance of positions outside, without gradient.

        In deg and deg2. Shapes (2, n_bins) and (2, 2, n_bins).
        """
        x, y = self.xy
        x, y, xx, xy = self.get_mean(np.array([x, y, x * x, x * y]))
        yy = 2 * self.square * self.coverage.fraction - xx
        norm = 1 - self.coverage.fraction
        norm = np.where(norm > 0, norm, 1)
        mean = -np.array([x, y]) / norm
        second = np.array([[self.square - xx, -xy], [-xy, self.square - yy]]) / norm
        return mean, second - mean[:, np.newaxis] * mean


def tilt_coverage(coverage, outside, vectors):
    """Weigh the coverage with the gradient of the events outside of the regions.

    There is one gradient for each interval of offset that regions cover, and none
    where it is not significant, or where the events are crowded at one azimuth.

    Parameters
    ----------
    coverage : `~gammapy_mimic.scramble.coverage.Coverage`
        Regions, in a background that depends on the offset alone.
    outside : `~gammapy_mimic.scramble.estimate.OutsideEvents`
        Events outside of the regions. Shape (n,).
    vectors : `~numpy.ndarray`
        Directions of all events, in the frame of the FoV. Shape (3, n_all).

    Returns
    -------
    coverage : `~gammapy_mimic.scramble.coverage.Coverage`
        Coverage with the ``fraction`` and the ``density`` of this background.
    """
    plane = _Plane.create(coverage)
    n_bins = len(coverage.fraction)
    counts = np.bincount(outside.bins, minlength=n_bins)
    xy = [_[outside.idx] for _ in vectors[:2]]
    sums = [np.bincount(outside.bins, _, n_bins) for _ in xy]
    events = counts, np.degrees(sums)
    moments = plane.get_moments()
    fraction, density = coverage.fraction.copy(), coverage.density.copy()
    for low, high in find_covered_intervals(coverage):
        window = _make_window(coverage, low, high)
        gradient = _fit_gradient(plane, window, events, moments)
        if not gradient.any():
            continue
        if _is_spot(plane, window, outside.bins, xy):
            log.warning(
                f"The events around the regions between {low:.2f} and {high:.2f} deg "
                "are crowded at one azimuth, as those of a source are. Not taken for a "
                "gradient. Give the source a region as well."
            )
            continue
        log.info(
            f"The background between {low:.2f} and {high:.2f} deg has a gradient of "
            f"{np.hypot(*gradient):.0%} per deg, which the regions get as well."
        )
        first, last = np.searchsorted(coverage.edges, (low, high))
        points = slice(*coverage.starts[[first, last]])
        tilts, total = plane.get_tilts(gradient), plane.get_total(gradient)
        covered = (plane.get_mean(tilts) / total).clip(max=1)
        fraction[first:last] = covered[first:last]
        density[points] = tilts[points]
    return coverage._replace(fraction=fraction, density=density)


def _make_window(coverage, low, high):
    """Select the bins around an interval that leave enough outside of the regions."""
    edges = coverage.edges
    is_near = (edges[1:] > low - MARGIN) & (edges[:-1] < high + MARGIN)
    return is_near & (coverage.fraction < COVERED)


def _is_spot(plane, window, bins, xy):
    """Whether events outside of the regions are crowded at one azimuth."""
    used = window[bins]
    counts = np.bincount(bins[used], minlength=len(window))
    events, points = (np.arctan2(*_) for _ in (xy, plane.xy))
    norm = np.where(window, 1 - plane.coverage.fraction, 1)
    poles = []
    for order in (1, 2):
        mean = -plane.get_mean(np.exp(1j * order * points)) / norm
        total = np.exp(1j * order * events[used]).sum()
        poles.append(abs(total - mean @ counts))
    # less the scatter of a component, as chance makes a quadrupole, too
    noise = np.sqrt(counts.sum() / 2)
    return poles[1] - noise > SPOT_MIN * poles[0]


def _fit_gradient(plane, window, events, moments):
    r"""Fit the gradient from the dipole of the events outside of the regions.

    The sum of their positions is made equal to the one that is expected of events with
    their offsets. For a small gradient, or one of :math:`\exp(g \cdot x)`, that is the
    maximum of the likelihood, in which the acceptance plays no part.

    Parameters
    ----------
    plane : `_Plane`
        Regions.
    window : `~numpy.ndarray` of bool
        Bins of offset whose events are used. Shape (n_bins,).
    events : tuple of `~numpy.ndarray`
        Number of events outside of the regions in each bin of offset, and sums of
        their positions, in deg. Shapes (n_bins,) and (2, n_bins).
    moments : tuple of `~numpy.ndarray`
        Mean and covariance that are expected of their positions without gradient.

    Returns
    -------
    gradient : `~numpy.ndarray`
        Relative change per deg to the east and to the north, 0 if it is not
        significant. Shape (2,).
    """
    counts, dipole = np.where(window, events[0], 0), events[1][:, window].sum(axis=1)
    mean, covariance = moments
    inverse = np.linalg.pinv(covariance @ counts)
    excess = dipole - mean @ counts
    gradient = np.zeros(2)
    if excess @ inverse @ excess < TS_MIN:
        return gradient
    limit = TILT_MAX / plane.coverage.edges[1:][window].max()
    for _ in range(N_STEPS):
        # Newton's method, with the covariance without gradient
        step = inverse @ (dipole - plane.get_dipole(gradient) @ counts)
        gradient = gradient + step
        gradient *= min(1, limit / np.hypot(*gradient))
        if np.hypot(*step) < STEP_MIN:
            break
    return gradient
