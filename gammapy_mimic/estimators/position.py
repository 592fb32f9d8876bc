"""Significance of a target at a position, calibrated by mimics."""

import itertools

import numpy as np
from gammapy.stats import CashCountsStatistic, WStatCountsStatistic
from scipy.optimize import brentq

from .calibration import Calibration, calibrate_significance
from .measurement import get_pointings
from .sharing import get_shared_events, get_weighted_p_value
from .tables import make_table

__all__ = ["EXCESS", "calibrate", "find_factor", "find_sharing", "tabulate_position"]

EXCESS = 3  # significance of an excess that has to be explained


def calibrate(significance, background, alpha, counts, size=1.0):
    """Calibrate a significance of the target by the counts of mimics.

    Parameters
    ----------
    significance, background, alpha : float
        Significance of the target, its effective background counts, and ratio of
        exposures.
    counts : `~gammapy_mimic.estimators.counting.BandCounts`
        Counts of mimics in such apertures.
    size : float, optional
        See `~gammapy_mimic.estimators.counting.BandCounts.find_systematic`.

    Returns
    -------
    row : dict
        Columns of a table: the significance, mean and width of that of background alone
        for as many counts, the ``calibrated`` significance with its one-sided p-value,
        the effective number of mimic sets, and all of it in words.
    """
    known = counts.find_systematic(size)._asdict()
    of_sets = known.pop("set_variance")
    calibration = calibrate_significance(significance, background, **known, alpha=alpha)
    # one more set has the scatter of sets, too
    width = np.sqrt(calibration.width**2 + background * of_sets)
    calibration = calibration._replace(width=width)
    # scalars in the place of arrays without dimension
    calibration = Calibration(*(float(_) for _ in calibration))
    return {
        "significance": calibration.raw,
        "n_background": float(background),
        "mimic_mean": calibration.mean,
        "mimic_width": calibration.width,
        "calibrated": calibration.significance,
        "calibrated_p_value": calibration.p_value,
        "n_effective": calibration.n_sets,
        "text": calibration.to_text(),
    }


def find_factor(significance, background, alpha):
    """Find how wrong a background would have to be to explain an excess.

    Parameters
    ----------
    significance, background, alpha : float
        Significance, effective background counts, and ratio of exposures.

    Returns
    -------
    factor : float
        Background over its prediction that leaves 3 sigma of the excess. NaN for one
        that is smaller, or without background.
    """
    if not (significance > EXCESS and background > 0):
        return np.nan
    prediction = background * (1 + alpha)

    def make_statistic(n_on, factor):
        if alpha > 0:
            return WStatCountsStatistic(n_on, prediction / alpha, factor * alpha)
        return CashCountsStatistic(n_on, factor * prediction)

    start = make_statistic(prediction, 1)
    n_on = prediction + np.squeeze(start.n_sig_matching_significance(significance))
    if np.isnan(n_on):
        return np.nan

    def get_rest(factor):
        return np.squeeze(make_statistic(n_on, factor).sqrt_ts) - EXCESS

    # the last has no excess
    return float(brentq(get_rest, 1, n_on / prediction))


def tabulate_position(comparison, counts, ring=None, correlation=None):
    """Compare the significance of the target at a position with that of mimics.

    Mimics are taken there, and in circles of the same offset that do not overlap, if
    the pointings are known.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements, with a target.
    counts : list of `~gammapy_mimic.estimators.counting.BandCounts`
        Counts of mimics in these circles, or in spectra, by band.
    ring : `~gammapy_mimic.estimators.apertures.Apertures`, optional
        Circles, the first at the position. Default is none, for spectra.
    correlation : `~numpy.ndarray`, optional
        Correlation of the circles of all sets by common events, see `find_sharing`.
        Shape (n_sets * n_circles, n_sets * n_circles). Default is none.

    Returns
    -------
    table : `~astropy.table.Table`
        By band: columns of `calibrate`, the ``background_factor`` of `find_factor`, and
        the empirical p-value from ``n_larger`` of ``n_sample`` values that are as
        large, in which each event counts once. NaN where the position has no
        significance. ``n_places`` is the number of circles in each set, 1 if there is
        none but that at the position.
    """
    rows = []
    n_places = 1 if ring is None else len(ring.pixels)
    for idx, band in enumerate(comparison.bands):
        if ring is None:
            target, size = _add_spectra(comparison.target, idx)
            sample = np.array([_.total[idx] for _ in comparison.mimics.values()])
        else:
            pixel = tuple(_[0] for _ in ring.indices)
            names = ("significance", "background", "alpha")
            target = [getattr(comparison.target, _)[idx][pixel] for _ in names]
            sample, size = _get_sample(comparison, idx, ring), 1.0
        row = band._asdict() | calibrate(*target, counts[idx], size)
        row["background_factor"] = find_factor(*target)
        overlap = np.eye(len(sample)) if correlation is None else correlation
        names = ("p_value", "n_larger", "n_sample")
        values = get_weighted_p_value(row["significance"], sample, overlap)
        row |= dict(zip(names, values, strict=True))
        rows.append(row | {"n_places": n_places})
    return make_table(rows)


def _add_spectra(measurement, idx):
    """Add up spectra. Return also the part of the square of a spread that is left."""
    background, alpha = measurement.background[idx], measurement.alpha[idx]
    total = np.sum(background)
    if not total > 0:
        return (measurement.total[idx], 0.0, 0.0), 1.0
    # errors of the observations are independent
    size = np.sum(background**2) / total**2
    mean = np.average(alpha, weights=background)
    return (measurement.total[idx], total, mean), size


def _get_sample(comparison, idx, ring):
    """Significance in the circles of each set, NaN without enough background."""
    values = []
    for measurement in comparison.mimics.values():
        image = np.where(
            comparison.is_valid(measurement, idx), measurement.significance[idx], np.nan
        )
        values.append(image[ring.indices])
    return np.concatenate(values)


def find_sharing(sets, off_obs_ids, comparison, ring=None):
    """Find the correlation of samples of mimic sets by the events that they share.

    Approximation: mimics are aligned in right ascension and declination, so that an
    event of the same place in the field of view of an OFF observation is the same one.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set.
    off_obs_ids : list of list of int
        OFF observations of each dataset.
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements.
    ring : `~gammapy_mimic.estimators.apertures.Apertures`, optional
        Circles. Default is none, for spectra.

    Returns
    -------
    correlation : `~numpy.ndarray` or None
        Correlation. Shape (n_sets * n_circles, n_sets * n_circles). None if OFF
        observations or pointings are not known.
    """
    ids, places = [], []
    numbers = iter(off_obs_ids)
    for datasets in sets.values():
        runs = [next(numbers) for _ in range(len(datasets))]
        pointings = get_pointings(datasets)
        ids.append([*itertools.chain(*runs)])
        if pointings is None or not all(runs) or len(pointings) != len(ids[-1]):
            return None
        places.append(pointings)
    n_most = max(map(len, ids))
    n_circles = 1 if ring is None else len(ring.pixels)
    samples = np.full((len(ids), n_circles, n_most), -1)
    positions = np.zeros((len(ids), n_circles, n_most, 2))
    for idx, (runs, pointings) in enumerate(zip(ids, places, strict=True)):
        samples[idx, :, : len(runs)] = runs
        if ring is not None:
            x, y = comparison.geom.coord_to_pix(pointings)[:2]
            where = np.stack([y, x], axis=-1) * ring.pixel_size
            positions[idx, :, : len(runs)] = ring.positions[:, np.newaxis] - where
    shape = len(ids) * n_circles, n_most
    # the size of an on region is not known, but it is the same for all
    radius = comparison.radius or 1.0
    return get_shared_events(
        samples.reshape(shape), positions.reshape(*shape, 2), radius
    )
