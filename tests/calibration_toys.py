"""Toys of a target and mimics that are nothing but background, by counts alone."""

import numpy as np

from gammapy_mimic.estimators.aperture_counts import ApertureCounts
from gammapy_mimic.estimators.calibration import calibrate_significance
from gammapy_mimic.estimators.counting import BandCounts
from gammapy_mimic.estimators.maxima import get_significance

# OFF observations of a set
N_RUNS = 10


def simulate_calibrated(
    f,
    target,
    mimic,
    n_values,
    n_toys,
    delta=0.0,
    alpha=0.0,
    random_state=0,
    above=-np.inf,
):
    """Calibrate the significance of targets that are nothing but background.

    Parameters
    ----------
    f, delta : float
        Spread and mean of the error of the background.
    target, mimic : float
        Background counts of the target and of each mimic.
    n_values, n_toys : int
        Number of mimics of a target, and of targets.
    alpha : float, optional
        Ratio of exposures. Default is 0, a background that is known exactly.
    random_state : int, optional
        Seed.
    above : float, optional
        Significance from which on targets are calibrated. A calibrated one is not above
        the raw one, so that nothing that is above is lost. Default is all.

    Returns
    -------
    significance : `~numpy.ndarray`
        Calibrated significances, NaN if they are not above. Shape (n_toys,).
    """
    rng = np.random.default_rng(random_state)

    def draw(background, *shape):
        error = np.maximum(1 + f * rng.normal(size=shape), 0)
        n_on = rng.poisson(background * (1 + delta) * error)
        prediction = np.full(shape, float(background))
        if alpha:
            prediction = alpha * rng.poisson(background / alpha, size=shape)
        return n_on, prediction

    n_on, prediction = draw(mimic, n_toys, n_values)
    mean = n_on.mean(axis=1) / prediction.mean(axis=1)
    excess = n_on - prediction * mean[:, np.newaxis]
    noise = n_on.mean(axis=1) + alpha * prediction.mean(axis=1) * mean**2
    variance = np.sum(excess**2, axis=1) / (n_values - 1)
    error = np.sqrt(np.maximum(variance, noise) / n_values) / mimic
    f_squared = (variance - noise) / (mean * mimic) ** 2
    n_on, prediction = draw(target, n_toys)
    raw = get_significance(n_on, prediction, alpha)
    is_above = raw > above
    mean, error, f_squared = (_[is_above] for _ in (mean, error, f_squared))
    spread = f_squared, n_values - 1, mimic / (1 + alpha)
    bias = mean - 1, error, n_values - 1
    return _calibrate(raw, is_above, target / (1 + alpha), *spread, *bias, alpha)


def simulate_measured(
    f, n_circles, n_sets=5, counts=400, n_toys=1000, random_state=0, above=-np.inf
):
    """Calibrate targets by mean and spread as they are measured in circles.

    All sets, each of OFF observations of its own, have the same error in a circle.

    Parameters
    ----------
    f : float
        Spread of the error between circles.
    n_circles, n_sets, n_toys : int
        Number of circles, sets and targets.
    counts : float, optional
        Background counts of a set in a circle, and of the target.
    random_state, above
        As in `simulate_calibrated`.

    Returns
    -------
    significance : `~numpy.ndarray`
        Calibrated significances, NaN if they are not above. Shape (n_toys,).
    """
    rng = np.random.default_rng(random_state)
    used = np.repeat(np.eye(n_sets), N_RUNS, axis=0)[..., np.newaxis]
    mean = counts / N_RUNS
    background = mean * np.broadcast_to(used, (*used.shape[:2], n_circles))
    raw = rng.poisson(counts * np.maximum(1 + f * rng.normal(size=n_toys), 0))
    raw = get_significance(raw, np.full(n_toys, float(counts)))
    is_above = raw > above
    systematics = []
    for _ in range(np.sum(is_above)):
        field = np.maximum(1 + f * rng.normal(size=n_circles), 0)
        n = rng.poisson(mean * field, (len(used), 1, n_circles)) * used
        band = BandCounts(ApertureCounts(n, background), np.zeros((n_sets, n_circles)))
        # the last one is part of the error of delta
        systematics.append(band.find_systematic()[:-1])
    delta, error, dof, *spread = np.reshape(systematics, (-1, 6)).T
    return _calibrate(raw, is_above, counts, *spread, delta, error, dof)


def _calibrate(raw, is_above, *arguments):
    """Calibrate the significances that are above, NaN for the others."""
    result = np.full(raw.shape, np.nan)
    result[is_above] = calibrate_significance(raw[is_above], *arguments).significance
    return result
