r"""Significance of a target, calibrated by the systematic error of mimics. Arrays only.

The background of the target is wrong by an unknown fraction, of which mimics tell the
mean :math:`\delta` and the spread f. Both have errors, and what they do not know makes
the target's significance smaller.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = [
    "MIN_SETS",
    "Calibration",
    "Systematic",
    "calibrate_significance",
    "draw_systematic",
    "predict_mean",
    "predict_variance",
]

MIN_SETS = 3  # effective sets, below which nothing can be calibrated
# Exponent of the prior of f, 0 is uniform in asinh(f sqrt(q)), 1 that of Jeffreys. Toys
# decide: 0 has 0.21% beyond 3 sigma, 1 flattens what f explains in part
PRIOR_EXPONENT = 0.25
N_SPREAD, N_MEAN = 64, 40  # nodes of the integrals over f, and over the error of delta
LOG_TAIL = 40  # natural logarithm of the posterior density that is left out
MAX_DOF = 1e8  # more is "known exactly"
CHUNK = 2000  # values at a time


def is_enough(n_sets):
    """Whether there are enough effective sets, to one digit: they are rarely equal.

    Parameters
    ----------
    n_sets : `~numpy.ndarray` or float
        Effective number of sets.

    Returns
    -------
    is_enough : `~numpy.ndarray` of bool
        Whether there are 3 or more. False where it is not known.
    """
    return np.round(n_sets, 1) >= MIN_SETS


def _describe_few(n_sets):
    """Say that there are not enough effective sets."""
    return (
        f"the mimics are worth {n_sets:.1f} independent OFF observations (or stacked "
        f"sets), and {MIN_SETS} are needed"
    )


class Systematic(NamedTuple):
    """What mimics tell of the error of a background in one band.

    NaN, the default, where it is not measured.

    Attributes
    ----------
    delta : float
        Counts over prediction minus 1, on average.
    delta_err : float
        Standard error of it, with the spread.
    delta_dof : float
        Effective degrees of freedom of the error. Infinite if it is known.
    f_squared : float
        Square of the fractional spread, which can be negative.
    f_dof : float
        Its effective degrees of freedom. Infinite if it is known.
    f_background : float
        Effective background counts at which the spread was measured: the inverse of
        the mean square by noise.
    set_variance : float
        Variance of delta between sets of other observations, which is part of
        ``delta_err``.
    """

    delta: float = np.nan
    delta_err: float = np.nan
    delta_dof: float = np.nan
    f_squared: float = np.nan
    f_dof: float = np.nan
    f_background: float = np.nan
    set_variance: float = 0.0

    @property
    def is_measured(self):
        """Whether mean and spread are known, from enough effective sets."""
        return not self.reason

    @property
    def reason(self):
        """Why random maps cannot have mean and spread (str), "" if they can."""
        values = self.delta, self.delta_err, self.f_squared, self.f_background
        n_sets = np.minimum(self.delta_dof, self.f_dof) + 1
        is_known = np.isfinite(values).all() and self.f_background > 0
        if not is_known or np.isnan(n_sets):
            return "the spread of the background was not measured"
        if not is_enough(n_sets):
            return _describe_few(n_sets)
        return ""


class Calibration(NamedTuple):
    """Calibrated significance. Arrays of one shape, NaN where it is not measurable.

    Attributes
    ----------
    raw : `~numpy.ndarray`
        Significance as it was measured.
    significance : `~numpy.ndarray`
        Calibrated significance.
    p_value : `~numpy.ndarray`
        One-sided p-value, that of the calibrated significance.
    mean, width : `~numpy.ndarray`
        Mean and width of the significance of a target that is nothing but background,
        for the values of delta and f (without their errors).
    n_sets : `~numpy.ndarray`
        Effective number of sets: degrees of freedom and 1, the smaller one of delta and
        of f.
    """

    raw: np.ndarray
    significance: np.ndarray
    p_value: np.ndarray
    mean: np.ndarray
    width: np.ndarray
    n_sets: np.ndarray

    @property
    def is_measurable(self):
        """Whether there are enough effective sets, in the shape of the significance."""
        return is_enough(self.n_sets)

    def to_text(self):
        """Say in words what it is. Only for a single value.

        Returns
        -------
        text : str
            Text.

        Raises
        ------
        ValueError
            If there is more than one value.
        """
        if np.size(self.raw) != 1:
            raise ValueError(
                f"There are {np.size(self.raw)} values. Take one, such as "
                "Calibration(*(_[0] for _ in calibration))."
            )
        raw, value, _, mean, width, n_sets = (float(np.squeeze(_)) for _ in self)
        if not np.isfinite(raw):
            return "not measured: there is no significance"
        if not np.isfinite(n_sets):
            n_sets = MAX_DOF
        if not is_enough(n_sets):
            return f"not measurable: {_describe_few(n_sets)}"
        if not np.isfinite(value):
            return "not measurable: mean and spread of the mimics are not known"
        text = (
            f"{value:.2f} sigma (raw {raw:.2f}; background alone has the mean "
            f"{mean:.2f} and the width {width:.2f}"
        )
        exact = (raw - mean) / width
        if value > 0 and exact > value + 1:
            text += f": {exact:.1f} sigma, were they known exactly"
        return f"{text})"


def get_curvature(alpha):
    r"""Second order of the significance of a background that is wrong.

    A fraction x too many counts has the significance :math:`\sqrt q\,(x - c x^2)` by
    the series of the test statistic (Cash 1979, ApJ 228, 939; Li & Ma 1983, ApJ 272,
    317), with

    .. math:: c = \frac{1 + 2 \alpha}{6 (1 + \alpha)}.

    Parameters
    ----------
    alpha : `~numpy.ndarray`
        Ratio of exposures, 0 for a background that is known exactly.

    Returns
    -------
    curvature : `~numpy.ndarray`
        Coefficient c, in the same shape.
    """
    return (1 + 2 * alpha) / (6 * (1 + alpha))


def predict_mean(background, delta, f_squared, alpha=0.0):
    r"""Mean significance of a background that is wrong, without a source.

    .. math::
        \sqrt q\,\{\delta - c\,[\delta^2 + f^2 (1 + \delta)^2]\}
        - \frac{1 - \alpha}{1 + \alpha} \frac{1}{6 \sqrt q}

    with the curvature c of `get_curvature` and the mean of the signed root that
    the skewness of the counts leaves, see
    `~gammapy_mimic.estimators.statistics.get_expected_mean`.

    Parameters
    ----------
    background : `~numpy.ndarray`
        Effective background counts q, which are :math:`N_b / (1 + \alpha)`.
    delta : `~numpy.ndarray`
        Counts over prediction minus 1, on average.
    f_squared : `~numpy.ndarray`
        Square of the fractional spread.
    alpha : `~numpy.ndarray` or float, optional
        Ratio of exposures. Default is 0, a background that is known exactly.

    Returns
    -------
    mean : `~numpy.ndarray`
        Mean, in the shape of the arguments together.
    """
    square = delta**2 + f_squared * (1 + delta) ** 2
    root = np.sqrt(background)
    skewness = (1 - alpha) / (1 + alpha) / (6 * root)
    return root * (delta - get_curvature(alpha) * square) - skewness


def predict_variance(background, delta, f_squared, alpha=0.0):
    r"""Variance of the significance of a background that is wrong, without a source.

    .. math::
        1 + \frac{1 - \alpha}{1 + \alpha} \frac{\delta}{3}
        + f^2 q\,[(1 + \delta)(1 - 2 c \delta)]^2,

    which is :math:`1 + f^2 q` for a mean error of 0. The first two terms are the noise
    of ON and OFF counts, to first order in :math:`\delta`.

    Parameters
    ----------
    background, delta, f_squared : `~numpy.ndarray`
        Effective background counts, mean error, and square of the spread.
    alpha : `~numpy.ndarray` or float, optional
        Ratio of exposures. Default is 0.

    Returns
    -------
    variance : `~numpy.ndarray`
        Variance, in the shape of the arguments together.
    """
    noise = 1 + (1 - alpha) / (1 + alpha) * delta / 3
    slope = (1 + delta) * (1 - 2 * get_curvature(alpha) * delta)
    return noise + f_squared * background * slope**2


def get_scales(square, dof, minimum, n_nodes):
    r"""Nodes for the average over the posterior of a variance, with Jeffreys' prior.

    An estimate :math:`s^2` of :math:`\nu` degrees of freedom has a scaled
    :math:`\chi^2` distribution, hence

    .. math:: p(v)\,dv \propto v^{-\nu/2}\, e^{-\nu s^2 / 2v}\,\frac{dv}{v}.

    The nodes are those of Gauss and Legendre in the root of :math:`\ln v`, less its
    lowest value, and reach as far as the density is :math:`e^{-40}` of the largest.

    Parameters
    ----------
    square, dof : `~numpy.ndarray`
        Estimate of the variance, and its degrees of freedom. Shape (n,).
    minimum : float
        Lowest possible variance, can be 0.
    n_nodes : int
        Number of nodes.

    Returns
    -------
    variance, weights : `~numpy.ndarray`
        Variances, and weights with the sum 1. Shape (n, n_nodes).
    """
    dof = np.minimum(dof, MAX_DOF)
    depth = 2 * LOG_TAIL / dof
    peak = np.log(np.maximum(square, max(minimum, 1e-12)))
    # x + exp(-x) - 1 is more than the depth beyond these
    reach = depth + np.sqrt(2 * depth)
    low, high = peak - np.log1p(reach), peak + reach
    low = np.maximum(low, np.log(minimum)) if minimum else low
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    nodes = (nodes + 1) / 2
    x = low[:, np.newaxis] + np.outer(high - low, nodes**2)
    exponent = x + square[:, np.newaxis] * np.exp(-x)
    exponent -= exponent.min(axis=1, keepdims=True)
    weights = weights * nodes * np.exp(-dof[:, np.newaxis] / 2 * exponent)
    return np.exp(x), weights / weights.sum(axis=1, keepdims=True)


def get_spreads(f_squared, dof, background, n_nodes=N_SPREAD):
    r"""Nodes for the average over the posterior of the square of the spread.

    The variance :math:`1 + f^2 q` of a significance is never below 1, and has been
    measured with :math:`\nu` degrees of freedom, see `get_scales`. The prior of
    :math:`s = f \sqrt q` is

    .. math:: p(s)\,ds \propto \frac{s^k}{(1 + s^2)^{(1 + k) / 2}}\,ds.

    k = 1 is Jeffreys' prior of the variance, k = 0 is uniform in f where f is below the
    noise and in its logarithm above. Between them, the p-values of the targets that are
    nothing but background are uniform in the best way.

    Parameters
    ----------
    f_squared, dof : `~numpy.ndarray`
        Estimate of the square, can be negative, and its degrees of freedom. Shape (n,).
    background : `~numpy.ndarray`
        Effective background counts q at which it was measured. Shape (n,).
    n_nodes : int, optional
        Number of nodes.

    Returns
    -------
    f_squared, weights : `~numpy.ndarray`
        Squares, and weights with the sum 1. Shape (n, n_nodes).
    """
    square = np.maximum(1 + f_squared * background, 0)
    variance, weights = get_scales(square, dof, 1.0, n_nodes)
    excess = variance - 1
    # of the prior over that of Jeffreys, without the pole at 0
    factor = (np.maximum(excess, 1e-15) / variance) ** ((PRIOR_EXPONENT - 1) / 2)
    weights = weights * factor
    return (
        excess / background[:, np.newaxis],
        weights / weights.sum(axis=1, keepdims=True),
    )


def draw_systematic(f_squared, dof, background, n, rng):
    """Draw values of the spread from its posterior, for random maps.

    Parameters
    ----------
    f_squared, dof, background : float
        Square of the spread, its degrees of freedom, and the effective background
        counts at which it was measured.
    n : int
        Number of values.
    rng : `~numpy.random.Generator`
        Random generator.

    Returns
    -------
    f : `~numpy.ndarray`
        Fractional spreads. Shape (n,).
    """
    arguments = np.array([[f_squared], [dof], [background]], dtype=float)
    squares, weights = (_[0] for _ in get_spreads(*arguments, n_nodes=4 * N_SPREAD))
    # a node stands for the middle of its share
    share = np.cumsum(weights) - weights / 2
    return np.interp(rng.uniform(size=n), share, np.sqrt(squares))


def calibrate_significance(
    significance,
    background,
    f_squared,
    f_dof,
    f_background,
    delta,
    delta_err,
    delta_dof,
    alpha=0.0,
):
    r"""Calibrate the significance of a target by the systematic error of mimics.

    If the target is nothing but background, its significance S has for given
    :math:`\delta` and f a Gaussian distribution, with the mean of `predict_mean` and
    the variance of `predict_variance` at the background counts *of the target*. The
    p-value is the average over what is known of both,

    .. math::
        p = \int\!\!\int \Phi\!\left(-\frac{S - m(\hat\delta, f)}
        {\sqrt{V(\hat\delta, f) + q\,\sigma_\delta^2\,u}}\right)
        p(u)\,p(f^2)\,du\,df^2.

    The factor u of the variance of :math:`\delta` is an inverse :math:`\chi^2` over its
    degrees of freedom, so that :math:`\delta` follows Student's t distribution, and
    :math:`f^2` has the posterior of `get_spreads` (predictive distribution, e.g. Gelman
    et al. 2013, Bayesian Data Analysis, sections 3.2 and 3.4).

    A correction makes neither an excess nor a deficit larger than it is: the result is
    not above a positive significance, and for a negative one not outside of it and 0.

    Parameters
    ----------
    significance : `~numpy.ndarray` or float
        Significance of the target, the signed root of the test statistic.
    background : `~numpy.ndarray` or float
        Effective background counts q of the target, :math:`N_b / (1 + \alpha)`.
    f_squared, f_dof : `~numpy.ndarray` or float
        Square of the fractional spread, which can be negative, and its effective
        degrees of freedom. Infinite if f is known.
    f_background : `~numpy.ndarray` or float
        Effective background counts at which the spread was measured, those of the
        mimics.
    delta, delta_err, delta_dof : `~numpy.ndarray` or float
        Counts over prediction minus 1 of the mimics, its standard error (with the
        spread), and effective degrees of freedom of the error. Infinite if it is known.
    alpha : `~numpy.ndarray` or float, optional
        Ratio of exposures. Default is 0, a background that is known exactly.

    Returns
    -------
    calibration : `Calibration`
        Arrays in the shape of the arguments together. "Not measurable" below 3
        effective sets.

    Raises
    ------
    ValueError
        If background counts or a ratio of exposures are negative, or an error is.
    """
    names = ("background", "f_background", "delta_err", "alpha")
    for name, value in zip(
        names, (background, f_background, delta_err, alpha), strict=True
    ):
        if np.any(np.asarray(value) < 0):
            raise ValueError(
                f"{name} must not be negative, its lowest value is {np.min(value)}."
            )
    arguments = np.broadcast_arrays(
        significance,
        background,
        f_squared,
        f_dof,
        f_background,
        delta,
        delta_err,
        delta_dof,
        alpha,
    )
    shape = arguments[0].shape
    rows = np.array([np.ravel(_) for _ in arguments], dtype=float)
    raw, q, square, f_dof, f_q, delta, _, delta_dof, alpha = rows
    n_sets = np.fmin(f_dof, delta_dof) + 1
    # degrees of freedom can be infinite, all else is finite
    valid = np.isfinite(np.delete(rows, [3, 7], axis=0)).all(axis=0)
    valid &= is_enough(n_sets) & (q > 0) & (f_q > 0)
    significance = np.full(raw.shape, np.nan)
    idx = np.flatnonzero(valid)
    for start in range(0, len(idx), CHUNK):
        part = idx[start : start + CHUNK]
        significance[part] = _calibrate(*rows[:, part])
    square = np.maximum(square, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = predict_mean(q, delta, square, alpha)
        width = np.sqrt(predict_variance(q, delta, square, alpha))
    columns = [raw, significance, ndtr(-significance)]
    columns += [np.where(valid, _, np.nan) for _ in (mean, width)]
    return Calibration(*(np.reshape(_, shape) for _ in [*columns, n_sets]))


def _calibrate(
    significance,
    background,
    f_squared,
    f_dof,
    f_background,
    delta,
    delta_err,
    delta_dof,
    alpha,
):
    """Calibrated significances. Arrays of shape (n,)."""
    spreads, weights = get_spreads(f_squared, f_dof, f_background)
    q, shift, ratio = (_[:, np.newaxis] for _ in (background, delta, alpha))
    distance = significance[:, np.newaxis] - predict_mean(q, shift, spreads, ratio)
    variance = predict_variance(q, shift, spreads, ratio)
    scales, shares = get_scales(np.ones_like(delta), delta_dof, 0, N_MEAN)
    scales *= (background * delta_err**2)[:, np.newaxis]
    # the tail that is small has no rounding of 1 - p
    sign = np.where(significance < 0, -1, 1)
    distance *= sign[:, np.newaxis]
    tail = np.zeros_like(delta)
    for scale, share in zip(scales.T, shares.T, strict=True):
        value = distance / np.sqrt(variance + scale[:, np.newaxis])
        tail += share * np.sum(weights * ndtr(-value), axis=1)
    result = -sign * ndtri(tail)
    result = np.minimum(result, np.maximum(significance, 0))
    return np.where(significance < 0, np.maximum(result, significance), result)
