"""Spurious flux: a source fitted where there is none."""

import copy
import functools
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.table import vstack
from gammapy.datasets import Datasets
from gammapy.estimators import FluxPointsEstimator
from gammapy.maps import Map
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from scipy.special import chdtri

from ..data.lazy_datasets import LazyDatasets
from ..data.prediction import get_safe_mask
from ..utils.parallel import run_parallel
from .intervals import get_mean_interval
from .measurement import get_bands, is_map, split_bands
from .stacking import stack_datasets
from .statistics import average_sets
from .tables import TARGET, get_name, make_table

__all__ = [
    "SpuriousFlux",
    "average_flux",
    "describe_flux",
    "measure_flux",
    "predict_source",
    "replace_irfs",
]

COLUMNS = ("e_min", "e_max", "flux", "flux_err", "flux_ul", "sqrt_ts")
SOURCE = "mimic-source"
N_SIGMA_UL = 2  # of an upper limit, 95%
IRFS = ("exposure", "psf", "edisp")
# Upper tail of the spread's chi2 that its part of a limit is made of. Toys decide: with
# Gauss' quantile, 96% or more of the fluxes of 3 to 10 sets are below the limit
SPREAD_TAIL = 0.75
SHARE_TOLERANCE = 1e-6
MIN_SETS = 1.5  # effective sets, below which their scatter tells nothing of a spread


def measure_flux(
    datasets,
    position,
    energy_edges,
    spectral_model=None,
    n_jobs=None,
    target=None,
    spatial_model=None,
):
    """Fit a source in each of several datasets: on a map, or a spectrum.

    The background stays as it is, and so do shape and position of the source, and the
    shape of the spectrum in each band. Spectra are stacked.

    Counts and background of mimics are taken through the exposure, the point spread
    function and the energy dispersion of the target, where the target is safe: the flux
    is what such counts would be taken for *there*. It is that of as much background as
    the mimics have.

    Parameters
    ----------
    datasets : dict of `~gammapy.datasets.MapDataset` or `~gammapy.datasets.Datasets`
        Stacked dataset, or spectra, by mimic set.
    position : `~astropy.coordinates.SkyCoord` or None
        Position. None for spectra.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    spectral_model : `~gammapy.modeling.models.SpectralModel`, optional
        Spectrum. Default is a power law of index 2.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.
    target : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.Datasets`, optional
        The same of the target. Default is not known: then mimics have IRFs of their
        own.

    Returns
    -------
    table : `~astropy.table.Table`
        Integral flux, its error, its upper limit of 95% confidence and the significance
        for each set and band, and of the target. The error of a negative flux is not
        below that by the profile of the likelihood. NaN for a fit that failed.

    Raises
    ------
    ValueError
        If there is no exposure, a source has no counts, or bins of energy differ.
    """
    if spectral_model is None:
        spectral_model = PowerLawSpectralModel(index=2)
    if spatial_model is None and position is not None:
        spatial_model = PointSpatialModel.from_position(position)
    model = SkyModel(spectral_model, spatial_model, name=SOURCE)
    has_irfs = target is None
    stacked = {
        get_name(name): _stack(values, has_irfs) for name, values in datasets.items()
    }
    if target is not None:
        target = _stack(target)
        stacked = {name: replace_irfs(_, target) for name, _ in stacked.items()}
        stacked[TARGET] = target
    inputs = [(name, _, energy_edges) for name, _ in stacked.items()]
    fit = functools.partial(_fit_set, model)
    tables = run_parallel(fit, inputs, n_jobs, task_name="Spurious flux")
    return vstack(tables, metadata_conflicts="silent")


def _stack(datasets, has_irfs=True):
    """Stack datasets, all with exposure if they need IRFs of their own."""
    datasets = LazyDatasets.create(datasets)
    for dataset in datasets if has_irfs else ():
        if dataset.exposure is None:
            raise ValueError(
                f"The dataset {dataset.name} has no exposure, which a flux needs. "
                "Add 'exposure' to the maps that are made."
            )
    return stack_datasets(datasets)


def replace_irfs(dataset, target):
    """Take counts and background of a mimic as if they were those of the target.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Stacked dataset of a mimic set. Not changed.
    target : `~gammapy.datasets.MapDataset`
        Stacked dataset of the target, of the same bins.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        Counts and background of the mimics, IRFs of the target, safe where both are.

    Raises
    ------
    ValueError
        If bins differ.
    """
    geom, other = dataset.counts.geom, target.counts.geom
    if dataset.counts.data.shape != target.counts.data.shape or (
        geom.axes["energy"] != other.axes["energy"]
    ):
        raise ValueError(
            f"The datasets {dataset.name} and {target.name} differ in their bins. "
            "Reduce targets and mimics with the same configuration."
        )
    # a shallow copy, as nothing is changed but these
    dataset = copy.copy(dataset)
    for name in IRFS:
        setattr(dataset, name, getattr(target, name))
    mask = get_safe_mask(dataset) & get_safe_mask(target)
    dataset.mask_safe = Map.from_geom(geom, data=mask)
    return dataset


def predict_source(dataset, model):
    """Give a copy of a dataset a source, and predict its counts.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset with IRFs. Not changed.
    model : `~gammapy.modeling.models.SkyModel`
        Source.

    Returns
    -------
    seen : `~gammapy.datasets.MapDataset`
        Copy with the source as its only model, without masks.
    signal : `~numpy.ndarray`
        Counts of the source, also where it is masked. Shape of the counts.

    Raises
    ------
    ValueError
        If the source has none.
    """
    seen = dataset.copy(name="seen")
    # Gammapy predicts nothing for a source that is masked
    seen.mask_safe = seen.mask_fit = None
    seen.models = [model.copy(name=SOURCE)]
    # a convolution may be a bit below 0
    signal = np.maximum(seen.npred_signal().data, 0)
    if not signal.sum() > 0:
        raise ValueError(
            f"The source predicts no counts in the dataset {dataset.name}: its flux, "
            "or exposure, PSF or energy dispersion of the dataset are 0. Those of "
            "stacked datasets are, if what was stacked has no exposure_map in them."
        )
    return seen, signal


def _cut_out(seen, dataset, model):
    """Cut out where a source is seen: all else says nothing of its flux, slowly."""
    width = seen.evaluators[SOURCE].cutout_width
    return dataset.cutout(model.position, width, name=dataset.name)


def _fit_set(model, name, dataset, energy_edges):
    """Fit the dataset of one set."""
    spatial_model, parts = None, []
    seen, _ = predict_source(dataset, model)
    if is_map(dataset):
        # the question is the flux at the position, wherever its best fit is
        spatial_model = model.spatial_model.copy()
        spatial_model.freeze()
        dataset = _cut_out(seen, dataset, model)
    for edges in split_bands(energy_edges):
        # the datasets of the caller do not get the model
        fitted = dataset.copy(name="flux")
        spectral_model = model.spectral_model.copy()
        fitted.models = [SkyModel(spectral_model, spatial_model, name=SOURCE)]
        estimator = FluxPointsEstimator(
            energy_edges=edges,
            source=SOURCE,
            n_sigma_ul=N_SIGMA_UL,
            selection_optional=["ul"],
            reoptimize=False,
        )
        points = estimator.run(Datasets([fitted])).to_table(sed_type="flux")
        _check_errors(points)
        parts.append(points[list(COLUMNS)])
    table = vstack(parts, metadata_conflicts="silent")
    bands = [_.band for _ in get_bands(energy_edges)]
    table.add_columns([[name] * len(table), bands], [0, 0], ["name", "band"])
    table.meta = {}
    # as a FITS file, which has no unit for it, gives it back
    table["sqrt_ts"].unit = None
    return table


def _check_errors(points):
    """Correct the errors of flux points in place.

    With a negative flux, a prediction may be next to 0, where the curvature of the
    likelihood tells nothing. There, the error is not below that by the profile of the
    likelihood, which the upper limit is from.
    """
    flux, error = points["flux"].data, points["flux_err"].data
    by_profile = (points["flux_ul"].data - flux) / N_SIGMA_UL
    points["flux_err"][:] = np.where(flux < 0, np.fmax(error, by_profile), error)
    for name in ("flux", "flux_err", "flux_ul"):
        # what a fit that has failed leaves is where it began
        points[name][~points["success"].data] = np.nan


class SpuriousFlux(NamedTuple):
    """What mimic sets say about the flux of a source that is not there.

    NaN for what cannot be measured.

    Attributes
    ----------
    mean, mean_err, mean_ul : float
        Mean of the sets, its error, and its upper limit (95%), which is not below 0.
        The error is from the scatter of sets, but not below that of counts.
    std : float
        Standard deviation of sets, as if they shared no events.
    spread : float
        The same without the errors by counts.
    statistical_err : float
        Error of a set by counts, root mean square.
    sys_errn, sys_errp : float
        Error of the flux of a target that is one more of them, to lower and to higher
        flux: the mean, which is not subtracted, where it has this sign, its error and
        the spread, all in quadrature.
    sys_ul : float
        Upper limit (95%) of the spurious flux of such a target, not below 0.
    """

    mean: float
    mean_err: float
    mean_ul: float
    std: float
    spread: float
    statistical_err: float
    sys_errn: float
    sys_errp: float
    sys_ul: float


def describe_flux(flux, error, repetition=1.0):
    """Describe the spurious fluxes of mimic sets.

    Parameters
    ----------
    flux, error : `~numpy.ndarray`
        Flux of each set and its error by counts. Shape (n_sets,). Not finite: not
        measured.
    repetition : float, optional
        Mean number of sets that an event at the position is in. Default is 1.

    Returns
    -------
    result : `SpuriousFlux`
        Result.
    """
    valid = np.isfinite(flux) & np.isfinite(error)
    flux, error = flux[valid], error[valid]
    number = len(flux) / repetition
    if not len(flux):
        return SpuriousFlux(*[np.nan] * len(SpuriousFlux._fields))
    mean, noise, std = np.mean(flux), np.sqrt(np.mean(error**2)), np.nan
    if len(flux) > 1:
        # sets that share events scatter less, by (n - repetition) / (n - 1)
        left = len(flux) - repetition
        std = np.std(flux, ddof=repetition) if left > SHARE_TOLERANCE else np.nan
    # of sets that share events, as of fewer that do not
    mean_err, dof = np.fmax(std, noise) / np.sqrt(max(number, 1)), np.inf
    lowest = max(mean, 0)
    square = max(std**2 - noise**2, 0) if np.isfinite(std) else np.nan
    if square > 0:
        # Satterthwaite, as what is by counts is known
        dof = max(number - 1, 1) * (std**2 / square) ** 2
    sigma = np.hypot(np.sqrt(square), mean_err)
    sigma_ul = np.nan
    if number >= MIN_SETS:
        ratio = (number - 1) / chdtri(number - 1, SPREAD_TAIL)
        square_ul = max(ratio * (square + noise**2) - noise**2, 0)
        sigma_ul = np.sqrt(square_ul + mean_err**2)
    return SpuriousFlux(
        mean=mean,
        mean_err=mean_err,
        mean_ul=get_mean_interval(lowest, mean_err, dof).upper_limit,
        std=std,
        spread=np.sqrt(square),
        statistical_err=noise,
        sys_errn=np.hypot(lowest, sigma),
        sys_errp=np.hypot(lowest - mean, sigma),
        sys_ul=get_mean_interval(lowest, sigma_ul).upper_limit,
    )


def average_flux(table, repetition=1.0):
    """Average the spurious flux over mimic sets.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `measure_flux`.
    repetition : float, optional
        Mean number of sets that an event at the position is in. Default is 1.

    Returns
    -------
    table : `~astropy.table.Table`
        By band of energy: ``target_flux`` with its statistical error
        ``target_flux_err``, NaN without a target, number of sets, the columns of
        `SpuriousFlux`, and the mean upper limit ``flux_ul`` of a set.

    Raises
    ------
    ValueError
        If a set is there more than once in a band.
    """
    rows, is_target = [], table["name"] == TARGET
    mimics, targets = table[~is_target], table[is_target]
    for name in dict.fromkeys(mimics["band"].tolist()):
        band = mimics[mimics["band"] == name]
        names, numbers = np.unique(band["name"], return_counts=True)
        if numbers.max() > 1:
            raise ValueError(
                f"The set {names[np.argmax(numbers)]} is {numbers.max()} times in the "
                f"table of fluxes, in the band {name!r}."
            )
        flux, error, limit = (
            u.Quantity(band[column]) for column in ("flux", "flux_err", "flux_ul")
        )
        row = {"band": name, "e_min": band["e_min"].quantity[0]}
        row |= {"e_max": band["e_max"].quantity[0]}
        target = targets[targets["band"] == name]
        for column in ("flux", "flux_err"):
            value = u.Quantity(target[column]).to_value(flux.unit)
            row[f"target_{column}"] = (value[0] if len(target) else np.nan) * flux.unit
        row["n_sets"] = int(np.sum(np.isfinite(flux)))
        values = describe_flux(flux.value, error.value, repetition)._asdict()
        values["flux_ul"] = average_sets(limit.value).value
        rows.append(row | {name: _ * flux.unit for name, _ in values.items()})
    return make_table(rows)
