"""Toys of a target and mimics that are nothing but background, by counts alone."""

import numpy as np

from gammapy_mimic.estimators.calibration import calibrate_significance
from gammapy_mimic.estimators.maxima import get_significance


def simulate_calibrated(
    f, target, mimic, n_values, n_toys, delta=0.0, alpha=0.0, random_state=0
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

    Returns
    -------
    calibration : `~gammapy_mimic.estimators.calibration.Calibration`
        Arrays of shape (n_toys,).
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
    return calibrate_significance(
        get_significance(n_on, prediction, alpha),
        target / (1 + alpha),
        f_squared,
        n_values - 1,
        mimic / (1 + alpha),
        mean - 1,
        error,
        n_values - 1,
        alpha,
    )
