"""Norms of the runs of a template, so that each may leave at its threshold."""

import logging

import numpy as np
from scipy.sparse.csgraph import connected_components

__all__ = ["fit_norms"]

log = logging.getLogger(__name__)

WIDTHS = np.array([3.0, 0.25])
"""Largest widths of the priors of the log of norms, and of tilts."""
TOLERANCE = 1e-5
N_STEPS = 500


def fit_norms(spectra, positions, livetime, area, log_energy):
    r"""Fit a norm and a tilt in energy for each run.

    Counts are Poisson with the mean :math:`f_{ie} t_{ie} a_{ip} s_e h_p`, for run i,
    energy e and position p, with livetime t, area a, :math:`\ln f_{ie} = \alpha_i +
    \beta_i (\ln E_e - \langle \ln E \rangle)`, and normal priors of :math:`\alpha` and
    :math:`\beta`, as wide as the counts tell (as in
    `~gammapy_mimic.template.poisson.fit_log_linear`): runs whose rates do not differ by
    more than chance have one norm. The fit is the fixed point of

    .. math::
        s_e = \frac{\sum_i n_{ie}}{\sum_{ip} f_{ie} t_{ie} a_{ip} h_p}, \quad
        h_p = \frac{\sum_{ie} n_{iep}}{\sum_{ie} f_{ie} t_{ie} a_{ip} s_e}

    and of Newton's steps of :math:`\alpha_i, \beta_i`. Approximation: the shape is the
    same at all energies. This is for the norms alone, and matters where masks and
    thresholds of the runs differ together.

    Parameters
    ----------
    spectra : `~numpy.ndarray`
        Counts of each run. Shape (n_runs, n_energy).
    positions : `~numpy.ndarray`
        Counts at each position. Shape (n_position,).
    livetime : `~numpy.ndarray`
        Livetime of each run, 0 where the energy is not in its safe range. Shape
        (n_runs, n_energy).
    area : `~numpy.ndarray`
        Unmasked solid angle of each run. Shape (n_runs, n_position).
    log_energy : `~numpy.ndarray`
        Log of the energies. Shape (n_energy,).

    Returns
    -------
    norms : `~numpy.ndarray`
        Norms, also where an energy is not in the safe range. At each energy the mean
        over the runs, weighted with their livetimes, is 1. Shape (n_runs, n_energy).
    """
    n_runs, n_energy = spectra.shape
    norms = np.ones((n_runs, n_energy))
    weights = livetime.max(axis=1)
    seen = weights > 0
    if seen.sum() < 2 or _is_uniform(livetime[seen], area[seen]):
        # the sum of counts over the sum of exposures whatever the norms
        return norms
    covered = livetime > 0
    _warn_of_gaps(covered[seen])
    x = log_energy - np.average(log_energy, weights=spectra.sum(axis=0) + 1e-9)
    basis = np.stack([np.ones(n_energy), x])
    coefficients = np.zeros((n_runs, 2))
    precision = WIDTHS**-2.0
    shape = np.ones(area.shape[1])
    for _ in range(N_STEPS):
        before = coefficients
        seen_area = area @ shape
        exposure = norms * livetime * seen_area[:, np.newaxis]
        spectrum = _divide(spectra.sum(axis=0), exposure.sum(axis=0))
        shape = _divide(positions, ((norms * livetime) @ spectrum) @ area)
        shape /= shape.mean()
        predicted = norms * livetime * np.multiply.outer(area @ shape, spectrum)
        gradient = ((spectra - predicted) * covered) @ basis.T
        gradient -= precision * coefficients
        hessian = np.einsum("ie,ae,be->iab", predicted, basis, basis)
        covariance = np.linalg.inv(hessian + np.diag(precision))
        step = np.einsum("iab,ib->ia", covariance, gradient)
        coefficients = coefficients + step.clip(-1, 1)
        coefficients -= np.average(coefficients, axis=0, weights=weights)
        spread = (coefficients**2).sum(axis=0)
        known = precision * np.diagonal(covariance, axis1=1, axis2=2).sum(axis=0)
        precision = np.maximum(n_runs - known, 1e-3) / np.maximum(spread, 1e-6)
        precision = np.maximum(precision, WIDTHS**-2.0)
        norms = np.exp((coefficients @ basis).clip(-5, 5))
        if np.abs(coefficients - before).max() < TOLERANCE:
            break
    return norms / np.average(norms, axis=0, weights=weights)


def _warn_of_gaps(covered):
    """Warn of runs that no energies connect."""
    n_groups, groups = connected_components(covered.astype(int) @ covered.T)
    if n_groups > 1:
        sizes = np.bincount(groups).tolist()
        log.warning(
            f"The observations of a template are in {n_groups} groups, of {sizes} "
            "observations, whose safe energy ranges do not overlap: their rates cannot "
            "be compared, and a step between them is possible."
        )


def _is_uniform(livetime, area):
    """Whether the exposures of the runs differ by a factor alone."""
    same_energies = np.all((livetime > 0) == (livetime[0] > 0))
    return same_energies and np.allclose(area, area[0], rtol=1e-6)


def _divide(values, divisor):
    return np.divide(values, divisor, out=np.zeros_like(divisor), where=divisor > 0)
