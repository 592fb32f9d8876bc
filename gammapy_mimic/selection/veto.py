"""Which divergences are too large, decided without choosing fluctuations.

A limit on the divergence of each candidate alone would be a choice of fluctuations: of
many candidates of one shape that are all a little too different from a target, those
pass whose fluctuations happen to be like the target's. So what one candidate says is
read in the light of all others. What they have in common, as their shapes are the same
or as the target is unlike all of them, decides for all of them alike; only what
distinguishes groups of candidates, beyond noise, tells one from the other.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["DivergenceNoise", "find_refused", "get_noise", "pool_divergences"]

N_SIGMA = 3
"""Significance of a refusal: chance refuses all candidates of a target, if they are of
its shape, in about 0.1% of targets."""

N_NODES = 48
"""Divergences of which the distribution of true ones is made."""

N_STEPS = 300
"""Steps of the fit of that distribution, each of which makes it more likely."""

N_FIT = 200
"""Candidates that are enough to fit it."""


class DivergenceNoise(NamedTuple):
    """Noise of divergences, see `get_noise`. Arrays (n_candidates,), in nat squared."""

    own: np.ndarray
    """Variance by the counts of each candidate, if the shapes are equal."""
    own_slope: np.ndarray
    """Its increase with the true divergence."""
    common: np.ndarray
    """Variance by the counts of the target, the same fluctuation for all candidates."""
    common_slope: np.ndarray
    """Its increase with the true divergence."""

    def get_own(self, kl):
        """Variance by the counts of the candidates, at a true divergence."""
        return self.own + self.own_slope * np.maximum(kl, 0)

    def get_common(self, kl):
        """Variance by the counts of the target, at a true divergence."""
        return self.common + self.common_slope * np.maximum(kl, 0)


def find_refused(comparison, accepted, kl_max):
    """Find the candidates whose divergence is too large, by more than chance.

    Parameters
    ----------
    comparison : `~gammapy_mimic.selection.divergence.CountsComparison`
        Comparison of a target with its candidates.
    accepted : `~numpy.ndarray` of bool
        Candidates that count. Shape (n_candidates,).
    kl_max : float or None
        Largest divergence of a good pair. If it is None, none is too large.

    Returns
    -------
    is_refused : `~numpy.ndarray` of bool
        Whether the pooled divergence is above ``kl_max`` by more than `N_SIGMA` of its
        noise: that of the target, which all have in common, and that of the candidates
        that are pooled. Shape (n_candidates,).
    """
    if kl_max is None:
        return np.zeros(len(accepted), dtype=bool)
    # predictions have no noise
    is_refused = np.isinf(comparison.n) & (comparison.kl_corr > kl_max)
    rows = np.flatnonzero(accepted & (comparison.kl_std > 0))
    if len(rows) == 0:
        return is_refused
    kl_corr = comparison.kl_corr[rows]
    noise = get_noise(comparison.kl_std[rows], comparison.n[rows], comparison.m[rows])
    pooled, n_pooled = pool_divergences(kl_corr, noise)
    variance = noise.get_common(kl_max) + noise.get_own(kl_max) / n_pooled
    is_refused[rows] = pooled > kl_max + N_SIGMA * np.sqrt(variance)
    return is_refused


def get_noise(kl_std, n, m):
    r"""Split the noise of divergences in that of target and candidates.

    G, see `~gammapy_mimic.selection.divergence.compare_counts`, is quadratic in the
    difference of two fluctuations, of which the candidate's makes the share
    :math:`s = N / (N + M)` of the variance. Taken as a noncentral :math:`\chi^2` of
    variance :math:`v + 4 \lambda`, for one fluctuation of the target it has on average
    the variance

    .. math:: v (2 s - s^2) + 4 s \lambda

    Parameters
    ----------
    kl_std : `~numpy.ndarray`
        Standard deviation of KL_CORR if the shapes are equal. Shape (n_candidates,).
    n, m : `~numpy.ndarray`
        Counts of target and candidates. Shape (n_candidates,).

    Returns
    -------
    noise : `DivergenceNoise`
        Variances. The sum of own and common is that of KL_CORR.
    """
    share, scale = n / (n + m), (n + m) / (2 * n * m)
    variance = kl_std**2
    return DivergenceNoise(
        own=variance * (2 * share - share**2),
        own_slope=4 * scale * share,
        common=variance * (1 - share) ** 2,
        common_slope=4 * scale * (1 - share),
    )


def pool_divergences(kl_corr, noise):
    r"""Estimate the divergence of each candidate in the light of all others.

    Empirical Bayes: the distribution of true divergences is fitted to all candidates,
    without a form (Kiefer and Wolfowitz 1956, by expectation maximisation on a grid),
    and each gets the mean of its posterior. Candidates of one shape, which differ by
    noise alone, get the same value, whatever their fluctuations; those of two shapes
    that noise does not mix keep two.

    The noise of the target is the same fluctuation for all. It shifts all values alike,
    and is not part of this.

    Parameters
    ----------
    kl_corr : `~numpy.ndarray`
        Divergences without noise on average. Shape (n_candidates,).
    noise : `DivergenceNoise`
        Its noise.

    Returns
    -------
    pooled : `~numpy.ndarray`
        Estimates between the smallest and the largest divergence. Shape
        (n_candidates,).
    n_pooled : `~numpy.ndarray`
        Number of candidates that share an estimate, one or more: rather too small, as
        one value of many may lie on several nodes of the grid. Shape (n_candidates,).
    """
    low, high = np.min(kl_corr), np.max(kl_corr)
    if not high > low:
        return kl_corr.copy(), np.ones(len(kl_corr))
    nodes = np.linspace(low, high, N_NODES)
    likelihood = _get_likelihood(kl_corr, nodes, noise)
    # of many, every so-manieth by its divergence: no draw, and any order
    order = np.argsort(kl_corr, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(N_FIT, len(order))).astype(int)]
    fitted = likelihood[rows]
    density = np.full(N_NODES, 1 / N_NODES)
    for _ in range(N_STEPS):
        # density <- mean posterior of the candidates
        density = density * ((1 / (fitted @ density)) @ fitted) / len(rows)
    posterior = likelihood * density
    posterior /= posterior.sum(axis=1, keepdims=True)
    n_pooled = np.maximum(len(kl_corr) * (posterior @ density), 1)
    return posterior @ nodes, n_pooled


def _get_likelihood(kl_corr, nodes, noise):
    """Likelihood of true divergences, up to a factor. Shape (n_candidates, N_NODES)."""
    columns = DivergenceNoise(*(_[:, np.newaxis] for _ in noise))
    variance = columns.get_own(nodes)
    exponent = -((kl_corr[:, np.newaxis] - nodes) ** 2) / (2 * variance)
    exponent -= np.log(variance) / 2
    # relative to the best node, so that none is 0 everywhere
    return np.exp(exponent - exponent.max(axis=1, keepdims=True))
