"""A source that is planted in mimics, and what is recovered of it."""

import astropy.units as u
import numpy as np
from gammapy.modeling import Fit
from scipy.optimize import brentq

from ..data.prediction import get_safe_mask
from ..utils.parallel import run_parallel
from ..utils.random import random_generator
from .flux import describe_flux, predict_source, replace_irfs
from .maxima import get_significance
from .measurement import ALL, measure_maps
from .position import calibrate
from .statistics import average_sets
from .tables import make_table

__all__ = ["find_flux", "make_injected", "tabulate_injection"]

LEVEL = 5.0  # calibrated significance of a flux that is called detected
MAX_SIGNIFICANCE = 1e4


def make_injected(dataset, target, model, rng):
    """Plant a source in the counts of a mimic set.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Stacked dataset of a mimic set. Not changed.
    target : `~gammapy.datasets.MapDataset`
        Stacked dataset of the target, whose IRFs the source is seen through.
    model : `~gammapy.modeling.models.SkyModel`
        Source.
    rng : `~numpy.random.Generator`
        Random generator.

    Returns
    -------
    injected : `~gammapy.datasets.MapDataset`
        Counts of mimic and source, with the IRFs of the target.
    """
    injected = replace_irfs(dataset, target)
    _, signal = predict_source(injected, model)
    injected = injected.copy(name=dataset.name)
    safe = get_safe_mask(injected)
    injected.counts.data = injected.counts.data + rng.poisson(signal * safe)
    return injected


def _recover(name, dataset, model, energy_edges, radius, pixel):
    """Fit the spectrum of a source, and measure its significance.

    Of a fit that does not succeed, as one without counts of the source, all is NaN.
    """
    e_min, e_max = energy_edges[[0, -1]]
    fitted = dataset.slice_by_energy(e_min, e_max, name=dataset.name)
    model = model.copy(name=model.name)
    if model.spatial_model is not None:
        model.spatial_model.freeze()
    fitted.models = [model]
    is_found = Fit().run([fitted]).success
    row = {"name": name}
    row |= _describe_spectrum(model.spectral_model, e_min, e_max, is_found)
    measurement = measure_maps(dataset, energy_edges, radius)
    names = "significance", "background", "alpha"
    return row, [float(getattr(measurement, _)[-1][pixel]) for _ in names]


def _describe_spectrum(spectrum, e_min, e_max, is_found):
    """Flux and index of a spectrum with errors, NaN if a fit has not found them."""
    flux = spectrum.integral(e_min, e_max)
    row = {"flux": flux, "flux_err": np.nan * flux}
    if is_found:
        _, *sides = spectrum.integral_error(e_min, e_max)
        row["flux_err"] = sum(sides) / 2
    if "index" in spectrum.parameters.names:
        index = spectrum.parameters["index"]
        row |= {"index": index.value, "index_err": index.error}
    # what a fit that has found nothing leaves is the truth
    factor = 1.0 if is_found else np.nan
    return {name: factor * value for name, value in row.items()}


def find_flux(signal, background, alpha, counts, level=LEVEL):
    """Find the flux at which a source has a calibrated significance.

    Parameters
    ----------
    signal : float
        Counts of the source in the circle, for a flux of 1.
    background, alpha : float
        Background counts in the circle, and ratio of exposures.
    counts : `~gammapy_mimic.estimators.counting.BandCounts`
        Counts of mimics in such circles.
    level : float, optional
        Significance. Default is 5.

    Returns
    -------
    flux : float
        Flux. NaN if nothing can be calibrated, infinite if no flux is enough, as few
        mimics tell too little of the background.
    """
    if not (background > 0 and signal > 0):
        return np.nan

    def get_excess(excess):
        value = float(get_significance(background + excess, background, alpha))
        row = calibrate(value, background / (1 + alpha), alpha, counts)
        return row["calibrated"] - level

    if np.isnan(get_excess(background)):
        return np.nan
    high = level * np.sqrt(background)
    while get_excess(high) < 0:
        high *= 2
        if high > MAX_SIGNIFICANCE * background:
            return np.inf
    return brentq(get_excess, 0, high) / signal


def tabulate_injection(
    stacked, target, model, comparison, counts, ring, energy_edges, options
):
    """Plant a source in every mimic set, and tabulate what is recovered of it.

    Parameters
    ----------
    stacked : dict of `~gammapy.datasets.MapDataset`
        Stacked dataset of each mimic set.
    target : `~gammapy.datasets.MapDataset`
        Stacked dataset of the target.
    model : `~gammapy.modeling.models.SkyModel`
        Source.
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements, with a target.
    counts : `~gammapy_mimic.estimators.counting.BandCounts`
        Counts of mimics in circles at the position and others of the same offset, at
        all energies.
    ring : `~gammapy_mimic.estimators.apertures.Apertures`
        The circles, that at the position first.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    options : dict
        ``radius`` of the circle, ``random_state``, ``repetition`` and ``n_jobs``.

    Returns
    -------
    table : `~astropy.table.Table`
        Row for each set, and their mean ("all").
    """
    pixel = tuple(_[0] for _ in ring.indices)
    inputs = []
    for number, (name, dataset) in enumerate(stacked.items(), start=1):
        rng = random_generator(options["random_state"], "inject", 0, number)
        injected = make_injected(dataset, target, model, rng)
        inputs.append((name, injected, model, energy_edges, options["radius"], pixel))
    found = run_parallel(_recover, inputs, options["n_jobs"], task_name="Injection")
    truth = model.spectral_model.integral(*energy_edges[[0, -1]])
    rows = []
    for row, measured in found:
        row |= {"significance": measured[0]}
        rows.append(row | {"calibrated": calibrate(*measured, counts)["calibrated"]})
    rows.append(_average(rows, options["repetition"]))
    signal = _count_signal(target, model, ring, energy_edges)
    names = "background", "alpha"
    q, alpha = (getattr(comparison.target, _)[-1][pixel] for _ in names)
    scale = find_flux(signal, q * (1 + alpha), alpha, counts)
    constants = {"flux_true": truth, "flux_5_sigma": scale * truth}
    if "index" in rows[0]:
        constants["index_true"] = model.spectral_model.parameters["index"].value
    return make_table([row | constants for row in rows])


def _count_signal(target, model, ring, energy_edges):
    """Add up the counts of the source in the circle at the position."""
    signal = predict_source(target, model)[1] * get_safe_mask(target)
    energy = target.counts.geom.axes["energy"].center
    inside = (energy >= energy_edges[0]) & (energy < energy_edges[-1])
    return float(ring.add(signal[inside].sum(axis=0))[0])


def _average(rows, repetition):
    """Mean of the sets, with errors that are not below those of counts."""
    result = {"name": ALL}
    for name in ("flux", "index"):
        if name in rows[0]:
            values, errors = (
                u.Quantity([row[_] for row in rows]) for _ in (name, f"{name}_err")
            )
            mean = describe_flux(values.value, errors.value, repetition)
            unit = values.unit if name == "flux" else 1
            result |= {name: mean.mean * unit, f"{name}_err": mean.mean_err * unit}
    for name in ("significance", "calibrated"):
        result[name] = average_sets([row[name] for row in rows]).value
    return result
