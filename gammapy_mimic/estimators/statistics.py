"""Statistics of systematic errors. Arrays only."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

__all__ = [
    "VARIANCE_FRACTION",
    "Estimate",
    "average_sets",
    "count_larger",
    "get_expected_mean",
    "get_p_value",
]

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
