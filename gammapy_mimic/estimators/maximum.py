"""Largest significance of a target, against random maps of its background."""

from typing import NamedTuple

import astropy.units as u
import numpy as np
from gammapy.estimators import ExcessMapEstimator

from ..utils.parallel import run_parallel
from ..utils.random import random_generator
from .calibration import MAX_DOF, draw_systematic
from .excess import make_band_dataset
from .maxima import (
    EXCEEDANCE,
    check_exceedances,
    get_maximum_p_value,
    simulate_random_maps,
)
from .measurement import ALL, has_rings
from .statistics import average_sets
from .tables import make_table

__all__ = ["N_MAPS", "has_more_in_mimics", "tabulate_maximum"]

N_MAPS = 10_000
BAND_PART = 10  # a band has n_maps over this, as there is no verdict on it
N_ABOVE_P_VALUE = 0.01  # below it mimics differ from random maps
NO_POSITION = "there is no position with enough background"


class Background(NamedTuple):
    """Background of the target in one band. Arrays of shape (n_y, n_x).

    Attributes
    ----------
    prediction : `~numpy.ndarray`
        Predicted counts, 0 where they are masked.
    kernel : `~numpy.ndarray` of bool
        Circle in which counts are added.
    alpha : `~numpy.ndarray`
        Ratio of exposures, 0 for a background that is known exactly.
    where : `~numpy.ndarray` of bool
        Positions to search.
    """

    prediction: np.ndarray
    kernel: np.ndarray
    alpha: np.ndarray
    where: np.ndarray


def tabulate_maximum(
    comparison,
    dataset,
    systematics,
    norm_region=None,
    n_maps=N_MAPS,
    random_state=0,
    n_jobs=None,
):
    r"""Compare the largest significance of the target with that of random maps.

    Random maps are Poisson counts of the target's prediction, in the same mask and
    circles, with the mean error and the spread of the background that mimics have, both
    with their errors, see `~gammapy_mimic.estimators.maxima.simulate_random_maps`. They
    are compared at the positions outside of the target's known sources, grown by the
    correlation radius. Mimic sets check them by the number of positions above 2 sigma.

    Approximations:

    - OFF counts of a ring are those of many pixels around. They are drawn for each
      circle anew, with the exposure of its ring: their noise, a share
      :math:`\alpha / (1 + \alpha)` of the variance, is common to a circle as it should
      be, but not to neighbouring ones. This makes p-values larger, if anything.
    - A norm is one of all energies, and is taken from each random map of all energies
      (``norm_region``), but not from those of a band, which it changes little.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements, with a target.
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Stacked dataset of the target. Not used for spectra.
    systematics : list of `~gammapy_mimic.estimators.calibration.Systematic`
        What mimics tell of the error of the background, in each band.
    norm_region : `~numpy.ndarray` of bool, optional
        Pixels to whose counts the prediction was scaled. Shape (n_y, n_x). Default is
        none.
    n_maps : int, optional
        Number of random maps for all energies, a tenth of it for each band of several.
        Default is 10,000. They end before where they are enough to know that the
        maximum is not rare.
    random_state : int, optional
        Seed. Default is 0.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.

    Returns
    -------
    table : `~astropy.table.Table`
        By band: largest significance of the target; mean, standard deviation and
        largest one of that of mimic sets; mean of that of random maps, how many of them
        have one as large, and the p-value (look-elsewhere effect), with words; mean
        number of positions above 2 sigma in mimic sets, for as many positions as the
        target has, and in random maps, and the p-value of the difference. NaN without a
        position that has enough background.
    """
    inputs = []
    for idx, (band, systematic) in enumerate(
        zip(comparison.bands, systematics, strict=True)
    ):
        is_total = band.band == ALL
        options = {
            "n_maps": n_maps if is_total else max(n_maps // BAND_PART, 1),
            "norm_region": norm_region if is_total else None,
            "min_background": comparison.min_background,
            "random_state": random_state,
        }
        options |= _draw_errors(systematic, options["n_maps"], random_state, idx)
        if comparison.geom is None:
            background = _get_spectra(comparison.target, idx)
        else:
            background = _get_map(comparison, dataset, idx)
        inputs.append((_find_maximum(comparison, idx), background, options))
    found = run_parallel(_simulate, inputs, n_jobs, task_name="Random maps")
    rows = [
        band._asdict() | _describe(comparison, idx, result, systematics[idx])
        for idx, (band, result) in enumerate(zip(comparison.bands, found, strict=True))
    ]
    return make_table(rows)


def has_more_in_mimics(row):
    """Whether mimics have more positions above 2 sigma than random maps.

    Then they hold structures that random maps have not, and the p-value of the maximum
    is too small.

    Parameters
    ----------
    row : `~astropy.table.Row` or dict
        Row of the table "maximum".

    Returns
    -------
    has_more : bool
        Whether they have, with 99% confidence. False where it is not known.
    """
    is_more = row["n_above"] > row["n_above_expected"]
    return bool(is_more and row["n_above_p_value"] <= N_ABOVE_P_VALUE)


def _get_positions(comparison, idx):
    """Positions to compare: those of the target's map, without known sources."""
    # each spectrum is one, and sets need not have as many
    if comparison.geom is None:
        return True
    return np.isfinite(comparison.target.significance[idx]) & comparison.source_free


def _find_maximum(comparison, idx):
    """Largest significance of the target in a band, NaN if there is none."""
    sample = comparison.get_sample(comparison.target, idx, comparison.source_free)
    return float(np.max(sample.significance)) if len(sample.significance) else np.nan


def _get_map(comparison, dataset, idx):
    """Background of the target's map in a band, as `ExcessMapEstimator` takes it."""
    image = make_band_dataset(dataset, [comparison.bands[idx]])
    edges = image.counts.geom.axes["energy"].edges
    estimator = ExcessMapEstimator(comparison.radius * u.deg, energy_edges=edges)
    mask = estimator.estimate_mask_default(image).data[0]
    alpha = np.zeros(mask.shape)
    if image.stat_type == "wstat":
        mask = mask & (image.acceptance_off.data[0] > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        npred = np.where(mask, image.background.data[0], 0)
    if image.stat_type == "wstat" and has_rings(dataset):
        # the circle as a whole has as many OFF counts as its ring
        alpha = comparison.target.alpha[idx]
    elif image.stat_type == "wstat":
        n_off = image.counts_off.data[0]
        alpha = np.divide(npred, n_off, out=alpha, where=n_off > 0)
    return Background(
        npred,
        estimator.estimate_kernel(image).data > 0,
        np.where((npred > 0) & np.isfinite(alpha), alpha, 0),
        # of random maps, those with enough background are found anew
        _get_positions(comparison, idx),
    )


def _get_spectra(target, idx):
    """Background of the target's spectra in a band, as pixels side by side."""
    valid = np.isfinite(target.significance[idx])
    alpha = np.where(valid, target.alpha[idx], 0)
    prediction = np.where(valid, target.background[idx] * (1 + alpha), 0)
    prediction, alpha, valid = (_[np.newaxis] for _ in (prediction, alpha, valid))
    return Background(prediction, np.ones((1, 1), dtype=bool), alpha, valid)


def _draw_errors(systematic, n_maps, random_state, idx):
    """Mean error and spread of each random map, none if they were not measured."""
    if not systematic.is_measured:
        return {}
    rng = random_generator(random_state, "errors of random maps", idx)
    posterior = systematic.f_squared, systematic.f_dof, systematic.f_background
    f = draw_systematic(*posterior, n_maps, rng)
    student = rng.standard_t(min(systematic.delta_dof, MAX_DOF), n_maps)
    return {"f": f, "delta": systematic.delta + systematic.delta_err * student}


def _simulate(value, background, options):
    """Random maps and the p-value, or why there are none."""
    if np.isnan(value):
        return NO_POSITION
    try:
        maps = simulate_random_maps(**background._asdict(), value=value, **options)
        return maps, get_maximum_p_value(value, maps.maximum)
    except ValueError as error:
        # such as a spread that is too large for a field
        return str(error)


def _describe(comparison, idx, result, systematic):
    """Row of a band."""
    where = _get_positions(comparison, idx)
    samples = [comparison.get_sample(_, idx, where) for _ in comparison.mimics.values()]
    values = [_.significance for _ in samples if len(_.significance)]
    largest = [float(np.max(_)) for _ in values]
    # sets may have fewer positions with enough background than the target
    n_target = len(comparison.get_sample(comparison.target, idx, where).significance)
    n_above = [np.mean(_ > EXCEEDANCE) * n_target for _ in values]
    estimate = average_sets(largest)
    row = {
        "significance": _find_maximum(comparison, idx),
        "mimic_mean": estimate.value,
        "mimic_std": float(estimate.error * np.sqrt(len(values))),
        "mimic_max": max(largest, default=np.nan),
        "n_sets": len(values),
        "random_mean": np.nan,
        "n_larger": np.nan,
        "n_maps": 0,
        "p_value": np.nan,
        "n_above": float(np.mean(n_above)) if values else np.nan,
        "n_above_expected": np.nan,
        "n_above_p_value": np.nan,
        "has_spread": systematic.is_measured,
    }
    if isinstance(result, str):
        return row | {"text": f"not measured: {result}"}
    random, probability = result
    row |= {
        "random_mean": float(np.mean(random.maximum[np.isfinite(random.maximum)])),
        "n_larger": float(probability.n_larger),
        "n_maps": probability.n_maps,
        "p_value": probability.p_value,
        "n_above_expected": float(np.mean(random.n_above)),
    }
    if values and len(random.n_above) > 1:
        row["n_above_p_value"] = check_exceedances(n_above, random.n_above).p_value
    return row | {"text": _to_text(row, probability, systematic.reason)}


def _to_text(row, probability, reason):
    """P-value in words, with what it does not know, for the reason."""
    text = probability.text
    if reason:
        text += f", of noise alone, as {reason}"
    if has_more_in_mimics(row):
        text += (
            f"; it is too small, as mimic sets have {row['n_above']:.3g} positions "
            f"above {EXCEEDANCE} sigma, random maps {row['n_above_expected']:.3g}"
        )
    return text
