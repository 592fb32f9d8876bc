"""Mean rates in the bins of a template, from counts and exposure."""

import numpy as np

from .bins import get_center
from .posterior import fit_posterior, fit_prior_counts
from .shape import fit_shape
from .smoothing import smooth_ratio

__all__ = ["add_slope", "estimate_rate"]

MAX_CHANGE = 0.3  # of the exposure of a bin that is partly masked


def estimate_rate(counts, exposure, moment, bins, smooth=None, smooth_options=None):
    """Estimate mean rates in bins, and their precision.

    They are a smooth mean shape (`~gammapy_mimic.template.shape.fit_shape`), times what
    the field of view has beside it at all energies, times what it has at each: the last
    two as far as the counts tell (`~gammapy_mimic.template.posterior.fit_posterior`),
    or, the last one, smoothed (`~gammapy_mimic.template.smoothing.smooth_ratio`).
    Where there is no exposure, it is the mean shape.

    Parameters
    ----------
    counts, exposure : `~numpy.ndarray`
        Counts, and exposure: the product with the rate is counts. Shape (n_energy,
        n_position).
    moment : `~numpy.ndarray`
        Exposure times distance from the mean of the bin, in deg. Shape (n_axes,
        n_energy, n_position).
    bins : `~gammapy_mimic.template.TemplateBins`
        Bins.
    smooth, smooth_options
        Smoothing, as for `~gammapy_mimic.template.make_template`.

    Returns
    -------
    rate : `~numpy.ndarray`
        The smooth mean shape, positive. Shape (n_energy, n_position).
    ratio : `~numpy.ndarray`
        Ratio of the rate to it, positive. Same shape. The sum of exposure times rate
        times ratio is that of the counts, unless bins are masked in part.
    variance : `~numpy.ndarray`
        Variance of the log of rate times ratio. Same shape.
    """
    position = bins.position, bins.spread
    rate, variance = fit_shape(counts, exposure, bins.energy, *position)
    if moment.any():
        exposure = add_slope(exposure, moment, rate, bins.position_edges)
        rate, variance = fit_shape(counts, exposure, bins.energy, *position)
    expected = exposure * rate
    everywhere = fit_posterior(counts.sum(axis=0), expected.sum(axis=0))
    expected = expected * everywhere.ratio
    if smooth is None:
        each = fit_posterior(counts, expected)
    else:
        options = smooth_options or {}
        each = smooth_ratio(counts, expected, bins.position, smooth, **options)
    variance = each.add_to(everywhere.add_to(variance))
    if smooth is not None:  # what is too narrow for it
        k = fit_prior_counts(counts, expected * each.ratio)
        variance = variance + (0 if k is None else 1 / k)
    return rate, everywhere.ratio * each.ratio, variance


def add_slope(exposure, moment, rate, position_edges):
    """Weight the exposure by the slope of the rate inside the bins.

    The mean rate of a bin that is partly masked is not that of the part which is left.

    Parameters
    ----------
    exposure : `~numpy.ndarray`
        Exposure. Shape (n_energy, n_position).
    moment : `~numpy.ndarray`
        Exposure times distance from the mean of the bin, in deg. Shape (n_axes,
        n_energy, n_position).
    rate : `~numpy.ndarray`
        Smooth rate. Shape (n_energy, n_position).
    position_edges : list of `~numpy.ndarray`
        Edges of the bins of each axis, in deg.

    Returns
    -------
    exposure : `~numpy.ndarray`
        Exposure that gives, with the counts, the mean rate of the bin.
    """
    centers = [get_center(_) for _ in position_edges]
    log_rate = np.log(rate).reshape(len(rate), *map(len, centers))
    change = np.zeros(exposure.shape)
    for axis, (center, distance) in enumerate(zip(centers, moment, strict=True)):
        if len(center) > 1:
            slope = np.gradient(log_rate, center, axis=1 + axis)
            change += distance * slope.reshape(rate.shape)
    limit = MAX_CHANGE * exposure
    return exposure + change.clip(-limit, limit)
