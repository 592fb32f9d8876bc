"""Posterior of the ratio of counts to what is expected, where there are few."""

import dataclasses

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln

__all__ = ["Posterior", "fit_posterior", "fit_prior_counts"]

COUNTS_BOUNDS = 0.5, 1e6
"""Of the prior. Above, the ratio is taken to be 1."""


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Posterior of the ratio of counts to what is expected.

    Parameters
    ----------
    ratio : `~numpy.ndarray`
        Mean of the ratio, positive.
    variance : `~numpy.ndarray`
        Variance of the log of the ratio. Same shape.
    inherited : `~numpy.ndarray`
        How much an error of what was expected changes ratio times expected, 0 to 1.
        Same shape.
    """

    ratio: np.ndarray
    variance: np.ndarray
    inherited: np.ndarray

    def add_to(self, variance):
        """Variance of the log of ratio times expected, from that of expected."""
        return self.variance + self.inherited**2 * variance


def fit_posterior(counts, expected):
    r"""Fit how far counts are from what is expected, and give the ratios.

    The ratio in a bin has a Gamma prior with the mean 1 and the variance 1/k. So the
    counts n have a negative binomial distribution, the most likely k is the one that
    makes all of them most likely, and the mean of the posterior is
    :math:`(n + k) / (\mu + k)`: close to 1 where few are expected, and to the ratio of
    counts where many are.

    Parameters
    ----------
    counts, expected : `~numpy.ndarray`
        Counts, and what is expected. 0 in both where there is no exposure.

    Returns
    -------
    posterior : `Posterior`
        Ratios. The sum of their product with what is expected is that of the counts:
        the prior has the total that does it.
    """
    k = fit_prior_counts(counts, expected)
    if k is None:
        one = np.ones(expected.shape)
        return Posterior(one * counts.sum() / expected.sum(), 0 * one, one)

    def get_excess(log_scale):
        mean = expected * np.exp(log_scale)
        return (mean * (counts + k) / (mean + k)).sum() - counts.sum()

    bound = 1.0
    while get_excess(bound) < 0 or get_excess(-bound) > 0:
        bound *= 2
    scale = np.exp(brentq(get_excess, -bound, bound))
    mean = scale * expected
    return Posterior(
        scale * (counts + k) / (mean + k), 1 / (counts + k), k / (mean + k)
    )


def fit_prior_counts(counts, expected):
    """Fit k, the inverse of the variance of the ratio beyond that of counting.

    Parameters
    ----------
    counts, expected : `~numpy.ndarray`
        Counts, and what is expected. 0 in both where there is no exposure.

    Returns
    -------
    k : float or None
        Most likely k of the Gamma distribution of `fit_posterior`. None if the counts
        are no farther from what is expected than by chance.
    """
    seen = expected > 0
    n, mean = counts[seen], expected[seen]

    def get_loss(log_k):
        k = np.exp(log_k)
        log_mean = np.log1p(mean / k)
        terms = gammaln(n + k) - gammaln(k) - n * np.log(k)
        return -(terms - (n + k) * log_mean).sum()

    low, high = np.log(COUNTS_BOUNDS)
    fit = minimize_scalar(get_loss, bounds=(low, high), method="bounded")
    return None if fit.fun > mean.sum() - 1e-3 else np.exp(fit.x)
