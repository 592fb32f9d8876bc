"""Intervals from few degrees of freedom: Student, chi2 and F. Arrays only."""

from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, fdtri, ndtri, stdtrit

__all__ = [
    "Interval",
    "get_mean_interval",
    "get_square_interval",
    "not_measurable",
    "take_root",
]

# a central interval of 68%, one sigma of a Gaussian, and a limit of 95%
TAIL = 0.15865525393145707
PROBABILITIES = (TAIL, 1 - TAIL, 0.95)
N_STEPS = 20
TOLERANCE = 1e-6


class Interval(NamedTuple):
    """A value with its error, an interval of 68% and an upper limit of 95%.

    Attributes
    ----------
    value : float
        Value.
    error : float
        Standard error.
    low, high : float
        Interval of 68% confidence.
    upper_limit : float
        Upper limit of 95% confidence.
    reason : str
        Why it cannot be measured, in words; the numbers are NaN then. Empty for what is
        measured.
    """

    value: float
    error: float
    low: float
    high: float
    upper_limit: float
    reason: str = ""

    @property
    def is_measurable(self):
        """Whether it is measured."""
        return not self.reason

    def to_row(self, name):
        """Make columns of a table.

        Parameters
        ----------
        name : str
            Name of the value.

        Returns
        -------
        row : dict of float
            Value, ``name_err``, ``name_lo``, ``name_hi`` and ``name_ul``.
        """
        suffixes = ("", "_err", "_lo", "_hi", "_ul")
        return {f"{name}{_}": x for _, x in zip(suffixes, self[:5], strict=True)}


def not_measurable(reason):
    """Make the interval of what cannot be measured.

    Parameters
    ----------
    reason : str
        Why, in words.

    Returns
    -------
    interval : `Interval`
        NaN, with the reason.
    """
    return Interval(*[np.nan] * 5, reason)


def get_mean_interval(value, error, dof=np.inf):
    """Interval of a mean, by Student's t distribution.

    Parameters
    ----------
    value, error : float
        Mean and its standard error.
    dof : float, optional
        Degrees of freedom of the error. Default is an error that is known.

    Returns
    -------
    interval : `Interval`
        Interval.
    """
    ends = (value + error * _get_student(_, dof) for _ in PROBABILITIES)
    return Interval(float(value), float(error), *map(float, ends))


def _get_student(probability, dof):
    return stdtrit(dof, probability) if np.isfinite(dof) else ndtri(probability)


def get_square_interval(value, noise, get_variance, dof=np.inf, n_other=np.inf):
    r"""Interval of a mean square that is measured above a known noise.

    The mean square with its noise, :math:`T = \hat f^2 + v_0`, is taken to follow a
    :math:`\chi^2` distribution with the degrees of freedom that give its variance V
    (Satterthwaite 1946, Biometrics Bulletin 2, 110), which makes an interval of

    .. math:: f^2 = \frac{\nu T}{\chi^2_q(\nu)} - v_0,
        \qquad \nu = \frac{2 (f^2 + v_0)^2}{V(f^2)}.

    It holds the squares for which the estimate is no rare outcome. So the variance is
    that at the end of the interval, found in a few steps. One that is measured with few
    degrees of freedom is larger, by the squared ratio of the quantiles of Student and
    Gauss.

    The mean square of n other values scatters, too. Its interval is that of an F
    distribution with :math:`n (1 + v_0 / f^2)^2` and :math:`\nu` degrees of freedom.

    Parameters
    ----------
    value : float
        Estimate :math:`\hat f^2`, which is unbiased, hence negative at times. Then the
        interval is that of an estimate of 0: chance gives no limit below what the data
        can tell.
    noise : float
        Mean square by noise, :math:`v_0`.
    get_variance : callable
        Variance of the estimate, as a function of the true square.
    dof : float, optional
        Degrees of freedom of the variance. Default is one that is known.
    n_other : float, optional
        Number of the other values. Default is infinity: their expectation.

    Returns
    -------
    interval : `Interval`
        Interval of the square. The value is the estimate, the ends are not negative.
    """
    square = max(value, 0.0)
    ends = [
        _find_end(square, noise, get_variance, dof, n_other, _) for _ in PROBABILITIES
    ]
    return Interval(float(value), float(np.sqrt(get_variance(square))), *ends)


def _find_end(square, noise, get_variance, dof, n_other, probability):
    """End of the interval of `get_square_interval`, not below 0."""
    widening = (_get_student(probability, dof) / ndtri(probability)) ** 2
    end = square
    for _ in range(N_STEPS):
        # squares of one number have the fewest degrees of freedom that there are
        nu = max(2 * (end + noise) ** 2 / (get_variance(end) * widening), 1)
        if np.isfinite(n_other) and end > 0:
            ratio = fdtri(n_other * (1 + noise / end) ** 2, nu, probability)
        else:
            # a large square is one whose chi2 happened to be small
            ratio = nu / chdtri(nu, probability)
        previous, end = end, max(ratio * (square + noise) - noise, 0.0)
        if abs(end - previous) <= TOLERANCE * end:
            break
    return float(end)


def take_root(interval):
    """Turn the interval of a square into that of its root.

    Parameters
    ----------
    interval : `Interval`
        Interval of a square.

    Returns
    -------
    root : `Interval`
        The root, 0 for a negative square. Its error is half of the interval, which is
        finite for a value of 0, too.
    """
    if not interval.is_measurable:
        return interval
    value, _, low, high, limit, _ = (
        np.sqrt(max(x, 0)) if i < 5 else x for i, x in enumerate(interval)
    )
    return Interval(*map(float, (value, (high - low) / 2, low, high, limit)))
