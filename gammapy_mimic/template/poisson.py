"""Log-linear models of counts, whose terms are as strong as the counts tell."""

import dataclasses

import numpy as np

__all__ = ["LogLinearFit", "fit_log_linear"]

MAX_STEP = 1.0  # of the log of what is expected, in a step of Newton's method
TOLERANCE = 1e-3  # of the log of what is expected, at which the variances stay
VARIANCE_BOUNDS = 1e-8, 100.0
N_STEPS = 100


@dataclasses.dataclass(frozen=True)
class LogLinearFit:
    """Result of a fit.

    Parameters
    ----------
    log_factor : `~numpy.ndarray`
        Log of the ratio of what is fitted to what was expected. Shape (n,).
    covariance : `~numpy.ndarray`
        Posterior covariance of the coefficients. Shape (n_terms, n_terms).
    """

    log_factor: np.ndarray
    covariance: np.ndarray


def fit_log_linear(counts, expected, terms, groups, prior=1.0):
    r"""Fit the ratio of counts to what is expected by the exponential of terms.

    The posterior mode of :math:`c` for counts :math:`n_i` that are Poisson with the
    mean :math:`\mu_i = e_i \exp(\sum_j t_{ij} c_j)`, by Newton's method: it has a
    single maximum. The first term is a constant without a prior, so that the sum of
    the fit is that of the counts. The coefficients of a group have a normal prior
    about 0, whose variance is the one that makes the counts most likely ("evidence",
    MacKay 1992, Neural Computation 4, 415): the fixed point of

    .. math::
        \sigma^2 = \frac{\sum_j c_j^2}{n_g - \sum_j C_{jj} / \sigma^2}

    with the sums over the :math:`n_g` coefficients of a group and their posterior
    covariance :math:`C`.

    Parameters
    ----------
    counts, expected : `~numpy.ndarray`
        Counts, and what is expected of them. Shape (n,).
    terms : `~numpy.ndarray`
        Terms, without the constant. Shape (n, n_terms).
    groups : `~numpy.ndarray` of int
        Group of each term. Those in group -1 have a prior of fixed width. Shape
        (n_terms,).
    prior : float, optional
        Width of the prior in group -1, and the first one of the others. Default is 1.

    Returns
    -------
    fit : `LogLinearFit`
        Fit. The first of the coefficients is the constant. Where nothing is expected,
        the terms go on.
    """
    terms = np.column_stack([np.ones(len(terms)), terms])
    seen = expected > 0
    basis, counts, expected = terms[seen], counts[seen], expected[seen]
    members = [1 + np.flatnonzero(groups == _) for _ in np.unique(groups[groups >= 0])]
    precision = np.full(terms.shape[1], prior**-2.0)
    precision[0] = 0
    coefficients = np.zeros(terms.shape[1])
    coefficients[0] = np.log(counts.sum() / expected.sum())
    is_last = False
    for _ in range(N_STEPS):
        predicted = expected * np.exp(basis @ coefficients)
        gradient = basis.T @ (counts - predicted) - precision * coefficients
        hessian = (basis * predicted[:, np.newaxis]).T @ basis + np.diag(precision)
        covariance = np.linalg.inv(hessian)
        step = covariance @ gradient
        change = np.abs(basis @ step).max()
        coefficients += step / max(change / MAX_STEP, 1)
        # one more step of Newton's method leaves the square of a small change
        if is_last:
            break
        is_last = change < TOLERANCE
        if is_last or change > MAX_STEP / 10:  # the variances would follow a bad start
            continue
        for idx in members:
            spread = (coefficients[idx] ** 2).sum()
            n_free = len(idx) - (precision[idx] * covariance[idx, idx]).sum()
            variance = np.clip(spread / max(n_free, 1e-3), *VARIANCE_BOUNDS)
            precision[idx] = 1 / variance
    return LogLinearFit(terms @ coefficients, covariance)
