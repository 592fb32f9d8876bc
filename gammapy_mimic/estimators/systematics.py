"""Estimate the systematic error of a background from mimic sets."""

import functools
import itertools
import logging
import numbers

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets
from gammapy.estimators import Estimator
from gammapy.maps import Map
from gammapy.modeling.models import SpectralModel

from ..data.meta_tables import UNMATCHED_TEXTS, describe_losses, read_losses
from ..utils.angles import to_angle
from ..utils.parallel import run_parallel
from .bias import make_bias_map
from .checks import (
    check_datasets,
    get_off_obs_ids,
    get_repetition,
    leave_out_questionable,
    mask_unpredicted,
    tabulate_losses,
    to_sets,
)
from .flux import average_flux, measure_flux
from .maps import BandMaps
from .measurement import (
    add_offset,
    get_bands,
    get_source_free_mask,
    is_map,
    measure_maps,
    measure_spectra,
    snap_energy_edges,
    stack_groups,
)
from .normalisation import measure_normalisation
from .result import MimicSystematics
from .tables import (
    TARGET,
    Comparison,
    get_name,
    tabulate_maximum,
    tabulate_position,
    tabulate_significance,
    tabulate_systematics,
)

__all__ = ["MimicSystematicsEstimator"]

log = logging.getLogger(__name__)

UNITS = {"energy_edges": "TeV", "offset_edges": "deg"}
KINDS = {"position": SkyCoord, "exclusion_mask": Map, "spectral_model": SpectralModel}


CONDITIONS = {
    "correlation_radius": "a positive angle",
    "energy_edges": "two or more and rise, finite and above 0, in a unit like TeV",
    "offset_edges": "two or more and rise, finite and not below 0, in a unit like deg",
    "min_background": "a number, 0 or more",
    "n_jobs": "a whole number, 1 or more",
} | {name: f"a {kind.__name__}" for name, kind in KINDS.items()}
REQUIRED = ("correlation_radius", "min_background")


def _make_parameter(name, value):
    """Make a valid parameter of a value, or raise an error."""
    if name not in CONDITIONS:
        raise AttributeError(f"The estimator has no parameter {name!r}.")
    if value is None and name not in REQUIRED:
        return None
    parameter = value
    try:
        if name == "correlation_radius":
            parameter = to_angle(value)
            is_valid = parameter.isscalar and 0 < parameter.deg < np.inf
        elif name == "min_background":
            is_valid = isinstance(value, numbers.Real) and 0 <= value < np.inf
        elif name == "n_jobs":
            is_valid = isinstance(value, numbers.Integral) and value >= 1
        elif name in UNITS:
            parameter = np.atleast_1d(u.Quantity(value)).to(UNITS[name])
            lowest, highest = parameter.min().value, parameter.max().value
            is_valid = parameter.ndim == 1 and len(parameter) > 1
            is_valid = is_valid and np.all(np.diff(parameter) > 0) and highest < np.inf
            is_above = lowest > 0 if name == "energy_edges" else lowest >= 0
            is_valid = is_valid and is_above
        else:
            is_valid = isinstance(value, KINDS[name])
            is_valid = is_valid and getattr(value, "isscalar", True)
    except (TypeError, ValueError):
        is_valid = False
    if not is_valid:
        raise ValueError(f"{name} must be {CONDITIONS[name]}, got {value!r}.")
    return parameter


class MimicSystematicsEstimator(Estimator):
    r"""Estimate the systematic error of a background from mimic sets.

    Mimics hold no source. What the analysis of a target makes of them is noise and the
    systematic error of its background. The significance of a position with
    :math:`N_b` background counts has the variance

    .. math:: \sigma^2 = 1 + f^2 \frac{N_b}{1 + \alpha}

    where f is the fractional systematic error of the background on the scale of the
    correlation radius, and :math:`\alpha` the ratio of exposures (0 for a model).

    Errors of the mean and width of one set are statistical, with the correlation of
    neighbouring pixels. Those of what all sets say are from their scatter, and not
    known for one set. Parameters are attributes, which are checked when they are set.

    Approximations:

    - Sets that share OFF observations are not independent. Errors are then too small,
      but for those of the normalisation and the bias map, which know of it.
    - A systematic error of the instrument is the same in all sets. Errors are those of
      its mean square in this field, not of another field.
    - A measured background must come with its OFF counts. That of rings which Gammapy
      has stacked to a `~gammapy.datasets.MapDataset` counts as exact, and its
      statistical error as a systematic one.

    Parameters
    ----------
    correlation_radius : `~astropy.coordinates.Angle` or str, optional
        Radius in which counts are added. Default is 0.1 deg. The systematic error
        depends on it: for several radii, run several estimators.
    energy_edges : `~astropy.units.Quantity`, optional
        Edges of bands of energy, which are moved to the nearest edges of bins. Default
        is one band, that of the datasets.
    position : `~astropy.coordinates.SkyCoord`, optional
        Position of a possible source. Default is none.
    exclusion_mask : `~gammapy.maps.WcsNDMap`, optional
        Mask, True where the target has no known source. What it excludes is grown by
        the correlation radius, and left out of the target's distribution, and of the
        largest significance of target and mimics. Default is all True.
    offset_edges : `~astropy.units.Quantity` or str, optional
        Edges of bands of offset. Default is none.
    min_background : float, optional
        Effective background counts that a position must have. Default is 10.
    spectral_model : `~gammapy.modeling.models.SpectralModel`, optional
        Spectrum of the source that is fitted at the position. Default is a power law of
        index 2.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.

    Examples
    --------
    >>> estimator = MimicSystematicsEstimator("0.1 deg")  # doctest: +SKIP
    >>> result = estimator.run(mimic_datasets, datasets)  # doctest: +SKIP
    >>> print(result)  # doctest: +SKIP
    """

    tag = "MimicSystematicsEstimator"

    def __init__(
        self,
        correlation_radius="0.1 deg",
        energy_edges=None,
        position=None,
        exclusion_mask=None,
        offset_edges=None,
        min_background=10,
        spectral_model=None,
        n_jobs=None,
    ):
        self.correlation_radius = correlation_radius
        self.energy_edges = energy_edges
        self.position = position
        self.exclusion_mask = exclusion_mask
        self.offset_edges = offset_edges
        self.min_background = min_background
        self.spectral_model = spectral_model
        self.n_jobs = n_jobs

    def __setattr__(self, name, value):
        super().__setattr__(name, _make_parameter(name, value))

    def run(self, mimic_datasets, datasets=None, plan=None):
        """Estimate the systematic error.

        Parameters
        ----------
        mimic_datasets : list or dict of `~gammapy.datasets.Datasets`
            Datasets of each mimic set: maps with a background model or with OFF counts,
            or spectra with OFF counts. Stacked, or one for each observation, which the
            bias map and the spread of the normalisation need.
        datasets : `~gammapy.datasets.Datasets`, optional
            Datasets of the target, of the same geometry. Default is none.
        plan : `~gammapy_mimic.selection.MimicPlan`, Table or dict, optional
            Plan of the mimics, which tells their OFF observations. Default is none:
            then the meta tables tell, as those of `~gammapy_mimic.MimicMaker` in a
            chain and of `~gammapy_mimic.analysis.MimicAnalysis` do, and there is a
            warning if they do not and there is a bias map or a spread of the
            normalisation, whose errors need them.
            Datasets of pairs with the status "large_kl" are left out.

        Returns
        -------
        result : `~gammapy_mimic.estimators.MimicSystematics`
            Tables and maps.

        Raises
        ------
        TypeError, ValueError
            If there is no set, a set has no datasets or no background, geometries
            differ, or the plan is that of other sets.
        """
        sets = leave_out_questionable(to_sets(mimic_datasets), plan)
        groups = {get_name(key): values for key, values in sets.items()}
        if datasets is not None:
            groups[TARGET] = Datasets(datasets)
        check_datasets(groups)
        off_obs_ids = get_off_obs_ids(sets, plan)
        groups = {name: mask_unpredicted(values) for name, values in groups.items()}
        first = next(iter(groups.values()))[0]
        edges = snap_energy_edges(self.energy_edges, first.counts.geom.axes["energy"])
        stacked = stack_groups(groups) if is_map(first) else groups

        comparison = self._make_comparison(self._measure(stacked, groups, edges), edges)
        tables = self._tabulate(comparison)
        others, missing = self._attempt(groups, stacked, edges, off_obs_ids)
        bias = others.pop("bias", None)
        tables |= others
        if "flux" in tables:
            tables["spurious_flux"] = average_flux(tables["flux"])
        losses = tabulate_losses(groups, stacked)
        if losses is not None:
            tables["losses"] = losses
        source_free = None
        if comparison.geom is not None and not np.all(comparison.source_free):
            source_free = Map.from_geom(comparison.geom, data=comparison.source_free)
        result = MimicSystematics(
            tables,
            self.correlation_radius,
            self.min_background,
            maps=_make_maps(comparison, "significance", edges),
            background=_make_maps(comparison, "background", edges),
            bias=bias,
            source_free=source_free,
            position=self.position,
            missing=missing,
        )
        _warn_of_result(result, off_obs_ids)
        return result

    def _measure(self, stacked, groups, edges):
        """Measure the significance of each group of datasets."""
        measure = measure_spectra
        inputs = [(_, edges) for _ in stacked.values()]
        if stacked is not groups:
            measure = measure_maps
            inputs = [(*_, self.correlation_radius) for _ in inputs]
        measured = run_parallel(measure, inputs, self.n_jobs, task_name=self.tag)
        if self.offset_edges is not None or self.position is not None:
            pairs = zip(measured, groups.values(), strict=True)
            measured = [add_offset(*_) for _ in pairs]
        return dict(zip(groups, measured, strict=True))

    def _make_comparison(self, measurements, edges):
        geom = next(iter(measurements.values())).geom
        options = {}
        if geom is not None:
            options["radius"] = self.correlation_radius.deg
            options["pixel_size"] = np.mean(geom.pixel_scales.deg)
            options["area"] = geom.solid_angle().to_value("deg2")
            if self.exclusion_mask is not None:
                options["source_free"] = get_source_free_mask(
                    self.exclusion_mask, geom, self.correlation_radius
                )
        return Comparison(
            measurements, get_bands(edges), self.min_background, **options
        )

    def _tabulate(self, comparison):
        tables = {
            "significance": tabulate_significance(comparison),
            "systematics": tabulate_systematics(comparison, self.offset_edges),
        }
        if comparison.target is None:
            return tables
        tables["maximum"] = tabulate_maximum(comparison)
        if comparison.geom is None:
            tables["position"] = tabulate_position(comparison)
        elif self.position is not None:
            position, geom = self.position, comparison.geom
            if not geom.contains(position)[0]:
                raise ValueError(
                    f"The position {position.to_string()} is not on the map."
                )
            x, y = (int(np.squeeze(_)) for _ in geom.coord_to_idx(position))
            tables["position"] = tabulate_position(comparison, (y, x))
        return tables

    def _attempt(self, groups, stacked, edges, off_obs_ids):
        """Make what not all datasets allow. Return also why something is missing."""
        has_maps = stacked is not groups
        groups, stacked = (
            {name: values for name, values in every.items() if name != TARGET}
            for every in (groups, stacked)
        )
        attempts = {"normalisation": (measure_normalisation, groups, off_obs_ids)}
        if has_maps:
            observations = list(itertools.chain(*groups.values()))
            repetition = get_repetition(off_obs_ids)
            make_bias = functools.partial(make_bias_map, repetition=repetition)
            attempts["bias"] = make_bias, observations, edges
        if self.position is not None or not has_maps:
            options = self.position, edges, self.spectral_model, self.n_jobs
            attempts["flux"] = measure_flux, stacked, *options
        results, missing = {}, {}
        for name, (function, *args) in attempts.items():
            try:
                results[name] = function(*args)
            except ValueError as error:
                missing[name] = str(error)
        return results, missing


def _warn_of_result(result, off_obs_ids):
    """Warn of what the user may want to change."""
    rows = result.select("significance")
    rows = rows[rows["n_positions"] == 0]
    if len(rows):
        log.warning(
            "%s: no position has %s background counts. Use a larger correlation radius "
            "or more observations.",
            ", ".join(rows["name"]),
            result.min_background,
        )
    if result.judgement.has_source:
        row = result.select("maximum")[0]
        log.warning(
            "The target's map is not blank: its largest significance is %.1f, that of "
            "mimics %.1f. Give an exclusion_mask for the sources of the target, here "
            "and to the background maker.",
            row["significance"],
            row["mimic_mean"],
        )
    # other losses were named where the datasets were made
    losses = read_losses(result.tables["losses"]) if "losses" in result.tables else []
    told = [_ for _ in losses if _[1].cause in UNMATCHED_TEXTS and _[1].is_told]
    for text in describe_losses(told):
        log.warning(text)
    if result.bias is not None and not all(off_obs_ids):
        log.warning(
            "The OFF observations of the mimics are not known. If sets share them, "
            "errors of the bias map are too small. Give plan=..., or use add_partners."
        )


def _make_maps(comparison, quantity, energy_edges):
    """Make the maps of a quantity by name, none for spectra."""
    if comparison.geom is None:
        return {}
    geom, measurements = comparison.geom, comparison.measurements
    return {
        name: BandMaps.create(getattr(measurement, quantity), geom, energy_edges)
        for name, measurement in measurements.items()
    }
