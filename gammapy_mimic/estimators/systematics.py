"""Estimate the systematic error of a background from mimic sets."""

import functools
import logging

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle
from gammapy.datasets import Datasets
from gammapy.maps import Map

from ..selection.plan import MimicPlan
from ..utils.parallel import run_parallel
from ..version import __version__
from .bias import make_bias_map
from .checks import (
    check_datasets,
    get_off_obs_ids,
    get_repetition,
    mask_unpredicted,
    tabulate_losses,
    to_sets,
)
from .flux import average_flux, measure_flux
from .measurement import (
    add_offset,
    find_blank,
    get_bands,
    is_map,
    measure_maps,
    measure_spectra,
    snap_energy_edges,
    stack_groups,
)
from .normalisation import measure_normalisation
from .result import MimicSystematics
from .tables import (
    Comparison,
    tabulate_maximum,
    tabulate_position,
    tabulate_significance,
    tabulate_systematics,
)

__all__ = ["MimicSystematicsEstimator"]

log = logging.getLogger(__name__)

SIGNIFICANCE_MAX = 6  # of a map that has no source


class MimicSystematicsEstimator:
    r"""Estimate the systematic error of a background from mimic sets.

    Mimics hold no source. What the analysis of a target makes of them is noise and the
    systematic error of its background. The significance of a position with
    :math:`N_b` background counts has the variance

    .. math:: \sigma^2 = 1 + f^2 \frac{N_b}{1 + \alpha}

    where f is the fractional systematic error of the background on the scale of the
    correlation radius, and :math:`\alpha` the ratio of exposures (0 for a model).

    Neighbouring pixels are correlated and give no error. Errors are those of the mean
    of the sets, from their scatter. Approximations:

    - Sets that share OFF observations are not independent. Errors are then too small.
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
        self.correlation_radius = Angle(correlation_radius)
        self.energy_edges = None if energy_edges is None else u.Quantity(energy_edges)
        self.position = position
        self.exclusion_mask = exclusion_mask
        self.offset_edges = None if offset_edges is None else u.Quantity(offset_edges)
        self.min_background = min_background
        self.spectral_model = spectral_model
        self.n_jobs = n_jobs

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
            warning if they do not.

        Returns
        -------
        result : `~gammapy_mimic.estimators.MimicSystematics`
            Tables and maps.

        Raises
        ------
        TypeError, ValueError
            If there are fewer than two sets, a set has no datasets or no background,
            geometries differ, or the plan is that of other sets.
        """
        sets = to_sets(mimic_datasets)
        groups = list(sets.values())
        if datasets is not None:
            groups.append(Datasets(datasets))
        check_datasets(groups)
        plan = None if plan is None else MimicPlan.create(plan)
        repetition = get_repetition(get_off_obs_ids(sets, plan))
        axis = groups[0][0].counts.geom.axes["energy"]
        edges = snap_energy_edges(self.energy_edges, axis)

        has_maps = is_map(groups[0][0])
        groups = [mask_unpredicted(_) for _ in groups]
        sets = dict(zip(sets, groups[: len(sets)], strict=True))
        stacked = stack_groups(groups) if has_maps else groups
        measured = self._measure(stacked, groups, edges)
        mimics = dict(zip(sets, measured[: len(sets)], strict=True))
        target = None if datasets is None else measured[-1]
        comparison = self._compare(mimics, target, edges)
        tables = self._make_tables(comparison)

        attempts = {"normalisation": (measure_normalisation, sets)}
        if has_maps:
            observations = [_ for values in sets.values() for _ in values]
            make_bias = functools.partial(make_bias_map, repetition=repetition)
            attempts["bias"] = make_bias, observations, edges
        if self.position is not None or not has_maps:
            attempts["flux"] = (
                measure_flux,
                dict(zip(sets, stacked[: len(sets)], strict=True)),
                self.position,
                edges,
                self.spectral_model,
                self.n_jobs,
            )
        results, reasons = _try(attempts)
        bias = results.pop("bias", None)
        tables |= results
        if "flux" in tables:
            tables["spurious_flux"] = average_flux(tables["flux"])
        losses = tabulate_losses(sets, datasets)
        if losses is not None:
            tables["losses"] = losses
        maps, blank = _make_maps(mimics, target), _make_blank(comparison)
        return MimicSystematics(tables, maps, bias, self._make_meta(reasons), blank)

    def _measure(self, stacked, groups, edges):
        """Measure the significance of each group of datasets."""
        measure = measure_spectra
        inputs = [(_, edges) for _ in stacked]
        if is_map(groups[0][0]):
            measure = measure_maps
            inputs = [(*_, self.correlation_radius) for _ in inputs]
        measured = run_parallel(measure, inputs, self.n_jobs, task_name=self.tag)
        if self.offset_edges is None and self.position is None:
            return measured
        return [add_offset(*_) for _ in zip(measured, groups, strict=True)]

    def _compare(self, mimics, target, edges):
        geom = next(iter(mimics.values())).geom
        options = {}
        if geom is not None:
            options["radius"] = self.correlation_radius.deg
            options["pixel_size"] = np.mean(geom.pixel_scales.deg)
            if self.exclusion_mask is not None:
                options["blank"] = find_blank(
                    self.exclusion_mask, geom, self.correlation_radius
                )
        return Comparison(
            mimics, target, get_bands(edges), self.min_background, **options
        )

    def _make_tables(self, comparison):
        reference = next(iter(comparison.mimics.values()))
        offset_edges = None if reference.offset is None else self.offset_edges
        tables = {
            "significance": tabulate_significance(comparison),
            "systematics": tabulate_systematics(comparison, offset_edges),
        }
        if comparison.target is None:
            return tables
        tables["maximum"] = tabulate_maximum(comparison)
        _warn_of_sources(tables["maximum"][-1])
        if reference.geom is None:
            tables["position"] = tabulate_position(comparison)
        elif self.position is not None:
            pixel = _find_pixel(self.position, reference.geom)
            tables["position"] = tabulate_position(comparison, pixel)
        return tables

    def _make_meta(self, reasons):
        meta = {
            "correlation_radius": f"{self.correlation_radius.deg} deg",
            "min_background": self.min_background,
            "version": __version__,
        }
        if self.position is not None:
            position = self.position.icrs
            meta["position"] = f"{position.ra.deg} deg, {position.dec.deg} deg"
        return meta | {f"no_{name}": reason for name, reason in reasons.items()}


def _try(attempts):
    """Call functions. Return their results, and why there is none."""
    results, reasons = {}, {}
    for name, (function, *args) in attempts.items():
        try:
            results[name] = function(*args)
        except ValueError as error:
            reasons[name] = str(error)
    return results, reasons


def _find_pixel(position, geom):
    if not geom.contains(position)[0]:
        raise ValueError(f"The position {position.to_string()} is not on the map.")
    x, y = geom.coord_to_idx(position)
    return int(np.squeeze(y)), int(np.squeeze(x))


def _warn_of_sources(row):
    excess = row["significance"] - row["mimic_mean"]
    if row["significance"] > SIGNIFICANCE_MAX and excess > 3:
        log.warning(
            "The target's map is not blank: its largest significance is %.1f, that of "
            "mimics %.1f. Give an exclusion_mask for the sources of the target, here "
            "and to the background maker.",
            row["significance"],
            row["mimic_mean"],
        )


def _make_maps(mimics, target):
    """Significance maps of all sets and of the target."""
    measurements = {f"mimic_{name}": _ for name, _ in mimics.items()}
    if target is not None:
        measurements["target"] = target
    return {
        f"{name}_{idx}": Map.from_geom(measurement.geom, data=values)
        for name, measurement in measurements.items()
        if measurement.geom is not None
        for idx, values in enumerate(measurement.significance)
    }


def _make_blank(comparison):
    """Map of the positions where the target has no known source, None for all."""
    geom = next(iter(comparison.mimics.values())).geom
    if geom is None or np.all(comparison.blank):
        return None
    return Map.from_geom(geom, data=comparison.blank)
