"""Spurious flux: a source fitted where there is none."""

import functools

import astropy.units as u
import numpy as np
from astropy.table import vstack
from gammapy.datasets import Datasets
from gammapy.estimators import FluxPointsEstimator
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)

from ..utils.parallel import run_parallel
from .measurement import get_bands, is_map, split_bands, stack_datasets
from .statistics import average_sets
from .tables import get_name, make_table

__all__ = ["average_flux", "measure_flux"]

COLUMNS = ("e_min", "e_max", "flux", "flux_err", "flux_ul", "sqrt_ts")
SOURCE = "mimic-source"


def measure_flux(datasets, position, energy_edges, spectral_model=None, n_jobs=None):
    """Fit a source in each of several datasets: a point at a position, or a spectrum.

    The background stays as it is, and so does the shape of the spectrum in each band.
    Spectra are stacked.

    Parameters
    ----------
    datasets : dict of `~gammapy.datasets.MapDataset` or `~gammapy.datasets.Datasets`
        Stacked dataset, or spectra, by mimic set, with exposure.
    position : `~astropy.coordinates.SkyCoord` or None
        Position. None for spectra.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    spectral_model : `~gammapy.modeling.models.SpectralModel`, optional
        Spectrum. Default is a power law of index 2.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.

    Returns
    -------
    table : `~astropy.table.Table`
        Integral flux, its error, its upper limit of 95% confidence and the significance
        for each set and band.

    Raises
    ------
    ValueError
        If a dataset has no exposure.
    """
    if spectral_model is None:
        spectral_model = PowerLawSpectralModel(index=2)
    inputs = []
    for mimic_set, values in datasets.items():
        values = Datasets(values)
        for dataset in values:
            if dataset.exposure is None:
                raise ValueError(
                    f"The dataset {dataset.name} has no exposure, which a flux needs. "
                    "Add 'exposure' to the maps that are made."
                )
        stacked = values[0]
        if len(values) > 1:
            stacked = stack_datasets(values, values[0].geoms)
        inputs.append((get_name(mimic_set), stacked, position, energy_edges))
    fit = functools.partial(_fit_set, spectral_model)
    tables = run_parallel(fit, inputs, n_jobs, task_name="Spurious flux")
    return vstack(tables, metadata_conflicts="silent")


def _fit_set(spectral_model, name, dataset, position, energy_edges):
    """Fit the dataset of one set."""
    spatial_model = None
    if is_map(dataset):
        spatial_model = PointSpatialModel.from_position(position)
        # the question is the flux at the position, wherever its best fit is
        spatial_model.freeze()
    parts = []
    for edges in split_bands(energy_edges):
        # the datasets of the caller do not get the model
        fitted = dataset.copy(name="flux")
        model = SkyModel(spectral_model.copy(), spatial_model, name=SOURCE)
        fitted.models = [model]
        estimator = FluxPointsEstimator(
            energy_edges=edges,
            source=SOURCE,
            selection_optional=["ul"],
            reoptimize=False,
        )
        points = estimator.run(Datasets([fitted]))
        parts.append(points.to_table(sed_type="flux")[list(COLUMNS)])
    table = vstack(parts, metadata_conflicts="silent")
    bands = [_.band for _ in get_bands(energy_edges)]
    table.add_columns([[name] * len(table), bands], [0, 0], ["name", "band"])
    table.meta = {}
    # as a FITS file, which has no unit for it, gives it back
    table["sqrt_ts"].unit = None
    return table


def average_flux(table):
    """Average the spurious flux over mimic sets.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `measure_flux`.

    Returns
    -------
    table : `~astropy.table.Table`
        By band of energy: ``mean`` flux with its error from the scatter of sets, and
        its upper limit ``mean_ul`` (95%), their standard deviation ``std``, the mean
        ``statistical_err`` of a flux, and the mean upper limit ``flux_ul`` of a set.

    Raises
    ------
    ValueError
        If a set is there more than once in a band.
    """
    rows = []
    for name in dict.fromkeys(table["band"].tolist()):
        band = table[table["band"] == name]
        names, numbers = np.unique(band["name"], return_counts=True)
        if numbers.max() > 1:
            raise ValueError(
                f"The set {names[np.argmax(numbers)]} is {numbers.max()} times in the "
                f"table of fluxes, in the band {name!r}."
            )
        flux, error, limit = (
            u.Quantity(band[column]) for column in ("flux", "flux_err", "flux_ul")
        )
        mean = average_sets(flux.value)
        n_valid = int(np.sum(np.isfinite(flux)))
        values = mean.to_row("mean", limit=True) | {
            # the error of a mean of n values is std / sqrt(n)
            "std": mean.error * np.sqrt(n_valid),
            "statistical_err": average_sets(error.value).value,
            "flux_ul": average_sets(limit.value).value,
        }
        row = {"band": name, "e_min": band["e_min"].quantity[0]}
        row |= {"e_max": band["e_max"].quantity[0], "n_sets": n_valid}
        rows.append(row | {name: _ * flux.unit for name, _ in values.items()})
    return make_table(rows)
