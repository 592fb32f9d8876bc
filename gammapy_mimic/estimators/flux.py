"""Spurious flux: a source fitted where there is none."""

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
from .measurement import is_map, split_bands, stack_datasets
from .statistics import average_sets
from .tables import make_table

__all__ = ["average_flux", "measure_flux"]

COLUMNS = ("e_min", "e_max", "flux", "flux_err", "flux_ul", "sqrt_ts")
SOURCE = "mimic-source"


def measure_flux(
    datasets, position, energy_edges, spectral_model=None, n_jobs=None, name="mimic"
):
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
    name : str, optional
        Name of the sets. Default is "mimic".

    Returns
    -------
    table : `~astropy.table.Table`
        Integral flux, its error, its upper limit of 95% confidence and the significance
        for each set and band; the last band is all, unless there is only one.

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
        inputs.append((f"{name}_{mimic_set}", stacked, position, energy_edges))
    tables = run_parallel(
        _FluxFit(spectral_model), inputs, n_jobs, task_name="Spurious flux"
    )
    return vstack(tables, metadata_conflicts="silent")


class _FluxFit:
    """Fit of the dataset of one set. A class, to be pickled with its model."""

    def __init__(self, spectral_model):
        self.spectral_model = spectral_model

    def __call__(self, name, dataset, position, energy_edges):
        tables = [self._fit(dataset, position, _) for _ in split_bands(energy_edges)]
        table = vstack(tables, metadata_conflicts="silent")
        table.add_column(np.full(len(table), name), index=0, name="name")
        table.meta = {}
        return table

    def _fit(self, dataset, position, energy_edges):
        spatial_model = None
        if is_map(dataset):
            spatial_model = PointSpatialModel.from_position(position)
            spatial_model.freeze()
        model = SkyModel(self.spectral_model.copy(), spatial_model, name=SOURCE)
        dataset = dataset.copy(name="flux")
        dataset.models = [model]
        estimator = FluxPointsEstimator(
            energy_edges=energy_edges,
            source=SOURCE,
            selection_optional=["ul"],
            reoptimize=False,
        )
        points = estimator.run(Datasets([dataset]))
        return points.to_table(sed_type="flux")[list(COLUMNS)]


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
    for band in _split_bands(table):
        flux, error, limit = (
            u.Quantity(band[name]) for name in ("flux", "flux_err", "flux_ul")
        )
        mean = average_sets(flux.value)
        n_valid = int(np.sum(np.isfinite(flux)))
        values = {
            "mean": mean.value,
            "mean_err": mean.error,
            "mean_ul": mean.upper_limit,
            "std": mean.error * np.sqrt(n_valid),
            "statistical_err": average_sets(error.value).value,
            "flux_ul": average_sets(limit.value).value,
        }
        row = {name: u.Quantity(band[name])[0] for name in ("e_min", "e_max")}
        row["n_sets"] = n_valid
        rows.append(row | {name: _ * flux.unit for name, _ in values.items()})
    return make_table(rows)


def _split_bands(table):
    """Rows of each band of energy, in the order in which the bands come first."""
    bands = {}
    for idx, (low, high) in enumerate(table["e_min", "e_max"].iterrows()):
        bands.setdefault((f"{low:.6g}", f"{high:.6g}"), []).append(idx)
    for band, rows in bands.items():
        names, numbers = np.unique(table["name"][rows], return_counts=True)
        if numbers.max() > 1:
            raise ValueError(
                f"The set {names[np.argmax(numbers)]} is {numbers.max()} times in the "
                f"table of fluxes, from {band[0]} to {band[1]}."
            )
    return [table[rows] for rows in bands.values()]
