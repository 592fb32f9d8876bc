"""Statistics of systematic errors. Arrays only."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

__all__ = [
    "Estimate",
    "average_sets",
    "fit_spread",
    "fit_systematic",
    "get_p_value",
    "to_fraction",
]

N_ITERATIONS = 5
CONFIDENCE_LEVEL = 0.95


class Estimate(NamedTuple):
    """A value, its standard error, and an upper limit of 95% confidence."""

    value: float
    error: float
    upper_limit: float


def fit_systematic(values, background, overlap=1.0):
    r"""Estimate the square of the fractional systematic error of a background.

    Significances at positions i, with :math:`q_i` effective background counts, have the
    variance :math:`1 + f^2 q_i`. For a background that is known exactly :math:`q_i` is
    the number of background counts :math:`N_b`, for one that is measured with the
    ratio of exposures :math:`\alpha` it is :math:`N_b / (1 + \alpha)`. The estimate is

    .. math::
        \hat f^2 = \frac{\sum_i w_i\,[R_i^2 - v_i]}{\sum_i w_i\,q_i},
        \qquad w_i = \frac{q_i}{(1 + f^2 q_i)^2}

    with what is left of a significance without the normalisation of the background,

    .. math::
        R_i = S_i - \delta \sqrt{q_i},
        \quad \delta = \frac{\sum_j \sqrt{q_j}\,S_j}{\sum_j q_j},
        \quad v_i = 1 + \frac{5}{36 q_i} + \frac{\delta}{3} - \frac{q_i}{Q}.

    Here :math:`5 / (36 q_i)` is the excess of the variance of the signed root of the
    test statistic (within 2e-3 for 10 counts and more), :math:`\delta / 3` its change
    for a background that is wrong by the fraction :math:`\delta`, and :math:`q_i / Q`
    what the fitted normalisation takes from it, with the number Q of all counts. It
    takes no more if the background maker has fitted a normalisation before.

    The estimate is unbiased for any weights, also where neighbouring positions are
    correlated; these weights give it the smallest variance. It can be negative.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Significances. Shape (n,).
    background : `~numpy.ndarray`
        Effective background counts. Shape (n,).
    overlap : float, optional
        Number of positions in which an event is counted. Default is 1.

    Returns
    -------
    f_squared : float
        Square of the fractional systematic error. NaN for fewer than two positions.
    """
    values, background = np.asarray(values), np.asarray(background)
    if len(values) < 2:
        return np.nan
    total = np.sum(background)
    root = np.sqrt(background)
    shift = np.sum(root * values) / total
    variance = 1 + 5 / (36 * background) + shift / 3 - background / total * overlap
    square = (values - shift * root) ** 2 - variance
    f_squared = 0.0
    for _ in range(N_ITERATIONS):
        weights = background / (1 + max(f_squared, 0) * background) ** 2
        previous = f_squared
        f_squared = np.sum(weights * square) / np.sum(weights * background)
        if abs(f_squared - previous) <= 1e-6 * abs(f_squared):
            break
    return float(f_squared)


def average_sets(values):
    """Average a quantity over mimic sets, with the error from their scatter.

    Parameters
    ----------
    values : list of float
        Value of each set. Those that are not finite are left out.

    Returns
    -------
    estimate : `Estimate`
        Mean, standard error of the mean, and the limit that Student's t distribution
        gives. Errors are NaN for fewer than two sets.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        mean = float(values[0]) if len(values) else np.nan
        return Estimate(mean, np.nan, np.nan)
    mean = np.mean(values)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    quantile = stdtrit(len(values) - 1, CONFIDENCE_LEVEL)
    return Estimate(float(mean), float(error), float(mean + quantile * error))


def to_fraction(estimate):
    """Turn the square of a fractional error into the fractional error.

    Parameters
    ----------
    estimate : `Estimate`
        Square of the fractional error.

    Returns
    -------
    fraction : `Estimate`
        Fractional error. For a negative square it is 0, its error NaN, and its limit
        that of a square of 0: chance gives no limit below what the data can tell.
    """
    value, error, limit = estimate
    fraction = np.sqrt(max(value, 0))
    return Estimate(
        float(fraction),
        float(error / (2 * fraction)) if fraction > 0 else np.nan,
        float(np.sqrt(max(value, 0) + limit - value)),
    )


def fit_spread(values, errors):
    """Estimate mean and squared spread of values beyond their errors.

    The square is the variance of the values minus the mean square of their errors
    (Hedges 1983, Psychological Bulletin 93, 388). It is unbiased, and can be negative.

    Parameters
    ----------
    values, errors : `~numpy.ndarray`
        Values and their standard errors. Shape (n,).

    Returns
    -------
    mean, variance : float
        Weighted mean, and variance of the true values. NaN for fewer than two.
    """
    values, errors = np.asarray(values, float), np.asarray(errors, float)
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan), np.nan
    variance = np.var(values, ddof=1) - np.mean(errors**2)
    mean = np.average(values, weights=1 / (max(variance, 0) + errors**2))
    return float(mean), float(variance)


def get_p_value(value, sample):
    """Empirical p-value, (1 + k) / (1 + n) for k of n values that are as large.

    Parameters
    ----------
    value : float
        Value.
    sample : `~numpy.ndarray`
        Values without signal. Shape (n,).

    Returns
    -------
    p_value : float
        Probability of a value as large, never 0 (Phipson & Smyth 2010, SAGMB 9, 39).
    """
    sample = np.asarray(sample)
    return float((1 + np.sum(sample >= value)) / (1 + len(sample)))
