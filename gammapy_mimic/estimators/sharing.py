"""Samples of mimics that share events, so that each event counts once. Arrays only.

A sample is one position of one mimic set. Its events are those of the OFF observations
of that set, one for each observation of the target, which lie in a circle of their
fields of view. Sets that use the same OFF observations share the events where these
circles overlap, however far apart the positions are on the sky.
"""

import numpy as np

__all__ = [
    "get_circle_overlap",
    "get_effective_number",
    "get_event_weights",
    "get_shared_events",
    "get_weighted_p_value",
]

NO_PARTNER = -1  # OFF observation of a target observation that has none


def get_circle_overlap(distance, radius):
    r"""Part of a circle that another one of the same radius covers.

    .. math:: \frac{2}{\pi} \left(\arccos t - t \sqrt{1 - t^2}\right),
        \quad t = \frac{d}{2 r}

    Parameters
    ----------
    distance : `~numpy.ndarray`
        Distance d of the centers.
    radius : float
        Radius r, in the same unit.

    Returns
    -------
    overlap : `~numpy.ndarray`
        1 for the same circle, 0 from two radii on, in the shape of the distance.
    """
    t = np.minimum(np.asarray(distance) / (2 * radius), 1)
    return (np.arccos(t) - t * np.sqrt(1 - t**2)) * 2 / np.pi


def get_shared_events(off_obs_ids, positions, radius, counts=None):
    r"""Correlation of samples by the events that they share.

    The number of events in a sample is a sum of independent Poisson numbers, and two
    samples i and j have in common those of the same OFF observation, in the part
    :math:`o` of the circles that is the same in its field of view. Hence

    .. math::
        \rho_{ij} = \frac{\sum_{t, u} [r_{it} = r_{ju}]\;
        o(|x_{it} - x_{ju}|)\,\min(c_{it}, c_{ju})}
        {\sqrt{\sum_t c_{it} \sum_u c_{ju}}}

    with the OFF observation :math:`r_{it}` that stands for the observation t of the
    target, the position x in its field of view, and counts c.

    Parameters
    ----------
    off_obs_ids : `~numpy.ndarray` of int
        OFF observation of each sample and observation of the target, -1 where there is
        none. Shape (n_samples, n_targets).
    positions : `~numpy.ndarray`
        Position in the field of view of that OFF observation: the position on the sky
        less the pointing for mimics aligned in RA and Dec. In deg. Shape
        (n_samples, n_targets, 2).
    radius : float
        Radius in which events are counted, in deg.
    counts : `~numpy.ndarray`, optional
        Expected counts, or what they are proportional to. Shape (n_samples, n_targets).
        Default is 1.

    Returns
    -------
    correlation : `~numpy.ndarray`
        Correlation, 1 on the diagonal. Shape (n_samples, n_samples). 0 for a sample
        without events.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the radius is not above 0.
    """
    off_obs_ids = np.asarray(off_obs_ids)
    positions = np.asarray(positions, dtype=float)
    if positions.shape != (*off_obs_ids.shape, 2):
        raise ValueError(
            f"positions must have the shape {(*off_obs_ids.shape, 2)}, that of "
            f"off_obs_ids and 2, got {positions.shape}."
        )
    if not radius > 0:
        raise ValueError(f"The radius must be above 0 deg, got {radius}.")
    counts = np.ones(off_obs_ids.shape) if counts is None else np.asarray(counts, float)
    counts = np.where(off_obs_ids == NO_PARTNER, 0, counts)
    shared = np.zeros((len(off_obs_ids), len(off_obs_ids)))
    for obs_id in np.unique(off_obs_ids[off_obs_ids != NO_PARTNER]):
        sample, target = np.nonzero(off_obs_ids == obs_id)
        where, number = positions[sample, target], counts[sample, target]
        distance = np.hypot(*(where[:, np.newaxis] - where).T)
        events = get_circle_overlap(distance, radius)
        events *= np.minimum(number[:, np.newaxis], number)
        # a sample can have an observation twice
        np.add.at(shared, (sample[:, np.newaxis], sample), events)
    noise = np.sqrt(np.diag(shared))
    noise = np.outer(noise, noise)
    return np.divide(shared, noise, out=np.zeros_like(shared), where=noise > 0)


def get_event_weights(correlation):
    r"""Weights of samples with which each event counts once.

    .. math:: w_i = \frac{1}{\sum_j \rho_{ij}}

    m copies of one sample have the weight 1 / m each, one that shares nothing has 1.
    None is negative, as those of the least variance can be.

    Parameters
    ----------
    correlation : `~numpy.ndarray`
        Correlation of `get_shared_events`. Shape (n, n).

    Returns
    -------
    weights : `~numpy.ndarray`
        Weights, 0 for a sample without events. Shape (n,).
    """
    total = np.sum(correlation, axis=1)
    return np.divide(1, total, out=np.zeros_like(total), where=total > 0)


def get_effective_number(weights, correlation, power=1):
    r"""Effective number of independent samples.

    .. math:: n_\mathrm{eff} =
        \frac{(\sum_i w_i)^2}{\sum_{ij} w_i w_j\,\rho_{ij}^k}

    k = 1 is for the variance of a mean, which is that of one sample over this number. k
    = 2 is for the variance of a variance, as squares of Gaussian numbers have the
    correlation :math:`\rho^2`: 1 less is the number of degrees of freedom of f.

    Parameters
    ----------
    weights : `~numpy.ndarray`
        Weights. Shape (n,).
    correlation : `~numpy.ndarray`
        Correlation. Shape (n, n).
    power : {1, 2}, optional
        Power k of the correlation. Default is 1.

    Returns
    -------
    number : float
        Effective number, 0 without a weight.
    """
    weights = np.asarray(weights, dtype=float)
    variance = weights @ np.asarray(correlation) ** power @ weights
    return float(np.sum(weights) ** 2 / variance) if variance > 0 else 0.0


def get_weighted_p_value(value, sample, correlation):
    r"""Empirical p-value from samples that share events.

    .. math::
        p = \frac{1 + n\,h}{1 + n}, \quad
        h = \frac{\sum_i w_i\,[x_i \ge x]}{\sum_i w_i}

    with the weights of `get_event_weights` and the effective number n of samples. For
    samples that share nothing it is (1 + k) / (1 + n).

    Parameters
    ----------
    value : float
        Value.
    sample : `~numpy.ndarray`
        Values of samples. Shape (n,). NaN is left out.
    correlation : `~numpy.ndarray`
        Correlation of `get_shared_events`. Shape (n, n).

    Returns
    -------
    p_value, n_larger, number : float
        P-value, effective number of samples that are as large, and of all. The first
        two are NaN for a value of NaN or without a sample.
    """
    sample = np.asarray(sample, dtype=float)
    valid = np.isfinite(sample)
    sample, correlation = sample[valid], np.asarray(correlation)[np.ix_(valid, valid)]
    weights = get_event_weights(correlation)
    number = get_effective_number(weights, correlation)
    if np.isnan(value) or number == 0:
        return np.nan, np.nan, number
    share = np.sum(weights[sample >= value]) / np.sum(weights)
    n_larger = float(number * share)
    return (1 + n_larger) / (1 + number), n_larger, number
