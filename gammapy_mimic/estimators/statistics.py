"""Statistics of systematic errors. Arrays only."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

__all__ = [
    "VARIANCE_FRACTION",
    "Estimate",
    "average_sets",
    "average_systematic",
    "count_larger",
    "fit_systematic",
    "get_expected_mean",
    "get_information",
    "get_p_value",
    "get_prediction_p_value",
    "to_fraction",
]

N_ITERATIONS = 5
CONFIDENCE_LEVEL = 0.95
# For circles of one radius the correlation of two positions is the overlap rho of the
# circles. The integral of rho over the plane is the area of a circle (variance of the
# mean), that of rho^2 is this fraction of it (variance of the width).
VARIANCE_FRACTION = 0.4596


class Estimate(NamedTuple):
    """A value, its standard error, and an upper limit of 95% confidence."""

    value: float
    error: float
    upper_limit: float

    @property
    def is_positive(self):
        """Whether it is larger than 0, with 95% confidence.

        The lower limit is as far below the value as the upper one is above.
        """
        return bool(2 * self.value > self.upper_limit)

    def to_row(self, name, limit=False):
        """Make columns of a table.

        Parameters
        ----------
        name : str
            Name of the value.
        limit : bool, optional
            Whether to have the upper limit as well. Default is False.

        Returns
        -------
        row : dict of float
            Value, error ``name_err`` and upper limit ``name_ul``.
        """
        names = (name, f"{name}_err", f"{name}_ul")
        return dict(zip(names, self[: 3 if limit else 2], strict=False))


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
        Significances. Shape (n,). NaN is left out.
    background : `~numpy.ndarray`
        Effective background counts. Shape (n,). What is not above 0 is left out.
    overlap : float, optional
        Number of positions in which an event is counted. Default is 1.

    Returns
    -------
    f_squared : float
        Square of the fractional systematic error. NaN for fewer than two positions.
    """
    values, background = np.asarray(values), np.asarray(background)
    valid = np.isfinite(values) & np.isfinite(background) & (background > 0)
    values, background = values[valid], background[valid]
    if len(values) < 2:
        return np.nan
    total = np.sum(background)
    root = np.sqrt(background)
    shift = np.sum(root * values) / total
    variance = 1 + 5 / (36 * background) + shift / 3 - background / total * overlap
    square = (values - shift * root) ** 2 - variance
    # the weights need the result, which settles in a few steps
    f_squared = 0.0
    for _ in range(N_ITERATIONS):
        weights = background / (1 + max(f_squared, 0) * background) ** 2
        previous = f_squared
        f_squared = np.sum(weights * square) / np.sum(weights * background)
        if abs(f_squared - previous) <= 1e-6 * abs(f_squared):
            break
    return float(f_squared)


def get_expected_mean(background, alpha=0.0):
    r"""Mean of a significance that has no systematic error.

    The signed root of the test statistic is :math:`-\gamma / 6` on average, with the
    skewness :math:`\gamma` of the counts (Pierce & Schafer 1986, JASA 81, 977). That
    is :math:`1 / \sqrt{N_b}` for a background that is known exactly. For a measured
    one the counts are binomial, given the sum of ON and OFF counts:

    .. math:: \gamma = \frac{1 - \alpha}{1 + \alpha} \frac{1}{\sqrt{q}},
        \quad q = \frac{N_b}{1 + \alpha}

    Parameters
    ----------
    background : `~numpy.ndarray`
        Effective background counts q.
    alpha : `~numpy.ndarray` or float, optional
        Ratio of exposures. Default is 0, a background that is known exactly.

    Returns
    -------
    mean : `~numpy.ndarray`
        Mean, in the shape of the background.
    """
    return -(1 - alpha) / (1 + alpha) / (6 * np.sqrt(background))


def get_information(background, f_squared=0.0):
    r"""Fisher information about the square of the fractional systematic error.

    A significance of the variance :math:`1 + f^2 q_i` knows :math:`f^2` as well as

    .. math:: I = \sum_i \frac{q_i^2}{2 (1 + f^2 q_i)^2},

    the inverse of the variance of `fit_systematic`. Where positions overlap, the
    variance is larger by the sum of the squared correlations of a position with all
    others. That factor is the same for all sets of one geometry, and left out here.

    Parameters
    ----------
    background : `~numpy.ndarray`
        Effective background counts :math:`q_i`. Shape (n,).
    f_squared : float, optional
        Square of the fractional systematic error. Default is 0.

    Returns
    -------
    information : float
        Information, 0 without positions.
    """
    background = np.asarray(background, dtype=float)
    return float(np.sum((background / (1 + f_squared * background)) ** 2) / 2)


def average_sets(values, weights=None):
    r"""Average a quantity over mimic sets, with the error from their scatter.

    With the shares :math:`p_s` of the weights, :math:`\bar x = \sum_s p_s x_s` has

    .. math::
        \sigma^2 = \frac{\sum_s p_s^2 (x_s - \bar x)^2}{1 - \sum_s p_s^2},
        \qquad n_\mathrm{eff} = \frac{1}{\sum_s p_s^2}.

    This is the variance of a weighted mean by Cochran (1977, Sampling Techniques;
    recommended by Gatz & Smith 1995, Atmos. Environ. 29, 1185), with the factor that
    makes it unbiased where variances are inverse to the weights: then the sum has the
    expectation :math:`(1 - \sum p_s^2)\,\sigma^2`. It is a sum of squares with the
    weights :math:`p_s`, hence has :math:`n_\mathrm{eff} - 1` degrees of freedom
    (Satterthwaite 1946, Biometrics Bulletin 2, 110). With equal weights it is the
    variance of the mean of n values.

    Parameters
    ----------
    values : list of float
        Value of each set. Those that are not finite are left out.
    weights : list of float, optional
        Weights, such as inverse variances up to a factor. Sets of weight 0 are left
        out. Default is equal ones.

    Returns
    -------
    estimate : `Estimate`
        Mean, standard error of the mean, and the limit that Student's t distribution
        gives. Errors are NaN for fewer than two sets.
    """
    values = np.asarray(values, dtype=float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    valid = np.isfinite(values) & (weights > 0)
    values, weights = values[valid], weights[valid]
    if len(values) < 2:
        mean = float(values[0]) if len(values) else np.nan
        return Estimate(mean, np.nan, np.nan)
    share = weights / np.sum(weights)
    mean = np.sum(share * values)
    concentration = np.sum(share**2)
    error = np.sqrt(np.sum((share * (values - mean)) ** 2) / (1 - concentration))
    # the scatter of few sets is poorly known: Student, not Gauss
    quantile = stdtrit(1 / concentration - 1, CONFIDENCE_LEVEL)
    return Estimate(float(mean), float(error), float(mean + quantile * error))


def average_systematic(f_squared, backgrounds):
    """Average the square of the fractional systematic error over mimic sets.

    The weights are the Fisher information of each set at one common value of the
    square. With its own value a set that fluctuates low would weigh more.

    Parameters
    ----------
    f_squared : list of float
        Result of `fit_systematic` for each set.
    backgrounds : list of `~numpy.ndarray`
        Effective background counts of each set.

    Returns
    -------
    estimate : `Estimate`
        As of `average_sets`.
    """
    estimate = Estimate(0.0, np.nan, np.nan)
    for _ in range(N_ITERATIONS):
        # a negative estimate is noise, and NaN none at all
        common = np.fmax(estimate.value, 0)
        weights = [get_information(_, common) for _ in backgrounds]
        estimate = average_sets(f_squared, weights)
    return estimate


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


def count_larger(value, sample):
    """Count the values of a sample that are as large as a value.

    Parameters
    ----------
    value : float
        Value.
    sample : `~numpy.ndarray`
        Values without signal. Shape (n,). NaN is left out.

    Returns
    -------
    n_larger : float
        Number k of values that are as large. NaN for a value of NaN.
    n : int
        Number of values.
    """
    sample = np.asarray(sample, dtype=float)
    sample = sample[np.isfinite(sample)]
    n_larger = np.nan if np.isnan(value) else float(np.sum(sample >= value))
    return n_larger, len(sample)


def get_p_value(value, sample):
    """Empirical p-value, (1 + k) / (1 + n) for k of n values that are as large.

    Parameters
    ----------
    value : float
        Value.
    sample : `~numpy.ndarray`
        Values without signal. Shape (n,). NaN is left out.

    Returns
    -------
    p_value : float
        Probability of a value as large, never 0 (Phipson & Smyth 2010, SAGMB 9, 39).
        NaN for a value of NaN, or without a sample.
    """
    n_larger, n = count_larger(value, sample)
    return (1 + n_larger) / (1 + n) if n else np.nan


def get_prediction_p_value(value, mean, std, n):
    r"""P-value of one more value, if all are drawn from one Gaussian.

    .. math:: t = \frac{x - \bar x}{s \sqrt{1 + 1/n}}

    follows Student's t distribution with n - 1 degrees of freedom.

    Parameters
    ----------
    value : float
        Value x.
    mean, std : float
        Mean, and standard deviation (with n - 1), of n other values.
    n : int
        Number of these.

    Returns
    -------
    p_value : float
        Probability of a value as large. NaN for fewer than two values.
    """
    if n < 2 or not std > 0:
        return np.nan
    return float(stdtr(n - 1, -(value - mean) / (std * np.sqrt(1 + 1 / n))))
