"""Mean and spread of a value between observations. Arrays only."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, erf

from .intervals import (
    PROBABILITIES,
    Interval,
    get_mean_interval,
    not_measurable,
    take_root,
)

__all__ = ["RunSpread", "measure_run_spread"]

MIN_RUNS = 3
# nodes of the posterior of the spread, up to this multiple of its upper limit
N_NODES = 100
MAX_SPREAD = 3
SIGMA = erf(1 / np.sqrt(2))


class RunSpread(NamedTuple):
    """Mean and spread of a value between observations.

    Attributes
    ----------
    mean : `~gammapy_mimic.estimators.intervals.Interval`
        Mean.
    spread : `~gammapy_mimic.estimators.intervals.Interval`
        Standard deviation of the true values.
    other_err : float
        Half of the interval around the mean that holds the true value of another
        observation with 68% probability: the width of a prior. It is averaged over the
        posterior of the spread (restricted likelihood, reference prior), as an estimate
        of 0 is no proof of 0. NaN if it cannot be measured.
    n_values, n_runs : int
        Number of values, and of different observations.
    """

    mean: Interval
    spread: Interval
    other_err: float
    n_values: int
    n_runs: int


def measure_run_spread(values, errors, runs=None):
    r"""Measure mean and spread of values between observations, beyond their errors.

    The values of one observation, which several sets may have, are averaged first.
    Their error is as common to them as their scatter says. With the weights
    :math:`w_i = 1 / (\tau^2 + \sigma_i^2)` and the mean :math:`\bar x` that they make,

    .. math:: Q(\tau^2) = \sum_i w_i (x_i - \bar x)^2

    follows a :math:`\chi^2` distribution with n - 1 degrees of freedom if
    :math:`\tau` is the spread. So :math:`Q(\tau^2) = n - 1` is its estimate (Paule &
    Mandel 1982, J. Res. NBS 87, 377) and the quantiles of :math:`\chi^2` are its
    interval (Viechtbauer 2007, Statistics in Medicine 26, 37), whatever the errors are.
    Where values scatter less than their errors say, the spread is 0, with the limit of
    a Q of n - 1: chance gives no limit below what the data can tell.

    Parameters
    ----------
    values, errors : `~numpy.ndarray`
        Values and their standard errors. Shape (n,).
    runs : `~numpy.ndarray` or None, optional
        Name of the observation of each value. Shape (n,). Default is that all differ.

    Returns
    -------
    spread : `RunSpread`
        Mean and spread. Intervals have a reason if there are fewer than three
        observations.

    Raises
    ------
    ValueError
        If the shapes differ, or if an error is not above 0, or a number not finite.
    """
    values, errors = np.asarray(values, float), np.asarray(errors, float)
    runs = np.arange(len(values)) if runs is None else np.asarray(runs)
    if not values.shape == errors.shape == runs.shape or values.ndim != 1:
        raise ValueError(
            "'values', 'errors' and 'runs' must have one shape (n,), got "
            f"{values.shape}, {errors.shape} and {runs.shape}"
        )
    valid = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    if not valid.all():
        i = np.flatnonzero(~valid)[0]
        raise ValueError(
            f"Values must be finite with errors above 0, got {values[i]} +- {errors[i]}"
        )
    x, variance = _average_runs(values, errors, runs)
    n = len(x)
    if n < MIN_RUNS:
        reason = f"there are {n} different observations, fewer than {MIN_RUNS}"
        interval = not_measurable(reason)
        return RunSpread(interval, interval, np.nan, len(values), n)

    q = max(_get_q(0, x, variance), n - 1)

    def find(level):
        """Squared spread at which Q is this level, of a Q of at least n - 1."""
        scale = q / _get_q(0, x, variance) if q == n - 1 else 1
        if q <= level:
            return 0.0
        top = q / level * np.max(variance + np.ptp(x) ** 2)
        return brentq(lambda t: scale * _get_q(t, x, variance) - level, 0, top)

    square = find(n - 1)
    ends = [find(chdtri(n - 1, _)) for _ in PROBABILITIES]
    mean, error = _get_mean(square, x, variance)
    return RunSpread(
        mean=get_mean_interval(mean, error, n - 1),
        spread=take_root(Interval(square, np.nan, *ends)),
        other_err=_get_other_error(np.sqrt(ends[-1]), x, variance),
        n_values=len(values),
        n_runs=n,
    )


def _average_runs(values, errors, runs):
    """Average the values of each observation. Means and their variances."""
    _, idx = np.unique(runs, return_inverse=True)
    number = np.bincount(idx)
    x = np.bincount(idx, values) / number
    variance = np.bincount(idx, errors**2) / number
    # what differs between copies is averaged, what they share is not
    expected = np.sum((number - 1) * variance)
    own = np.sum((values - x[idx]) ** 2) / expected if expected > 0 else 0
    # by chance copies may scatter by more than their errors
    return x, variance * np.maximum(1 - own * (1 - 1 / number), 0.5 / number)


def _get_other_error(limit, x, variance):
    """Half of the interval of another value, for an upper limit of the spread.

    With the reference prior of the spread (Bodnar et al. 2017, Statistics in Medicine
    36, 378). Where errors are small, the interval is Student's. Where the spread is
    lost in them it is too wide, the more so the fewer values there are.
    """
    spreads = limit * np.linspace(0, MAX_SPREAD, N_NODES)
    means = np.array([_get_mean(_, x, variance)[1] for _ in spreads**2])
    log_like = [
        np.log(error) - (_get_q(t, x, variance) + np.log(t + variance).sum()) / 2
        for t, error in zip(spreads**2, means, strict=True)
    ]
    prior = [np.linalg.norm(1 / (t + variance)) for t in spreads**2]
    weights = spreads * prior * np.exp(log_like - np.max(log_like))
    sigma = np.hypot(spreads, means)

    def get_excess(half):
        return np.average(erf(half / sigma / np.sqrt(2)), weights=weights) - SIGMA

    return float(brentq(get_excess, 0, 5 * sigma.max()))


def _get_mean(square, x, variance):
    """Weighted mean and its error, for a squared spread."""
    weights = 1 / (square + variance)
    total = weights.sum()
    return np.sum(weights * x) / total, 1 / np.sqrt(total)


def _get_q(square, x, variance):
    mean, _ = _get_mean(square, x, variance)
    return np.sum((x - mean) ** 2 / (square + variance))
