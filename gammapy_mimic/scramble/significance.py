"""Significance that a region has after it was filled."""

import numpy as np

from ..exclusion.sky_regions import is_excluded
from ..utils.coordinates import from_polar

__all__ = ["get_significance_width", "measure_fill"]


def get_significance_width(phi, a=0.0):
    r"""Width of the significance of a filled region, with an FoV background.

    The background of the whole field of view (FoV), normalised to all T counts, expects
    :math:`\phi (n + m)` in the region, where n are the counts filled in, with the mean
    :math:`\phi T`, and m are the others. In units of :math:`\phi T`,

    - the variance of n is 1 + a,
    - the variance of m is :math:`(1 - \phi) / \phi`,
    - their covariance is 1, whichever the events are that n is estimated from: an event
      that stands for w events adds w to both the mean of n and the covariance.

    So that :math:`n - \phi (n + m) = (1 - \phi) n - \phi m` has the variance

    .. math::

        (1 - \phi)^2 (1 + a) + \phi (1 - \phi) - 2 \phi (1 - \phi)
        = (1 - \phi) (1 - 2 \phi + a (1 - \phi))

    The significance is relative to Poisson counts, for which that would be 1. The
    width is the square root: 1 for small :math:`\phi` and a, and
    :math:`\sqrt{1 - \phi}` for a region of which nothing was filled. Divide by
    :math:`1 - \phi` if the region is left out of the counts that fix the norm.

    Parameters
    ----------
    phi : float or `~numpy.ndarray`
        Share that the region has of the counts that fix the norm, from 0 to 1.
    a : float or `~numpy.ndarray`, optional
        By how much the variance of the counts filled in is larger than their mean,
        relative to it. For Poisson numbers about an estimate it is their mean over the
        counts that the estimate is made of: :math:`\phi / (1 - \phi)` for all of the
        others, so that the width is :math:`1 - \phi`; it can be above 1 for a
        small ring. Default is 0: copies of events, of which none has more than one, as
        `~gammapy_mimic.ScrambleMaker` makes them.

    Returns
    -------
    width : float or `~numpy.ndarray`
        Standard deviation of the significance.

    Raises
    ------
    ValueError
        If there cannot be such a share and variance.
    """
    phi, a = np.asarray(phi, dtype=float), np.asarray(a, dtype=float)
    square = (1 - phi) * (1 - 2 * phi + a * (1 - phi))
    # rounding
    is_valid = (phi >= 0) & (phi < 1) & (a >= 0) & (square > -1e-9)
    if not np.all(is_valid):
        raise ValueError(
            "phi must be from 0 to 1, and a at least 0 and (2 phi - 1) / (1 - phi), "
            f"got phi={phi} and a={a}."
        )
    return np.sqrt(square.clip(min=0))[()]


def measure_fill(moved, n_outside, exclusions):
    """Measure share and variance of the filled region that has most events.

    The norm is taken to be that of all events, as no mask is known here.

    Parameters
    ----------
    moved : tuple of `~numpy.ndarray`
        Copies, see `~gammapy_mimic.scramble.draw.draw_fill`.
    n_outside : int
        Events outside of all regions.
    exclusions : sequence of `~gammapy_mimic.exclusion.sky_regions.Exclusion`
        Regions, in the frame of the FoV.

    Returns
    -------
    phi, a : float
        See `get_significance_width`. For a region without events they are 0.
    """
    idx, offset, azimuth = moved
    vectors = from_polar(offset, azimuth)
    regions = [idx[is_excluded(vectors, [_])] for _ in exclusions]
    copied = np.unique(max(regions, key=len), return_counts=True)[1]
    n_filled = copied.sum()
    if n_filled == 0:
        return 0.0, 0.0
    return n_filled / (n_outside + len(idx)), np.sum(copied**2) / n_filled - 1
