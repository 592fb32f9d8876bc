r"""Bias and spread of a background, from counts in independent apertures.

The counts of an aperture are :math:`b (1 + \delta) (1 + \epsilon)` on average, with the
prediction b, the bias :math:`\delta` and the error :math:`\epsilon` of this aperture,
whose variance is :math:`f^2`. Arrays only.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from .aperture_counts import get_delta, get_information
from .intervals import (
    Interval,
    get_mean_interval,
    get_square_interval,
    not_measurable,
    take_root,
)
from .spread import measure_spread

__all__ = [
    "BiasSpread",
    "find_reason",
    "get_delta_variance",
    "measure_bias_spread",
]

SHARE_TOLERANCE = 1e-6
MIN_RUNS = 3
MIN_COUNTS = 10
# effective number: two of unequal counts are fewer than 2
MIN_APERTURES = 1.5
# expected limit of f, above which it is not measured
MAX_LIMIT = 1.0
# errors beyond which an absolute value is above 0, as 16% are by chance: those of one
# side alone are 1 error beyond
TWO_SIDED = 1.405


class BiasSpread(NamedTuple):
    r"""Bias and spread of a background.

    Attributes
    ----------
    delta, delta_other : `~gammapy_mimic.estimators.intervals.Interval`
        Bias :math:`\delta`, counts over prediction minus 1, of this field and of
        another one.
    f, f_other : `~gammapy_mimic.estimators.intervals.Interval`
        Spread f of this field and of another one. The error of the first knows counts
        and shared runs, that of the second the choice of the field as well.
    total, total_other : `~gammapy_mimic.estimators.intervals.Interval`
        :math:`\sqrt{\delta^2 + f^2 (1 + \delta)^2}`.
    f_squared : float
        :math:`f^2`, unbiased: the number to be averaged. Negative at times.
    f_squared_err : float
        Its error for this field.
    field_err : float
        Standard deviation of :math:`f^2` between fields.
    level : float
        Mean square by counts, in units of :math:`f^2`.
    set_variance : float
        Variance of :math:`\delta` between sets of other observations, beyond that of
        counts. 0 if it is not seen, NaN if it cannot be.
    n_runs : float
        Effective number of independent OFF observations. NaN if not known.
    n_apertures : float
        Effective number of independent apertures.
    n_counts : float
        Counts, those of shared observations once for each set.
    has_runs : bool
        Whether observations are known. If not, errors are those of counts alone in
        independent sets: too small where sets share observations.
    """

    delta: Interval
    delta_other: Interval
    f: Interval
    f_other: Interval
    total: Interval
    total_other: Interval
    f_squared: float
    f_squared_err: float
    field_err: float
    level: float
    set_variance: float
    n_runs: float
    n_apertures: float
    n_counts: float
    has_runs: bool


def measure_bias_spread(
    counts,
    norm_share=0.0,
    template_counts=np.inf,
    positions=None,
    n_other=None,
):
    r"""Measure bias and spread of a background.

    With the deviations e, their levers m and variances v by counts
    (`~gammapy_mimic.estimators.aperture_counts.Deviations`), summed over the runs of a
    set, and the shares :math:`h = m / \sum m` of the apertures in the set,

    .. math::
        \hat f^2 = \frac{\sum w\,[(e - h \sum e)^2 - v (1 - 2 h) - h^2 \sum v]}
            {\sum w\,(m^2 - c)\,(1 - 2 h + \sum h^2)} - q,
        \qquad w = \frac{1}{(1 + f_0^2 b)^2},

    where c corrects the square of counts, and q is the same mean of the relative
    variance of the template. For counts n with a prediction this is

    .. math::
        (n - p N)^2 - n (1 - 2 p) - p^2 N
        = n (n - 1) - 2 p n (N - 1) + p^2 N (N - 1),
        \quad p = b / \sum b, \quad N = \sum n

    whose mean is :math:`(\lambda - p \sum \lambda)^2` for Poisson counts of any means
    :math:`\lambda`: it has no bias, however few the counts are, and whatever
    :math:`\delta` is. For ON/OFF data the same holds conditional on t. The weights are
    those of the negative binomial likelihood of :math:`f_0 = 5\%`, whose score this is
    (McCullagh & Nelder 1989, Generalized Linear Models, 9.2), with
    :math:`b = t \pi (1 - \pi)` for ON/OFF data. A norm that was fitted to the field of
    view is common to all apertures of a set, and needs no other term: h has the share
    of the apertures' own norm, which replaces it.

    The error of :math:`\delta` is that of clusters, the runs: the same run in several
    sets is one. Its interval is Student's, with the effective number of runs minus 1.
    The variance of :math:`f^2` has a part that is quadratic in the noise, the squared
    products of any two runs, and one that is linear, in proportion to :math:`f^2`. They
    make up the variance of a jackknife of runs, once without doubling the first (Efron
    & Stein 1981, Annals of Statistics 9, 586), and scatter less; a jackknife that is
    larger by more than chance replaces them. Neither error is below that of counts,
    those of shared runs as far as their deviations are the same in two sets. Intervals
    are those of `~gammapy_mimic.estimators.intervals.get_square_interval`.

    Another field differs by :math:`2 f^4 / (n - 1)` in the variance of :math:`f^2`, for
    n independent apertures. That of this field is less by what is errors of single
    runs: these are in its noise. The mean of a field has the variance of f squared as
    it is expected, a Gaussian that is not negative: f is not 0 because it is not seen.

    Not measurable are: anything from fewer than 10 background counts or 3 effective
    runs; f from fewer than two apertures, or where its limit would be above 100%.

    Parameters
    ----------
    counts : `~gammapy_mimic.estimators.aperture_counts.ApertureCounts`
        Counts.
    norm_share : float or `~numpy.ndarray`, optional
        Share b/B of each aperture in the counts to which the norm of the background was
        fitted. Shape (n_sets, n_apertures), or a scalar. Default is a norm that was not
        fitted.
    template_counts : float or `~numpy.ndarray`, optional
        Effective counts of the prediction, whose relative variance is their inverse.
        Shape (n_sets, n_apertures) or (n_apertures,), or a scalar. The noise of the
        template is taken to be the same in all sets. Default is no noise.
    positions : `~numpy.ndarray` or None, optional
        Positions of the apertures in the plane of the sky, in deg, on a regular grid
        that may have gaps. Shape (n_apertures, 2). With them the correlation of
        neighbouring apertures is measured, which tells how much another field differs.
        Not that over the whole field, which is part of :math:`\delta`: one field cannot
        tell its size. Default is that the errors of all apertures are independent.
    n_other : float or None, optional
        Number of independent apertures of another field. Infinity is for the mean over
        all fields. Default is as many as here.

    Returns
    -------
    result : `BiasSpread`
        Result. What cannot be measured is an interval with a reason.

    Raises
    ------
    ValueError
        If positions do not fit the counts, repeat or are on no grid, if template counts
        are not above 0, or if shares of a norm add up to more than 1.
    """
    if positions is not None:
        positions = _check_positions(positions, counts.counts.shape[2])
    if not np.all(np.asarray(template_counts) > 0):
        raise ValueError(f"'template_counts' must be above 0, got {template_counts}")
    f_squared, noise = measure_spread(counts, template_counts, positions)
    delta, *others = [not_measurable(find_reason(counts))] * 4
    of_sets = np.nan
    if not delta.reason:
        value, variances, of_sets = _measure_delta(counts, noise, norm_share)
        delta = _add_variances(value, variances)
        others = [not_measurable(_find_spread_reason(noise))] * 3
    if others[0].reason:
        f_squared = f_squared_err = field_err = np.nan
    else:
        variances.append(_get_field_variance(value, f_squared, noise))
        others = [
            *_measure_squares(f_squared, noise, n_other),
            _add_variances(value, variances),
        ]
        f_squared_err, field_err = others[0].error, noise.get_field_error(f_squared)
    square, square_other, delta_other = others
    return BiasSpread(
        delta=delta,
        delta_other=delta_other,
        f=take_root(square),
        f_other=take_root(square_other),
        total=_get_total(delta, square),
        total_other=_get_total(delta_other, square_other),
        f_squared=f_squared,
        f_squared_err=f_squared_err,
        field_err=field_err,
        level=noise.level,
        set_variance=of_sets,
        n_runs=counts.n_runs,
        n_apertures=noise.n_apertures,
        n_counts=float(counts.counts.sum()),
        has_runs=counts.has_runs,
    )


def _measure_delta(counts, noise, norm_share):
    """Measure delta, its variances with their degrees of freedom, and that of sets."""
    excess, prediction = get_delta(counts)
    total = prediction.sum()
    delta = excess.sum() / total
    variance = get_delta_variance(counts, noise.shared, norm_share)
    scatter, sizes = (
        counts.add_clusters(_.sum(axis=2))
        for _ in (excess - delta * prediction, prediction)
    )
    if not counts.has_runs:
        # each set is a run that no other set has
        scatter, sizes = (np.diag(_[0]) for _ in (scatter, sizes))
    n = counts.n_runs
    if not counts.has_runs:
        n = total**2 / np.sum(sizes**2)
    used = sizes[:, np.any(sizes > 0, axis=0)]
    n_in_set = np.mean(np.sum(used, axis=0) ** 2 / np.sum(used**2, axis=0))
    robust, dof = np.nan, np.inf
    if n > 1 + SHARE_TOLERANCE:
        robust = np.sum((np.sum(scatter, axis=1) / total) ** 2) * n / (n - 1)
    # of a mean over n runs, beyond that of counts, and of one over those of a set
    of_sets = max(robust - variance, 0) * n / n_in_set
    if counts.has_runs and robust > variance:
        variance, dof = robust, n - 1
    template = (1 + delta) ** 2 * noise.template_delta
    return delta, [(variance, dof), (template, np.inf)], float(of_sets)


def get_delta_variance(counts, shared, norm_share=0.0):
    r"""Get the variance of :math:`\delta` by counts.

    Parameters
    ----------
    counts : `~gammapy_mimic.estimators.aperture_counts.ApertureCounts`
        Counts.
    shared : `~numpy.ndarray`
        Correlation of two sets in the counts of a run that both have. Shape
        (n_sets, n_sets).
    norm_share : float or `~numpy.ndarray`, optional
        As in `measure_bias_spread`.

    Returns
    -------
    variance : float
        Variance.

    Raises
    ------
    ValueError
        If shares of a norm add up to more than 1.
    """
    excess, prediction = get_delta(counts)
    total = prediction.sum()
    if counts.background is not None:
        variance = counts.counts
    else:
        ratio = counts.alpha * (1 + excess.sum() / total)
        variance = counts.counts + ratio**2 * counts.counts_off
        variance = variance / (1 + counts.alpha) ** 2
    root = np.sqrt(counts.add_clusters(variance.sum(axis=2)))
    variance = np.einsum("rs,rt,st->", root, root, shared) / total**2
    shares = np.broadcast_to(norm_share, prediction.shape[1:]).sum(axis=1)
    if np.max(shares) > 1 + SHARE_TOLERANCE:
        raise ValueError(
            f"'norm_share' adds up to {np.max(shares):.3g} in a set, more than 1: are "
            "apertures in the counts to which the norm was fitted?"
        )
    left = 1 - np.average(shares, weights=prediction.sum(axis=(0, 2)))
    return float(variance * max(left, 0))


def _add_variances(value, parts):
    """Make the interval of a mean with variances of different degrees of freedom."""
    variance = sum(part for part, _ in parts)
    # Satterthwaite
    inverse = sum(part**2 / dof for part, dof in parts)
    dof = variance**2 / inverse if inverse > 0 else np.inf
    return get_mean_interval(value, np.sqrt(variance), dof)


def _measure_squares(f_squared, noise, n_other):
    """Intervals of f squared of this field, and of another one."""
    level = noise.level + noise.template
    n_other = noise.n_apertures if n_other is None else n_other
    square = get_square_interval(f_squared, level, noise.get_variance, noise.dof)

    def get_variance(square):
        # errors of single runs are in the variance of this field, with all their runs
        return (
            noise.get_variance(square) + noise.get_field_error(square - noise.own) ** 2
        )

    other = get_square_interval(f_squared, level, get_variance, noise.dof, n_other - 1)
    return square, other


def _get_field_variance(delta, f_squared, noise):
    """Variance of the delta of another field, and its degrees of freedom."""
    # of which 0 is not known: mean of a Gaussian that is not negative
    error = np.sqrt(noise.get_variance(max(f_squared, 0)))
    pull = max(f_squared, 0) / error
    expected = error * (pull + norm.pdf(pull) / norm.cdf(pull))
    # the mean error of this field is part of its delta, and that of the other one, too
    variance = 2 * expected * noise.field_share * (1 + delta) ** 2
    return variance, noise.n_apertures - 1


def _get_total(delta, square):
    r"""Interval of the root of delta^2 + f^2 (1 + delta)^2.

    The distances of the ends from the value add in quadrature, for intervals of any
    shape (MOVER, Zou & Donner 2008, Statistics in Medicine 27, 1693). The lower one is
    0 where neither delta nor f are significant.
    """
    for interval in (delta, square):
        if not interval.is_measurable:
            return interval

    def add(x, f_squared):
        return x**2 + f_squared * (1 + x) ** 2

    f_squared = max(square.value, 0)
    value = add(delta.value, f_squared)
    is_zero = abs(delta.value) < TWO_SIDED * (delta.high - delta.value)
    lowest = np.clip(-f_squared / (1 + f_squared), delta.low, delta.high)
    low = np.hypot(value - add(lowest, f_squared), value - add(delta.value, square.low))
    # of the two sides of a delta the one that is farther from 0
    distance = delta.upper_limit - delta.value
    sides = (delta.low, delta.high), (delta.value - distance, delta.upper_limit)
    ends = [0 if is_zero and square.low == 0 else value - low]
    for sides_of_delta, end in zip(sides, square[3:5], strict=True):
        farther = max(add(_, f_squared) for _ in sides_of_delta)
        ends.append(value + np.hypot(farther - value, add(delta.value, end) - value))
    slope = 2 * (delta.value + f_squared * (1 + delta.value))
    error = np.hypot(slope * delta.error, (1 + delta.value) ** 2 * square.error)
    return take_root(Interval(value, error, *ends))


def _check_positions(positions, n_apertures):
    """Positions as an array, or an error."""
    positions = np.asarray(positions, dtype=float)
    if positions.shape != (n_apertures, 2):
        raise ValueError(
            f"'positions' must have the shape ({n_apertures}, 2), one row for each "
            f"aperture, got {positions.shape}"
        )
    unique, number = np.unique(positions, axis=0, return_counts=True)
    if np.any(number > 1):
        raise ValueError(
            "Apertures must be independent, got two at the position "
            f"{unique[number > 1][0]}"
        )
    return positions


def find_reason(counts):
    """Find why nothing can be measured.

    Parameters
    ----------
    counts : `~gammapy_mimic.estimators.aperture_counts.ApertureCounts`
        Counts.

    Returns
    -------
    reason : str
        Why, in words. Empty if it can be measured.
    """
    expected = get_information(counts).sum()
    if expected < MIN_COUNTS:
        return f"there are {expected:.1f} background counts, fewer than {MIN_COUNTS}"
    if not (counts.counts.any() and get_delta(counts)[1].any()):
        return "there are no counts, or no OFF counts"
    # runs that are nearly equal are as many as there are
    if round(counts.n_runs, 1) < MIN_RUNS:
        return (
            f"there are {counts.n_runs:.1f} independent OFF observations, fewer than "
            f"{MIN_RUNS}: their scatter is not known"
        )
    return ""


def _find_spread_reason(noise):
    """Why f cannot be measured. Empty if it can."""
    if not noise.n_apertures >= MIN_APERTURES:
        return "the counts are in fewer than two independent apertures"
    limit = np.sqrt(noise.get_expected_limit())
    if limit > MAX_LIMIT:
        return (
            f"an f below {limit:.0%} would not be seen in these counts: more of them, "
            "or larger apertures, are needed"
        )
    return ""
