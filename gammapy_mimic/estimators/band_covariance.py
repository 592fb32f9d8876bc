r"""Covariance of the error of a background between bands of energy. Arrays only.

The background of a target is :math:`b_i (1 + \delta_i + \epsilon_i)` in the band i,
with the prediction b, the bias :math:`\delta`, which is that of all mimics, and an
error :math:`\epsilon` of its own, whose covariance is C.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from .aperture_counts import (
    ApertureCounts,
    get_delta,
    get_deviations,
    get_information,
    get_share,
)
from .bias_spread import MIN_APERTURES, find_reason, get_delta_variance
from .intervals import get_mean_interval
from .spread import WEIGHT_SPREAD, measure_spread

__all__ = ["BandCovariance", "fit_covariance", "measure_band_covariance"]

# of norm and tilt, half around. Between two of them the root of a variance is up to
# 1% of that along them, where it is 0
N_DIRECTIONS = 180


class BandCovariance(NamedTuple):
    r"""Error of a background in bands of energy, as a fraction of the prediction.

    Attributes
    ----------
    delta, delta_err : `~numpy.ndarray`
        Bias :math:`\delta` and its standard error. Shape (n_bands,).
    spread : `~numpy.ndarray`
        Covariance C of the errors of targets around the true bias. Shape
        (n_bands, n_bands).
    covariance : `~numpy.ndarray`
        Covariance of the error of one more target around the measured bias: what a fit
        needs. Same shape.
    dof : float
        Degrees of freedom of the spread.
    """

    delta: np.ndarray
    delta_err: np.ndarray
    spread: np.ndarray
    covariance: np.ndarray
    dof: float


class _Part(NamedTuple):
    """Part of the covariance.

    ``moments`` are unbiased estimates, ``noise`` is their mean square by counts, and
    ``share`` the part of the covariance that is in the measured bias. The arrays have
    the shapes (n_bands, n_bands), (n_bands,) and (n_bands,).
    """

    moments: np.ndarray
    noise: np.ndarray
    share: np.ndarray
    dof: float


def measure_band_covariance(
    counts,
    log_energy,
    norm_shares=0.0,
    template_variances=0.0,
    has_places=True,
    target_variances=None,
):
    r"""Measure the error of a background in bands of energy, and its covariance.

    A target is one more set, in one of the apertures. Its covariance has two parts,
    each from moments without bias. That of a set as a whole is that of runs: with the
    sum u of the deviations of each run from :math:`\delta`, over the predicted counts
    of all runs, and n effective runs, of which a set has :math:`n_s`,

    .. math:: N_{ij} = \frac{n}{n_s} \left[\frac{n}{n - 1} \sum_r u_{ri} u_{rj}
        - P_{ij}\right]

    where P is the Poisson noise of :math:`\delta`. It is there only in the squares, as
    counts of two bands are independent, but for a norm that was fitted to both. A run
    that several sets have is one. Within a set, apertures have the covariance

    .. math:: F_{ij} = \frac{\sum w\, y_i\, y_j}
        {\sum w\, m_i\, m_j\, (1 - h_i - h_j + \sum h_i h_j)}, \qquad i \ne j,

    with deviations y that add up to 0 in the set, levers m, shares h and weights w as
    in `~gammapy_mimic.estimators.bias_spread.measure_bias_spread`, whose :math:`f^2`,
    without the noise of the template, is its diagonal. Each part is fitted, see
    `fit_covariance`, and C is their sum.

    The error of a target around the *measured* bias has in addition the error of that:
    the same parts, over the numbers of sets and of apertures, and the Poisson noise. If
    C is known from :math:`\nu` degrees of freedom, the distribution of one more normal
    value is Student's with the squared scale :math:`C (1 + 1/n)` (Gelman et al. 2013,
    Bayesian Data Analysis, 3.2). A Gaussian with the same interval of 68% has

    .. math:: k^2 (C + C_\delta) + P + T, \qquad k = t_{0.841}(\nu)

    and this is the result. T is diagonal, as templates have counts of their own in each
    band: the noise of the target's template in an aperture, and that of the mimics' in
    :math:`\delta`. C is without it; but where apertures are no places, or too few, it
    is in the scatter of runs, and not added. The degrees of freedom are n - 1 for runs,
    and for apertures those of a mean square above noise; for both together, as
    Satterthwaite (1946, Biometrics Bulletin 2, 110) has it.

    Parameters
    ----------
    counts : list of `~gammapy_mimic.estimators.aperture_counts.ApertureCounts`
        Counts of each band, of the same runs, sets and apertures. If runs are not
        known, each set is taken for one.
    log_energy : `~numpy.ndarray`
        Logarithm of the mean energy of each band. Shape (n_bands,).
    norm_shares : list of `~numpy.ndarray` or float, optional
        For each band, see ``norm_share`` of
        `~gammapy_mimic.estimators.bias_spread.measure_bias_spread`. Default is 0.
    template_variances : `~numpy.ndarray` or float, optional
        Relative variance of the mimics' prediction in an aperture by the counts of its
        template. Shape (n_bands,). Default is 0.
    has_places : bool, optional
        Whether apertures are places, in one of which the target may be. If not, all of
        them together are the target, as those of spectra. Default is True.
    target_variances : `~numpy.ndarray` or float, optional
        The same of the target's prediction. Default is that of the mimics.

    Returns
    -------
    result : `BandCovariance`
        Result.

    Raises
    ------
    ValueError
        If there are fewer than 3 effective runs, or 10 background counts, in a band.
    """
    counts = [_ if _.has_runs else _name_sets(_) for _ in counts]
    for one in counts:
        reason = find_reason(one)
        if reason:
            raise ValueError(reason)
    n_bands = len(counts)
    variances = np.broadcast_to(template_variances, n_bands)
    noises = []
    for one, variance in zip(counts, variances, strict=True):
        template_counts = 1 / variance if variance > 0 else np.inf
        noises.append(measure_spread(one, template_counts))
    sums = [[_.sum() for _ in get_delta(one)] for one in counts]
    delta = np.array([excess / prediction for excess, prediction in sums])
    shares = norm_shares if isinstance(norm_shares, list) else [norm_shares] * n_bands
    poisson = _get_poisson_covariance(counts, noises, shares)
    parts = [_measure_runs(counts, delta, poisson)]
    template = template_delta = np.zeros(n_bands)
    n_apertures = min(noise.n_apertures for _, noise in noises)
    if has_places and n_apertures >= MIN_APERTURES:
        parts.append(_measure_apertures(counts, delta, noises))
        if target_variances is None:
            target_variances = variances
        template_delta = variances * parts[-1].share
        template = template_delta + target_variances
    x = np.asarray(log_energy, dtype=float)
    norm_weights = 0.0
    if np.any(np.concatenate([np.ravel(_) for _ in shares]) > 0):
        predictions = np.array([prediction for _, prediction in sums])
        norm_weights = predictions / predictions.sum()
    options = x - x.mean(), norm_weights
    fitted = [fit_covariance(_.moments, _.noise, *options) for _ in parts]
    root = [np.sqrt(_.share) for _ in parts]
    of_delta = sum(a * np.outer(b, b) for a, b in zip(fitted, root, strict=True))
    spread = sum(fitted)
    dof = _combine_dof([np.trace(_) for _ in fitted], [_.dof for _ in parts])
    widening = get_mean_interval(0, 1, dof).high
    covariance = widening**2 * (spread + of_delta) + poisson + np.diag(template)
    delta_err = np.sqrt(np.diag(of_delta + poisson) + template_delta)
    return BandCovariance(delta, delta_err, spread, covariance, dof)


def fit_covariance(moments, noise, x, norm_weights=0.0):
    r"""Fit a covariance of norm, tilt and errors of single bands to moments.

    .. math:: C_{ij} = \sum_k t_k\, d_{ki} d_{kj} + s_i^2 \delta_{ij}
        + \sum_k q_k (\delta_{ki} - w_k) (\delta_{kj} - w_k), \qquad
        d_{ki} = \cos \phi_k + \sin \phi_k\, \frac{x_i}{x_\mathrm{rms}}

    with coefficients t, :math:`s^2` and q that are not negative (Lawson & Hanson 1974,
    Solving Least Squares Problems, 23), for angles :math:`\phi` all around: the first
    sum is any covariance of norm and tilt. They are not independent where a norm was
    fitted, which makes the tilt pivot at the energy of most counts. The last sum is
    what such a norm, to which a band has the weight w, makes of errors of single bands.
    What each band has of its own is not below 0, so the diagonal is not below that of
    the moments. A few sets alone have no more directions than sets. Weights are those
    of the noise and of a fixed spread: weights that follow the moments would bias them.

    Parameters
    ----------
    moments : `~numpy.ndarray`
        Estimates without bias. Shape (n_bands, n_bands).
    noise : `~numpy.ndarray`
        Mean square by counts in each band. Shape (n_bands,).
    x : `~numpy.ndarray`
        Logarithm of energy, less its mean. Shape (n_bands,).
    norm_weights : `~numpy.ndarray` or float, optional
        Weight of each band in a norm that was fitted to all. Shape (n_bands,). Default
        is 0, a norm that was not fitted.

    Returns
    -------
    covariance : `~numpy.ndarray`
        Covariance. Shape (n_bands, n_bands).
    """
    angle = np.pi * np.arange(N_DIRECTIONS)[:, np.newaxis] / N_DIRECTIONS
    common = np.cos(angle) + np.sin(angle) * x / np.sqrt(np.mean(x**2))
    own = np.eye(len(x))
    weights = np.broadcast_to(norm_weights, len(x))[:, np.newaxis]
    directions = np.concatenate([common, own, own - weights])
    first, second = np.triu_indices(len(x))
    design = (directions[:, first] * directions[:, second]).T
    total = noise + WEIGHT_SPREAD**2
    scale = np.sqrt((1 + (first == second)) * total[first] * total[second])
    values = moments[first, second] / scale
    sizes = nnls(design / scale[:, np.newaxis], values)[0]
    return directions.T @ (sizes[:, np.newaxis] * directions)


def _name_sets(counts):
    """Take each set for a run of its own."""
    names = ("counts", "background", "counts_off", "alpha")
    values = {name: getattr(counts, name) for name in names}
    return ApertureCounts(
        **{name: _ for name, _ in values.items() if _ is not None},
        runs=np.arange(counts.counts.shape[1])[np.newaxis],
    )


def _get_poisson_covariance(counts, noises, norm_shares):
    """Covariance of delta by counts. Shape (n_bands, n_bands)."""
    total, left = np.array(
        [
            [get_delta_variance(one, noise.shared, _) for _ in (0.0, share)]
            for one, (_, noise), share in zip(counts, noises, norm_shares, strict=True)
        ]
    ).T
    # a norm that was fitted to several bands takes from one what another has too much
    fitted = np.sqrt(np.maximum(total - left, 0))
    return np.diag(total) - np.outer(fitted, fitted)


def _measure_runs(counts, delta, poisson):
    """Covariance of a set as a whole, from the scatter of runs."""
    scatter, n_runs, n_in_set = [], [], []
    for one, value in zip(counts, delta, strict=True):
        excess, prediction = get_delta(one)
        sums = one.add_clusters((excess - value * prediction).sum(axis=2)).sum(axis=1)
        n = one.n_runs
        scatter.append(sums / prediction.sum() * np.sqrt(n / (n - 1)))
        n_runs.append(n)
        n_in_set.append(_get_runs_of_sets(one))
    scatter = np.array(scatter)
    share = np.array(n_in_set) / n_runs
    root = np.sqrt(share)
    moments = (scatter @ scatter.T - poisson) / np.outer(root, root)
    return _Part(moments, np.diag(poisson) / share, share, min(n_runs) - 1)


def _get_runs_of_sets(counts):
    """Effective number of runs of a set, in the mean of sets."""
    information = counts.add_clusters(get_information(counts).sum(axis=2))
    total = information.sum(axis=0)
    used = total > 0
    inverse = np.sum(information[:, used] ** 2, axis=0) / total[used] ** 2
    return 1 / np.average(inverse, weights=total[used])


def _measure_apertures(counts, delta, noises):
    """Covariance of the apertures of a set."""
    deviations = [get_deviations(_) for _ in counts]
    lever = np.array([_.lever.sum(axis=0) for _ in deviations])
    share = get_share(lever)
    value = np.array([_.value.sum(axis=0) for _ in deviations])
    value -= share * value.sum(axis=-1, keepdims=True)
    information = np.array([get_information(_).sum(axis=0) for _ in counts])
    weight = 1 / (1 + WEIGHT_SPREAD**2 * information)
    # of two bands, i and j, in sets s and apertures a
    product = np.einsum("isa,jsa->ijs", share, share)
    left = 1 - share[:, np.newaxis] - share + product[..., np.newaxis]
    values, levers = weight * value, weight * lever
    levers = np.einsum("isa,jsa,ijsa->ij", levers, levers, left)
    moments = np.einsum("isa,jsa->ij", values, values) / levers
    scale = 1 + delta
    f_squared = np.array([square for square, _ in noises])
    np.fill_diagonal(moments, f_squared)
    moments *= np.outer(scale, scale)
    level = np.array([noise.level + noise.template for _, noise in noises])
    variance = np.array(
        [
            noise.get_variance(max(square, 0)) + noise.get_field_error(square) ** 2
            for square, noise in noises
        ]
    )
    dof = 2 * (np.maximum(f_squared, 0) + level) ** 2 / variance
    n_apertures = np.array([noise.n_apertures for _, noise in noises])
    return _Part(moments, level * scale**2, 1 / n_apertures, 1 / np.mean(1 / dof))


def _combine_dof(sizes, dofs):
    """Degrees of freedom of a sum, infinite if it is nothing."""
    inverse = sum(size**2 / dof for size, dof in zip(sizes, dofs, strict=True))
    return float(sum(sizes) ** 2 / inverse) if inverse > 0 else np.inf
