"""Estimate the systematic error of a background from mimic sets."""

import functools
import itertools
import logging
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import Datasets
from gammapy.estimators import Estimator
from gammapy.maps import Map
from gammapy.modeling.models import SkyModel, SpatialModel, SpectralModel
from regions import SkyRegion

from ..data.lazy_datasets import LazyDatasets
from ..data.meta_tables import UNMATCHED_TEXTS, describe_losses, read_losses
from ..selection.plan import PlanLike
from ..utils.angles import to_angle
from ..utils.parallel import run_parallel
from .apertures import Apertures, make_ring
from .background_tables import (
    make_grids,
    make_regions,
    tabulate_regions,
    tabulate_scales,
    tabulate_systematics,
)
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
from .counting import (
    count_maps,
    count_spectra,
    find_norm_region,
    get_runs,
    measure_spectrum,
    number_targets,
)
from .covariance_table import tabulate_covariance
from .distance import tabulate_distance
from .flux import average_flux, measure_flux
from .injection import tabulate_injection
from .maps import BandMaps
from .maximum import tabulate_maximum
from .measurement import (
    add_offsets,
    get_bands,
    get_clear_mask,
    get_pixel_areas,
    get_source_free_mask,
    is_map,
    measure_maps,
    measure_spectra,
    snap_energy_edges,
)
from .normalisation import measure_normalisation
from .position import find_sharing, tabulate_position
from .region_flux import get_flux_per_count
from .result import MimicSystematics
from .stacking import stack_groups
from .tables import (
    TARGET,
    Comparison,
    get_name,
    tabulate_sets,
    tabulate_significance,
    tabulate_time,
)
from .template_noise import measure_template_noise

__all__ = ["MimicSystematicsEstimator"]

log = logging.getLogger(__name__)

UNITS = {"energy_edges": "TeV", "offset_edges": "deg", "radii": "deg"}
RADII = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0] * u.deg
KINDS = {
    "position": SkyCoord,
    "exclusion_mask": Map,
    "spectral_model": SpectralModel,
    "spatial_model": SpatialModel,
}


CONDITIONS = {
    "correlation_radius": "a positive angle",
    "energy_edges": "two or more and rise, finite and above 0, in a unit like TeV",
    "offset_edges": "two or more and rise, finite and not below 0, in a unit like deg",
    "radii": "one or more and rise, finite and above 0, in a unit like deg",
    "regions": "a list of SkyRegion",
    "nights": "a dict of nights by OBS_ID",
    "min_background": "a number, 0 or more",
    "n_jobs": "a whole number, 1 or more",
    "flux": "True or False",
} | {name: f"a {kind.__name__}" for name, kind in KINDS.items()}
REQUIRED = ("correlation_radius", "min_background", "flux")


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
            is_valid = parameter.ndim == 1 and len(parameter) > (name != "radii")
            is_valid = is_valid and np.all(np.diff(parameter) > 0) and highest < np.inf
            is_above = lowest >= 0 if name == "offset_edges" else lowest > 0
            is_valid = is_valid and is_above
        elif name == "regions":
            parameter = list(value)
            is_valid = all(isinstance(_, SkyRegion) for _ in parameter)
        elif name == "nights":
            is_valid = isinstance(value, dict)
        elif name == "flux":
            is_valid = isinstance(value, bool)
        else:
            is_valid = isinstance(value, KINDS[name])
            is_valid = is_valid and getattr(value, "isscalar", True)
    except (TypeError, ValueError):
        is_valid = False
    if not is_valid:
        raise ValueError(f"{name} must be {CONDITIONS[name]}, got {value!r}.")
    return parameter


class _Place(NamedTuple):
    """Apertures in which a target may be, and the counts of mimics there by band.

    Apertures are None for spectra.
    """

    comparison: Comparison
    counts: list[Any]
    apertures: Apertures | None

    def tabulate_covariance(self, stacked, target=None):
        """Tabulate the covariance of bands, whose spectrum is that of stacked sets.

        The noise of the target's template is that of its datasets, if they tell it.
        """
        geom, apertures = self.comparison.geom, self.apertures
        has_places = apertures is not None
        datasets = [*stacked.values()]
        if not has_places:
            datasets = [*itertools.chain(*datasets)]
        spectrum = measure_spectrum(datasets, geom, apertures)
        bands, variances = self.comparison.bands, None
        if target is not None:
            edges = [bands[0].e_min, *(_.e_max for _ in bands[:-1] or bands)]
            variances = measure_template_noise([target], u.Quantity(edges))
        return tabulate_covariance(bands, self.counts, *spectrum, has_places, variances)


class MimicSystematicsEstimator(Estimator):
    """Estimate the systematic error of a background from mimic sets.

    Mimics hold no source. What the analysis of a target makes of them is noise and the
    systematic error of its background: a bias, and a spread between positions. Both are
    measured from counts in circles of the correlation radius, see
    `~gammapy_mimic.estimators.bias_spread.measure_bias_spread`, and calibrate the
    significance of the target, see `~gammapy_mimic.estimators.position.calibrate`.

    Errors know which OFF observations sets share. They need datasets of single
    observations; those of stacked datasets are of counts alone. Parameters are
    attributes, which are checked when they are set.

    Approximations:

    - A systematic error of the instrument is the same in all sets. Errors are those of
      this field; limits for another one are apart.
    - A measured background must come with its OFF counts. That of rings which Gammapy
      has stacked to a `~gammapy.datasets.MapDataset` counts as exact, and its
      statistical error as a systematic one.

    Parameters
    ----------
    correlation_radius : `~astropy.coordinates.Angle` or str, optional
        Radius in which counts are added. Default is 0.1 deg. The systematic error
        depends on it, see ``radii``.
    energy_edges : `~astropy.units.Quantity`, optional
        Edges of bands of energy, which are moved to the nearest edges of bins. Default
        is one band, that of the datasets.
    position : `~astropy.coordinates.SkyCoord`, optional
        Position of a possible source, at whose offset the covariance between bands of
        energy is measured. Default is none, for all of the map.
    exclusion_mask : `~gammapy.maps.WcsNDMap`, optional
        Mask, True where the target has no known source. What it excludes is grown by
        the correlation radius, and left out of the target's distribution, and of the
        largest significance of target and mimics. Default is all True.
    offset_edges : `~astropy.units.Quantity` or str, optional
        Edges of bands of offset. Default is none.
    radii : `~astropy.units.Quantity` or str, optional
        Radii of the table "scales". Default is 0.05 to 1 deg, None for no such table.
    regions : list of `~regions.SkyRegion`, optional
        Regions of the table "regions", such as that of an extended source. Default is
        none.
    nights : dict, optional
        Night (any name) of each OFF observation, by OBS_ID. Then errors are from the
        scatter of nights, which observations of a night may have in common. Default is
        that of observations.
    min_background : float, optional
        Effective background counts that a position must have. Default is 10.
    spectral_model : `~gammapy.modeling.models.SpectralModel`, optional
        Spectrum of the source that is fitted at the position, and of those in regions.
        Default is a power law of index 2.
    spatial_model : `~gammapy.modeling.models.SpatialModel`, optional
        Shape of that source on maps. The error of a flux is that of the same shape: an
        extended source has more background. Default is a point at the position.
    flux : bool, optional
        Whether a source is fitted at the position, or to spectra, which takes most of
        the time. Default is True.
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
        correlation_radius: u.Quantity | str = "0.1 deg",
        energy_edges: u.Quantity | None = None,
        position: SkyCoord | None = None,
        exclusion_mask: Map | None = None,
        offset_edges: u.Quantity | str | None = None,
        radii: u.Quantity | str | None = RADII,
        regions: Iterable[SkyRegion] | None = None,
        nights: Mapping[int, Any] | None = None,
        min_background: float = 10,
        spectral_model: SpectralModel | None = None,
        spatial_model: SpatialModel | None = None,
        flux: bool = True,
        n_jobs: int | None = None,
    ) -> None:
        self.correlation_radius = correlation_radius
        self.energy_edges = energy_edges
        self.position = position
        self.exclusion_mask = exclusion_mask
        self.offset_edges = offset_edges
        self.radii = radii
        self.regions = regions
        self.nights = nights
        self.min_background = min_background
        self.spectral_model = spectral_model
        self.spatial_model = spatial_model
        self.flux = flux
        self.n_jobs = n_jobs

    def __setattr__(self, name, value):
        super().__setattr__(name, _make_parameter(name, value))

    def run(
        self,
        mimic_datasets: Sequence[Datasets] | Mapping[Any, Datasets],
        datasets: Datasets | None = None,
        plan: PlanLike | None = None,
    ) -> MimicSystematics:
        """Estimate the systematic error.

        Parameters
        ----------
        mimic_datasets : list or dict of `~gammapy.datasets.Datasets`
            Datasets of each mimic set: maps with a background model or with OFF counts,
            or spectra with OFF counts. Stacked, or one for each observation, which the
            bias map, the spread of the normalisation, and errors that know of shared
            observations need. `~gammapy_mimic.data.lazy_datasets.LazyDatasets` are
            read one at a time, several times.
        datasets : `~gammapy.datasets.Datasets`, optional
            Datasets of the target, of the same geometry. Default is none.
        plan : `~gammapy_mimic.selection.MimicPlan`, Table or dict, optional
            Plan of the mimics, which tells their OFF observations. Default is none:
            then the meta tables tell, as those of `~gammapy_mimic.MimicMaker` in a
            chain and of `~gammapy_mimic.analysis.MimicAnalysis` do, and there is a
            warning if they do not and there is a bias map or a spread of the
            normalisation, whose errors need them.
            Datasets of pairs with the status "large_kl" are left out. With a
            ``DISTANCE`` of the pairs there is the table "distance".

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
        groups, stacked, off_obs_ids, edges = self._prepare(
            mimic_datasets, datasets, plan
        )
        measured = self._measure(stacked, groups, edges)
        repetition = get_repetition(off_obs_ids)
        comparison = self._make_comparison(measured, edges, repetition)
        tables, place = self._tabulate(comparison, groups, stacked, off_obs_ids, edges)
        others, missing = self._attempt(
            place, groups, stacked, edges, off_obs_ids, plan
        )
        bias = others.pop("bias", None)
        tables |= others
        if "flux" in tables:
            repetition = self._find_repetition(comparison, groups, off_obs_ids)
            tables["spurious_flux"] = average_flux(tables["flux"], repetition)
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

    def inject(
        self,
        mimic_datasets: Sequence[Datasets] | Mapping[Any, Datasets],
        model: SkyModel,
        datasets: Datasets,
        plan: PlanLike | None = None,
        random_state: int = 0,
    ) -> Table:
        """Plant a source in every mimic set, and see what is recovered of it.

        The source is seen through the IRFs of the target, and added to the counts of
        the mimics. Its spectrum is fitted, with the background as it is. What is
        recovered differs from the truth by what the background is wrong.

        Parameters
        ----------
        mimic_datasets : list or dict of `~gammapy.datasets.Datasets`
            Datasets of each mimic set: maps.
        model : `~gammapy.modeling.models.SkyModel`
            Source with a position. The free parameters of its spectrum are fitted.
        datasets : `~gammapy.datasets.Datasets`
            Datasets of the target, with exposure.
        plan : `~gammapy_mimic.selection.MimicPlan`, Table or dict, optional
            Plan of the mimics, as for `run`. Default is none.
        random_state : int, optional
            Seed. Default is 0.

        Returns
        -------
        table : `~astropy.table.Table`
            A row for each set, and their mean ("all"), with an error that is not below
            that of counts: ``flux`` in the bands of energy together, and ``index`` if
            the spectrum has one, with their errors and the truth (``flux_true``,
            ``index_true``), the ``significance`` in the circle of the correlation
            radius, and the ``calibrated`` one. ``flux_5_sigma`` is the flux of such a
            source for which the target would have 5 calibrated sigma: infinite if the
            mimics are too few for any.

        Raises
        ------
        ValueError
            If the datasets are spectra, there is no exposure, or the model has no
            position on the map.
        """
        if model.position is None:
            raise ValueError(f"The model {model.name} has no position.")
        if datasets is None:
            raise ValueError(
                "The datasets of the target are needed, through whose IRFs the source "
                "is seen."
            )
        estimator = self.copy()
        estimator.position = model.position
        return estimator._inject(mimic_datasets, model, datasets, plan, random_state)

    def _inject(self, mimic_datasets, model, datasets, plan, random_state):
        prepared = self._prepare(mimic_datasets, datasets, plan)
        groups, stacked, off_obs_ids, edges = prepared
        if stacked is groups:
            raise ValueError("A source can be planted in maps only, not in spectra.")
        if stacked[TARGET].exposure is None:
            raise ValueError(
                "The target has no exposure, which a flux needs. Add 'exposure' to the "
                "maps that are made."
            )
        measured = self._measure(stacked, groups, edges)
        repetition = get_repetition(off_obs_ids)
        comparison = self._make_comparison(measured, edges, repetition)
        ring = self._make_ring(comparison)
        clear = self._get_clear_mask(comparison.geom)
        sets = {name: groups[name] for name in comparison.mimics}
        (counts,) = count_maps(
            sets, self._get_runs(off_obs_ids), comparison.geom, [ring], edges, clear
        )
        options = {
            "radius": self.correlation_radius,
            "random_state": random_state,
            "repetition": self._find_repetition(comparison, groups, off_obs_ids),
            "n_jobs": self.n_jobs,
        }
        target = stacked.pop(TARGET)
        return tabulate_injection(
            stacked, target, model, comparison, counts[-1], ring, edges, options
        )

    def _prepare(self, mimic_datasets, datasets, plan):
        """Check and stack datasets. Return also OFF observations and energies."""
        sets = leave_out_questionable(to_sets(mimic_datasets), plan)
        groups = {get_name(key): values for key, values in sets.items()}
        if datasets is not None:
            groups[TARGET] = LazyDatasets.create(datasets)
        check_datasets(groups)
        off_obs_ids = get_off_obs_ids(sets, plan)
        groups = {name: mask_unpredicted(values) for name, values in groups.items()}
        first = next(iter(groups.values()))[0]
        edges = snap_energy_edges(self.energy_edges, first.counts.geom.axes["energy"])
        stacked = groups
        if is_map(first):
            stacked = stack_groups(groups, self._find_irf_groups(groups))
        return groups, stacked, off_obs_ids, edges

    def _find_irf_groups(self, groups):
        """Find the groups whose IRFs a flux needs: the target, or else each set."""
        if self.position is None:
            return []
        return [TARGET] if TARGET in groups else [*groups]

    def _measure(self, stacked, groups, edges):
        """Measure the significance of each group of datasets."""
        measure = measure_spectra
        inputs = [(_, edges) for _ in stacked.values()]
        if stacked is not groups:
            measure = measure_maps
            inputs = [(*_, self.correlation_radius) for _ in inputs]
        measured = run_parallel(measure, inputs, self.n_jobs, task_name=self.tag)
        if self.offset_edges is not None or self.position is not None:
            measured = add_offsets(measured, groups.values())
        return dict(zip(groups, measured, strict=True))

    def _make_comparison(self, measurements, edges, repetition):
        geom = next(iter(measurements.values())).geom
        options = {"repetition": repetition}
        if geom is not None:
            options["radius"] = self.correlation_radius.deg
            options["pixel_size"] = np.mean(geom.pixel_scales.deg)
            options["area"] = get_pixel_areas(geom)
            if self.exclusion_mask is not None:
                options["source_free"] = get_source_free_mask(
                    self.exclusion_mask, geom, self.correlation_radius
                )
        return Comparison(
            measurements, get_bands(edges), self.min_background, **options
        )

    def _tabulate(self, comparison, groups, stacked, off_obs_ids, edges):
        tables = {"significance": tabulate_significance(comparison)}
        tables["sets"] = tabulate_sets(groups, comparison)
        tables["time"] = tabulate_time(groups, get_runs(off_obs_ids))
        tabulate = self._tabulate_maps
        if comparison.geom is None:
            tabulate = self._tabulate_spectra
        others, counts, place = tabulate(comparison, groups, off_obs_ids, edges)
        tables |= others
        if comparison.target is not None:
            tables["maximum"] = tabulate_maximum(
                comparison,
                stacked[TARGET],
                [_.find_systematic() for _ in counts],
                norm_region=self._find_norm_region(comparison, stacked[TARGET]),
                n_jobs=self.n_jobs,
            )
        return tables, place

    def _tabulate_spectra(self, comparison, groups, off_obs_ids, edges):
        if self.regions:
            raise ValueError("regions are for maps. Spectra are those of one region.")
        sets = {name: groups[name] for name in comparison.mimics}
        runs = self._get_runs(off_obs_ids)
        counts = count_spectra(sets, runs, edges, comparison.repetition)
        options = comparison, counts
        tables = {
            "systematics": tabulate_systematics(
                *options,
                offset_edges=self.offset_edges,
                offset=_get_spectra_offset(comparison, sets),
            )
        }
        if comparison.target is not None:
            sharing = find_sharing(sets, off_obs_ids, comparison)
            tables["position"] = tabulate_position(*options, correlation=sharing)
        return tables, counts, _Place(comparison, counts, None)

    def _tabulate_maps(self, comparison, groups, off_obs_ids, edges):
        """Count in all apertures at once, as each dataset is taken once."""
        sets = {name: groups[name] for name in comparison.mimics}
        scales = [] if self.radii is None else self.radii.to_value("deg")
        # a radius that is there twice is counted once
        radii, index = np.unique(
            [self.correlation_radius.deg, *scales], return_inverse=True
        )
        grids = make_grids(comparison, radii * u.deg)
        ring = self._make_ring(comparison)
        regions = make_regions(comparison, self.regions or [])
        apertures = [*grids, *([] if ring is None else [ring]), *regions]
        clear = self._get_clear_mask(comparison.geom)
        options = comparison.geom, apertures, edges, clear, comparison.repetition
        counts = count_maps(sets, self._get_runs(off_obs_ids), *options)
        n_grids, n_regions = len(grids), len(regions)
        (grid, *others), (bands, *others_bands) = (
            [_[idx] for idx in index] for _ in (grids, counts)
        )
        offset = next(iter(comparison.mimics.values())).offset
        if offset is not None:
            offset = offset.to_value("deg")[grid.indices]
        tables = {
            "systematics": tabulate_systematics(
                comparison, bands, grid, self.offset_edges, offset
            )
        }
        if others:
            options = self.radii, others, others_bands
            tables["scales"] = tabulate_scales(comparison, *options)
        if n_regions:
            target = flux = None
            if comparison.target is not None:
                options = comparison.geom, regions, edges, clear
                target = count_maps({TARGET: groups[TARGET]}, None, *options)
                options = self.regions, edges, self.spectral_model
                flux = get_flux_per_count(groups[TARGET], *options)
            names = _name_regions(self.regions)
            tables["regions"] = tabulate_regions(
                comparison, names, counts[-n_regions:], target, flux
            )
        place = _Place(comparison, bands, grid)
        if ring is not None:
            place = _Place(comparison, counts[n_grids], ring)
            if comparison.target is not None:
                sharing = find_sharing(sets, off_obs_ids, comparison, ring)
                tables["position"] = tabulate_position(
                    comparison, counts[n_grids], ring, sharing
                )
        return tables, bands, place

    def _get_clear_mask(self, geom):
        """Pixels that are not excluded."""
        if self.exclusion_mask is None:
            return np.ones(geom.data_shape, dtype=bool)
        return get_clear_mask(self.exclusion_mask, geom)

    def _find_norm_region(self, comparison, dataset):
        """Pixels to which the norm of the target was fitted, None if it was not."""
        if comparison.geom is None:
            return None
        return find_norm_region(dataset, self._get_clear_mask(comparison.geom))

    def _get_runs(self, off_obs_ids):
        """OFF observations, or nights, whose scatter makes the errors."""
        return get_runs(off_obs_ids, self.nights)

    def _make_ring(self, comparison):
        """Circles at the position, and at others of the same offset."""
        if self.position is None:
            return None
        pixel = self._find_pixel(comparison.geom)
        offset = next(iter(comparison.mimics.values())).offset
        if offset is not None:
            offset = offset.to_value("deg")
        size, radius = comparison.pixel_size, comparison.radius
        return make_ring(comparison.geom.data_shape, size, radius, pixel, offset)

    def _find_pixel(self, geom):
        """Pixel of the position, (y, x)."""
        if not geom.contains(self.position)[0]:
            position, center = (
                f"RA {_.icrs.ra.deg:.3f} deg, Dec {_.icrs.dec.deg:.3f} deg"
                for _ in (self.position, geom.center_skydir)
            )
            raise ValueError(
                f"The position {position} is not on the map, whose center is {center}. "
                "Give one on the map, or make a larger map."
            )
        return tuple(int(np.squeeze(_)) for _ in geom.coord_to_idx(self.position)[::-1])

    def _find_repetition(self, comparison, groups, off_obs_ids):
        """Mean number of sets that an event at the position is in."""
        sets, circle = {name: groups[name] for name in comparison.mimics}, None
        if comparison.geom is not None:
            options = comparison.pixel_size, comparison.radius
            pixel = self._find_pixel(comparison.geom)
            circle = make_ring(comparison.geom.data_shape, *options, pixel)
        sharing = find_sharing(sets, off_obs_ids, comparison, circle)
        if sharing is None:
            return get_repetition(off_obs_ids)
        return float(sharing.sum() / len(sharing))

    def _attempt(self, place, groups, stacked, edges, off_obs_ids, plan):
        """Make what not all datasets allow. Return also why something is missing."""
        has_maps, target = stacked is not groups, stacked.get(TARGET)
        observed = groups.get(TARGET)
        groups, stacked = (
            {name: values for name, values in every.items() if name != TARGET}
            for every in (groups, stacked)
        )
        attempts = {"normalisation": (measure_normalisation, groups, off_obs_ids)}
        attempts["covariance"] = place.tabulate_covariance, stacked, observed
        if has_maps:
            observations = LazyDatasets.join(groups.values())
            repetition = get_repetition(off_obs_ids)
            make_bias = functools.partial(make_bias_map, repetition=repetition)
            attempts["bias"] = make_bias, observations, edges
        if self.flux and (self.position is not None or not has_maps):
            options = self.position, edges, self.spectral_model, self.n_jobs, target
            attempts["flux"] = measure_flux, stacked, *options, self.spatial_model
        if plan is not None:
            options = place.comparison, groups, off_obs_ids, plan, edges
            if has_maps:
                radius = [self.correlation_radius.deg] * u.deg
                clear = self._get_clear_mask(place.comparison.geom)
                options = *options, *make_grids(place.comparison, radius), clear
            attempts["distance"] = tabulate_distance, *options
        results, missing = {}, {}
        for name, (function, *args) in attempts.items():
            try:
                results[name] = function(*args)
            except ValueError as error:
                missing[name] = str(error)
        return results, missing


def _get_spectra_offset(comparison, sets):
    """Offset of each target of spectra in deg, None if it is not known."""
    offsets = [_.offset for _ in comparison.mimics.values()]
    if any(_ is None for _ in offsets):
        return None
    numbers = number_targets(sets)
    result = np.full(max(numbers) + 1, np.nan)
    # all mimics of a target have its position in the field of view
    result[numbers] = np.concatenate([_.to_value("deg") for _ in offsets])
    return result


def _name_regions(regions):
    """Names of regions: their labels, or numbers, each once."""
    names = []
    for idx, region in enumerate(regions):
        label = str(region.meta.get("label", region.meta.get("text", "")) or idx)
        others = (f"{label} ({number})" for number in itertools.count(2))
        choices = itertools.chain([label], others)
        names.append(next(_ for _ in choices if _ not in names))
    return names


def _warn_of_result(result, off_obs_ids):
    """Warn of what the user may want to change."""
    rows = result.select("significance")
    rows = rows[rows["n_positions"] == 0]
    if len(rows):
        where, way_out = "position", "Use a larger correlation radius"
        if not result.maps:
            where, way_out = "observation", "Use a smaller min_background"
        log.warning(
            "%s: no %s has %s background counts. %s or more observations.",
            ", ".join(rows["name"]),
            where,
            result.min_background,
            way_out,
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
